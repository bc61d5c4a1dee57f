package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl/guard"
)

// orders is a guard that does what it is told at once.
type orders struct{ v guard.View }

func (o *orders) Record() guard.View {
	v := o.v
	v.Tick = guard.Now()
	return v
}

func (o *orders) Set(v guard.Verdict, epoch uint64, deadline time.Duration) bool {
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
		marked   bool
	}{
		{"a primary that serves", guard.View{State: guard.StateRunning, Verdict: guard.VerdictServe, Epoch: 3}, pausedState(3, "1", true), 0, 0, guard.VerdictUnleased, 0, true},
		{"it stays so", guard.View{State: guard.StateRunning, Verdict: guard.VerdictUnleased, Epoch: 3}, pausedState(3, "1", true), 0, 0, guard.VerdictUnleased, 0, true},
		{"one that is frozen goes on", guard.View{State: guard.StateFrozen, Verdict: guard.VerdictServe, Epoch: 3}, pausedState(3, "1", true), 0, 0, guard.VerdictUnleased, 0, true},
		{"a resume brings the lease back", guard.View{State: guard.StateRunning, Verdict: guard.VerdictUnleased, Epoch: 3}, pausedState(3, "1", false), 0, 0, guard.VerdictServe, lease, false},
		{"not paused", guard.View{State: guard.StateRunning, Verdict: guard.VerdictServe, Epoch: 3, Deadline: 7}, pausedState(3, "1", false), 0, 0, guard.VerdictServe, 7, false},
		{"one that released", guard.View{State: guard.StateRunning, Verdict: guard.VerdictUnleased, Epoch: 3}, pausedState(3, "1", true), 3, 4, guard.VerdictServe, 0, false},
		{"another node is primary", guard.View{State: guard.StateRunning, Verdict: guard.VerdictUnleased, Epoch: 3}, pausedState(4, "2", true), 0, 0, guard.VerdictServe, lease, false},
		{"a standby", guard.View{State: guard.StateRunning, Verdict: guard.VerdictStandby, Epoch: 3}, pausedState(3, "2", true), 0, 0, guard.VerdictStandby, 0, false},
		{"one that is being killed", guard.View{State: guard.StateKilling, Verdict: guard.VerdictStop, Epoch: 3}, pausedState(3, "1", true), 0, 0, guard.VerdictStop, 0, false},
		{"opened for an epoch before another node's", guard.View{State: guard.StateRunning, Verdict: guard.VerdictServe, Epoch: 1, Deadline: 7}, pausedState(3, "1", true), 0, 0, guard.VerdictServe, 7, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &orders{v: c.now}
			marker := filepath.Join(t.TempDir(), guard.PausedMarker)
			f := &fence{guard: g, self: "1", epoch: 3, deadline: lease, barred: c.barred, state: func() fsm.State { return c.state }}
			for range 2 { // nothing changes the second time
				if err := f.Pause(c.state, c.released, marker); err != nil {
					t.Fatal(err)
				}
			}
			if g.v.Verdict != c.want || g.v.Deadline != c.deadline {
				t.Errorf("verdict %v, deadline %s", g.v.Verdict, g.v.Deadline)
			}
			if _, err := os.Stat(marker); errors.Is(err, fs.ErrNotExist) == c.marked {
				t.Errorf("marked: %v, want %v", err, c.marked)
			}
			if got := f.unleased(c.state, c.released); got != (c.want == guard.VerdictUnleased) {
				t.Errorf("unleased %t", got)
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
