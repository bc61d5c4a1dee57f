package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

const (
	// Bounds of Raft's timeout T: below it starved hosts lose leaders, above it a dead leader costs too much.
	minRaftTimeout = 250 * time.Millisecond
	maxRaftTimeout = time.Second
	commitTimeout  = 25 * time.Millisecond
	// minDial is what a TLS handshake may take on a busy host.
	minDial = 250 * time.Millisecond

	snapshotThreshold = 2048
	snapshotInterval  = 120 * time.Second
	trailingLogs      = 1024
	logCache          = 256
	raftConnections   = 3
	// notifyBuffer lets Raft's main loop go on while a change of leadership is taken note of.
	notifyBuffer = 64
	// beginAgain is the pause before a leader that could not begin tries again.
	beginAgain = 100 * time.Millisecond
)

// raftTimeout is T: heartbeat, election and leader lease timeout. A dead leader must be replaced before the primary is
// called silent, as nearly as the host allows.
func raftTimeout(failoverAfter time.Duration) time.Duration {
	return min(max(failoverAfter/2, minRaftTimeout), maxRaftTimeout)
}

func (c *Cluster) raftConfig(notify chan<- bool) *raft.Config {
	t := raftTimeout(c.identity.get().failoverAfter())
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(c.Self())
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = t, t, t
	conf.CommitTimeout = commitTimeout
	conf.SnapshotThreshold, conf.SnapshotInterval, conf.TrailingLogs = snapshotThreshold, snapshotInterval, trailingLogs
	conf.ShutdownOnRemove = false
	conf.NoLegacyTelemetry = true
	conf.NotifyCh = notify
	conf.Logger = quiet{c.log.Named("raft")}
	return conf
}

// startRaft begins or resumes Raft in this directory.
func (c *Cluster) startRaft() (notify <-chan bool, closer io.Closer, err error) {
	st, err := openStores(filepath.Join(c.cfg.Dir, raftDir), c.log, c.deps.Exit)
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, st.closer.Close())
		}
	}()
	cache, err := raft.NewLogCache(logCache, st.log)
	if err != nil {
		return nil, nil, fmt.Errorf("cache the raft log: %w", err)
	}
	leadership := make(chan bool, notifyBuffer)
	conf := c.raftConfig(leadership)
	network := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:  quickDial{transport.RaftLayer(c.mux, string(raftAddress(c.Self())), c.dialFor(transport.ProtoRaft))},
		MaxPool: raftConnections, MaxRPCsInFlight: 1, ServerAddressProvider: byID{},
		Timeout: conf.HeartbeatTimeout, Logger: conf.Logger, MsgpackUseNewTimeFormat: true,
	})
	trans := newPatient(network, c.leadsIn)
	if err := c.beginRaft(conf, cache, st, trans); err != nil {
		return nil, nil, errors.Join(err, network.Close())
	}
	applied, _ := c.published.current()
	if err := st.whole(applied); err != nil {
		err = fmt.Errorf("start raft: %w; %s", err, raftRemedy(filepath.Join(c.cfg.Dir, raftDir)))
		return nil, nil, errors.Join(err, network.Close())
	}
	r, err := raft.NewRaft(conf, c.machine, cache, st.stable, st.snapshots, trans)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start raft: %w", err), network.Close())
	}
	c.raft.Store(r)
	return leadership, st.closer, nil
}

// beginRaft writes the founding configuration into an empty raft directory, once in this node's life. Every initial node
// writes the same one.
func (c *Cluster) beginRaft(conf *raft.Config, log raft.LogStore, st stores, trans raft.Transport) error {
	// A snapshot is no memory of votes.
	exists, err := raft.HasExistingState(log, st.stable, raft.NewDiscardSnapshotStore())
	if err != nil {
		return fmt.Errorf("look into the raft directory: %w", err)
	}
	id := c.identity.get()
	switch {
	case id.Formed && !exists:
		return fmt.Errorf("%w: %s has no log, but this node took part in cluster %s; %s",
			ErrRaftLost, filepath.Join(c.cfg.Dir, raftDir), c.identity.clusterID(), raftRemedy(filepath.Join(c.cfg.Dir, raftDir)))
	case id.Formed:
		return nil
	case id.Joined != nil:
		return nil // the leader sends what there is; the first state from it is what forms this node
	case !exists:
		var servers []raft.Server
		for _, m := range id.Founding.Init.Members {
			s := raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(m.ID), Address: raftAddress(m.ID)}
			if m.NoVote {
				s.Suffrage = raft.Nonvoter
			}
			servers = append(servers, s)
		}
		if err := raft.BootstrapCluster(conf, log, st.stable, st.snapshots, trans, raft.Configuration{Servers: servers}); err != nil {
			return fmt.Errorf("begin raft: %w", err)
		}
	}
	return c.identity.formed()
}

// leadsIn says whether this node leads in term.
func (c *Cluster) leadsIn(term uint64) bool {
	r := c.raft.Load()
	return r != nil && r.State() == raft.Leader && r.CurrentTerm() == term
}

// quickDial gives up a connection attempt after half of Raft's timeout: an attempt made while the peer was cut off would
// otherwise hold up the first one that can succeed.
type quickDial struct{ raft.StreamLayer }

func (q quickDial) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return q.StreamLayer.Dial(address, max(timeout/2, minDial))
}

// watchLeadership runs the leader's loop while this node leads. It never waits for anything but Raft's notices, because
// Raft waits for it.
func (c *Cluster) watchLeadership(ctx context.Context, notify <-chan bool) {
	var running sync.WaitGroup
	defer running.Wait()
	stop := func() {}
	defer func() { stop() }()
	before := make(chan struct{})
	close(before)
	for {
		select {
		case <-ctx.Done():
			return
		case leads := <-notify:
			stop()
			stop = func() {}
			if !leads {
				continue
			}
			term, cancel := context.WithCancel(ctx)
			stop = cancel
			previous, done := before, make(chan struct{})
			before = done
			running.Go(func() {
				defer close(done)
				<-previous
				c.lead(term)
			})
		}
	}
}

// lead runs the loop until ctx ends, which is when the leadership does.
func (c *Cluster) lead(ctx context.Context) {
	for ctx.Err() == nil {
		err := c.initialise(ctx)
		if err == nil {
			err = c.loop.Run(ctx)
		}
		if err != nil && ctx.Err() == nil {
			c.log.Warn("can't begin to lead", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(beginAgain):
			}
		}
	}
}

// initialise puts the founding into the log as its first command, if it is not there.
func (c *Cluster) initialise(ctx context.Context) error {
	if err := c.Barrier(ctx); err != nil {
		return fmt.Errorf("pass a barrier before leading: %w", err)
	}
	if _, s := c.newest(); s.ClusterID != "" {
		return nil
	}
	f := c.identity.get().Founding
	err := c.applyHere(ctx, fsm.Envelope{ID: "init-" + f.Init.ClusterID, By: "bootstrap", Wall: time.Now().UnixMilli(), Change: f.Init})
	if err != nil && !errors.Is(err, fsm.ErrDuplicate) {
		return fmt.Errorf("initialise the replicated state: %w", err)
	}
	return nil
}

// loopConsensus is the Cluster as cluster/lead sees it.
type loopConsensus struct{ *Cluster }

// State is the newest state applied here, durable or not: the leader's loop proposes under its Rev.
func (l loopConsensus) State() fsm.State {
	_, s := l.newest()
	return s
}

// Barrier returns once everything committed before is applied here, or an error if this node does not lead.
func (c *Cluster) Barrier(ctx context.Context) error {
	r := c.raft.Load()
	if r == nil {
		return errNotRunning
	}
	return wait(ctx, r.Barrier(enqueueLimit))
}

// wait ends with the future or with ctx.
func wait(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// transferWatch notices a leadership transfer that never ends: raft then refuses every command of the term.
type transferWatch struct {
	mu    sync.Mutex
	since time.Duration // of the first refusal in a row; 0: none
}

// refused notes the outcome of a command and says for how long all have been refused because of a transfer.
func (t *transferWatch) refused(now time.Duration, because bool) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case !because:
		t.since = 0
		return 0
	case t.since == 0:
		t.since = now
	}
	return now - t.since
}

// Transfer hands the leadership over and returns when that succeeded or failed.
func (c *Cluster) Transfer(ctx context.Context, to fsm.NodeID) error {
	r := c.raft.Load()
	m, ok := c.members()[to]
	if r == nil || !ok {
		return fmt.Errorf("hand leadership to %s: %w", to, errNotRunning)
	}
	limit := c.transferLimit()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := wait(limited, r.LeadershipTransferToServer(raft.ServerID(to), raftAddress(to)))
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		// Raft bounds a transfer by one election timeout. This one is stuck, and blocks all commands of the term.
		c.deps.Exit(fmt.Sprintf("a transfer of the leadership to %s has not ended after %s", m.Name, limit))
	}
	if err != nil {
		return fmt.Errorf("hand leadership to %s: %w", m.Name, err)
	}
	return nil
}

// transferLimit is several times what raft itself allows a transfer.
func (c *Cluster) transferLimit() time.Duration {
	return 3 * raftTimeout(c.identity.get().failoverAfter())
}

// RaftInfo is what status shows of Raft.
type RaftInfo struct {
	State   string       `json:"state"` // leader, follower, candidate, shutdown; none before Raft runs
	Leader  fsm.NodeID   `json:"leader,omitempty"`
	Term    uint64       `json:"term"`
	Applied uint64       `json:"applied"` // index of the last applied entry
	Last    uint64       `json:"last"`    // index of the last entry in the log
	Voters  []fsm.NodeID `json:"voters"`  // of Raft's own configuration
}

// RaftInfo says how this node stands in Raft.
func (c *Cluster) RaftInfo() RaftInfo {
	r := c.raft.Load()
	if r == nil {
		return RaftInfo{State: "none"}
	}
	_, leader := r.LeaderWithID()
	info := RaftInfo{
		State: strings.ToLower(r.State().String()), Leader: fsm.NodeID(leader), Term: r.CurrentTerm(),
		Applied: r.AppliedIndex(), Last: r.LastIndex(),
	}
	conf := r.GetConfiguration()
	if conf.Error() != nil {
		return info // it never fails in this release; the voters are for display
	}
	for _, s := range conf.Configuration().Servers {
		if s.Suffrage == raft.Voter {
			info.Voters = append(info.Voters, fsm.NodeID(s.ID))
		}
	}
	return info
}

// Leader is the node that leads, as far as this one knows; empty when it knows none.
func (c *Cluster) Leader() fsm.NodeID { return c.RaftInfo().Leader }
