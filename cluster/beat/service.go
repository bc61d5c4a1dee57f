package beat

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/cluster/lease"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

const (
	// beatsPerSilence is how many beats fit into failover_after.
	beatsPerSilence = 8
	// defaultFailoverAfter paces the loop while there is no state yet.
	defaultFailoverAfter = time.Second
	// kickGap bounds how often Kick sends, so that a storm of kicks can't push beats out of the count before their
	// vouches arrive.
	kickGap = 5 * time.Millisecond
)

// Config is what a Service is for its whole life.
type Config struct {
	Self      fsm.NodeID
	ClusterID string // beats of another cluster are refused
	VoterFile string // path of voter.bin; its directory must exist
}

// Deps are what a Service uses of the node around it. All are required. The functions are called from many goroutines
// at once and must not block.
type Deps struct {
	Logger hclog.Logger
	// Boot is the time since boot, suspend included. It must not go back.
	Boot func() time.Duration
	// Dial connects to a member's beat listener and proves that it is that member; it gives up with ctx.
	Dial func(ctx context.Context, to fsm.Member) (net.Conn, error)
	// Listener accepts beats; Run closes it. A connection may have the method Peer() (clusterID, nodeID string): then
	// beats that name anybody else are refused.
	Listener net.Listener
	// State is the applied state, only once it is durable.
	State func() fsm.State
	// Report is what the node says of itself. Epoch and Rev in it are those that the node acts by; Node and Sightings
	// are filled in here. A Released for the present epoch ends the lease.
	Report func() failover.Report
	// MayHold says whether the node is able to be primary of epoch. It must say no until the node knows whether it
	// released that epoch, and for ever after it did.
	MayHold func(epoch fsm.Epoch) bool
	// OnLease is told of every extension at once, in order, from the goroutine that counted the last vouch and with the
	// holder's lock held: it must not call Release. until is on the clock of Boot.
	OnLease func(epoch fsm.Epoch, until time.Duration)
	// OnHigher is told once for each epoch that a voter has seen with another primary while this node's state still
	// names itself. The lease is over by then.
	OnHigher func(epoch fsm.Epoch)
	// Wake is told when a sighting changed something that decisions read.
	Wake func()
}

// Service sends and receives beats. Make it with New; its methods may be called from any goroutine, before and while Run
// runs.
type Service struct {
	Config
	Deps
	incarnation uint64
	born        time.Duration // when this process began to listen
	voter       *voter
	seen        *sightings
	kick        chan struct{}
	selfBeats   chan lease.Beat // newest replaces unanswered
	wg          sync.WaitGroup  // all goroutines of Run

	seq   uint64               // only Run's goroutine
	peers map[fsm.NodeID]*peer // only Run's goroutine

	holderLock sync.Mutex
	holder     *lease.Holder
	told       fsm.Epoch // highest epoch OnHigher was told of
	held       atomic.Pointer[heldLease]
}

type heldLease struct {
	epoch fsm.Epoch
	until time.Duration
}

// New reads voter.bin, or makes one if there is none: then this node never vouched for anybody. It returns
// ErrPromisesLost when the file is not what this node wrote.
func New(c Config, d Deps) (*Service, error) {
	v, err := openVoter(c.VoterFile, c.Self, d.Boot)
	if err != nil {
		return nil, err
	}
	var random [8]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, fmt.Errorf("draw incarnation: %w", err)
	}
	incarnation := binary.BigEndian.Uint64(random[:])
	s := &Service{
		Config:      c,
		Deps:        d,
		incarnation: incarnation,
		born:        d.Boot(),
		voter:       v,
		seen:        newSightings(),
		kick:        make(chan struct{}, 1),
		selfBeats:   make(chan lease.Beat, 1),
		peers:       make(map[fsm.NodeID]*peer),
		holder:      lease.NewHolder(incarnation),
	}
	s.held.Store(&heldLease{})
	return s, nil
}

// Run beats until ctx is done, then closes the listener and all connections and waits for their goroutines. It returns
// nil when ctx ended it, and the listener's error when that failed for good.
func (s *Service) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	closed := context.AfterFunc(ctx, func() { _ = s.Listener.Close() })
	defer func() {
		cancel(nil)
		if closed() {
			_ = s.Listener.Close()
		}
		s.wg.Wait()
	}()
	s.wg.Go(func() {
		if err := s.accept(ctx); err != nil {
			cancel(err)
		}
	})
	s.wg.Go(func() { s.vouchForSelf(ctx) })
	failed := func() error {
		if err := context.Cause(ctx); err != ctx.Err() {
			return err
		}
		return nil
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		timer.Reset(s.round(ctx))
		select {
		case <-ctx.Done():
			return failed()
		case <-time.After(kickGap):
		}
		select {
		case <-ctx.Done():
			return failed()
		case <-timer.C:
		case <-s.kick:
		}
	}
}

// Kick sends a beat at once: something in the report or the state changed.
func (s *Service) Kick() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// round sends one beat to every voter and returns the time to the next.
func (s *Service) round(ctx context.Context) time.Duration {
	state := s.State()
	every := beatEvery(state)
	s.seq++
	msg := beatMessage{
		Version:     wireVersion,
		Cluster:     s.ClusterID,
		Node:        s.Self,
		Incarnation: s.incarnation,
		Seq:         s.seq,
		Electorate:  state.Electorate.Version,
		Report:      s.report(),
	}
	// From here on the lease runs: the clock is read before anything is sent.
	if b, ok := s.askVouch(state, msg.Report, s.seq); ok {
		msg.Vouch, msg.Epoch, msg.L = true, b.Epoch, b.L
		newest(s.selfBeats, b)
	}
	s.matchPeers(ctx, state)
	bytes, err := encodeMessage(msg)
	if err != nil {
		s.Logger.Error("beat can't be sent", "error", err)
		return every
	}
	for _, p := range s.peers {
		p.offer(&outgoing{seq: s.seq, bytes: bytes, every: every})
	}
	return every
}

// matchPeers starts and ends peers so that every other voter has one.
func (s *Service) matchPeers(ctx context.Context, state fsm.State) {
	voters := make(map[fsm.NodeID]bool, len(state.Members))
	for _, m := range state.Members {
		voters[m.ID] = !m.NoVote
	}
	for _, id := range state.Electorate.Voters {
		voters[id] = true
	}
	for id, p := range s.peers {
		if _, known := state.Members[id]; !known || !voters[id] {
			p.cancel()
			delete(s.peers, id)
		}
	}
	for id, votes := range voters {
		m, known := state.Members[id]
		if !votes || !known || id == s.Self {
			continue
		}
		p := s.peers[id]
		if p == nil {
			p = s.startPeer(ctx, m)
			s.peers[id] = p
		}
		p.member.Store(&m)
	}
}

// failoverAfter is the cluster's one timing knob.
func failoverAfter(state fsm.State) time.Duration {
	if ms := state.Config.Settings.FailoverAfterMS; ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	return defaultFailoverAfter
}

func beatEvery(state fsm.State) time.Duration { return failoverAfter(state) / beatsPerSilence }

// leaseLength is L = 0.8 failover_after: over before anybody calls the primary silent.
func leaseLength(state fsm.State) time.Duration { return failoverAfter(state) * 4 / 5 }

// newest puts v into c, of capacity 1, in place of what nobody has taken yet.
func newest[T any](c chan T, v T) {
	for {
		select {
		case c <- v:
			return
		default:
		}
		select {
		case <-c:
		default:
		}
	}
}
