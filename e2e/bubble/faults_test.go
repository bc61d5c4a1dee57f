package bubble

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/fsm"
)

// The clocks run apart by as much as is assumed: the primary's lease lasts longest, the others count fastest.
func TestOneWriterThoughClocksDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		defer w.stop()
		for i, n := range w.nodes {
			n.rate = 1.0099
			if i == 0 {
				n.rate = 0.9901
			}
			n.run()
		}
		old, _ := w.settle()
		if old != w.nodes[0] {
			t.Fatalf("primary is %s", old.name)
		}
		w.isolate(old)
		w.wait("another primary serves", func() bool { p := w.primary(); return p != nil && p != old })
		w.rejoin(old)
		w.settle()
		w.checkOneWriter()
	})
}

// Nodes are cut off, healed, cut one way, stopped and started at random. There is never a second writer, and once all is
// well again the cluster heals without help.
func TestRandomFaults(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, 3, func(w *world) {
				w.settle()
				rng := rand.New(rand.NewPCG(seed, 1))
				for range 40 {
					w.disturb(rng)
					time.Sleep(time.Duration(rng.IntN(2500)) * time.Millisecond)
				}
				w.healAll()
				w.settle()
				t.Logf("seed %d: epoch %d, %d leases", seed, w.epoch(), len(w.leases))
			})
		})
	}
}

func (w *world) disturb(rng *rand.Rand) {
	a, b := w.nodes[rng.IntN(len(w.nodes))], w.nodes[rng.IntN(len(w.nodes))]
	switch rng.IntN(6) {
	case 0:
		w.isolate(a)
	case 1, 2:
		w.rejoin(a)
		w.net.Heal(a.name, b.name)
	case 3:
		if a != b {
			w.net.CutOneWay(a.name, b.name)
		}
	case 4:
		a.halt()
	case 5:
		if a.running() == nil {
			a.run()
		}
	}
}

func (w *world) healAll() {
	for _, a := range w.nodes {
		w.rejoin(a)
		for _, b := range w.nodes {
			w.net.Heal(a.name, b.name)
		}
	}
	for _, n := range w.nodes {
		if n.running() == nil {
			n.run()
		}
	}
}

// A node that was away for longer than the log reaches back gets a snapshot, and gets it soon.
func TestALongLostNodeGetsASnapshot(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		primary, leader := w.settle()
		lost := w.other(primary, leader)
		w.isolate(lost)
		c := leader.running()
		for range 1100 { // each is followed by a barrier: more entries than a snapshot needs and the log keeps
			if err := c.Submit(w.t.Context(), fsm.SetMember{Member: c.State().Members[c.Self()]}, 0, "test"); err != nil && !errors.Is(err, fsm.ErrExists) {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Minute)
		want, before := c.State().Version, lost.snapshots()
		w.rejoin(lost)
		took := w.wait("the lost node has applied", func() bool { return lost.running().State().Version >= want })
		t.Logf("applied after %s", took)
		if took > time.Second {
			t.Errorf("applied %s after the healing", took)
		}
		if lost.snapshots() == before {
			t.Error("no snapshot was needed: the story tests nothing")
		}
		w.settle()
	})
}

// snapshots counts those on the node's disk.
func (n *node) snapshots() int {
	entries, err := os.ReadDir(filepath.Join(n.dir, "raft", "snapshots"))
	if err != nil {
		n.w.t.Fatal(err)
	}
	return len(entries)
}

// Nobody in a minority is told that something happened.
func TestAMinorityCommitsNothing(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		primary, leader := w.settle()
		w.isolate(leader)
		ctx, cancel := context.WithTimeout(w.t.Context(), 5*time.Second)
		defer cancel()
		err := leader.running().Submit(ctx, fsm.Pause{}, 0, "test")
		if !errors.Is(err, cluster.ErrNoLeader) && !errors.Is(err, cluster.ErrUnknownOutcome) {
			t.Errorf("Submit in a minority: %v", err)
		}
		w.rejoin(leader)
		w.settle()
		if w.epoch() != 1 || primary.serving() != 1 {
			t.Errorf("epoch %d, primary serving %d", w.epoch(), primary.serving())
		}
	})
}
