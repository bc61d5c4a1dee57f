package beat_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/quorate/quorate/cluster/beat"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

func TestLeaseIsGainedAndRenewed(t *testing.T) {
	inBubble(t, func(b *bubble, n1, n2, _ *node) {
		b.settle(beatEvery)
		n1.leased(true)
		n2.leased(false)
		b.settle(20 * failoverAfter)
		n1.leased(true)
		n1.set(func(n *node) {
			for i := 1; i < len(n.leases); i++ {
				if n.leases[i] <= n.leases[i-1] {
					b.t.Fatalf("OnLease went back: %v after %v", n.leases[i], n.leases[i-1])
				}
			}
			if len(n.leases) < 150 {
				b.t.Fatalf("%d extensions in 20 s", len(n.leases))
			}
		})
	})
}

func TestMinorityCutKeepsTheLease(t *testing.T) {
	inBubble(t, func(b *bubble, n1, _, _ *node) {
		b.settle(failoverAfter)
		b.net.Isolate("n3")
		for range 100 {
			b.settle(50 * time.Millisecond)
			n1.leased(true)
		}
		age := n1.svc.Sightings()["n3"].Age
		if age < 5*failoverAfter || age > 5*failoverAfter+beatEvery {
			b.t.Fatalf("n3 was cut off 5 s ago, its sighting is %v old", age)
		}
	})
}

func TestMajorityCutEndsTheLeaseInTime(t *testing.T) {
	inBubble(t, func(b *bubble, n1, _, _ *node) {
		b.settle(failoverAfter)
		b.net.Isolate("n1")
		b.settle(leaseLength - 2*beatEvery)
		if n1.left() <= 0 {
			b.t.Fatal("the lease ended before its time")
		}
		b.settle(2 * beatEvery)
		n1.leased(false)
		b.settle(30 * failoverAfter)
		n1.leased(false)
		b.net.Rejoin("n1")
		b.settle(failoverAfter)
		n1.leased(true)
	})
}

func TestHolderRestart(t *testing.T) {
	inBubble(t, func(b *bubble, n1, _, _ *node) {
		b.settle(failoverAfter)
		n1.stop()
		n1.start()
		b.settle(2 * beatEvery)
		n1.leased(true)
	})
}

func TestSealedMajorityRefuses(t *testing.T) {
	inBubble(t, func(b *bubble, n1, n2, n3 *node) {
		b.settle(failoverAfter)
		reply, err := n2.svc.Seal(b.ctx, 1)
		if err != nil || reply.Epoch != 1 || reply.Left <= 0 || reply.NeverVouched {
			b.t.Fatalf("seal: %+v, %v", reply, err)
		}
		if reply.Left%time.Millisecond != 0 {
			b.t.Fatalf("left %v is not in whole milliseconds", reply.Left)
		}
		b.settle(failoverAfter)
		n1.leased(true) // n1 and n3 are a majority
		if sealed := n1.svc.Sightings()["n2"].Sealed; sealed != 1 {
			b.t.Fatalf("n1 knows n2's seal as %d", sealed)
		}
		// The seal outlives the process.
		n2.stop()
		n2.start()
		if _, err := n3.svc.Seal(b.ctx, 1); err != nil {
			b.t.Fatal(err)
		}
		end := n1.left()
		b.settle(end)
		n1.leased(false)
		b.settle(5 * failoverAfter)
		n1.leased(false)
		// The same node appointed again holds again.
		for _, n := range []*node{n1, n2, n3} {
			n.set(func(n *node) { n.state = state(2, "n1") })
		}
		n1.svc.Kick()
		b.settle(beatEvery)
		n1.leased(true)
	})
}

func TestVoterRestartCountsAsAVouch(t *testing.T) {
	inBubble(t, func(b *bubble, n1, n2, _ *node) {
		b.settle(failoverAfter)
		b.net.Isolate("n1")
		b.settle(10 * failoverAfter)
		reply, err := n2.svc.Ask(b.ctx, 1)
		if err != nil || reply.NeverVouched || reply.VouchedAgo < 9*failoverAfter {
			b.t.Fatalf("ask: %+v, %v", reply, err)
		}
		n2.stop()
		n2.start()
		reply, err = n2.svc.Ask(b.ctx, 1)
		if err != nil || !reply.NeverVouched || reply.VouchedAgo != 0 {
			b.t.Fatalf("ask after a restart: %+v, %v", reply, err)
		}
		seal, err := n2.svc.Seal(b.ctx, 1)
		if err != nil || seal.Left < leaseLength*101/99 {
			b.t.Fatalf("a restarted voter is bound for all of Lmax, not %v (%v)", seal.Left, err)
		}
	})
}

func TestHigherEpochStopsTheHolder(t *testing.T) {
	inBubble(t, func(b *bubble, n1, n2, _ *node) {
		b.settle(failoverAfter)
		n2.set(func(n *node) { n.state = state(2, "n2") })
		b.settle(2 * beatEvery)
		n1.leased(false)
		n1.set(func(n *node) {
			if len(n.higher) != 1 || n.higher[0] != 2 {
				b.t.Fatalf("OnHigher was told %v", n.higher)
			}
		})
		b.settle(failoverAfter)
		n1.leased(false)
	})
}

func TestOwnReappointmentSeenByAVoterFirst(t *testing.T) {
	inBubble(t, func(b *bubble, n1, n2, _ *node) {
		b.settle(failoverAfter)
		n2.set(func(n *node) { n.state = state(2, "n1") })
		b.settle(failoverAfter)
		n1.leased(true)
		n1.set(func(n *node) { n.state = state(2, "n1"); n.leases = nil })
		n1.svc.Kick()
		b.settle(10 * time.Millisecond)
		n1.leased(true)
		if epoch, _ := n1.svc.Lease(); epoch != 2 {
			b.t.Fatalf("the lease is of epoch %d", epoch)
		}
		n1.set(func(n *node) {
			if len(n.higher) != 0 {
				b.t.Fatalf("OnHigher was told %v of its own node", n.higher)
			}
		})
	})
}

func TestStalledConnectionIsBypassed(t *testing.T) {
	inBubble(t, func(b *bubble, n1, n2, _ *node) {
		b.net.Isolate("n3") // n2's vouch is needed
		b.settle(2*failoverAfter + beatEvery/2)
		n1.set(func(n *node) {
			busiest := n.dialed["n2"][0]
			for _, c := range n.dialed["n2"] {
				c.lock.Lock()
				if c.writes > busiest.writes {
					busiest = c
				}
				c.lock.Unlock()
			}
			busiest.lock.Lock()
			busiest.hole = true
			busiest.lock.Unlock()
		})
		for range 60 {
			b.settle(50 * time.Millisecond)
			if left := n1.left(); left < leaseLength-3*beatEvery {
				b.t.Fatalf("only %v of the lease is left", left)
			}
			if age := n2.svc.Sightings()["n1"].Age; age > 5*beatEvery/2 {
				b.t.Fatalf("n2 last heard of n1 %v ago", age)
			}
		}
	})
}

func TestKickSendsAtOnceAndWakes(t *testing.T) {
	inBubble(t, func(b *bubble, n1, n2, _ *node) {
		b.settle(failoverAfter + beatEvery/2)
		wakes := 0
		n2.set(func(n *node) { wakes = n.wakes })
		b.settle(failoverAfter)
		n2.set(func(n *node) {
			if n.wakes != wakes {
				b.t.Fatalf("woken %d times by nothing", n.wakes-wakes)
			}
		})
		n1.set(func(n *node) { n.report = failover.Report{Run: failover.RunStopped, Flush: 7} })
		n1.svc.Kick()
		b.settle(10 * time.Millisecond)
		n2.set(func(n *node) {
			if n.wakes != wakes+1 {
				b.t.Fatalf("woken %d times by a stopped Postgres", n.wakes-wakes)
			}
		})
		s := n2.svc.Sightings()["n1"]
		if s.Age > 10*time.Millisecond || s.Report.Run != failover.RunStopped || s.Report.Node != "n1" {
			b.t.Fatalf("n2 sees %+v", s)
		}
	})
}

func TestReportsCarryTheAgesOfSightings(t *testing.T) {
	inBubble(t, func(b *bubble, _, n2, _ *node) {
		b.settle(failoverAfter)
		b.net.Cut("n1", "n3")
		b.settle(3 * failoverAfter)
		seen := n2.svc.Sightings()
		if len(seen) != 3 || seen["n2"].Age != 0 {
			b.t.Fatalf("n2 sees %+v", seen)
		}
		ages := map[fsm.NodeID]int64{}
		for _, a := range seen["n3"].Report.Sightings {
			ages[a.Node] = a.MS
		}
		if ages["n1"] < 2750 || ages["n1"] > 3125 || ages["n2"] > 130 || len(ages) != 2 {
			b.t.Fatalf("n3 reports %v", ages)
		}
	})
}

func TestReleaseStopsAsking(t *testing.T) {
	inBubble(t, func(b *bubble, n1, n2, _ *node) {
		b.settle(failoverAfter)
		n1.svc.Release(1)
		n1.leased(false)
		told := 0
		n1.set(func(n *node) { told = len(n.leases) })
		b.settle(3 * failoverAfter)
		n1.leased(false)
		n1.set(func(n *node) {
			if len(n.leases) != told {
				b.t.Fatal("OnLease was told after a release")
			}
		})
		if reply, err := n2.svc.Ask(b.ctx, 1); err != nil || reply.VouchedAgo < 2*failoverAfter {
			b.t.Fatalf("n2 still vouches: %+v, %v", reply, err)
		}
		if age := n2.svc.Sightings()["n1"].Age; age > beatEvery {
			b.t.Fatalf("a released node still beats, last %v ago", age)
		}
	})
}

func TestNoVouchIsAskedThatTheNodeMayNotHold(t *testing.T) {
	inBubble(t, func(b *bubble, n1, _, _ *node) {
		n1.set(func(n *node) { n.mayHold = false })
		b.settle(2 * failoverAfter)
		// The first beat may have asked before the bubble said no; its lease is over by now.
		n1.leased(false)
		n1.set(func(n *node) { n.mayHold = true })
		b.settle(beatEvery)
		n1.leased(true)
		n1.set(func(n *node) { n.report.Released = &fsm.Release{Epoch: 1, Node: "n1"} })
		b.settle(beatEvery)
		n1.leased(false)
	})
}

func TestBeatsOfAnotherClusterAreRefused(t *testing.T) {
	inBubble(t, func(b *bubble, _, n2, _ *node) {
		b.settle(failoverAfter)
		conn, err := b.net.Host("n1").Dial(b.ctx, "n2:7400")
		if err != nil {
			b.t.Fatal(err)
		}
		body := `{"v":1,"cluster":"c2","node":"n1","inc":1,"seq":1,"vouch":true,"epoch":9,"l":1,"report":{"node":"n1"}}`
		if _, err := conn.Write(append([]byte{0, 0, 0, byte(len(body))}, body...)); err != nil {
			b.t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
			b.t.Fatal("a beat of another cluster was answered")
		}
		if reply, err := n2.svc.Ask(b.ctx, 9); err != nil || !reply.NeverVouched {
			b.t.Fatalf("n2 vouched for another cluster: %+v, %v", reply, err)
		}
	})
}

func TestVoterFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "voter.bin")
	boot := func() time.Duration { return time.Minute }
	open := func(id fsm.NodeID) (*beat.Service, error) {
		return beat.New(beat.Config{Self: id, ClusterID: "c1", VoterFile: path}, beat.Deps{Boot: boot})
	}
	s, err := open("n1")
	if err != nil {
		t.Fatalf("a fresh node: %v", err)
	}
	if _, err := s.Seal(t.Context(), 5); err != nil {
		t.Fatal(err)
	}
	if s, err = open("n1"); err != nil {
		t.Fatal(err)
	}
	if reply, err := s.Seal(t.Context(), 3); err != nil || reply.Epoch != 5 {
		t.Fatalf("a seal of 5 was forgotten: %+v, %v", reply, err)
	}
	if _, err := open("n2"); !errors.Is(err, beat.ErrPromisesLost) {
		t.Fatalf("another node's promises: %v", err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[len(content)-3] ^= 1
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open("n1"); !errors.Is(err, beat.ErrPromisesLost) {
		t.Fatalf("a damaged file: %v", err)
	}
}
