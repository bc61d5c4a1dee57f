package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/transport"
)

func TestJudgePeers(t *testing.T) {
	peers := []string{"n1:7400", "n2:7400", "n3:7400"}
	agreeing := func() map[string]helloAnswer {
		out := map[string]helloAnswer{}
		for i, addr := range peers {
			out[addr] = helloAnswer{NodeID: fsm.NodeID(fmt.Sprintf("id%d", i+1)), Member: fsm.Member{Name: addr[:2], Addr: addr}, Peers: peers, Data: DataFacts{Empty: true}}
		}
		return out
	}
	change := func(edit func(*helloAnswer)) map[string]helloAnswer {
		out := agreeing()
		a := out["n2:7400"]
		edit(&a)
		out["n2:7400"] = a
		return out
	}
	for name, tc := range map[string]struct {
		answers map[string]helloAnswer
		want    string // part of the one objection; empty: none
	}{
		"all agree":            {agreeing(), ""},
		"another list":         {change(func(a *helloAnswer) { a.Peers = peers[:2] }), "other cluster.peers"},
		"another order":        {change(func(a *helloAnswer) { a.Peers = []string{peers[1], peers[0], peers[2]} }), "other cluster.peers"},
		"a cluster":            {change(func(a *helloAnswer) { a.Cluster = "old" }), "belongs to cluster old"},
		"another address":      {change(func(a *helloAnswer) { a.Member.Addr = "x:1" }), "calls itself x:1"},
		"another timing":       {change(func(a *helloAnswer) { a.FailoverAfterMS = 10000 }), "failover_after 10s and this node 0s"},
		"one node, two names":  {change(func(a *helloAnswer) { a.NodeID = "id1" }), "are one node"},
		"two nodes, one name":  {change(func(a *helloAnswer) { a.Member.Name = "n1" }), "both named"},
		"silent ones excluded": {map[string]helloAnswer{}, ""},
	} {
		got := judgePeers("n1:7400", peers, tc.answers)
		if tc.want == "" && len(got) > 0 || tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)) {
			t.Errorf("%s: %q, want one with %q", name, got, tc.want)
		}
	}
}

// peerNodes opens Clusters n1.. on one network; those that open twice find what the first time left.
type peerNodes struct {
	t     *testing.T
	net   *transport.Memory
	dir   string
	peers []string
	full  sync.Map // the DataFacts of those whose data directory isn't empty, by name
	// secrets, and certificate by the node's name, are what the node files say.
	secrets     []transport.Secret
	certificate func(name string) *transport.PEM
	// failoverAfter is what the node file of that name says; 0: a second.
	failoverAfter map[string]time.Duration
	start         time.Time
}

func newPeerNodes(t *testing.T, n int) *peerNodes {
	p := &peerNodes{t: t, net: transport.NewMemory(), dir: t.TempDir(), start: time.Now()}
	for i := range n {
		p.peers = append(p.peers, fmt.Sprintf("n%d:7400", i+1))
	}
	return p
}

func (p *peerNodes) config(name string) Config {
	var certificate *transport.PEM
	if p.certificate != nil {
		certificate = p.certificate(name)
	}
	after := cmp.Or(p.failoverAfter[name], time.Second)
	return Config{
		Dir: filepath.Join(p.dir, name), Scope: "test", Listen: name + ":7400", Peers: p.peers, Secrets: p.secrets, Certificate: certificate,
		Member:   fsm.Member{Name: name, Role: fsm.RoleData, Addr: name + ":7400", Postgres: name + ":5432"},
		Settings: fsm.Settings{FailoverAfterMS: after.Milliseconds(), Durability: fsm.DurabilityQuorum},
	}
}

func (p *peerNodes) open(name string) *Cluster {
	p.t.Helper()
	c, err := Open(p.config(name), Deps{
		Boot: func() time.Duration { return time.Since(p.start) + time.Hour }, Logger: hclog.NewNullLogger(), Network: p.net.Host(name),
		DataFacts: func() DataFacts {
			if d, full := p.full.Load(name); full {
				return d.(DataFacts)
			}
			return DataFacts{Empty: true}
		},
		MayHold: func(fsm.Epoch) bool { return true },
		Detach: func(context.Context, fsm.Epoch) (fsm.Position, error) {
			return fsm.Position{}, errors.New("no data yet")
		},
		OnLease: func(fsm.Epoch, time.Duration) {}, OnHigher: func(fsm.Epoch) {},
		Exit: func(r string) { p.t.Errorf("%s: exit: %s", name, r) },
	})
	if err != nil {
		p.t.Fatalf("open %s: %v", name, err)
	}
	return c
}

// run runs c until the returned function is called, which returns Run's error.
func (p *peerNodes) run(c *Cluster) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	var err error
	running.Go(func() { err = c.Run(ctx) })
	running.Go(func() { // the agent, reduced to a heartbeat
		for ctx.Err() == nil {
			s := c.State()
			c.SetReport(failover.Report{Epoch: s.Epoch, Rev: s.Rev, Run: failover.RunRunning, Healthy: true})
			time.Sleep(20 * time.Millisecond)
		}
	})
	return func() error { cancel(); running.Wait(); return err }
}

func (p *peerNodes) mustStop(stops ...func() error) {
	p.t.Helper()
	for _, stop := range stops {
		if err := stop(); err != nil {
			p.t.Error(err)
		}
	}
	time.Sleep(gossipLinger)
}

// gossipLinger is how long memberlist's probes outlive it at most; a bubble has to end without them.
const gossipLinger = 10 * time.Second

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for range 6000 {
		if ok() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("not within 30s: %s", what)
}

func initialised(c *Cluster) bool { return c.State().ClusterID != "" }

func TestNobodyBeginsBeforeAllAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeerNodes(t, 3)
		p.full.Store("n3", DataFacts{SystemID: 77, State: pg.ControlShutDown, Timeline: 1, End: 100})
		n1, n2 := p.open("n1"), p.open("n2")
		stop1, stop2 := p.run(n1), p.run(n2)
		time.Sleep(time.Minute)
		if n1.ClusterID() != "" || n2.ClusterID() != "" {
			t.Error("a cluster of three began with two")
		}
		n3 := p.open("n3")
		stop3 := p.run(n3)
		time.Sleep(time.Minute)
		if n1.ClusterID() != "" {
			t.Error("a cluster began over a data directory that is not empty")
		}
		p.mustStop(stop3)
		p.full.Delete("n3")
		n3 = p.open("n3")
		stop3 = p.run(n3)
		waitFor(t, "all have the state", func() bool { return initialised(n1) && initialised(n2) && initialised(n3) })
		p.mustStop(stop1, stop2, stop3)
	})
}

// The first node dies after it told n2 and before it told n3; then everything goes on with the same cluster.
func TestACrashWhileFoundingGoesOnWithTheSameCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeerNodes(t, 3)
		n1, n2, n3 := p.open("n1"), p.open("n2"), p.open("n3")
		answers, missing := n1.askPeers(t.Context(), p.peers)
		if len(missing) > 0 {
			t.Fatal(missing)
		}
		if err := n1.found(p.peers, answers, dataVerdict{}); err != nil {
			t.Fatal(err)
		}
		id := n1.ClusterID()
		p.net.Cut("n1", "n3")
		if why := n1.tellFounding(t.Context(), p.peers); len(why) != 1 || !strings.Contains(why[0], "n3:7400") {
			t.Errorf("after telling: %q, want n3 missing", why)
		}
		if n2.ClusterID() != id || n3.ClusterID() != "" {
			t.Fatalf("n2 in %q, n3 in %q, want %q and none", n2.ClusterID(), n3.ClusterID(), id)
		}
		for _, c := range []*Cluster{n1, n2, n3} { // the crash: nothing was closed in order, all comes back
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if err := c.Run(ended); err != nil {
				t.Fatal(err)
			}
		}
		p.net.Heal("n1", "n3")
		n1, n2, n3 = p.open("n1"), p.open("n2"), p.open("n3")
		stops := []func() error{p.run(n1), p.run(n2), p.run(n3)}
		waitFor(t, "all have the state", func() bool { return initialised(n1) && initialised(n2) && initialised(n3) })
		for _, c := range []*Cluster{n1, n2, n3} {
			if c.ClusterID() != id || c.State().ClusterID != id {
				t.Errorf("%s is in %s, its state says %s, want %s", c.cfg.Member.Name, c.ClusterID(), c.State().ClusterID, id)
			}
		}
		p.mustStop(stops...)
	})
}

func TestAWipedNodeFoundsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeerNodes(t, 3)
		n1, n2, n3 := p.open("n1"), p.open("n2"), p.open("n3")
		stop1, stop2, stop3 := p.run(n1), p.run(n2), p.run(n3)
		waitFor(t, "all have the state", func() bool { return initialised(n1) && initialised(n2) && initialised(n3) })
		p.mustStop(stop1)
		if err := os.RemoveAll(filepath.Join(p.dir, "n1")); err != nil {
			t.Fatal(err)
		}
		n1 = p.open("n1")
		stop1 = p.run(n1)
		time.Sleep(time.Minute)
		if n1.ClusterID() != "" {
			t.Errorf("the wiped first node is in cluster %s", n1.ClusterID())
		}
		p.mustStop(stop1, stop2, stop3)
	})
}

func TestALostPartOfTheStateIsRefused(t *testing.T) {
	for file, want := range map[string]error{raftDir: ErrRaftLost, voterFile: ErrStateLost, stateFile: ErrStateLost, identityFile: ErrStateLost} {
		t.Run(file, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPeerNodes(t, 1)
				c := p.open("n1")
				stop := p.run(c)
				waitFor(t, "the state", func() bool { return initialised(c) })
				p.mustStop(stop)
				if err := os.RemoveAll(filepath.Join(p.dir, "n1", file)); err != nil {
					t.Fatal(err)
				}
				again, err := Open(c.cfg, c.deps)
				if err == nil {
					err = again.Run(t.Context())
				}
				if !errors.Is(err, want) {
					t.Errorf("without %s: %v, want %v", file, err, want)
				}
			})
		})
	}
}
