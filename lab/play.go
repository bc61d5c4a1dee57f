package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/lab/history"
	"github.com/quorate/quorate/lab/judge"
	"github.com/quorate/quorate/lab/load"
	"github.com/quorate/quorate/lab/nemesis"
)

// course is what is kept of a round of chaos, beside its histories.
type course struct {
	Round    nemesis.Round  `json:"round"`
	Strikes  []Strike       `json:"strikes"`
	Until    int64          `json:"until"`
	Before   uint64         `json:"epoch_before"`
	After    uint64         `json:"epoch_after"`
	Old      string         `json:"old_primary"`
	New      string         `json:"new_primary"`
	Healing  judge.Healing  `json:"healing"`
	Unfenced judge.Unfenced `json:"unfenced,omitempty"`
	Events   string         `json:"events"`
}

// play plays one round: calm, faults under load, healing, and the checks.
func (c *chaos) play(ctx context.Context, r nemesis.Round) (err error) {
	p := course{Round: r, Events: fmt.Sprintf("round-%04d.events", c.tally.rounds)}
	clients, err := c.l.startLoad(filepath.Join(c.dir, p.Events), loadOptions{probe: r.Prober, registers: true, dial: soakDial})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, clients.stop()) }()
	began := load.Now()
	limit, stop := context.WithTimeout(ctx, healLimit)
	defer stop()
	if err := clients.flowing(limit, 1); err != nil {
		return errors.Join(err, errors.New(c.l.Report()))
	}
	state, err := c.l.AwaitHealthy(limit)
	if err != nil {
		return err
	}
	if err := pause(ctx, r.Calm); err != nil {
		return err
	}
	p.Before, p.Old = state.Epoch, state.Primary
	t := c.newTurn(r, state)
	c.last = t
	t.plan()
	clients.unkeep = c.l.keep(ctx)
	striking, enough := context.WithCancel(ctx)
	defer enough()
	err = t.strike(striking)
	enough()
	clients.unkeep()
	clients.unkeep = func() {}
	if err != nil {
		return err // what is broken still is mended before the comparison
	}
	if state, err = c.heal(ctx, t, clients, &p, began); err != nil {
		return err
	}
	p.After, p.New = state.Epoch, state.Primary
	p.Until = load.Now()
	if err := clients.stop(); err != nil {
		return err
	}
	return c.conclude(ctx, t, p, state)
}

// calm undoes all faults of a round, but that processes have ended.
func (t *turn) calm(ctx context.Context) error {
	// Who still fills or frees a disk waits until it is thawed, and goes on then.
	err := t.c.l.releaseDisks()
	t.beside.Wait()
	err = errors.Join(err, t.endAllByHand(ctx), t.c.l.mend(ctx))
	t.over(healed)
	return err
}

// heal undoes everything and waits until the cluster is whole and takes writes, with the limit for both. What was kept as
// evidence is gathered before a member that was removed is wiped.
func (c *chaos) heal(ctx context.Context, t *turn, clients *clients, p *course, began int64) (State, error) {
	if err := t.calm(ctx); err != nil {
		return State{}, err
	}
	healing, at := time.Now(), load.Now()
	p.Healing.Round = c.tally.rounds
	limit, stop := context.WithTimeout(ctx, healLimit+backOffMost)
	defer stop()
	state, err := c.restore(limit, t)
	if err == nil {
		p.Healing.Whole = time.Since(healing)
		if err = clients.flowing(limit, 1); err == nil {
			p.Healing.Writable = time.Since(healing)
		}
	}
	if ctx.Err() != nil {
		return state, context.Cause(ctx)
	}
	log, errLog := c.l.logSince(began)
	if errLog != nil {
		return state, errors.Join(err, errLog)
	}
	p.Healing.Held = heldStill(log, at, load.Now())
	if found := judge.Alive([]judge.Healing{p.Healing}, healLimit); len(found) > 0 {
		return state, errors.Join(c.violated(found), c.report(cmp.Or(err, errLate)))
	}
	if err := c.collect(ctx, state); err != nil {
		return state, err
	}
	n := t.removes()
	if n == nil || !n.Outside {
		return state, nil
	}
	c.say("  %s has left; it is wiped and joins again", n.Name)
	if err := c.keepLeft(ctx, n, t.leaves, state); err != nil {
		return state, err
	}
	if err := c.l.readmit(ctx, n, c.l.Node(state.Primary)); err != nil {
		return state, errors.Join(err, errors.New(c.l.Report()))
	}
	again, enough := context.WithTimeout(ctx, upLimit) // it clones
	defer enough()
	return c.l.AwaitHealthy(again)
}

// keepLeft remembers what a member that was told to leave has left with, once it has ended.
func (c *chaos) keepLeft(ctx context.Context, n *Node, since int64, state State) error {
	if err := c.l.KillNodes(ctx, n); err != nil {
		return err
	}
	past, err := c.l.past(ctx, state)
	if err != nil {
		return err
	}
	left, err := n.leftWith(past, since, load.Now())
	if err != nil {
		return err
	}
	c.evidence = append(c.evidence, left)
	return nil
}

// backOffMost is how long a leader holds still at most after several failovers within a minute (DETAILS 10).
const backOffMost = 30 * time.Second

// heldStill is how long leaders held still from one time to another, going by a log. Whoever decides next ends it.
func heldStill(log []logLine, from, to int64) (held time.Duration) {
	since := int64(0)
	over := func(at int64) {
		if since > 0 {
			held += time.Duration(max(0, min(at, to)-max(since, from)))
		}
		since = 0
	}
	for _, r := range log {
		if rule, ok := strings.CutPrefix(r.text, "decided: rule="); ok {
			over(r.at)
			if strings.HasPrefix(rule, "backing-off ") {
				since = r.at
			}
		}
	}
	over(to)
	return held
}

// restore starts what does not run, ends a pause, sees a member off, and waits until the rest is whole and set as it was.
func (c *chaos) restore(ctx context.Context, t *turn) (State, error) {
	for _, n := range c.l.Nodes {
		if err := c.l.start(n); err != nil {
			return State{}, err
		}
	}
	// Who hung for long may end instead of going on, to be started by whoever looks after it.
	defer c.l.keep(ctx)()
	if t.paused {
		if err := until(ctx, "the pause is over", func() (bool, error) {
			err := c.l.ask(ctx, unpause)
			return err == nil, err
		}); err != nil {
			return State{}, err
		}
	}
	state, err := c.settled(ctx, t.removes())
	if err == nil {
		err = t.putBack(ctx)
	}
	return state, err
}

// settled waits until all are well that belong to the cluster. One that was told to leave may go at any time: who asked for it may have
// given up on a leader that hung, which carries it out when it goes on. So that is looked at again and again.
func (c *chaos) settled(ctx context.Context, told *Node) (State, error) {
	for told != nil {
		err := until(ctx, told.Name+" has left or stays", func() (bool, error) {
			gone, leaving, err := c.l.gone(ctx, told)
			told.Outside = gone && err == nil
			return err == nil && !leaving, err
		})
		if err != nil {
			return State{}, err
		}
		short, stop := context.WithTimeout(ctx, leaveEvery)
		state, err := c.l.AwaitHealthy(short)
		stop()
		if err == nil || ctx.Err() != nil {
			return state, err
		}
	}
	return c.l.AwaitHealthy(ctx)
}

// leaveEvery is between two looks at whether a member that was told to leave has gone.
const leaveEvery = 2 * time.Second

// conclude counts what the round came to and judges it.
func (c *chaos) conclude(ctx context.Context, t *turn, p course, state State) error {
	p.Strikes, p.Unfenced = t.strikes(), t.unfenced()
	h, err := c.recorded(ctx, p, state)
	if err != nil {
		return err
	}
	blind := h.blind(p.Round.Prober)
	h.writes = append(h.writes, t.busyWrites()...)
	run := history.Run{Until: p.Until, Old: p.Old, Writes: h.writes, Survived: h.load}
	c.tally.count(p.Strikes, run)
	f := history.Compute(run)
	c.tally.writes, c.tally.unknown = c.tally.writes+f.Acks, c.tally.unknown+f.Unknown
	c.tally.accesses, c.tally.sights = c.tally.accesses+len(h.accesses), c.tally.sights+len(h.sights)
	c.say("  whole %.1f s and writable %.1f s after healing began: %s is primary, epoch %d -> %d; %d acks, %d unknown, %d attempts on registers, %d looks",
		p.Healing.Whole.Seconds(), p.Healing.Writable.Seconds(), p.New, p.Before, p.After, f.Acks, f.Unknown, len(h.accesses), len(h.sights))
	if err := c.note("rounds.json", p); err != nil {
		return err
	}
	return errors.Join(c.violated(c.judge(h, p)), blind)
}
