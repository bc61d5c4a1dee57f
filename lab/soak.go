package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/lab/history"
	"github.com/quorate/quorate/lab/load"
)

// SoakOptions say how long to break what. The zero value of what makes a lab is as with Options.
type SoakOptions struct {
	For        time.Duration
	Seed       uint64
	Nodes      int
	Witnesses  int
	Durability string
	Failover   time.Duration
	Dir        string // for the raw history; "": a new one
	ID         string // which lab; "": one of its own
	Exe        string // see Options
}

// soakDial is patience: a soak judges no gaps, and goes on where the machine is too busy for the clients of a bench.
const soakDial = 2 * time.Second

// soak is one that runs.
type soak struct {
	l     *Lab
	o     SoakOptions
	began time.Time
	made  map[string]int // faults
	kept  []Kept         // evidence of all rounds
	tally tally
}

// tally is what all rounds come to.
type tally struct {
	rounds, acks, unknown int
	lost                  int     // found missing right after their round
	missing               int     // at the end; includes them
	found                 int     // of the missing, how many stand in evidence
	overlap               float64 // where it may not be
	allowed               float64 // where nobody is left to fence
	gap, healing          float64 // the longest, in milliseconds
}

// Soak breaks and heals a lab at random until the time is over, and compares what clients were told with what is there.
// It ends at once when the cluster is not whole within 30 s after healing, with the state and log of every node.
// ErrUnsafe if a promise was broken. An interrupt ends it like the end of its time.
func Soak(ctx context.Context, o SoakOptions, out io.Writer) (err error) {
	if err := Sweep(ctx, out); err != nil {
		return err
	}
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "quorate-soak-"); err != nil {
			return fmt.Errorf("make a directory for the events: %w", err)
		}
	} else if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return fmt.Errorf("make a directory for the events: %w", err)
	}
	var l *Lab
	if o.ID != "" {
		l, err = Find(o.ID, out)
	} else {
		l, err = Up(ctx, Options{
			Nodes: o.Nodes, Witnesses: o.Witnesses, Durability: o.Durability, Failover: o.Failover, Disks: Able() == nil,
			Owned: true, Exe: o.Exe, Out: out,
		})
	}
	if err != nil {
		return err
	}
	s := &soak{l: l, o: o, began: time.Now(), made: map[string]int{}}
	defer func() {
		err = errors.Join(err, s.keepLogs())
		if o.ID == "" {
			clean, stop := context.WithTimeout(context.WithoutCancel(ctx), healLimit)
			defer stop()
			err = errors.Join(err, l.Down(clean))
		}
	}()
	l.say("soak of %s with seed %d; raw history in %s", o.For, o.Seed, o.Dir)
	err = s.run(ctx)
	s.sum()
	if err == nil && (s.tally.overlap > 0 || s.tally.missing > 0 && (l.Durability != "async" || s.tally.found < s.tally.missing)) {
		err = ErrUnsafe
	}
	return err
}

// say tells what happens, and when.
func (s *soak) say(format string, args ...any) {
	s.l.say("%7.1fs  "+format, append([]any{time.Since(s.began).Seconds()}, args...)...)
}

// run plays rounds until the time is over, and counts in the end.
func (s *soak) run(ctx context.Context) error {
	nodes := 0
	if s.l.Namespaces {
		nodes = len(s.l.Nodes)
	}
	d := newDeck(s.o.Seed, s.l.faults(), nodes)
	for time.Since(s.began) < s.o.For && ctx.Err() == nil {
		s.tally.rounds++
		if err := s.play(ctx, d.deal()); err != nil {
			if ctx.Err() != nil {
				s.say("interrupted")
				break
			}
			return fmt.Errorf("round %d (seed %d): %w", s.tally.rounds, s.o.Seed, err)
		}
	}
	// An interrupt ends the rounds and not the comparison.
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), healLimit)
	defer stop()
	return s.compare(ctx)
}

// played is what is kept of a round, beside its events.
type played struct {
	Round      round    `json:"round"`
	Made       []string `json:"made"`
	Fault      int64    `json:"fault_at"`
	Until      int64    `json:"until"`
	Before     uint64   `json:"epoch_before"`
	After      uint64   `json:"epoch_after"`
	Old        string   `json:"old_primary"`
	New        string   `json:"new_primary"`
	HealedMS   float64  `json:"healed_ms"`
	GapMS      float64  `json:"write_gap_ms"`
	Acks       int      `json:"acks"`
	Lost       []int64  `json:"lost"`
	Unknown    int      `json:"unknown"`
	OverlapMS  float64  `json:"overlap_ms"`
	Respawned  int      `json:"respawned"`
	EventsFile string   `json:"events"`
}

// play plays one round: calm, one or two faults under load, healing, and a look at what is there.
func (s *soak) play(ctx context.Context, r round) (err error) {
	p := played{Round: r, EventsFile: fmt.Sprintf("round-%04d.events", s.tally.rounds)}
	c, err := s.l.startLoad(filepath.Join(s.o.Dir, p.EventsFile), loadOptions{probe: r.Prober, dial: soakDial})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	limit, stop := context.WithTimeout(ctx, healLimit)
	defer stop()
	if err := c.flowing(limit, 1); err != nil {
		return errors.Join(err, errors.New(s.l.Report()))
	}
	state, err := s.l.AwaitHealthy(limit)
	if err != nil {
		return err
	}
	if err := pause(ctx, r.Calm); err != nil {
		return err
	}
	p.Before, p.Old = state.Epoch, state.Primary
	c.unkeep = s.l.keep(ctx)
	if err := s.strike(ctx, r, &p, state); err != nil {
		return err
	}
	if err := pause(ctx, r.Hold); err != nil {
		return err
	}
	p.Respawned = s.l.respawned()
	c.unkeep()
	c.unkeep = func() {}
	if r.Order != nil {
		if err := s.revive(ctx, r); err != nil {
			return err
		}
	}
	healing := time.Now()
	if state, err = s.l.Heal(ctx); err != nil {
		return err
	}
	p.HealedMS, p.After, p.New = float64(time.Since(healing).Milliseconds()), state.Epoch, state.Primary
	if err := s.gather(ctx, state); err != nil {
		return err
	}
	again, cancel := context.WithTimeout(ctx, healLimit)
	defer cancel()
	if err := c.flowing(again, 1); err != nil {
		return errors.Join(err, errors.New(s.l.Report()))
	}
	p.Until = load.Now()
	if err := c.stop(); err != nil {
		return err
	}
	return s.judge(ctx, p)
}

// strike makes the faults of a round. The first must succeed; a second may find nobody to hit.
func (s *soak) strike(ctx context.Context, r round, p *played, state State) error {
	for i, b := range r.Blows {
		if i > 0 {
			if err := pause(ctx, b.After); err != nil {
				return err
			}
			states, _ := s.l.look(ctx, glanceLimit)
			state = newest(states)
		}
		var f Fault
		var err error
		if b.Kind == AllKill {
			f.Hit, f.At = s.l.Nodes, load.Now()
			s.l.leave(f.Hit...)
			err = s.l.killGroups(f.Hit)
		} else {
			f, err = s.l.Break(ctx, b.Kind, state, false)
		}
		switch {
		case err != nil && i == 0 && !errors.Is(err, ErrCannot):
			return err
		case err != nil:
			s.say("  %s could not be made: %v", b.Kind, err)
			continue
		}
		if p.Fault == 0 {
			p.Fault = f.At
		}
		p.Made = append(p.Made, b.Kind)
		s.made[b.Kind]++
		s.say("round %d: %s of %s (primary %s, epoch %d, leader %s)", s.tally.rounds, b.Kind, strings.Join(namesOf(f.Hit), " "),
			state.Primary, state.Epoch, state.Leader)
	}
	return nil
}

// revive starts the nodes of a dead cluster in the order of the round, each a moment after the one before.
func (s *soak) revive(ctx context.Context, r round) error {
	var names []string
	for i, which := range r.Order {
		n := s.l.Nodes[which]
		names = append(names, n.Name)
		if err := s.l.start(n); err != nil {
			return err
		}
		if i < len(r.Order)-1 {
			if err := pause(ctx, r.Calm/2); err != nil {
				return err
			}
		}
	}
	s.say("  started again in the order %s", strings.Join(names, " "))
	return nil
}

// judge compares what the clients of a round were told with what the primary has now.
func (s *soak) judge(ctx context.Context, p played) error {
	writes, err := load.Read(filepath.Join(s.o.Dir, p.EventsFile))
	if err != nil {
		return err
	}
	present, err := s.l.survivors(ctx, s.l.Node(p.New), writes)
	if err != nil {
		return err
	}
	run := history.Run{Fault: p.Fault, Until: p.Until, Old: p.Old, Writes: writes, Survived: map[int64]bool{}}
	for _, id := range present {
		run.Survived[id] = true
	}
	f := history.Compute(run)
	for _, w := range lostOf(writes, present) {
		p.Lost = append(p.Lost, w.ID)
	}
	p.GapMS, p.Acks, p.Unknown, p.OverlapMS = f.WriteGap, f.Acks, f.Unknown, history.Overlap(writes)
	t := &s.tally
	t.acks, t.unknown, t.lost = t.acks+p.Acks, t.unknown+p.Unknown, t.lost+len(p.Lost)
	t.gap, t.healing = math.Max(t.gap, p.GapMS), math.Max(t.healing, p.HealedMS)
	if slices.Contains(p.Made, agentGuardStop) {
		t.allowed = math.Max(t.allowed, p.OverlapMS)
	} else {
		t.overlap = math.Max(t.overlap, p.OverlapMS)
	}
	s.say("  whole %.1f s after healing began: %s is primary, epoch %d -> %d; gap %.0f ms, %d acks, lost %d, unknown %d, overlap %.0f ms, %d respawned",
		p.HealedMS/1000, p.New, p.Before, p.After, p.GapMS, p.Acks, len(p.Lost), p.Unknown, p.OverlapMS, p.Respawned)
	return s.keepRound(p)
}

// keepRound appends the round to the file beside the events.
func (s *soak) keepRound(p played) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode the round: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(s.o.Dir, "rounds.json"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("keep the round: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keep the round: %w", err)
	}
	return nil
}

// compare looks in the end for every write that was acknowledged in any round: a later round may lose an earlier one's.
func (s *soak) compare(ctx context.Context) error {
	files, err := filepath.Glob(filepath.Join(s.o.Dir, "round-*.events"))
	if err != nil {
		return fmt.Errorf("look for the history: %w", err)
	}
	state, err := s.l.Heal(ctx)
	if err != nil {
		return err
	}
	if err := s.gather(ctx, state); err != nil {
		return err
	}
	for _, file := range files {
		writes, err := load.Read(file)
		if err != nil {
			return err
		}
		present, err := s.l.survivors(ctx, s.l.Node(state.Primary), writes)
		if err != nil {
			return err
		}
		lost := lostOf(writes, present)
		listed, err := found(lost, s.kept)
		if err != nil {
			return err
		}
		s.tally.missing, s.tally.found = s.tally.missing+len(lost), s.tally.found+len(listed)
		if len(lost) > 0 {
			s.say("  of %s %d acknowledged writes are missing, the first is %d of %s", filepath.Base(file), len(lost), lost[0].ID, lost[0].Node)
		}
	}
	return nil
}

// gather remembers the evidence that the cluster knows of and dismisses it there, which makes room: what nobody has looked at
// is recorded up to a limit.
func (s *soak) gather(ctx context.Context, state State) error {
	for _, k := range state.Kept {
		if slices.ContainsFunc(s.kept, func(known Kept) bool { return known.ID == k.ID }) {
			continue
		}
		if err := client.Unix(s.l.Node(state.Primary).Socket()).DismissDiscard(ctx, k.ID); err != nil {
			return fmt.Errorf("dismiss the discard %s: %w", k.ID, err)
		}
		s.kept = append(s.kept, k)
	}
	return nil
}

// keepLogs copies the logs of daemons and servers to where the history is.
func (s *soak) keepLogs() error {
	var errs []error
	for _, n := range s.l.Nodes {
		for from, to := range map[string]string{n.Log(): n.Name + ".log", n.postgresLog(): n.Name + "-postgres.log"} {
			b, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(filepath.Join(s.o.Dir, to), b, 0o644)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("keep a log of %s: %w", n.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}

// sum says what it all came to.
func (s *soak) sum() {
	t := s.tally
	s.say("end: %d rounds with seed %d", t.rounds, s.o.Seed)
	kinds := s.l.faults()
	if s.l.Namespaces {
		kinds = append(kinds, AllKill)
	}
	for _, k := range kinds {
		s.l.say("  %-21s %4d", k, s.made[k])
	}
	if not := s.l.impossible(); len(not) > 0 {
		s.l.say("  can't be made in this lab: %s", strings.Join(not, ", "))
	}
	s.l.say("  %d writes acknowledged, %d missing (%d of them in evidence); %d got no answer; two writers at once: %.0f ms (%.0f ms while agent and guard were stopped)",
		t.acks, t.missing, t.found, t.unknown, t.overlap, t.allowed)
	s.l.say("  longest gap %.1f s, slowest healing %.1f s", t.gap/1000, t.healing/1000)
	s.l.say("  raw history and logs: %s", s.o.Dir)
	s.l.say("  the same again: %s", s.o.again())
}

// again is the command that makes the same faults in the same order: the kinds that can be made depend on the lab.
func (o SoakOptions) again() string {
	command := fmt.Sprintf("quorate lab soak --minutes %s --seed %d", trimFloat(o.For.Minutes()), o.Seed)
	for _, f := range []struct {
		flag  string
		value any
		given bool
	}{
		{"id", o.ID, o.ID != ""}, {"data", o.Nodes, o.Nodes > 0}, {"witness", o.Witnesses, o.Witnesses > 0},
		{"durability", o.Durability, o.Durability != ""}, {"failover-after", o.Failover, o.Failover > 0},
	} {
		if f.given {
			command += fmt.Sprintf(" --%s %v", f.flag, f.value)
		}
	}
	return command
}

func trimFloat(f float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", f), ".0") }
