package bubble

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/transport"
)

// promotion is how long a fake Postgres takes to open for writes.
const promotion = 20 * time.Millisecond

// node is one fake node: the real cluster.Cluster with an agent that obeys it and a Postgres made of a few numbers, which
// survive a restart as a disk would.
type node struct {
	w     *world
	name  string
	dir   string
	peers []string
	host  string // where it runs now; its name, unless it has moved
	// secrets is what its file says of them; set before the node runs.
	secrets []transport.Secret
	// rate is how many seconds the node's clock counts in a second; set before the node runs. 0 counts as 1.
	rate  float64
	major int // of its PostgreSQL; 0: not told
	// early says that its program is of a release whose beats don't tell the version of the state; set before the node runs.
	early bool
	// failoverAfter is what its file says; set before the node runs. 0: as all.
	failoverAfter time.Duration
	// data is what is in its data directory before there is a cluster; nil: nothing. Set before the node runs.
	data *cluster.DataFacts

	mu       sync.Mutex
	cluster  *cluster.Cluster
	cancel   context.CancelFunc
	done     chan struct{}
	exit     string // why it ended itself
	until    time.Duration
	leased   fsm.Epoch
	opened   fsm.Epoch // as whose primary Postgres was opened
	detached fsm.Epoch // cut off from its primary, durably
	timeline pg.Timeline
	lsn      pg.LSN
	promise  *fsm.Promise
	copies   failover.Copies
	released *fsm.Release // durable
}

func (n *node) running() *cluster.Cluster {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cluster
}

func (n *node) id() fsm.NodeID {
	if c := n.running(); c != nil {
		return c.Self()
	}
	return ""
}

// boot is the node's own clock.
func (n *node) boot() time.Duration {
	if n.rate == 0 {
		return n.w.boot()
	}
	return time.Duration(float64(n.w.boot()) * n.rate)
}

// truly converts an instant of the node's clock into the true time.
func (n *node) truly(at time.Duration) time.Duration {
	if n.rate == 0 {
		return at
	}
	return time.Duration(float64(at) / n.rate)
}

func (n *node) config() cluster.Config {
	return cluster.Config{
		Dir: n.dir, Scope: "bubble", Listen: n.host + ":7400", Peers: n.peers, Secrets: n.secrets,
		Member:   fsm.Member{Name: n.name, Role: fsm.RoleData, Addr: n.host + ":7400", Postgres: n.host + ":5432", Major: n.major},
		Settings: fsm.Settings{FailoverAfterMS: cmp.Or(n.failoverAfter, failoverAfter).Milliseconds(), Durability: fsm.DurabilityQuorum},
	}
}

func (n *node) logger() hclog.Logger {
	return hclog.New(&hclog.LoggerOptions{Name: n.name, Level: hclog.Info, Output: &n.w.logs, JSONFormat: n.w.json})
}

func (n *node) facts() cluster.DataFacts {
	if n.data == nil {
		return cluster.DataFacts{Empty: true}
	}
	return *n.data
}

// network is the node's host, by the wires of the story.
func (n *node) network() transport.Network {
	if n.w.wires == nil {
		return n.w.net.Host(n.host)
	}
	return n.w.wires(n.host)
}

// run starts the node's process.
func (n *node) run() {
	n.w.t.Helper()
	c, err := cluster.Open(n.config(), cluster.Deps{
		Boot:      n.boot,
		Logger:    n.logger(),
		Network:   n.network(),
		DataFacts: n.facts,
		MayHold:   n.mayHold,
		Detach:    n.detach,
		OnLease:   n.onLease,
		OnHigher:  func(fsm.Epoch) {},
		Exit:      n.onExit,
	})
	if err != nil {
		n.w.t.Fatalf("open %s: %v", n.name, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	n.mu.Lock()
	n.cluster, n.cancel, n.done = c, cancel, done
	n.mu.Unlock()
	var running sync.WaitGroup
	running.Go(func() { n.agent(ctx, c) })
	running.Go(func() {
		if err := c.Run(ctx); err != nil {
			n.w.t.Errorf("%s ended: %v", n.name, err)
		}
	})
	go func() { running.Wait(); close(done) }()
}

// halt ends the node's process; its Postgres stops with it.
func (n *node) halt() {
	n.mu.Lock()
	cancel, done := n.cancel, n.done
	n.mu.Unlock()
	if cancel == nil {
		return
	}
	n.w.net.Kill(n.host)
	cancel()
	<-done
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cluster, n.cancel, n.opened, n.until = nil, nil, 0, 0
}

func (n *node) onExit(reason string) {
	n.mu.Lock()
	n.exit = reason
	n.mu.Unlock()
	n.w.t.Errorf("%s ended itself: %s", n.name, reason)
}

func (n *node) mayHold(epoch fsm.Epoch) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.released == nil || n.released.Epoch < epoch
}

// release is the end of Postgres here, durably said: nobody has to wait for the lease.
func (n *node) release() {
	c := n.running()
	s := c.State()
	n.mu.Lock()
	n.released = &fsm.Release{Epoch: s.Epoch, Node: c.Self(), Timeline: n.timeline, FinalLSN: n.lsn}
	n.opened, n.until = 0, 0
	r := *n.released
	n.mu.Unlock()
	c.Released(r)
	n.w.cutLeases(n.name)
	c.SetReport(n.reportOf(s))
	c.Kick()
}

func (n *node) onLease(epoch fsm.Epoch, until time.Duration) {
	n.mu.Lock()
	n.leased, n.until = epoch, until
	n.mu.Unlock()
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.w.leases = append(n.w.leases, held{n.name, epoch, n.w.boot(), n.truly(until)})
}

// serving is the epoch as whose primary Postgres accepts writes now.
func (n *node) serving() fsm.Epoch {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.opened == 0 || n.leased != n.opened || n.boot() >= n.until-margin {
		return 0
	}
	return n.opened
}

func (n *node) detach(_ context.Context, e fsm.Epoch) (fsm.Position, error) {
	time.Sleep(n.w.detachTakes)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.timeline == 0 {
		return fsm.Position{}, fmt.Errorf("%s has no data yet", n.name)
	}
	n.detached = e
	return fsm.Position{Detached: e, Timeline: n.timeline, LSN: n.lsn}, nil
}

// agent obeys the replicated state every few milliseconds.
func (n *node) agent(ctx context.Context, c *cluster.Cluster) {
	for ctx.Err() == nil {
		n.step(ctx, c)
		select {
		case <-ctx.Done():
		case <-c.Changed():
			// A real agent needs a moment too; and a state may come faster than it looks.
			time.Sleep(time.Millisecond)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (n *node) step(ctx context.Context, c *cluster.Cluster) {
	s := c.State()
	if s.Epoch > 0 && s.Primary == c.Self() {
		n.lead(ctx, c, s)
	} else if s.Epoch > 0 {
		n.follow(s)
	}
	before := c.Sightings()[c.Self()].Report
	r := n.reportOf(s)
	c.SetReport(r)
	if before.Rev != r.Rev || before.Serving != r.Serving || (before.Promise == nil) != (r.Promise == nil) || len(before.Streaming) != len(r.Streaming) {
		c.Kick()
	}
}

// lead is what the agent of the primary does.
func (n *node) lead(ctx context.Context, c *cluster.Cluster, s fsm.State) {
	epoch, until := c.Lease()
	n.mu.Lock()
	opened, timeline := n.opened, n.timeline
	n.mu.Unlock()
	if epoch != s.Epoch || n.boot() >= until-margin {
		return
	}
	if s.Wish != nil && s.Wish.Approved {
		n.handOver(s.Wish.To)
		return
	}
	if opened != s.Epoch {
		last := s.Lineage[len(s.Lineage)-1]
		if timeline != last.Timeline {
			<-time.After(promotion)
		}
		n.mu.Lock()
		if n.lsn == 0 {
			n.lsn = 0x1000000
		}
		n.timeline, n.opened = last.Timeline, s.Epoch
		lsn := n.lsn
		n.mu.Unlock()
		if !last.Promoted {
			err := c.Submit(ctx, fsm.Promoted{Epoch: s.Epoch, Node: c.Self(), Timeline: last.Timeline, SwitchLSN: lsn, SystemID: 42}, 0, n.name)
			if err != nil && ctx.Err() == nil {
				n.w.logs.Write([]byte(n.name + " [AGENT] promoted not recorded: " + err.Error() + "\n"))
			}
		}
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lsn += 100
	n.promise = nil
	v := failover.View{State: s, Self: c.Self(), Seen: c.Sightings(), BeatEvery: failoverAfter / 8}
	v.Lost = n.copies.Look(n.w.boot(), v)
	if step, ok := failover.NextSync(v); ok && step.NeedsPromise() {
		n.promise = &fsm.Promise{Node: c.Self(), Rev: s.Rev, Rule: step.To}
	}
}

// handOver stops writing, lets the candidate have everything, and releases.
func (n *node) handOver(to fsm.NodeID) {
	n.mu.Lock()
	final, timeline := n.lsn, n.timeline
	n.mu.Unlock()
	o := n.w.byID(to)
	if o == nil || !n.w.reaches(n, o) {
		return
	}
	o.mu.Lock()
	o.lsn, o.timeline = final, timeline
	o.mu.Unlock()
	n.release()
}

// streaming lists the standbys that hold a connection to this primary.
func (n *node) streaming(s fsm.State) []failover.StreamingMember {
	var out []failover.StreamingMember
	for _, o := range n.w.all() {
		if o == n || !o.followsQuietly(s, n) {
			continue
		}
		out = append(out, failover.StreamingMember{Node: o.id(), Flush: o.position()})
	}
	return out
}

// followsQuietly says whether this standby streams from p, as p's walsenders would see it.
func (n *node) followsQuietly(s fsm.State, p *node) bool {
	c := n.running()
	if c == nil || !n.w.reaches(n, p) {
		return false
	}
	mine := c.State()
	n.mu.Lock()
	defer n.mu.Unlock()
	return mine.Epoch == s.Epoch && n.detached < s.Epoch && n.timeline != 0
}

func (n *node) position() pg.LSN {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lsn
}

// follow is what the agent of a standby does: it copies the primary's log while it reaches it.
func (n *node) follow(s fsm.State) {
	n.mu.Lock()
	n.opened, n.promise = 0, nil
	n.mu.Unlock()
	p := n.w.byID(s.Primary)
	if p == nil || !n.w.reaches(n, p) || p.serving() != s.Epoch {
		return
	}
	p.mu.Lock()
	lsn, timeline := p.lsn, p.timeline
	p.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.detached < s.Epoch && s.SystemID != 0 {
		n.lsn, n.timeline = lsn, timeline
	}
}

func (n *node) reportOf(s fsm.State) failover.Report {
	serving := n.serving()
	var streaming []failover.StreamingMember
	if serving != 0 {
		streaming = n.streaming(s)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	r := failover.Report{Epoch: s.Epoch, Rev: s.Rev, Version: s.Version, Run: failover.RunNone, Serving: serving, Healthy: true, Timeline: n.timeline, Flush: n.lsn, Promise: n.promise}
	if n.timeline != 0 {
		r.Run = failover.RunRunning
	}
	r.InRecovery = n.opened == 0
	r.Released = n.released
	if serving == 0 && n.opened != 0 {
		r.Run = failover.RunFrozen
	}
	if n.early {
		r.Version = 0
	}
	r.Streaming = streaming
	if r.InRecovery && n.timeline != 0 && n.detached < s.Epoch {
		r.Upstream = s.Primary
	}
	return r
}
