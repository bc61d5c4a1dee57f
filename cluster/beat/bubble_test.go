package beat_test

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/cluster/beat"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

const (
	failoverAfter = time.Second
	beatEvery     = failoverAfter / 8
	leaseLength   = failoverAfter * 4 / 5
)

// bubble is a cluster of beat services over the in-memory network, in virtual time.
type bubble struct {
	t     *testing.T
	dir   string
	net   *transport.Memory
	begin time.Time
	nodes map[fsm.NodeID]*node
	ctx   context.Context
}

// node is what a Service sees of the node around it.
type node struct {
	b    *bubble
	id   fsm.NodeID
	svc  *beat.Service
	stop func()

	lock    sync.Mutex
	state   fsm.State
	report  failover.Report
	mayHold bool
	leases  []time.Duration // the ends OnLease was told of
	higher  []fsm.Epoch
	wakes   int
	dialed  map[fsm.NodeID][]*countedConn
}

// countedConn counts what is written and can swallow it, as a path does that drops this connection's packets alone.
type countedConn struct {
	net.Conn
	lock   sync.Mutex
	writes int
	hole   bool
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.lock.Lock()
	c.writes++
	hole := c.hole
	c.lock.Unlock()
	if hole {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

func state(epoch fsm.Epoch, primary fsm.NodeID) fsm.State {
	s := fsm.State{ClusterID: "c1", Rev: uint64(epoch), Epoch: epoch, Primary: primary, Members: map[fsm.NodeID]fsm.Member{}}
	for _, id := range []fsm.NodeID{"n1", "n2", "n3"} {
		s.Members[id] = fsm.Member{ID: id, Name: string(id), Role: fsm.RoleData, Addr: string(id) + ":7400"}
		s.Electorate.Voters = append(s.Electorate.Voters, id)
	}
	s.Electorate.Version = 1
	s.Config.Settings.FailoverAfterMS = failoverAfter.Milliseconds()
	return s
}

// inBubble runs f with three services; n1 is primary of epoch 1.
func inBubble(t *testing.T, f func(b *bubble, n1, n2, n3 *node)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		b := &bubble{t: t, dir: dir, net: transport.NewMemory(), begin: time.Now(), nodes: map[fsm.NodeID]*node{}, ctx: ctx}
		for _, id := range []fsm.NodeID{"n1", "n2", "n3"} {
			n := &node{b: b, id: id, state: state(1, "n1"), mayHold: true, dialed: map[fsm.NodeID][]*countedConn{}}
			b.nodes[id] = n
			n.start()
		}
		f(b, b.nodes["n1"], b.nodes["n2"], b.nodes["n3"])
		for _, n := range b.nodes {
			n.stop()
		}
		cancel()
		synctest.Wait()
	})
}

func (b *bubble) boot() time.Duration { return time.Hour + time.Since(b.begin) }

// start makes the node's service and runs it; a restart is stop and start.
func (n *node) start() {
	b := n.b
	host := b.net.Host(string(n.id))
	listener, err := host.Listen(":7400")
	if err != nil {
		b.t.Fatal(err)
	}
	n.svc, err = beat.New(beat.Config{Self: n.id, ClusterID: "c1", VoterFile: n.voterFile()}, beat.Deps{
		Logger: hclog.NewNullLogger(),
		Boot:   b.boot,
		Dial: func(ctx context.Context, to fsm.Member) (net.Conn, error) {
			c, err := host.Dial(ctx, to.Addr)
			if err != nil {
				return nil, err
			}
			n.lock.Lock()
			defer n.lock.Unlock()
			counted := &countedConn{Conn: c}
			n.dialed[to.ID] = append(n.dialed[to.ID], counted)
			return counted, nil
		},
		Listener: listener,
		State:    func() fsm.State { n.lock.Lock(); defer n.lock.Unlock(); return n.state },
		Report:   func() failover.Report { n.lock.Lock(); defer n.lock.Unlock(); return n.report },
		MayHold:  func(fsm.Epoch) bool { n.lock.Lock(); defer n.lock.Unlock(); return n.mayHold },
		OnLease: func(_ fsm.Epoch, until time.Duration) {
			n.lock.Lock()
			defer n.lock.Unlock()
			n.leases = append(n.leases, until)
		},
		OnHigher: func(e fsm.Epoch) { n.lock.Lock(); defer n.lock.Unlock(); n.higher = append(n.higher, e) },
		Wake:     func() { n.lock.Lock(); defer n.lock.Unlock(); n.wakes++ },
	})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.ctx)
	done := make(chan error, 1)
	go func() { done <- n.svc.Run(ctx) }()
	n.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("%s: Run: %v", n.id, err)
		}
	})
}

func (n *node) voterFile() string { return filepath.Join(n.b.dir, string(n.id)+".bin") }

// set changes what the service sees of its node.
func (n *node) set(f func(n *node)) {
	n.lock.Lock()
	defer n.lock.Unlock()
	f(n)
}

// settle lets d pass.
func (b *bubble) settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// left is what is left of the node's lease; negative when it is over or there is none.
func (n *node) left() time.Duration {
	_, until := n.svc.Lease()
	return until - n.b.boot()
}

// leased asserts whether the node is inside a lease, and if so that it is as fresh as renewals make it.
func (n *node) leased(want bool) {
	n.b.t.Helper()
	left := n.left()
	if got := left > 0; got != want {
		n.b.t.Fatalf("%s at %v: inside its lease = %v (left %v), want %v", n.id, time.Since(n.b.begin), got, left, want)
	}
	if want && left < leaseLength-2*beatEvery {
		n.b.t.Fatalf("%s at %v: only %v left, it is not renewed", n.id, time.Since(n.b.begin), left)
	}
}
