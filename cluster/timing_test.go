package cluster

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/fsm"
)

// joins lets a new node of that name in.
func (p *peerNodes) joins(name, clusterID string) error {
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	return Join(ctx, p.config(name), JoinDeps{
		Logger: hclog.NewNullLogger(), Network: p.net.Host(name), DataFacts: func() DataFacts { return DataFacts{Empty: true} },
	}, clusterID, p.peers, false)
}

// TestTheTimingIsTheClusters: what a node's own file says of failover_after counts at the founding only.
func TestTheTimingIsTheClusters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeerNodes(t, 1)
		p.failoverAfter = map[string]time.Duration{"n1": 10 * time.Second}
		is := func(name string, want time.Duration) {
			t.Helper()
			if got, err := FailoverAfter(filepath.Join(p.dir, name)); err != nil || got != want {
				t.Errorf("%s: failover_after %s, %v, want %s", name, got, err, want)
			}
		}
		is("n1", 0)
		n1 := p.open("n1")
		stop := p.run(n1)
		waitFor(t, "one node leads", func() bool { return initialised(n1) && n1.RaftInfo().State == "leader" })
		is("n1", 10*time.Second)
		p.failoverAfter["n1"] = time.Second // an edited file changes nothing
		is("n1", 10*time.Second)
		if err := p.joins("n2", n1.ClusterID()); err != nil {
			t.Fatal(err)
		}
		is("n2", 10*time.Second)
		n2 := p.open("n2")
		if got := n2.raftConfig(nil).HeartbeatTimeout; got != maxRaftTimeout {
			t.Errorf("n2 begins Raft with %s, the others have %s", got, maxRaftTimeout)
		}
		p.mustStop(p.run(n2), stop)
	})
}

// TestInitialNodesMustAgreeOnTheTiming: their guards are set up before there is a cluster that could say it.
func TestInitialNodesMustAgreeOnTheTiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeerNodes(t, 2)
		p.failoverAfter = map[string]time.Duration{"n2": 10 * time.Second}
		n1, n2 := p.open("n1"), p.open("n2")
		stop1, stop2 := p.run(n1), p.run(n2)
		time.Sleep(time.Minute)
		if n1.ClusterID() != "" || n2.ClusterID() != "" {
			t.Fatal("a cluster began with two timings")
		}
		f := founding{First: n1.Self(), Init: fsm.Init{ClusterID: "c1", Config: fsm.Config{Settings: n1.cfg.Settings}}, Seed: strings.Repeat("ab", 32)}
		for _, c := range []*Cluster{n1, n2} {
			m := c.template()
			f.Init.Members = append(f.Init.Members, m)
		}
		if err := n1.identity.found(f); err != nil {
			t.Fatal(err)
		}
		if err := n1.credentials.SetIdentity("c1", string(n1.Self())); err != nil {
			t.Fatal(err)
		}
		if why := n1.tellFounding(t.Context(), p.peers); len(why) != 1 || !strings.Contains(why[0], "failover_after is 1s, and this node runs with 10s") {
			t.Errorf("n2 was told a founding with another timing: %q", why)
		}
		p.mustStop(stop1, stop2)
	})
}

// TestALivingNodeIsHeard: between two beats of the slowest cluster nobody is taken for dead, who could then be replaced.
func TestALivingNodeIsHeard(t *testing.T) {
	for _, fa := range []time.Duration{500 * time.Millisecond, time.Second, 10 * time.Second, time.Minute} {
		if got := heardWithin(fa); got < minHeard || got < 3*fa/beatsPerFailoverAfter {
			t.Errorf("failover_after %s, a beat every %s: dead after %s", fa, beatEvery(fa), got)
		}
	}
}
