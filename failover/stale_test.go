package failover

import (
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// electing is a view in which n1 is silent, its lease has ended, and n3, whose log goes furthest, is appointed.
func electing() View {
	seal, at := Sealed{Epoch: 7, Left: 100 * time.Millisecond, Age: 100 * time.Millisecond}, func(id fsm.NodeID, lsn pg.LSN) *fsm.Position {
		return &fsm.Position{Node: id, Detached: 7, Timeline: 3, LSN: lsn}
	}
	s := exhaustiveState()
	s.Sync = fsm.SyncRule{Members: []fsm.NodeID{"n1", "n2", "n3"}, Copies: 2}
	standby := standbyCase{heard: 1100 * time.Millisecond, answer: 1100 * time.Millisecond, seal: &seal, run: RunRunning}
	n2, n3 := standby, standby
	n2.position, n3.position = at("n2", 0x5000), at("n3", 0x6000)
	return compose(s, primaryCase{age: 1100 * time.Millisecond, run: RunRunning, rev: 9}, map[fsm.NodeID]standbyCase{"n2": n2, "n3": n3})
}

// TestWhatDoesNotCount spoils one fact of a view that elects n3 at a time. The state machine would refuse what a leader
// proposed on such facts; a leader that counted them would propose it for ever.
func TestWhatDoesNotCount(t *testing.T) {
	if got := appointee(Decide(electing())); got != "n3" {
		t.Fatalf("%q is appointed, not n3", got)
	}
	for name, c := range map[string]struct {
		spoil func(v *View)
		want  fsm.NodeID
	}{
		"a seal of an earlier epoch": {func(v *View) {
			s := v.Seals["n3"]
			s.Epoch = 6
			v.Seals["n3"] = s
		}, ""},
		"a position of a standby that did not let go": {func(v *View) {
			p := v.Positions["n3"]
			p.Detached = 6
			v.Positions["n3"] = p
			v.SealingFor = time.Minute
		}, ""},
		"a position that a living primary told as a standby's": {func(v *View) {
			delete(v.Positions, "n2")
			v.Positions["n1"] = fsm.Position{Node: "n1", Detached: 7, Timeline: 3, LSN: 0x5000}
			v.SealingFor = time.Minute
		}, ""},
		"a candidate that was not heard since": {func(v *View) {
			s := v.Seen["n3"]
			s.Age = time.Minute
			v.Seen["n3"] = s
			v.SealingFor = time.Minute
		}, ""},
		"a longer log on an earlier timeline": {func(v *View) {
			p := v.Positions["n3"]
			p.Timeline, p.LSN = 2, 0x9000
			v.Positions["n3"] = p
			v.SealingFor = time.Minute
		}, "n2"},
	} {
		v := electing()
		c.spoil(&v)
		if got := appointee(Decide(v)); got != c.want {
			t.Errorf("%s: %q is appointed, not %q, by %s", name, got, c.want, Decide(v).Rule)
		}
	}
}

// TestSickGoesLast: of two that hold the same, the one whose Postgres or disk can't work would only cost another failover.
func TestSickGoesLast(t *testing.T) {
	for _, sick := range []fsm.NodeID{"n2", "n3"} {
		v := electing()
		v.Positions["n3"] = fsm.Position{Node: "n3", Detached: 7, Timeline: 3, LSN: v.Positions["n2"].LSN}
		s := v.Seen[sick]
		s.Report.Sick = "the data directory can't be written: its disk is full; make room"
		v.Seen[sick] = s
		if got := appointee(Decide(v)); got == sick || got == "" {
			t.Errorf("%s is sick and %q is appointed", sick, got)
		}
	}
}

// TestLagOfWhatIsKnown: with durability async nobody is appointed who lacks more than maximum_lag_on_failover of what the
// primary is known to have had, also where its release came without a position or it was never heard.
func TestLagOfWhatIsKnown(t *testing.T) {
	base := func(reported pg.LSN) View {
		v := electing()
		v.State.Sync = fsm.SyncRule{Members: []fsm.NodeID{}}
		v.State.Config.Settings.Durability, v.State.Config.Settings.MaximumLag = fsm.DurabilityAsync, 0x1000
		delete(v.Positions, "n3")
		s := v.Seen["n1"]
		s.Report.Flush = reported
		s.Report.Released = &fsm.Release{Epoch: 7, Node: "n1"}
		v.Seen["n1"] = s
		v.SealingFor = time.Minute
		return v
	}
	if got := appointee(Decide(base(0x6000))); got != "n2" {
		t.Errorf("within the limit %q is appointed", got)
	}
	if got := appointee(Decide(base(0x6001))); got != "" {
		t.Errorf("one byte beyond the limit %q is appointed", got)
	}
	v := base(0)
	delete(v.Seen, "n1")
	v.LeadingFor = time.Minute
	v.Positions["n3"] = fsm.Position{Node: "n3", Detached: 7, Timeline: 3, LSN: 0x6001}
	s := v.Seen["n3"]
	s.Age = time.Minute // it was lost after it told how far it is
	v.Seen["n3"] = s
	if got := appointee(Decide(v)); got != "" {
		t.Errorf("with a primary that was never heard %q is appointed", got)
	}
}

// TestPromiseIsThePrimarys: what the primary passes on of somebody else's promise binds nobody.
func TestPromiseIsThePrimarys(t *testing.T) {
	v := electing()
	leave := fsm.SyncRule{Members: []fsm.NodeID{"n1", "n2"}, Copies: 2}
	for _, node := range []fsm.NodeID{"n1", "n2"} {
		v.Seen["n1"] = Sighting{Report: Report{Node: "n1", Promise: &fsm.Promise{Node: node, Rev: v.State.Rev, Rule: leave}}}
		if got := promised(fsm.SyncLeave)(study(v)); got != (node == "n1") {
			t.Errorf("a promise of %s counts: %t", node, got)
		}
	}
}

func appointee(d Decision) fsm.NodeID {
	if p, ok := d.Do.(Propose); ok {
		if a, ok := p.Command.(fsm.Appoint); ok {
			return a.Node
		}
	}
	return ""
}
