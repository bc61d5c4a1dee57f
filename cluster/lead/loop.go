package lead

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/cluster/lease"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

const (
	// tickEvery is how often the loop looks again when nothing wakes it.
	tickEvery = 25 * time.Millisecond
	// beatsFresh is how many beat intervals old a report may be and still count as present.
	beatsFresh = 3
	// handOffEvery paces transfers of leadership: one that fails leaves the cluster without proposals for a moment.
	handOffEvery = 5 * time.Second
	// attendEvery is how often a node that does not lead looks.
	attendEvery = 100 * time.Millisecond
)

// ErrRefused is wrapped by Voters.Detach when the node answered and gave no position; the text says why. Any other error
// means that there was no answer.
var ErrRefused = errors.New("refused")

// Consensus is the replicated log as the loop needs it. All methods may be called from any goroutine.
type Consensus interface {
	// State is the newest state that this node has applied.
	State() fsm.State
	// Barrier returns once everything committed before is applied here, or an error when this node does not lead.
	Barrier(ctx context.Context) error
	// Submit puts change into the log under ifRev and returns the outcome of its Apply.
	Submit(ctx context.Context, change fsm.Command, ifRev uint64, by string) error
	// Transfer hands the leadership to a caught-up voter. It returns within seconds.
	Transfer(ctx context.Context, to fsm.NodeID) error
	// Servers is Raft's own configuration, nil if it is not known.
	Servers() map[fsm.NodeID]failover.Standing
	// Reconfigure changes one server of it, by consensus. Repeating it changes nothing.
	Reconfigure(ctx context.Context, change failover.Reconfigure) error
}

// Voters asks nodes, this one included, and returns their answers. All methods may be called from any goroutine and end
// with their context.
type Voters interface {
	Ask(ctx context.Context, to fsm.NodeID, epoch fsm.Epoch) (lease.AskReply, error)
	Seal(ctx context.Context, to fsm.NodeID, epoch fsm.Epoch) (lease.SealReply, error)
	Detach(ctx context.Context, to fsm.NodeID, epoch fsm.Epoch) (fsm.Position, error)
	// Stop tells the sick primary of epoch to kill its Postgres and release; nil means that it will.
	Stop(ctx context.Context, to fsm.NodeID, epoch fsm.Epoch) error
}

// Config is what a Loop is made of.
type Config struct {
	Self      fsm.NodeID
	First     func() fsm.NodeID // the bootstrapping node
	Boot      func() time.Duration
	Sightings func() map[fsm.NodeID]failover.Sighting // this node's own report included
	Beat      func(failoverAfter time.Duration) time.Duration
	Logger    hclog.Logger
}

// Loop is one node's view of the cluster and, while Run runs, its leader. All methods may be called from any goroutine.
type Loop struct {
	cfg       Config
	consensus Consensus
	voters    Voters
	wake      chan struct{}

	mu           sync.Mutex
	ledger       *ledger
	leading      bool
	leadingSince time.Duration
	last         failover.Decision // the last one logged
	lastEpoch    fsm.Epoch
	calls        map[call]flight
	proposing    bool
	retryAt      time.Duration // no proposal before
	filing       bool
	fileAt       time.Duration // no report before
	handedOff    time.Duration
	transferring bool
}

// New makes the loop of one start of the process.
func New(cfg Config, consensus Consensus, voters Voters) *Loop {
	return &Loop{
		cfg: cfg, consensus: consensus, voters: voters,
		wake:   make(chan struct{}, 1),
		ledger: newLedger(cfg.Boot()),
		calls:  make(map[call]flight),
	}
}

// Wake makes a running loop look again at once. It never blocks.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Observe notes a state that this node applied, leader or not.
func (l *Loop) Observe(s fsm.State) {
	l.mu.Lock()
	l.ledger.observe(l.cfg.Boot(), s)
	l.mu.Unlock()
	l.Wake()
}

// Explain is what this node knows now and what follows from it. Unless it leads, the ledger is empty and the decision an
// observer's.
func (l *Loop) Explain() (failover.View, failover.Decision) {
	v := l.view(l.consensus.State())
	return v, failover.Decide(v)
}

// Timeline lists the phases of the failovers that this node led, oldest first.
func (l *Loop) Timeline() []Phase {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]Phase(nil), l.ledger.phases...)
}

// Run leads until ctx ends, which is when the leadership does. It returns an error only if it could not begin.
// At most one Run at a time.
func (l *Loop) Run(ctx context.Context) error {
	if err := l.consensus.Barrier(ctx); err != nil {
		return fmt.Errorf("pass a barrier before leading: %w", err)
	}
	l.begin()
	var calls sync.WaitGroup
	defer calls.Wait()
	defer l.end()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		case <-timer.C:
		}
		timer.Reset(l.tick(ctx, &calls))
	}
}

// Attend looks now and then while another node leads, until ctx ends. Which standby has kept up since when is found out only
// by looking; a new leader that began with it would take failover_after longer to see that one is gone, after the election
// that the same loss may have cost.
func (l *Loop) Attend(ctx context.Context) {
	tick := time.NewTicker(attendEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.mu.Lock()
		leading := l.leading
		l.mu.Unlock()
		if !leading {
			l.view(l.consensus.State())
		}
	}
}

func (l *Loop) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leading, l.leadingSince = true, l.cfg.Boot()
	l.last, l.retryAt, l.fileAt = failover.Decision{}, 0, 0
	l.ledger.lead()
}

func (l *Loop) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leading = false
}

// tick looks once, acts, and says how long to sleep.
func (l *Loop) tick(ctx context.Context, calls *sync.WaitGroup) time.Duration {
	v := l.view(l.consensus.State())
	d := failover.Decide(v)
	l.note(v, d)
	l.carryOut(ctx, calls, v, d)
	l.file(ctx, calls, v)
	if d.Again > 0 && d.Again < tickEvery {
		return d.Again
	}
	return tickEvery
}

// view builds the View of state at this instant.
func (l *Loop) view(state fsm.State) failover.View {
	// The sightings first: an age that is a little too small only delays.
	seen := l.cfg.Sightings()
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Boot()
	l.ledger.observe(now, state)
	v := failover.View{
		State: state, Self: l.cfg.Self, Leading: l.leading, Seen: seen, FirstNode: l.cfg.First(),
		BeatEvery:  l.cfg.Beat(time.Duration(state.Config.Settings.FailoverAfterMS) * time.Millisecond),
		LeadingFor: now - l.ledger.born,
		CaughtUp:   make(map[fsm.NodeID]bool),
	}
	if l.leading {
		v.LeadingFor = now - l.leadingSince
	}
	l.ledger.fill(now, &v)
	v.Lost = l.ledger.copies.Look(now, v)
	v.Unapplied = l.ledger.applied.Look(now, v)
	if l.leading {
		v.Servers = l.consensus.Servers()
		v.ElectorateShown = l.ledger.electorateShown(now, v)
	}
	for id := range state.Members {
		s, ok := seen[id]
		_, lacks := v.Unapplied[id]
		v.CaughtUp[id] = ok && s.Age <= beatsFresh*v.BeatEvery && !lacks
	}
	return v
}

// note writes one line when rule, verdict or epoch change, and marks the phases of a failover.
func (l *Loop) note(v failover.View, d failover.Decision) {
	l.mu.Lock()
	l.ledger.time(l.cfg.Boot(), v, d)
	same := d.Rule == l.last.Rule && d.Verdict == l.last.Verdict && v.State.Epoch == l.lastEpoch
	l.last, l.lastEpoch = d, v.State.Epoch
	l.mu.Unlock()
	// Not under the lock, which Raft waits for: a blocked log must not block it.
	if same {
		l.cfg.Logger.Debug("looked again", "rule", d.Rule, "verdict", d.Verdict, "epoch", v.State.Epoch, "because", d.Because)
		return
	}
	l.cfg.Logger.Info("decided", "rule", d.Rule, "verdict", d.Verdict, "epoch", v.State.Epoch, "because", d.Because)
}
