package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// orders is a guard that does what it is told at once, or hears nothing.
type orders struct {
	v    guard.View
	deaf bool
}

func (o *orders) Record() guard.View {
	v := o.v
	v.Tick = guard.Now()
	return v
}

func (o *orders) Set(v guard.Verdict, epoch uint64, deadline time.Duration) bool {
	if o.deaf {
		return false
	}
	o.v.Verdict, o.v.Epoch, o.v.Deadline = v, epoch, deadline
	return true
}

// TestPauseAndTheGuard: while the cluster is paused its primary needs no lease; nobody else gets away without one.
func TestPauseAndTheGuard(t *testing.T) {
	lease := guard.Now() + time.Hour
	pausedState := func(epoch fsm.Epoch, primary fsm.NodeID, paused bool) fsm.State {
		s := threeNodes(epoch, primary)
		s.Paused = paused
		s.Lineage = []fsm.Lineage{{Epoch: epoch, Node: primary, Timeline: 1}}
		return s
	}
	for _, c := range []struct {
		name     string
		now      guard.View
		state    fsm.State
		released fsm.Epoch
		barred   fsm.Epoch
		want     guard.Verdict
		deadline time.Duration
	}{
		{"a primary that serves", guard.View{State: guard.StateRunning, Verdict: guard.VerdictServe, Epoch: 3}, pausedState(3, "1", true), 0, 0, guard.VerdictUnleased, 0},
		{"it stays so", guard.View{State: guard.StateRunning, Verdict: guard.VerdictUnleased, Epoch: 3}, pausedState(3, "1", true), 0, 0, guard.VerdictUnleased, 0},
		{"one that is frozen goes on", guard.View{State: guard.StateFrozen, Verdict: guard.VerdictServe, Epoch: 3}, pausedState(3, "1", true), 0, 0, guard.VerdictUnleased, 0},
		{"a resume brings the lease back", guard.View{State: guard.StateRunning, Verdict: guard.VerdictUnleased, Epoch: 3}, pausedState(3, "1", false), 0, 0, guard.VerdictServe, lease},
		{"not paused", guard.View{State: guard.StateRunning, Verdict: guard.VerdictServe, Epoch: 3, Deadline: 7}, pausedState(3, "1", false), 0, 0, guard.VerdictServe, 7},
		{"one that released", guard.View{State: guard.StateRunning, Verdict: guard.VerdictUnleased, Epoch: 3}, pausedState(3, "1", true), 3, 4, guard.VerdictServe, 0},
		{"another node is primary", guard.View{State: guard.StateRunning, Verdict: guard.VerdictUnleased, Epoch: 3}, pausedState(4, "2", true), 0, 0, guard.VerdictServe, lease},
		{"a standby", guard.View{State: guard.StateRunning, Verdict: guard.VerdictStandby, Epoch: 3}, pausedState(3, "2", true), 0, 0, guard.VerdictStandby, 0},
		{"one that is being killed", guard.View{State: guard.StateKilling, Verdict: guard.VerdictStop, Epoch: 3}, pausedState(3, "1", true), 0, 0, guard.VerdictStop, 0},
		{"opened for an epoch before another node's", guard.View{State: guard.StateRunning, Verdict: guard.VerdictServe, Epoch: 1, Deadline: 7}, pausedState(3, "1", true), 0, 0, guard.VerdictServe, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &orders{v: c.now}
			f := &fence{guard: g, self: "1", epoch: 3, deadline: lease, barred: c.barred, state: func() fsm.State { return c.state }}
			for range 2 { // nothing changes the second time
				may := f.mayPause(c.state, c.released)
				if may != (c.want == guard.VerdictUnleased) {
					t.Fatalf("may pause: %t", may)
				}
				if may {
					f.Pause(c.state)
				} else if !f.Unpause(c.state) {
					t.Fatal("the guard takes every order here")
				}
			}
			if g.v.Verdict != c.want || g.v.Deadline != c.deadline {
				t.Errorf("verdict %v, deadline %s", g.v.Verdict, g.v.Deadline)
			}
			if got := f.unleased(c.state, c.released); got != (c.want == guard.VerdictUnleased) {
				t.Errorf("unleased %t", got)
			}
		})
	}
}

// TestAResumeIsNotShownBeforeItHolds: a guard that does not take the deadline back keeps the revision from being shown.
func TestAResumeIsNotShownBeforeItHolds(t *testing.T) {
	g := &orders{v: guard.View{State: guard.StateRunning, Verdict: guard.VerdictUnleased, Epoch: 3}, deaf: true}
	f := &fence{guard: g, self: "1", epoch: 3}
	if f.Unpause(threeNodes(3, "1")) {
		t.Error("it says that the deadline is back")
	}
	g.deaf = false
	if !f.Unpause(threeNodes(3, "1")) || g.v.Verdict != guard.VerdictServe {
		t.Errorf("verdict %v", g.v.Verdict)
	}
}

// TestPausedMarker is touched when something changes, and what an agent before this left is removed.
func TestPausedMarker(t *testing.T) {
	p := pausing{path: filepath.Join(t.TempDir(), guard.PausedMarker)}
	there := func() bool { _, err := os.Stat(p.path); return !errors.Is(err, fs.ErrNotExist) }
	if err := os.WriteFile(p.path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{false, true, true, false} {
		if err := p.set(want); err != nil || there() != want {
			t.Fatalf("want %t: it is there: %t, %v", want, there(), err)
		}
	}
	p.path = filepath.Join(p.path, "nowhere", "it")
	if err := p.set(false); err != nil {
		t.Errorf("nothing had to be done: %v", err)
	}
	if err := p.set(true); err == nil || p.there {
		t.Errorf("it is taken for made: %v", err)
	}
}

// TestAPauseIsNoLease: what serves without a lease in a pause says so, and what has one is not said to be without.
func TestAPauseIsNoLease(t *testing.T) {
	now := time.Hour
	for _, c := range []struct {
		name             string
		verdict          guard.Verdict
		deadline         time.Duration
		paused           bool
		leased, unleased bool
	}{
		{"a lease", guard.VerdictServe, now + 1, false, true, false},
		{"a lease in a pause", guard.VerdictUnleased, now + 1, true, true, false},
		{"cut off in a pause", guard.VerdictUnleased, now, true, false, true},
		{"cut off", guard.VerdictServe, now, false, false, false},
		{"cut off after the pause, before the guard knows", guard.VerdictUnleased, now, false, false, false},
		{"cut off before the guard knows of the pause", guard.VerdictServe, now, true, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := threeNodes(3, "1")
			s.Paused = c.paused
			g := &orders{v: guard.View{State: guard.StateRunning, Verdict: c.verdict, Epoch: 3}}
			f := &fence{guard: g, self: "1", epoch: 3, deadline: c.deadline}
			leased, unleased := f.mayWrite(s, 0, now)
			if leased != c.leased || unleased != c.unleased {
				t.Fatalf("leased %t, unleased %t", leased, unleased)
			}
			r := report(pgctl.Status{Run: pg.RunPrimary}, own{self: "1", state: s, leaseLive: leased || unleased, unleased: unleased})
			if (r.Serving == 3) != (leased || unleased) || r.Unleased != c.unleased {
				t.Errorf("the report says serving %d, unleased %t", r.Serving, r.Unleased)
			}
		})
	}
}

// TestHigherEndsAPause: a later epoch of another node stops what goes on without a lease.
func TestHigherEndsAPause(t *testing.T) {
	g := &orders{v: guard.View{State: guard.StateRunning, Verdict: guard.VerdictUnleased, Epoch: 3}}
	f := &fence{guard: g, self: "1", epoch: 3}
	f.Higher(4)
	if g.v.Verdict != guard.VerdictStop {
		t.Errorf("verdict %v", g.v.Verdict)
	}
}
