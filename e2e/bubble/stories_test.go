package bubble

import (
	"testing"
	"time"

	"github.com/quorate/quorate/cluster/lead"
	"github.com/quorate/quorate/fsm"
)

func TestThreeNodesBecomeACluster(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		primary, _ := w.settle()
		if primary.name != "n1" {
			t.Errorf("first primary is %s, want the first of the list", primary.name)
		}
		s := primary.running().State()
		if s.Epoch != 1 || s.ClusterID == "" || len(s.Electorate.Voters) != 3 {
			t.Errorf("state after bootstrap: epoch %d, cluster %q, voters %v", s.Epoch, s.ClusterID, s.Electorate.Voters)
		}
		for _, n := range w.nodes {
			if got := n.running().ClusterID(); got != s.ClusterID {
				t.Errorf("%s is in cluster %s, want %s", n.name, got, s.ClusterID)
			}
		}
	})
}

func TestALostLeaderDisturbsNoWrites(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		primary, leader := w.settle()
		w.isolate(leader)
		end := w.boot() + 10*time.Second
		for w.boot() < end {
			if primary.serving() != 1 {
				t.Fatalf("primary stopped serving %s before the end", end-w.boot())
			}
			time.Sleep(10 * time.Millisecond)
		}
		if e := w.epoch(); e != 1 {
			t.Errorf("epoch %d after the loss of the leader, want 1", e)
		}
	})
}

func TestASilentPrimaryIsReplaced(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		old, leader := w.settle()
		w.isolate(old)
		cut := w.boot()
		var next *node
		w.wait("another primary serves", func() bool {
			next = w.primary()
			return next != nil && next != old && next.serving() == 2
		})
		took := w.boot() - cut
		t.Logf("served again after %s; timeline %+v", took, leader.running().Timeline())
		if took > 1600*time.Millisecond {
			t.Errorf("a write gap of %s in virtual time", took)
		}
		w.rejoin(old)
		primary, _ := w.settle()
		if primary != next {
			t.Errorf("primary is %s after healing, want %s", primary.name, next.name)
		}
		if w.epoch() != 2 {
			t.Errorf("epoch %d after healing, want 2", w.epoch())
		}
	})
}

func TestPrimaryAndLeaderLostTogether(t *testing.T) {
	inBubble(t, 5, func(w *world) {
		old, leader := w.settle()
		w.isolate(old)
		w.isolate(leader)
		took := w.wait("another primary serves", func() bool {
			p := w.primary()
			return p != nil && p != old && p.serving() == 2
		})
		t.Logf("served again after %s", took)
		w.rejoin(old)
		w.rejoin(leader)
		w.settle()
	})
}

func TestARestartedVoterRemembers(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		primary, leader := w.settle()
		voter := w.other(primary, leader)
		before := voter.running().State()
		voter.halt()
		time.Sleep(2 * time.Second)
		voter.run()
		if got := voter.running().State(); got.Rev != before.Rev || got.Epoch != before.Epoch {
			t.Errorf("state at the start is rev %d epoch %d, on the disk was rev %d epoch %d", got.Rev, got.Epoch, before.Rev, before.Epoch)
		}
		w.settle()
		if w.epoch() != 1 || primary.serving() != 1 {
			t.Errorf("epoch %d, primary serving %d", w.epoch(), primary.serving())
		}
	})
}

func TestAHealedNodeCatchesUpWithinASecond(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		primary, leader := w.settle()
		lost := w.other(primary, leader)
		w.isolate(lost)
		time.Sleep(30 * time.Second)
		ctx := w.t.Context()
		if err := primary.running().Submit(ctx, fsm.Pause{}, 0, "test"); err != nil {
			t.Fatal(err)
		}
		if err := primary.running().Submit(ctx, fsm.Resume{}, 0, "test"); err != nil {
			t.Fatal(err)
		}
		want := leader.running().State()
		w.rejoin(lost)
		took := w.wait("the healed node has applied", func() bool { return lost.running().State().Rev >= want.Rev })
		t.Logf("applied after %s", took)
		if took > time.Second {
			t.Errorf("applied %s after the healing, want at most 1s", took)
		}
	})
}

// The primary is heard again after its epoch was sealed and before anybody was appointed: it gets the next epoch itself.
func TestFalseSuspicionReappoints(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		w.detachTakes = 240 * time.Millisecond
		primary, leader := w.settle()
		w.isolate(primary)
		w.wait("a majority has sealed", func() bool { return reached(leader, lead.PhaseSealed) })
		w.rejoin(primary)
		w.wait("the next epoch", func() bool { return w.epoch() == 2 })
		if s := leader.running().State(); s.Primary != primary.id() {
			t.Errorf("primary is %s, want %s again", s.Name(s.Primary), primary.name)
		}
		w.wait("serving the next epoch", func() bool { return primary.serving() == 2 })
		w.settle()
	})
}

func reached(leader *node, phase string) bool {
	for _, p := range leader.running().Timeline() {
		if p.Name == phase {
			return true
		}
	}
	return false
}

// A follower hears of a commit with the next message from the leader. Nothing may wait for a heartbeat.
func TestFollowersLearnOfACommitAtOnce(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		primary, _ := w.settle()
		if err := primary.running().Submit(w.t.Context(), fsm.Pause{}, 0, "test"); err != nil {
			t.Fatal(err)
		}
		took := w.wait("all nodes paused", func() bool {
			for _, n := range w.nodes {
				if !n.running().State().Paused {
					return false
				}
			}
			return true
		})
		if took > 10*time.Millisecond {
			t.Errorf("the last node applied %s after the commit", took)
		}
	})
}

// A primary whose Postgres is gone and that says so is replaced without any wait.
func TestAReleaseNeedsNoWait(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		old, _ := w.settle()
		old.release()
		took := w.wait("another primary serves", func() bool { p := w.primary(); return p != nil && p != old })
		t.Logf("served again after %s", took)
		if took > 100*time.Millisecond {
			t.Errorf("a write gap of %s, want the 10 ms of a detach and the 20 ms of a promotion and little else", took)
		}
		w.settle()
	})
}

func TestSwitchover(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		old, leader := w.settle()
		to := w.other(old, leader)
		if err := old.running().Submit(w.t.Context(), fsm.AskSwitchover{ID: "w1", To: to.id()}, 0, "test"); err != nil {
			t.Fatal(err)
		}
		w.wait("the primary stops", func() bool { return old.serving() == 0 })
		took := w.wait("the candidate serves", func() bool { return to.serving() == 2 })
		t.Logf("served again after %s", took)
		if took > 100*time.Millisecond {
			t.Errorf("a write gap of %s", took)
		}
		w.settle()
	})
}
