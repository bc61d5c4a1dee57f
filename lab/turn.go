package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/lab/judge"
	"github.com/quorate/quorate/lab/load"
	"github.com/quorate/quorate/lab/nemesis"
)

// errNobody says that nobody is there whom a step could hit.
var errNobody = errors.New("nobody to hit")

// turn is a round of faults that is being made. Steps are made one after the other by one goroutine; those that wait for
// something, a disk or an answer, go on beside it, until the round is healed.
type turn struct {
	c       *chaos
	r       nemesis.Round
	known   State // when the faults began
	cuts    map[int][]nemesis.Drop
	stopped map[int][]Owner
	paused  bool
	leaves  int64 // when a member was told to, first
	beside  sync.WaitGroup
	hands   byHand

	mu     sync.Mutex
	seats  map[int][]*Node // who sits where, by fault
	struck map[int]Strike  // by fault
	part   map[int]bool    // by fault that hit a set of processes: never the whole set
	why    map[int]string  // by fault: what was not made of it, and why
	downs  []down
}

// Strike is a fault as it was made.
type Strike struct {
	Fault   string `json:"fault"`
	At      int64  `json:"at"`             // its first step
	Primary bool   `json:"primary"`        // any of its steps hit the one of then
	Part    bool   `json:"part,omitempty"` // of each set of processes some were not hit
	Why     string `json:"why,omitempty"`  // no step was made
}

// down is a time in which a node has no guard that works, or no agent. fault is whose end ends it.
type down struct {
	node  string
	guard bool
	fault int
	span  judge.Span
}

// healed is a down's fault when only healing ends it; backAfter how long an agent takes at most that is started again.
const (
	healed    = -1
	backAfter = int64(3 * time.Second)
	grace     = int64(time.Second) // a fence that is late by more is a violation
)

func (c *chaos) newTurn(r nemesis.Round, known State) *turn {
	return &turn{
		c: c, r: r, known: known, cuts: map[int][]nemesis.Drop{}, stopped: map[int][]Owner{},
		seats: map[int][]*Node{}, struck: map[int]Strike{}, part: map[int]bool{}, why: map[int]string{},
	}
}

// strike makes the steps of the round, each when it is due.
func (t *turn) strike(ctx context.Context) error {
	began := time.Now()
	for _, s := range t.r.Steps {
		if err := pause(ctx, s.At-time.Since(began)); err != nil {
			return err
		}
		t.make(ctx, s)
	}
	return pause(ctx, t.r.Hold)
}

// make makes one step. What can't be made is said and is no error: a fault may have taken away whom the next one would hit.
func (t *turn) make(ctx context.Context, s nemesis.Step) {
	n, at := t.node(ctx, s), load.Now()
	if n == nil {
		t.done(s, n, at, errNobody)
		return
	}
	switch s.Do {
	case nemesis.Kill:
		t.done(s, n, at, t.kill(s.Fault, n, s.Parts, s.Away))
	case nemesis.Stop:
		t.done(s, n, at, t.stop(s, n))
	case nemesis.Resume:
		t.resume(s.Fault)
	case nemesis.Cut:
		t.cuts[s.Fault] = nemesis.Drops(s, namesOf(t.order(s.Fault)))
		t.done(s, n, at, t.filter(ctx))
	case nemesis.Mend:
		delete(t.cuts, s.Fault)
		t.done(s, n, at, t.filter(ctx))
	case nemesis.Vanish:
		_, err := t.c.l.killHosts([]*Node{n})
		t.done(s, n, at, err)
	case nemesis.PowerOff:
		t.c.l.leave(t.c.l.Nodes...)
		t.done(s, n, at, t.c.l.killGroups(t.c.l.Nodes))
	case nemesis.Ambush:
		t.ambush(ctx, s)
	default:
		act := t.slow(s, n)
		t.beside.Go(func() { t.done(s, n, at, act(ctx)) })
	}
}

// slow is what may have to wait.
func (t *turn) slow(s nemesis.Step, n *Node) func(context.Context) error {
	l := t.c.l
	disk := func(act func() error) func(context.Context) error {
		return func(context.Context) error {
			if !n.Disk {
				return errNobody
			}
			return act()
		}
	}
	switch s.Do {
	case nemesis.Return:
		return func(ctx context.Context) error { return l.ReturnHost(ctx, n) }
	case nemesis.PowerOn:
		return func(ctx context.Context) error {
			if err := l.awaitDead(ctx, n); err != nil {
				return err
			}
			return l.StartDaemon(n)
		}
	case nemesis.Hang:
		return disk(n.HangDisk)
	case nemesis.Thaw:
		return disk(n.ThawDisk)
	case nemesis.Fill:
		return disk(n.FillDisk)
	case nemesis.Free:
		return disk(n.FreeDisk)
	case nemesis.ReadOnly:
		return disk(n.failDisk)
	case nemesis.Jump, nemesis.Right:
		return func(context.Context) error { return n.setClock(s.N) }
	case nemesis.SlowRestore:
		return func(ctx context.Context) error { return l.restoreSlowly(ctx, n, s.After) }
	}
	if act := t.trap(s.Do); act != nil {
		return func(ctx context.Context) error { return act(ctx, n) }
	}
	t.paused = t.paused || s.Do == nemesis.Pause
	if s.Do == nemesis.Remove && t.leaves == 0 {
		t.leaves = load.Now()
	}
	return func(ctx context.Context) error { return t.operate(ctx, s, n) }
}

// done counts a step that was made, and says what was not. at is when it began: what it does to clients it does from then on, however
// long it took to be made.
func (t *turn) done(s nemesis.Step, n *Node, at int64, err error) {
	name, who := t.r.Faults[s.Fault], "nobody"
	if n != nil {
		who = n.Name
	}
	part := errors.Is(err, errInPart)
	switch {
	case err != nil && !part:
		t.c.say("  not made: %s (%s, %s): %s", s, name, who, firstLine(err))
		t.missed(s, firstLine(err))
		return
	case part:
		t.c.say("  %s (%s): %s, %s", s, name, who, firstLine(err))
	default:
		t.c.say("  %s (%s): %s", s, name, who)
	}
	if !t.counts(s) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if known, before := t.part[s.Fault]; len(s.Parts) > 0 {
		t.part[s.Fault] = part && (known || !before)
	}
	was, known := t.struck[s.Fault]
	if !known || at < was.At { // what went on beside may be done in another order
		was.Fault, was.At = name, at
	}
	was.Primary = was.Primary || s.HitsPrimary() || len(t.seats[s.Fault]) > 0 && t.seats[s.Fault][0] == n
	t.struck[s.Fault] = was
}

// missed remembers why a fault may come not to have been made: each reason once, and not of what undoes it.
func (t *turn) missed(s nemesis.Step, why string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch before := t.why[s.Fault]; {
	case undoes(s.Do) || strings.Contains(before, why):
	case before == "":
		t.why[s.Fault] = why
	default:
		t.why[s.Fault] = before + "; " + why
	}
}

// undoes says whether such a step only undoes what another one of its fault did.
func undoes(do nemesis.Do) bool {
	switch do {
	case nemesis.Mend, nemesis.Return, nemesis.PowerOn, nemesis.Thaw, nemesis.Free, nemesis.Right, nemesis.Unpause, nemesis.Play, nemesis.End:
		return true
	}
	return false
}

// counts says whether a fault was made when this step was: no step that undoes another, and of an ambush nothing but that.
func (t *turn) counts(s nemesis.Step) bool {
	if undoes(s.Do) {
		return false
	}
	return s.Do == nemesis.Ambush || !slices.ContainsFunc(t.r.Steps, func(o nemesis.Step) bool { return o.Fault == s.Fault && o.Do == nemesis.Ambush })
}

// order is who sits where for a fault: the primary, the other nodes with data, witnesses. It is known once a step was due.
func (t *turn) order(fault int) []*Node {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.seats[fault]
}

// node is who sits where a step strikes.
func (t *turn) node(ctx context.Context, s nemesis.Step) *Node {
	all := t.order(s.Fault)
	if all == nil {
		states, _ := t.c.l.look(ctx, glanceLimit)
		primary := cmp.Or(newest(states).Primary, t.known.Primary)
		all = seating(t.c.l.members(), primary)
		t.mu.Lock()
		t.seats[s.Fault] = all
		t.mu.Unlock()
	}
	if s.Seat >= len(all) {
		return nil
	}
	return all[s.Seat]
}

// seating puts the primary first, and nodes without data last.
func seating(nodes []*Node, primary string) []*Node {
	rank := func(n *Node) int {
		switch {
		case n.Name == primary:
			return 0
		case !n.Witness:
			return 1
		}
		return 2
	}
	all := slices.Clone(nodes)
	slices.SortStableFunc(all, func(a, b *Node) int { return rank(a) - rank(b) })
	return all
}

// filter has every node drop what is cut now.
func (t *turn) filter(ctx context.Context) error {
	var errs []error
	for _, n := range t.c.l.Nodes {
		errs = append(errs, t.c.l.deny(ctx, n, dropsAt(n.Name, t.cuts)))
	}
	return errors.Join(errs...)
}

// dropsAt are the drops of all faults at one node.
func dropsAt(node string, cuts map[int][]nemesis.Drop) (all []nemesis.Drop) {
	for _, drops := range cuts {
		for _, d := range drops {
			if d.At == node {
				all = append(all, d)
			}
		}
	}
	return all
}

// down writes down that a node has no guard that works, or no agent, from now on: until that fault ends, or for so long.
func (t *turn) down(n *Node, part nemesis.Part, fault int, long int64) {
	if part != nemesis.Agent && part != nemesis.Guard {
		return
	}
	now := load.Now()
	d := down{node: n.Name, guard: part == nemesis.Guard, fault: fault, span: judge.Span{From: now, To: math.MaxInt64}}
	if long > 0 {
		d.span.To = now + long
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.downs = append(t.downs, d)
}

// over ends what that fault took down; healed ends all.
func (t *turn) over(fault int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.downs {
		if d := &t.downs[i]; d.span.To == math.MaxInt64 && (fault == healed || d.fault == fault) {
			d.span.To = load.Now()
		}
	}
}

// unfenced says when nobody could fence whom.
func (t *turn) unfenced() judge.Unfenced {
	t.mu.Lock()
	defer t.mu.Unlock()
	guards, agents := map[string][]judge.Span{}, map[string][]judge.Span{}
	for _, d := range t.downs {
		if d.guard {
			guards[d.node] = append(guards[d.node], d.span)
		} else {
			agents[d.node] = append(agents[d.node], d.span)
		}
	}
	return judge.UnfencedOf(guards, agents, grace)
}

// strikes are the faults that were made, by number; those of which no step was have no time.
func (t *turn) strikes() (all []Strike) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, name := range t.r.Faults {
		s, made := t.struck[i]
		if !made {
			s = Strike{Fault: name, Why: t.why[i]}
		}
		s.Part = t.part[i]
		all = append(all, s)
	}
	return all
}

// plan says what the round will do.
func (t *turn) plan() {
	t.c.say("round %d: %s (primary %s, epoch %d, leader %s)", t.c.tally.rounds, strings.Join(t.r.Faults, "; "), t.known.Primary, t.known.Epoch, t.known.Leader)
	for _, s := range t.r.Steps {
		t.c.l.say("            plan: %d %s", s.Fault+1, s)
	}
}

// removes is the node that the round takes out of the cluster, nil if none.
func (t *turn) removes() *Node {
	for _, s := range t.r.Steps {
		if all := t.order(s.Fault); s.Do == nemesis.Remove && s.Seat < len(all) {
			return all[s.Seat]
		}
	}
	return nil
}

func (l *Lab) denied(port nemesis.Port) (string, error) {
	switch port {
	case nemesis.AnyPort:
		return "", nil
	case nemesis.PostgresPort:
		return postgresPort, nil
	case nemesis.ClusterPort:
		return clusterPort, nil
	}
	return "", fmt.Errorf("no node has a port %q", port)
}
