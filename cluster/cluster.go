package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/cluster/beat"
	"github.com/quorate/quorate/cluster/gossip"
	"github.com/quorate/quorate/cluster/lead"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

const (
	raftDir   = "raft"
	voterFile = "voter.bin"
)

// Config is what a node's file says about its cluster.
type Config struct {
	Dir     string             // cluster.data_dir; must exist
	Scope   string             // the cluster's name
	Listen  string             // host:port to listen on
	Member  fsm.Member         // this node without its ID; Addr is where the others dial it
	Peers   []string           // Addr of all initial nodes, the same list on each; empty: this node alone
	Secrets []transport.Secret // the first issues; empty: loopback only
	// Certificate is of an own PKI; nil: it is derived from the secrets, which then still give the key of gossip.
	Certificate *transport.PEM
	// Settings and ConfigDoc are the replicated configuration with which a new cluster begins.
	Settings  fsm.Settings
	ConfigDoc string
}

// Deps are what the cluster uses of the node. All are required. The functions may be called from any goroutine and must
// not block, except Detach.
type Deps struct {
	Boot    func() time.Duration // since boot, suspend included; never goes back
	Logger  hclog.Logger
	Network transport.Network
	// DataFacts is what the data directory holds, asked only before the cluster exists; Looking while that is not known.
	DataFacts func() DataFacts
	// MayHold says whether this node may be primary of epoch: false until it knows whether it released it, and for ever
	// after it did.
	MayHold func(epoch fsm.Epoch) bool
	// Detach cuts Postgres here off from epoch's primary, durably, and returns the end of its WAL (DETAILS 17). This
	// node's seal of epoch is durable by then. It is not called twice at once, and must be repeatable.
	Detach func(ctx context.Context, epoch fsm.Epoch) (fsm.Position, error)
	// StopSick begins to kill Postgres and to release epoch, of which this node is primary: the leader found by this node's
	// own report that it is sick. An error says why not.
	StopSick func(epoch fsm.Epoch) error
	// OnLease is told every extension of the lease at once, from the goroutine that counted the vouch. until is on Boot's
	// clock. It must not call back into the cluster.
	OnLease func(epoch fsm.Epoch, until time.Duration)
	// OnHigher is told when a voter has seen a later epoch than the one this node believes itself primary of.
	OnHigher func(epoch fsm.Epoch)
	// Exit ends the process because this node can't keep its promises otherwise. Postgres must not be touched by it.
	Exit func(reason string)
}

// Cluster is one node's part in the agreement. All methods may be called from any goroutine.
type Cluster struct {
	cfg         Config
	deps        Deps
	log         hclog.Logger
	identity    *identityStore
	credentials *transport.Credentials
	mux         *transport.Mux
	rpc         *transport.RPC
	gossip      *gossip.Gossip
	published   *publisher
	machine     *machine
	loop        *lead.Loop
	raft        atomic.Pointer[raft.Raft]
	beat        atomic.Pointer[beat.Service]
	report      atomic.Pointer[failover.Report]
	adoptFrom   atomic.Pointer[string] // see AdoptFrom
	told        atomic.Pointer[told]   // who came while this node was away; nil if nobody said so
	transfer    transferWatch
	detaching   detaching
	warmed      map[fsm.NodeID]struct{}            // to whom connections are kept; run's, and then publish's
	membership  chan struct{}                      // full while a change of who is a member goes on, on the leader
	secrets     atomic.Pointer[[]transport.Secret] // the ones in use
	retiring    sync.WaitGroup                     // connections that end because a secret was dropped
	close       context.CancelFunc                 // of what goes on beside calls
}

// Open reads this node's files, opens the cluster port and answers Hello. The cluster begins, or goes on, with Run. An
// error says what is wrong with the directory, the identity or the port; whoever gets a Cluster must Run it to close it.
func Open(cfg Config, deps Deps) (*Cluster, error) {
	c := &Cluster{cfg: cfg, deps: deps, log: deps.Logger, warmed: map[fsm.NodeID]struct{}{}, membership: make(chan struct{}, 1)}
	c.report.Store(&failover.Report{Run: failover.RunNone})
	c.secrets.Store(&cfg.Secrets)
	c.detaching.closing, c.close = context.WithCancel(context.Background())
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("create cluster.data_dir: %w", err)
	}
	var err error
	if c.identity, err = openIdentity(cfg.Dir); err != nil {
		return nil, err
	}
	if c.published, err = openPublisher(cfg.Dir, c.identity.get().Formed); err != nil {
		return nil, err
	}
	if _, s := c.published.current(); s.ClusterID != "" && s.ClusterID != c.identity.clusterID() {
		return nil, fmt.Errorf("%w: %s is of cluster %s and %s of cluster %s: a recovery was cut short; run quorate recover again", ErrOtherCluster,
			stateFile, s.ClusterID, identityFile, c.identity.clusterID())
	}
	c.machine = &machine{applied: c.applied, halt: deps.Exit}
	c.loop = lead.New(lead.Config{
		Self: c.Self(), First: c.first, Boot: deps.Boot, Sightings: c.Sightings,
		Beat: beatEvery, Logger: c.log.Named("lead"),
	}, loopConsensus{c}, remoteVoters{c})
	if err := c.listen(); err != nil {
		return nil, err
	}
	return c, nil
}

// listen opens the port under the identity that the disk knows, and answers.
func (c *Cluster) listen() error {
	if err := c.openPort(c.authorize); err != nil {
		return err
	}
	c.handle()
	return nil
}

// openPort opens the port and answers nothing yet.
func (c *Cluster) openPort(authorize func(transport.Proto, string, string) error) error {
	var err error
	switch {
	case len(c.cfg.Secrets) == 0:
		c.credentials, err = transport.Insecure(c.cfg.Scope, string(c.Self()))
	case c.cfg.Certificate != nil:
		c.credentials, err = transport.NewOwnCredentials(c.cfg.Scope, c.cfg.Member.Name, string(c.Self()), *c.cfg.Certificate)
	default:
		c.credentials, err = transport.NewCredentials(c.cfg.Scope, string(c.Self()), c.cfg.Secrets...)
	}
	if err != nil {
		return fmt.Errorf("make credentials: %w", err)
	}
	if id := c.identity.clusterID(); id != "" {
		if err := c.credentials.SetIdentity(id, string(c.Self())); err != nil {
			return fmt.Errorf("take the cluster's identity: %w", err)
		}
	}
	if c.gossip, err = c.newGossip(); err != nil {
		return err
	}
	c.mux, err = transport.NewMux(transport.MuxConfig{
		Network: c.deps.Network, Listen: c.cfg.Listen, Credentials: c.credentials,
		Logger: c.log.Named("net"), Authorize: authorize, NameOf: c.nameOf,
	})
	if err != nil {
		return err
	}
	c.rpc = transport.NewRPC(c.mux, c.log.Named("rpc"))
	c.rpc.DialBy(c.dialFor(transport.ProtoRPC))
	return nil
}

// authorize admits members to raft, beats and gossip.
func (c *Cluster) authorize(_ transport.Proto, clusterID, nodeID string) error {
	if _, ok := c.members()[fsm.NodeID(nodeID)]; !ok {
		return fmt.Errorf("node %s is not a member of cluster %s", nodeID, clusterID)
	}
	return nil
}

// nameOf is a member's name, which its certificate must have where it was not derived.
func (c *Cluster) nameOf(nodeID string) (string, bool) {
	m, ok := c.members()[fsm.NodeID(nodeID)]
	return m.Name, ok
}

// members are the replicated ones, or before there are any those that founded the cluster or let this node in; and who came since, as
// far as it was told. It may be read by anybody, and written by nobody.
func (c *Cluster) members() map[fsm.NodeID]fsm.Member {
	_, s := c.newest()
	known, before := c.identity.get().before(s.Version)
	if len(s.Members) > 0 && !before {
		return c.withTold(s.Version, s.Members)
	}
	out := make(map[fsm.NodeID]fsm.Member)
	for _, m := range known {
		out[m.ID] = m
	}
	return c.withTold(s.Version, out)
}

func (c *Cluster) first() fsm.NodeID {
	if f := c.identity.get().Founding; f != nil {
		return f.First
	}
	return ""
}

// Run takes part in the cluster until ctx ends: it bootstraps if this node belongs to none yet, then runs Raft, the beats
// and, while this node leads, the leader's loop. Everything is closed when it returns; a Cluster runs once. The error is
// nil when ctx ended it.
func (c *Cluster) Run(ctx context.Context) error {
	err := c.run(ctx)
	c.close()
	closing := errors.Join(c.rpc.Close(), c.mux.Close())
	c.detaching.ended.Wait()
	c.retiring.Wait()
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil
	}
	return errors.Join(err, closing)
}

func (c *Cluster) run(ctx context.Context) error {
	if id := c.identity.get(); !id.Formed && id.Joined == nil {
		if err := c.bootstrap(ctx); err != nil {
			return fmt.Errorf("begin the cluster: %w", err)
		}
		for _, addr := range c.peers() {
			c.rpc.Cool(addr) // from now on members are called by their ids
		}
	}
	beats, err := c.newBeats()
	if err != nil {
		return err
	}
	c.beat.Store(beats)
	c.warm()
	notify, closer, err := c.startRaft()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	running.Go(func() { c.watchLeadership(ctx, notify) })
	running.Go(func() { c.loop.Attend(ctx) })
	running.Go(func() { c.publish(ctx, cancel) })
	running.Go(func() { c.watchStanding(ctx) })
	running.Go(func() { c.gossip.Run(ctx, c.identity.clusterID()) })
	running.Go(func() { c.announce(ctx) })
	running.Go(func() {
		if err := beats.Run(ctx); err != nil {
			cancel(fmt.Errorf("send beats: %w", err))
		}
	})
	<-ctx.Done()
	err = context.Cause(ctx)
	cancel(nil)
	running.Wait()
	return errors.Join(err, c.stopRaft(closer))
}

func (c *Cluster) stopRaft(closer io.Closer) error {
	err := c.raft.Load().Shutdown().Error()
	if err != nil {
		return fmt.Errorf("stop raft: %w", err)
	}
	return closer.Close()
}

// newBeats opens voter.bin. A node that took part before must have one: it is made before Raft is begun.
func (c *Cluster) newBeats() (*beat.Service, error) {
	if c.identity.get().Formed {
		if _, err := os.Stat(filepath.Join(c.cfg.Dir, voterFile)); err != nil {
			return nil, fmt.Errorf("%w: what this node promised is unknown: %w", ErrStateLost, err)
		}
	}
	return beat.New(beat.Config{
		Self: c.Self(), ClusterID: c.identity.clusterID(), VoterFile: filepath.Join(c.cfg.Dir, voterFile),
	}, beat.Deps{
		Logger: c.log.Named("beat"), Boot: c.deps.Boot, Dial: c.dialBeat, Listener: c.mux.Accept(transport.ProtoBeat),
		State: c.State, Report: func() failover.Report { return *c.report.Load() },
		MayHold: c.deps.MayHold, OnLease: c.deps.OnLease, OnHigher: c.deps.OnHigher, Wake: c.loop.Wake,
	})
}

// applied is told of every state by the machine, in log order. What the log says at state.bin's index must be what
// state.bin says: else one of the two is not this node's own.
func (c *Cluster) applied(index uint64, s fsm.State) {
	shownIndex, shown := c.published.current()
	switch {
	case s.ClusterID != "" && s.ClusterID != c.identity.clusterID():
		c.deps.Exit(fmt.Sprintf("the log is of cluster %s and %s of cluster %s: a recovery was cut short; run quorate recover again", s.ClusterID, identityFile, c.identity.clusterID()))
	case index > shownIndex:
		c.published.offer(index, s)
		c.loop.Observe(s)
	case index == shownIndex && (s.Rev != shown.Rev || s.Version != shown.Version || s.ClusterID != shown.ClusterID):
		c.deps.Exit(fmt.Sprintf("at log index %d %s has revision %d of cluster %q and the log revision %d of cluster %q: cluster.data_dir was mixed up",
			index, stateFile, shown.Rev, shown.ClusterID, s.Rev, s.ClusterID))
	}
}

// publish makes states durable and shows them.
func (c *Cluster) publish(ctx context.Context, cancel context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.published.wake:
		}
		if id := c.identity.get(); id.Joined != nil && !id.Formed {
			if err := c.identity.formed(); err != nil { // before anybody can count on what this node says
				cancel(err)
				return
			}
		}
		shown, err := c.published.flush()
		if err != nil {
			c.deps.Exit(fmt.Sprintf("the applied state can't be kept: %v", err))
			cancel(fmt.Errorf("keep the applied state: %w", err))
			return
		}
		if shown {
			c.warm()
			c.mux.Reauthorize()
		}
	}
}

// warm keeps connections for calls to the members standing, so that a failover needs no handshake, and to nobody else: one that was
// removed would be dialled several times a second for ever.
func (c *Cluster) warm() {
	members := c.members()
	for id := range c.warmed {
		if _, member := members[id]; !member {
			c.rpc.Cool(string(id))
			delete(c.warmed, id)
		}
	}
	for id := range members {
		if id != c.Self() {
			c.rpc.Warm(string(id))
			c.warmed[id] = struct{}{}
		}
	}
}

// newest is the applied state with the higher log index: state.bin's after a start, the machine's once it has caught up.
func (c *Cluster) newest() (uint64, fsm.State) {
	shownIndex, shown := c.published.current()
	index, applied := c.machine.latest()
	if index > shownIndex {
		return index, applied
	}
	return shownIndex, shown
}
