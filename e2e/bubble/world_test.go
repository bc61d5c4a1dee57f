package bubble

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

const (
	failoverAfter = time.Second
	margin        = 50 * time.Millisecond
	patience      = 30 * time.Second // how long a state may take, in virtual time
)

// world is a set of nodes on one network, and what an all-seeing observer writes down about them.
type world struct {
	t     *testing.T
	net   *transport.Memory
	start time.Time
	nodes []*node
	logs  syncBuffer
	json  bool // the form of the logs
	// detachTakes is how long a fake Postgres needs to be cut off; set before the fault.
	detachTakes time.Duration
	// wires gives a host another network than net's; set before the nodes run.
	wires func(host string) transport.Network

	mu       sync.Mutex
	leases   []held
	isolated map[*node]bool
}

// held says that node might have written as the primary of epoch from granted to until.
type held struct {
	node           string
	epoch          fsm.Epoch
	granted, until time.Duration
}

// syncBuffer collects log lines of all nodes.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) tail(lines int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := strings.Split(b.buf.String(), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// inBubble runs story on a fresh cluster of n nodes that are all started, and afterwards checks S1 and ends them.
func inBubble(t *testing.T, n int, story func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, n)
		defer w.stop()
		for _, n := range w.nodes {
			n.run()
		}
		story(w)
		w.checkOneWriter()
	})
}

func newWorld(t *testing.T, n int) *world {
	w := &world{t: t, net: transport.NewMemory(), start: time.Now(), detachTakes: 10 * time.Millisecond, isolated: map[*node]bool{}}
	dir, err := os.MkdirTemp("", "qb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	var peers []string
	for i := range n {
		peers = append(peers, fmt.Sprintf("n%d:7400", i+1))
	}
	for i := range n {
		name := fmt.Sprintf("n%d", i+1)
		w.nodes = append(w.nodes, &node{w: w, name: name, host: name, dir: filepath.Join(dir, name), peers: peers})
	}
	return w
}

func (w *world) stop() {
	for _, n := range w.nodes {
		n.halt()
	}
	time.Sleep(10 * time.Second) // memberlist's probes outlive it
	if w.t.Failed() {
		w.t.Logf("last lines of all nodes:\n%s", w.logs.tail(150))
	}
}

// boot is the true time. A node's own clock may run at another rate.
func (w *world) boot() time.Duration { return time.Since(w.start) + time.Hour }

// wait polls until ok holds, in virtual time.
func (w *world) wait(what string, ok func() bool) time.Duration {
	w.t.Helper()
	began := w.boot()
	for !ok() {
		if w.boot()-began > patience {
			w.t.Fatalf("not within %s: %s\n%s", patience, what, w.describe())
		}
		time.Sleep(5 * time.Millisecond)
	}
	return w.boot() - began
}

func (w *world) describe() string {
	var b strings.Builder
	for _, n := range w.nodes {
		c := n.running()
		if c == nil {
			fmt.Fprintf(&b, "%s: stopped\n", n.name)
			continue
		}
		s := c.State()
		_, d, err := c.Explain(context.Background())
		fmt.Fprintf(&b, "%s: epoch %d primary %s rev %d sync %v raft %+v rule %s %v %v\n", n.name, s.Epoch, s.Name(s.Primary), s.Rev, s.Sync, c.RaftInfo(), d.Rule, d.Because, err)
	}
	return b.String()
}

// checkOneWriter fails if at any instant two nodes were inside leases.
func (w *world) checkOneWriter() {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, a := range w.leases {
		for _, b := range w.leases[i+1:] {
			if a.node != b.node && a.granted < b.until && b.granted < a.until {
				w.t.Errorf("two writers: %+v and %+v", a, b)
				return
			}
		}
	}
}

// cutLeases notes that a node has given up its leases now.
func (w *world) cutLeases(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, l := range w.leases {
		if l.node == name {
			w.leases[i].until = min(l.until, w.boot())
		}
	}
}

// become replaces the nodes while some run.
func (w *world) become(nodes []*node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes = nodes
}

// all is what goroutines of nodes see of the nodes.
func (w *world) all() []*node {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.nodes
}

func (w *world) byID(id fsm.NodeID) *node {
	for _, n := range w.all() {
		if c := n.running(); c != nil && c.Self() == id {
			return n
		}
	}
	return nil
}

// primary is the node that serves, as itself says.
func (w *world) primary() *node {
	for _, n := range w.nodes {
		if n.serving() != 0 {
			return n
		}
	}
	return nil
}

// leader is the node that thinks that it leads.
func (w *world) leader() *node {
	for _, n := range w.nodes {
		if c := n.running(); c != nil && c.RaftInfo().State == "leader" {
			return n
		}
	}
	return nil
}

// settle waits for a cluster in its steady state: full redundancy, and the leader not on the primary's node.
func (w *world) settle() (primary, leader *node) {
	w.t.Helper()
	w.wait("primary serving, all in D, leader elsewhere", func() bool {
		primary, leader = w.primary(), w.leader()
		if primary == nil || leader == nil || primary == leader {
			return false
		}
		for _, n := range w.nodes {
			c := n.running()
			if c == nil {
				continue
			}
			s := c.State()
			if s.Primary != primary.id() || len(s.Sync.Members) != len(w.nodes) || s.Sync.Copies != fsm.TargetCopies(len(w.nodes)) {
				return false
			}
		}
		return true
	})
	return primary, leader
}

// other is a node that is none of those.
func (w *world) other(not ...*node) *node {
	for _, n := range w.nodes {
		found := true
		for _, x := range not {
			found = found && n != x
		}
		if found {
			return n
		}
	}
	return nil
}

// isolate cuts n from everybody, rejoin undoes it.
func (w *world) isolate(n *node) {
	w.net.Isolate(n.host)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isolated[n] = true
}

func (w *world) rejoin(n *node) {
	w.net.Rejoin(n.host)
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.isolated, n)
}

// reaches says whether a and b can talk, as far as whole nodes were isolated.
func (w *world) reaches(a, b *node) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.isolated[a] && !w.isolated[b]
}

func (w *world) epoch() fsm.Epoch {
	var e fsm.Epoch
	for _, n := range w.nodes {
		if c := n.running(); c != nil {
			e = max(e, c.State().Epoch)
		}
	}
	return e
}
