package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/lab/judge"
	"github.com/quorate/quorate/lab/nemesis"
)

// ChaosOptions say how long to break what. Chaos makes a lab of its own, since its nodes leave and join.
type ChaosOptions struct {
	For        time.Duration
	Seed       uint64
	Nodes      int // with a Postgres; 0: three
	Witnesses  int
	Durability string
	Failover   time.Duration
	Dir        string // for the raw history; "": a new one
	Exe        string // see Options
	Traps      bool   // situations in which a single mechanism keeps the data, instead of what is drawn from all
}

// compareLimit is how long the comparison at the end may take, which reads all of a long history again.
const compareLimit = 5 * time.Minute

// chaos is a run of faults that overlap. It differs from a soak in what it breaks, which package nemesis composes, and in how
// it judges, which package judge does.
type chaos struct {
	archive
	o        ChaosOptions
	can      nemesis.Can
	kinds    []string
	began    time.Time
	evidence []judge.Kept
	last     *turn // the round that is played, or was
	found    []judge.Violation
	tally    chaosTally
}

// errFound says that a check found something, which was written down.
var errFound = errors.New("something was found")

// errLate says that the cluster healed, after its limit.
var errLate = errors.New("healed too late")

// Chaos composes faults from a seed, makes them in a lab of its own and heals, until the time is over or a check finds something.
// ErrUnsafe then: all that runs is ended, and the lab and the raw history stay. An interrupt ends it like the end of its time.
func Chaos(ctx context.Context, o ChaosOptions, out io.Writer) (err error) {
	if o.Dir, err = makeOut(o.Dir, "quorate-chaos-"); err != nil {
		return err
	}
	_, _, noClock := findClock(clockLibraries, postgresBins)
	l, err := Up(ctx, Options{
		Nodes: o.Nodes, Witnesses: o.Witnesses, Durability: o.Durability, Failover: o.Failover, Disks: Able() == nil, Clocks: noClock == nil,
		Owned: true, Waiting: true, Exe: o.Exe, Out: out,
	})
	if err != nil {
		return err
	}
	c := &chaos{
		archive: archive{l: l, dir: o.Dir}, o: o, began: time.Now(),
		can: nemesis.Can{
			Data: len(l.data()), Witnesses: len(l.witnesses()), Network: l.Namespaces, Disks: l.Disks, Clocks: l.Clocks, Members: l.Namespaces,
		},
	}
	defer func() {
		clean, stop := context.WithTimeout(context.WithoutCancel(ctx), healLimit)
		defer stop()
		err = errors.Join(err, c.end(clean))
	}()
	if err := l.form(ctx); err != nil {
		return err
	}
	c.began = time.Now()
	l.say("chaos of %s with seed %d; raw history in %s", o.For, o.Seed, o.Dir)
	err = c.run(ctx)
	err = errors.Join(err, c.sum(), c.tally.tried(c.kinds))
	if errors.Is(err, errFound) {
		return fmt.Errorf("%w: %w: %d violations; the same faults again: %s", ErrUnsafe, err, len(c.found), o.again())
	}
	return err
}

// end takes the lab down, but for one in which something was found.
func (c *chaos) end(ctx context.Context) error {
	err := c.keepLogs()
	if len(c.found) == 0 {
		if err := errors.Join(err, c.l.Down(ctx)); err != nil {
			return err
		}
		if left := c.l.Left(); len(left) > 0 {
			return fmt.Errorf("left of lab %s: %s", c.l.ID, strings.Join(left, ", "))
		}
		return nil
	}
	if err := errors.Join(err, c.l.halt(ctx)); err != nil {
		return err
	}
	c.l.say("lab %s stays as it was, with nothing running, in %s; remove it with: quorate lab down --id %s", c.l.ID, c.l.dir, c.l.ID)
	return nil
}

// say tells what happens, and when.
func (c *chaos) say(format string, args ...any) {
	c.l.say("%7.1fs  "+format, append([]any{time.Since(c.began).Seconds()}, args...)...)
}

// run plays rounds until the time is over, and compares in the end. errFound: a check found something.
func (c *chaos) run(ctx context.Context) error {
	deck := nemesis.New(c.o.Seed, c.can)
	if c.o.Traps {
		deck = nemesis.NewTraps(c.o.Seed, c.can)
	}
	c.kinds = deck.Kinds()
	for time.Since(c.began) < c.o.For && ctx.Err() == nil {
		c.tally.rounds++
		err := c.play(ctx, deck.Deal())
		switch {
		case errors.Is(err, errFound):
			return err
		case err != nil && ctx.Err() != nil:
			c.say("interrupted")
		case err != nil:
			return fmt.Errorf("round %d (seed %d): %w", c.tally.rounds, c.o.Seed, err)
		}
	}
	// An interrupt ends the rounds and not the comparison.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), compareLimit)
	defer stop()
	return c.compare(ctx)
}

// violated writes down what was found; errFound if anything was.
func (c *chaos) violated(found []judge.Violation) error {
	if len(found) == 0 {
		return nil
	}
	for _, v := range found {
		c.say("  VIOLATION in round %d: %s", c.tally.rounds, v)
		if err := c.note("violations.json", v); err != nil {
			return err
		}
	}
	c.found = append(c.found, found...)
	return errFound
}

// report keeps the last state and log of every node beside the history.
func (c *chaos) report(why error) error {
	text := fmt.Sprintf("%v\n%s", why, c.l.Report())
	if err := os.WriteFile(filepath.Join(c.dir, "report.txt"), []byte(text), 0o644); err != nil {
		return fmt.Errorf("keep the report: %w", err)
	}
	c.say("  %s; the rest is in %s", firstLine(why), filepath.Join(c.dir, "report.txt"))
	return nil
}

// again is the command that makes the same faults in the same order, in a lab that can make the same kinds.
func (o ChaosOptions) again() string {
	traps := ""
	if o.Traps {
		traps = " --traps"
	}
	return again("chaos", o.For, o.Seed) + labFlags(o.Nodes, o.Witnesses, o.Durability, o.Failover) + traps
}

// lacks says what else this lab can't break.
func (c *chaos) lacks() string {
	var all []string
	if !c.can.Network {
		all = append(all, "without root no partition, no lost host, no power loss")
	}
	if !c.can.Disks {
		all = append(all, "without root no fault of a disk")
	}
	if !c.can.Clocks {
		all = append(all, "without libfaketime no jump of the wall clock of Postgres")
	}
	if !c.can.Members {
		all = append(all, "without root no member leaves")
	}
	if len(all) == 0 {
		return "this lab can make all others"
	}
	return strings.Join(all, "; ")
}
