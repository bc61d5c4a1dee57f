package bubble

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/fsm"
)

// stranger is a node that belongs to no cluster yet, under a name that may be taken.
func (w *world) stranger(name string) *node {
	n := &node{w: w, name: name, host: name, dir: filepath.Join(filepath.Dir(w.nodes[0].dir), name+"-"+time.Now().Format("150405.000"))}
	if err := os.Mkdir(n.dir, 0o700); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// join asks the nodes at addrs to let n in and starts it.
func (w *world) join(n *node, clusterID string, replace bool, addrs ...string) error {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err := cluster.Join(ctx, n.config(), cluster.JoinDeps{
		Logger: n.logger(), Network: w.net.Host(n.host), DataFacts: n.facts,
	}, clusterID, addrs, replace)
	if err == nil {
		w.become(append(slices.Clone(w.nodes), n))
		n.run()
	}
	return err
}

// members waits until that many nodes are members, vote and hold copies, as every running node knows.
func (w *world) members(members, voters, copies int) {
	w.t.Helper()
	w.wait("the members settle", func() bool {
		for _, n := range w.nodes {
			c := n.running()
			if c == nil || c.Removed() {
				continue
			}
			s := c.State()
			if _, in := s.Members[c.Self()]; !in {
				continue
			}
			if len(s.Members) != members || len(s.Electorate.Voters) != voters || len(s.Sync.Members) != members || s.Sync.Copies != copies || len(c.RaftInfo().Voters) != voters {
				return false
			}
		}
		return w.primary() != nil
	})
}

// servesAllTheTime fails the test if the first node, primary of epoch 1, stops serving before the returned function is called.
func (w *world) servesAllTheTime() (end func()) {
	p, stop, done := w.nodes[0], make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			if p.serving() != 1 {
				w.t.Errorf("%s stopped serving epoch 1", p.name)
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return sync.OnceFunc(func() { close(stop); <-done })
}

// TestOneThreeFiveThreeNodes: a cluster of one grows to five and shrinks to three, and its primary never stops.
func TestOneThreeFiveThreeNodes(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		w.wait("one node serves", func() bool { return w.nodes[0].serving() == 1 })
		id := w.nodes[0].running().ClusterID()
		end := w.servesAllTheTime()
		defer end()
		if err := w.join(w.stranger("n2"), id, false, "n1:7400"); err != nil {
			t.Fatal(err)
		}
		w.members(2, 1, 2)                                                     // of two voters both would have to live
		if err := w.join(w.stranger("n3"), id, false, "n2:7400"); err != nil { // which passes it on
			t.Fatal(err)
		}
		w.members(3, 3, 2)
		for _, name := range []string{"n4", "n5"} {
			if err := w.join(w.stranger(name), id, false, "nowhere:7400", "n3:7400", "n1:7400"); err != nil {
				t.Fatal(err)
			}
		}
		w.members(5, 5, 3)
		for i, name := range []string{"n5", "n4"} {
			if err := w.nodes[1].running().Remove(context.Background(), cluster.Removal{Name: name}); err != nil {
				t.Fatal(err)
			}
			w.members(4-i, 4-i, 2)
			gone := w.nodes[len(w.nodes)-1-i]
			w.wait("the removed node knows it", func() bool { return gone.running().Removed() })
			gone.halt()
			gone.run()
			if !gone.running().Removed() {
				t.Errorf("%s was removed, and takes itself for a member after a restart", name)
			}
		}
		end()
		if e := w.epoch(); e != 1 {
			t.Errorf("epoch %d, want 1", e)
		}
		// The three that are left survive the loss of any one.
		old := w.primary()
		w.isolate(old)
		w.wait("another primary serves", func() bool { p := w.primary(); return p != nil && p != old && p.serving() == 2 })
		w.rejoin(old)
	})
}

// TestAWipedNodeComesBack as a new member under its old name, and a living one is not displaced by another of its name.
func TestAWipedNodeComesBack(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		primary, leader := w.settle()
		id := primary.running().ClusterID()
		victim := w.other(primary, leader)
		was := victim.id()
		again := w.stranger(victim.name)
		victim.halt()
		if err := w.join(again, id, true, leader.name+":7400"); !errors.Is(err, cluster.ErrUnfit) || !strings.Contains(err.Error(), "lives at") {
			t.Fatalf("it was heard a moment ago: %v", err)
		}
		w.wait("the dead node is missed", func() bool {
			s, ok := leader.running().Sightings()[was]
			return ok && s.Age > 3*time.Second
		})
		if err := w.join(again, id, false, leader.name+":7400"); !errors.Is(err, cluster.ErrUnfit) || !strings.Contains(err.Error(), "--replace") {
			t.Fatalf("nobody said that it is gone for good: %v", err)
		}
		if err := w.join(again, id, true, leader.name+":7400"); err != nil {
			t.Fatal(err)
		}
		w.members(3, 3, 2)
		if _, still := primary.running().State().Members[was]; still {
			t.Error("the one before it is still a member")
		}
		if w.epoch() != 1 {
			t.Errorf("epoch %d", w.epoch())
		}
	})
}

// TestRemovalsThatAreRefused names each reason.
func TestRemovalsThatAreRefused(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		primary, leader := w.settle()
		other := w.other(primary, leader)
		remove := func(r cluster.Removal) error { return leader.running().Remove(context.Background(), r) }
		if err := remove(cluster.Removal{Name: primary.name}); !errors.Is(err, cluster.ErrUnfit) || !strings.Contains(err.Error(), "quorate switchover") {
			t.Errorf("the primary: %v", err)
		}
		if err := remove(cluster.Removal{Name: "n9"}); !errors.Is(err, cluster.ErrUnfit) || !strings.Contains(err.Error(), "members are n1, n2, n3") {
			t.Errorf("a stranger: %v", err)
		}
		w.isolate(other)
		w.wait("it is missed", func() bool { return leader.running().Sightings()[other.id()].Age > 3*time.Second })
		if err := remove(cluster.Removal{Name: leader.name, LastCopy: true}); !errors.Is(err, cluster.ErrUnfit) || !strings.Contains(err.Error(), "2 of them must live and 1 do") {
			t.Errorf("the rest would have no majority: %v", err)
		}
		if err := remove(cluster.Removal{Name: leader.name}); !errors.Is(err, cluster.ErrUnfit) {
			t.Errorf("the last copy: %v", err)
		}
		if err := remove(cluster.Removal{Name: other.name}); err != nil { // the dead one may go
			t.Fatal(err)
		}
		w.wait("the dead one is gone", func() bool { return len(primary.running().State().Members) == 2 })
		if err := remove(cluster.Removal{Name: leader.name}); !errors.Is(err, cluster.ErrUnfit) || !strings.Contains(err.Error(), "--last-copy") {
			t.Errorf("the last copy: %v", err)
		}
		if s := primary.running().State(); len(s.Members) != 2 || s.Epoch != 1 || s.Members[leader.id()].Leaving {
			t.Errorf("a refusal changed something: %+v", s.Members)
		}
	})
}

// TestAForeignOrLateNodeIsRefused: what must not come in does not, and nothing is changed on either side.
func TestAForeignOrLateNodeIsRefused(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		primary, _ := w.settle()
		id, before := primary.running().ClusterID(), primary.running().State().Version
		if err := w.join(w.stranger("n4"), "another", false, "n1:7400"); !errors.Is(err, cluster.ErrUnfit) || !strings.Contains(err.Error(), "cluster another") {
			t.Errorf("a token of another cluster: %v", err)
		}
		if err := w.join(w.stranger("N4"), id, false, "n1:7400"); !errors.Is(err, fsm.ErrInvalid) {
			t.Errorf("a name that is none: %v", err)
		}
		known := w.nodes[1]
		known.halt()
		if err := w.join(&node{w: w, name: known.name, host: known.name, dir: known.dir}, id, false, "n1:7400"); !errors.Is(err, cluster.ErrUnfit) || !strings.Contains(err.Error(), "belongs to cluster") {
			t.Errorf("a node that belongs to a cluster: %v", err)
		}
		known.run()
		w.settle()
		if s := primary.running().State(); len(s.Members) != 3 || s.Version != before {
			t.Errorf("version %d -> %d, members %v", before, s.Version, s.Members)
		}
	})
}

// TestAMajorityIsLostForGood: what is left goes on alone, the others are not spoken to, and one that was wiped joins it.
func TestAMajorityIsLostForGood(t *testing.T) {
	for _, lost := range []string{"the primary", "the standbys"} {
		t.Run(lost, func(t *testing.T) {
			inBubble(t, 3, func(w *world) {
				primary, leader := w.settle()
				left := primary
				if lost == "the primary" {
					left = leader
				}
				was := left.running().State()
				left.halt()
				answering := func(want bool, names ...string) {
					t.Helper()
					got, majority, err := cluster.Answering(context.Background(), left.config(), w.net.Host(left.host), left.logger())
					if err != nil || majority != want || !slices.Equal(got, names) {
						t.Errorf("%v answer, a majority %v, %v; want %v, %v", got, majority, err, names, want)
					}
				}
				second := w.other(left)
				third := w.other(left, second)
				answering(true, second.name, third.name)
				second.halt()
				answering(true, third.name)
				third.halt()
				answering(false)
				kept, err := cluster.Recover(left.dir, left.logger())
				if err != nil {
					t.Fatal(err)
				}
				if r, err := cluster.Inspect(kept); err != nil || r.State.Rev != was.Rev || len(r.State.Members) != 3 {
					t.Errorf("kept %+v, %v", r.State, err)
				}
				left.run()
				w.wait("it serves alone", func() bool { return left.serving() > was.Epoch || left == primary && left.serving() > 0 })
				now := left.running().State()
				if now.Generation != was.Generation+1 || now.ClusterID == was.ClusterID || len(now.Members) != 1 || len(now.Electorate.Voters) != 1 || now.Epoch < was.Epoch {
					t.Errorf("recovered to %+v", now)
				}
				// One that comes back as it was gets nowhere, and changes nothing.
				back := w.other(left)
				back.run()
				time.Sleep(20 * time.Second)
				if s := left.running().State(); len(s.Members) != 1 || back.serving() != 0 || left.serving() == 0 || back.running().State().ClusterID != was.ClusterID {
					t.Errorf("it disturbs: %+v, serving %d", s.Members, back.serving())
				}
				back.halt()
				again := w.stranger(back.name)
				if err := w.join(again, now.ClusterID, false, left.name+":7400"); err != nil {
					t.Fatal(err)
				}
				w.wait("two copies again", func() bool { return left.running().State().Sync.Copies == 2 && left.serving() > 0 })
			})
		})
	}
}

// TestALateNodeReadsALogThatIsOlderThanItsLeader: a node that joins is sent the log from its beginning, where the leader, which
// joined later, is no member yet. It must not turn the leader away for that. Chaos met a node that did, for ever.
func TestALateNodeReadsALogThatIsOlderThanItsLeader(t *testing.T) {
	inBubble(t, 1, func(w *world) {
		first := w.nodes[0]
		w.wait("one node serves", func() bool { return first.serving() == 1 })
		id := first.running().ClusterID()
		// More entries than the leader sends at once, so that what is read first is shown and acted upon.
		for range 200 {
			for _, change := range []fsm.Command{fsm.Pause{}, fsm.Resume{}} {
				if err := first.running().Submit(context.Background(), change, 0, "test"); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i, name := range []string{"n2", "n3"} {
			if err := w.join(w.stranger(name), id, false, "n1:7400"); err != nil {
				t.Fatal(err)
			}
			w.members(2+i, 1+2*i, 2)
		}
		w.wait("a node that joined leads", func() bool { l := w.leader(); return l != nil && l != first })
		if err := w.join(w.stranger("n4"), id, false, "n1:7400"); err != nil {
			t.Fatal(err)
		}
		w.members(4, 3, 2)
	})
}

// TestWhoWasAwayFollowsALeaderThatItDoesNotKnow: a member was away while others came, and by its own state the leader is a stranger. A
// member that it knows tells it who they are, and it follows.
func TestWhoWasAwayFollowsALeaderThatItDoesNotKnow(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		primary, leader := w.settle()
		id, away := primary.running().ClusterID(), w.other(primary, leader)
		away.halt()
		for _, name := range []string{"n4", "n5"} {
			if err := w.join(w.stranger(name), id, false, primary.name+":7400"); err != nil {
				t.Fatal(err)
			}
		}
		later := w.nodes[3:]
		w.wait("they vote and hold copies", func() bool {
			s := primary.running().State()
			return len(s.Electorate.Voters) == 5 && slices.Contains(s.Sync.Members, later[0].id()) && slices.Contains(s.Sync.Members, later[1].id())
		})
		leader.halt()
		w.wait("one of them leads", func() bool { return slices.Contains(later, w.leader()) })
		away.run()
		w.wait("it knows them", func() bool { return len(away.running().State().Members) == 5 })
		if !slices.Contains(later, w.leader()) {
			t.Error("another node leads by now: this shows nothing")
		}
	})
}
