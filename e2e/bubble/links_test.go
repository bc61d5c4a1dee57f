package bubble

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// The primary and the Raft leader can't reach each other, and the third node reaches both: nobody is replaced, and who hears
// the primary leads, so that a release would reach the one who decides.
func TestThePrimaryIsCutFromTheLeaderOnly(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		primary, leader := w.settle()
		third := w.other(primary, leader)
		w.undisturbed(primary, func() {
			w.net.Cut(primary.host, leader.host)
			w.wait("the one who hears the primary leads", func() bool { return third.running().RaftInfo().State == "leader" })
			time.Sleep(time.Minute)
			w.net.Heal(primary.host, leader.host)
			w.settle()
		})
	})
}

// The primary can send and not receive, or the other way round: either way it gets no vouches, stops by itself and is replaced.
func TestALinkOfThePrimaryWorksOneWayOnly(t *testing.T) {
	for _, c := range []struct {
		name string
		cut  func(w *world, primary, other *node)
	}{
		{"it hears nobody", func(w *world, primary, other *node) { w.net.CutOneWay(other.host, primary.host) }},
		{"nobody hears it", func(w *world, primary, other *node) { w.net.CutOneWay(primary.host, other.host) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, 3, func(w *world) {
				primary, _ := w.settle()
				for _, o := range w.nodes {
					if o != primary {
						c.cut(w, primary, o)
					}
				}
				took := w.wait("the primary stops", func() bool { return primary.serving() == 0 })
				if took > failoverAfter {
					t.Errorf("it served for %s after the cut, with a lease of 0.8 s", took)
				}
				w.wait("another primary serves", func() bool { p := w.primary(); return p != nil && p != primary && p.serving() == 2 })
				for _, o := range w.nodes {
					w.net.Heal(primary.host, o.host)
				}
				w.settle()
				if w.epoch() != 2 {
					t.Errorf("epoch %d after healing, want 2", w.epoch())
				}
			})
		})
	}
}

// One link that neither end needs for a majority is broken, one way or both: the primary goes on, and Raft does not elect
// anew all the time, because nobody who hears a leader helps another to become one.
func TestALinkBetweenOthersIsBroken(t *testing.T) {
	for _, c := range []struct {
		name string
		cut  func(w *world, leader, follower *node)
	}{
		{"the leader does not hear the follower", func(w *world, l, f *node) { w.net.CutOneWay(f.host, l.host) }},
		{"the follower does not hear the leader", func(w *world, l, f *node) { w.net.CutOneWay(l.host, f.host) }},
		{"neither hears the other", func(w *world, l, f *node) { w.net.Cut(l.host, f.host) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, 3, func(w *world) {
				primary, leader := w.settle()
				follower := w.other(primary, leader)
				term := leader.running().RaftInfo().Term
				w.undisturbed(primary, func() {
					c.cut(w, leader, follower)
					time.Sleep(time.Minute)
					if r := leader.running().RaftInfo(); r.State != "leader" || r.Term != term {
						t.Errorf("%s led in term %d and is %s in term %d", leader.name, term, r.State, r.Term)
					}
					w.net.Heal(leader.host, follower.host)
					w.settle()
				})
			})
		})
	}
}

// Whoever is primary loses its links for some seconds, again and again. Each time another one takes over, ever more rarely:
// the back-off bounds how often, and in the end there is one primary with everything.
func TestAFlappingNetworkIsNotFollowed(t *testing.T) {
	const (
		lasts = 5 * time.Minute
		// Within a minute a failover waits 1, 2, 4, 8, 16 and then 30 s after the one before.
		mostAMinute = 8
	)
	inBubble(t, 3, func(w *world) {
		w.settle()
		rng := rand.New(rand.NewPCG(1, 1))
		began, was := w.boot(), w.appointed()
		var changes []time.Duration
		watch := func(d time.Duration) {
			for end := w.boot() + d; w.boot() < end; time.Sleep(50 * time.Millisecond) {
				if now := w.appointed(); now != was {
					was, changes = now, append(changes, w.boot())
				}
			}
		}
		for w.boot()-began < lasts {
			p := w.primary()
			if p != nil {
				w.isolate(p)
			}
			watch(time.Second + time.Duration(rng.IntN(4000))*time.Millisecond)
			if p != nil {
				w.rejoin(p)
			}
			watch(time.Duration(rng.IntN(1000)) * time.Millisecond)
		}
		w.settle()
		for i, from := range changes {
			within := 0
			for _, at := range changes[i:] {
				if at-from < time.Minute {
					within++
				}
			}
			if within > mostAMinute {
				t.Errorf("%d failovers within a minute, at most %d", within, mostAMinute)
			}
		}
		t.Logf("%d failovers in %s", len(changes), lasts)
		if len(changes) < 10 {
			t.Error("hardly anything happened: this tests nothing")
		}
	})
}

// appointed is the primary of the newest epoch that anybody knows of.
func (w *world) appointed() fsm.NodeID {
	var newest fsm.State
	for _, n := range w.nodes {
		if c := n.running(); c != nil && c.State().Epoch > newest.Epoch {
			newest = c.State()
		}
	}
	return newest.Primary
}

// Every node is alone for minutes: none serves, nothing is decided, and when the links are back there is one primary whose
// log is as long as any.
func TestEveryLinkIsCut(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		primary, _ := w.settle()
		for _, n := range w.nodes {
			w.isolate(n)
		}
		took := w.wait("the primary stops", func() bool { return primary.serving() == 0 })
		if took > failoverAfter {
			t.Errorf("it served for %s after the cut, with a lease of 0.8 s", took)
		}
		end := primary.position()
		for until := w.boot() + 5*time.Minute; w.boot() < until; time.Sleep(50 * time.Millisecond) {
			if p := w.primary(); p != nil || w.epoch() != 1 {
				t.Fatalf("%v serves, epoch %d", p, w.epoch())
			}
		}
		for _, n := range w.nodes {
			w.rejoin(n)
		}
		now, _ := w.settle()
		if now.position() < end {
			t.Errorf("%s is primary with log to %s; %s had it to %s", now.name, now.position(), primary.name, end)
		}
	})
}

// pace is how long bytes are under way, the same for all; it may change while nodes run.
type pace struct {
	mu    sync.Mutex
	takes func() time.Duration
}

func (p *pace) set(takes func() time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.takes = takes
}

// wires are all as slow as p says.
func (p *pace) wires(w *world) func(host string) transport.Network {
	return func(host string) transport.Network {
		return slow{Network: w.net.Host(host), takes: func(string, int) (time.Duration, bool) {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.takes(), true
		}}
	}
}

// A round trip takes 300 ms, and a fifth of all that is sent 100 ms more: that is within the lease, so nobody is replaced. It is not
// what a lost packet costs: TCP waits for a round trip and more before it sends again (docs/limits.md).
func TestSlowLinksCostNothing(t *testing.T) {
	p := &pace{takes: func() time.Duration { return 0 }}
	inWires(t, 3, p.wires, func(w *world) {
		primary, _ := w.settle()
		rng := rand.New(rand.NewPCG(1, 1))
		w.undisturbed(primary, func() {
			p.set(func() time.Duration {
				takes := 150 * time.Millisecond
				if rng.IntN(5) == 0 {
					takes += 100 * time.Millisecond
				}
				return takes
			})
			time.Sleep(time.Minute)
			p.set(func() time.Duration { return 0 })
			w.settle()
		})
	})
}

// A vouch comes back when what it vouches for is over already: nobody can serve, and nobody does until the links are better.
func TestNobodyServesWhenARoundTripTakesLongerThanALease(t *testing.T) {
	p := &pace{takes: func() time.Duration { return 0 }}
	inWires(t, 3, p.wires, func(w *world) {
		primary, _ := w.settle()
		p.set(func() time.Duration { return 450 * time.Millisecond })
		w.wait("the primary stops", func() bool { return primary.serving() == 0 })
		for until := w.boot() + time.Minute; w.boot() < until; time.Sleep(20 * time.Millisecond) {
			if p := w.primary(); p != nil {
				t.Fatalf("%s serves", p.name)
			}
		}
		p.set(func() time.Duration { return 0 })
		w.settle()
	})
}

// Gossip decides nothing: without a single packet a cluster forms, and replaces its primary in the usual time.
func TestNoPacketArrives(t *testing.T) {
	lost, arrived := transport.NewMemory(), &atomic.Int64{}
	inWires(t, 3, func(w *world) func(string) transport.Network {
		return func(host string) transport.Network {
			lost.Isolate(host)
			return apart{w.net.Host(host), lost.Host(host), arrived}
		}
	}, func(w *world) {
		old, _ := w.settle()
		w.isolate(old)
		took := w.wait("another primary serves", func() bool { p := w.primary(); return p != nil && p != old && p.serving() == 2 })
		if took > 1600*time.Millisecond {
			t.Errorf("a write gap of %s in virtual time", took)
		}
		w.rejoin(old)
		w.settle()
		if n := arrived.Load(); n > 0 {
			t.Errorf("%d packets arrived", n)
		}
	})
}

// Only packets arrive: gossip finds everybody alive, and that is no vouch and no reason to appoint anybody.
func TestOnlyPacketsArrive(t *testing.T) {
	packets, arrived := transport.NewMemory(), &atomic.Int64{}
	inWires(t, 3, func(w *world) func(string) transport.Network {
		return func(host string) transport.Network { return apart{w.net.Host(host), packets.Host(host), arrived} }
	}, func(w *world) {
		primary, _ := w.settle()
		for _, n := range w.nodes {
			w.isolate(n)
		}
		w.wait("the primary stops", func() bool { return primary.serving() == 0 })
		before := arrived.Load()
		for until := w.boot() + time.Minute; w.boot() < until; time.Sleep(50 * time.Millisecond) {
			if p := w.primary(); p != nil || w.epoch() != 1 {
				t.Fatalf("%v serves, epoch %d", p, w.epoch())
			}
		}
		if n := arrived.Load() - before; n < 100 {
			t.Errorf("only %d packets arrived: this tests nothing", n)
		}
		for _, n := range w.nodes {
			w.rejoin(n)
		}
		w.settle()
	})
}
