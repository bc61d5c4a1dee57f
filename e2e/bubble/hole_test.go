package bubble

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// through is what a way with a hole lets through at once (bytes): every message but a long entry of the log.
const through = 6000

// On the way to one node nothing large arrives any more: beats, heartbeats and calls do, a long entry of the log does not, nor what
// comes after it. That node has more of the primary's log than the others when the primary is lost. It is passed over where it is
// known by then that it gets nothing, and replaced where it is appointed before that.
func TestLargeMessagesDoNotArrive(t *testing.T) {
	for _, c := range []struct {
		name  string
		since time.Duration // until the loss of the primary
		early bool          // all programs are of a release whose beats don't tell how far they got in the log
		epoch fsm.Epoch     // of the one that serves in its place
	}{
		{"for long", 10 * time.Second, false, 2},
		{"for a moment", time.Second, false, 3},
		{"for long and unseen", 10 * time.Second, true, 3},
	} {
		for which := range 3 {
			t.Run(fmt.Sprintf("%s/%d", c.name, which), func(t *testing.T) {
				h := &hole{}
				inWires(t, 5, func(w *world) func(string) transport.Network {
					for _, n := range w.nodes {
						n.early = c.early
					}
					return h.wires(w)
				}, func(w *world) {
					primary, leader := w.settle()
					stuck := others(w, primary, leader)[which]
					h.to.Store(&stuck.host)
					w.enter(primary, strings.Repeat("#", 2*through))
					time.Sleep(c.since)
					if stuck.running().State().Version >= primary.running().State().Version {
						t.Fatal("it has applied the long entry: this tests nothing")
					}
					w.isolate(primary)
					stuck.mu.Lock()
					stuck.lsn += 1000
					stuck.mu.Unlock()
					took := w.wait("another primary serves", func() bool { p := w.primary(); return p != nil && p != primary && p.serving() > 1 })
					if p := w.primary(); p == stuck || p.serving() != c.epoch {
						t.Errorf("%s serves epoch %d, want %d and another than %s", p.name, p.serving(), c.epoch, stuck.name)
					}
					t.Logf("%s gets no log; after %s %s serves epoch %d", stuck.name, took, w.primary().name, w.epoch())
					w.rejoin(primary)
					h.to.Store(nil)
					w.settle()
				})
			})
		}
	}
}

// A hole on the way to a standby, to the primary, and to the Raft leader costs no failover while the primary serves.
func TestAHoleDisturbsNoWrites(t *testing.T) {
	h := &hole{}
	inWires(t, 5, h.wires, func(w *world) {
		primary, leader := w.settle()
		w.undisturbed(primary, func() {
			for _, n := range []*node{others(w, primary, leader)[0], primary, leader} {
				h.to.Store(&n.host)
				w.enter(w.leader(), strings.Repeat("#", 2*through))
				time.Sleep(30 * time.Second)
				// It is said before it hurts. The leader has what it enters.
				rule, because := "at-risk", n.name+" has shown nothing newer of Raft's log"
				if n == leader {
					rule, because = "healthy", ""
				}
				if _, d, err := w.leader().running().Explain(w.t.Context()); err != nil || d.Rule != rule || !strings.HasPrefix(d.Because[0], because) {
					t.Errorf("with a hole on the way to %s the leader decides %s: %v %v", n.name, d.Rule, d.Because, err)
				}
				h.to.Store(nil)
				w.settle()
			}
		})
	})
}

// hole is on the way to one host, or to none.
type hole struct{ to atomic.Pointer[string] }

func (h *hole) wires(w *world) func(string) transport.Network {
	return func(host string) transport.Network {
		return slow{Network: w.net.Host(host), takes: func(to string, size int) (time.Duration, bool) {
			at := h.to.Load()
			return 0, at == nil || to != *at || size <= through
		}}
	}
}

// enter has a long document be the cluster's configuration.
func (w *world) enter(by *node, doc string) {
	w.t.Helper()
	c := by.running()
	s := c.State()
	change := fsm.EditConfig{IfVersion: s.Config.Version, Doc: doc, Settings: s.Config.Settings}
	if err := c.Submit(w.t.Context(), change, 0, "test"); err != nil {
		w.t.Fatal(err)
	}
}

// others are the nodes that are none of those.
func others(w *world, not ...*node) (out []*node) {
	for _, n := range w.nodes {
		if !slices.Contains(not, n) {
			out = append(out, n)
		}
	}
	return out
}
