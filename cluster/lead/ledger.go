package lead

import (
	"errors"
	"maps"
	"time"

	"github.com/quorate/quorate/cluster/lease"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// rememberAppoints is for how long an Appoint of another node is remembered; the longest back-off looks a minute back.
const rememberAppoints = 2 * time.Minute

// refusalHolds is for how long a node that gave no position is not asked again: what kept it may have passed.
const refusalHolds = time.Second

// received is an answer with the local instant it came in. Ages count from the receipt, never from an instant of the
// sender: that is what makes the wait for a lease's end safe (lease.md rule 6).
type received[T any] struct {
	what T
	at   time.Duration
}

// ledger is what this node remembers beside the replicated state: answers of the present epoch, and since when it knows
// what. It has no lock; the Loop's covers it.
type ledger struct {
	born       time.Duration
	epoch      fsm.Epoch
	primary    fsm.NodeID
	epochSince time.Duration
	wish       string
	wishSince  time.Duration
	appointed  []time.Duration // instants of the Appoints of another node, newest first
	again      []time.Duration // instants of the Appoints of the same node, newest first
	answers    map[fsm.NodeID]received[lease.AskReply]
	seals      map[fsm.NodeID]received[lease.SealReply]
	positions  map[fsm.NodeID]fsm.Position
	failed     map[fsm.NodeID]received[string]
	sealing    time.Duration // when the first seal was sent; 0: none was
	copies     failover.Copies
	applied    failover.Applied
	electorate shown                // what the primary has shown of the electorate to this leader
	phases     []Phase              // of the failovers that this node led
	causes     map[fsm.Epoch]string // why those epochs ended, in words
	ledFrom    fsm.Epoch            // the present one when this node began to lead
}

func newLedger(now time.Duration) *ledger {
	l := &ledger{born: now, epochSince: now, causes: make(map[fsm.Epoch]string)}
	l.clear()
	return l
}

func (l *ledger) clear() {
	l.answers = make(map[fsm.NodeID]received[lease.AskReply])
	l.seals = make(map[fsm.NodeID]received[lease.SealReply])
	l.positions = make(map[fsm.NodeID]fsm.Position)
	l.failed = make(map[fsm.NodeID]received[string])
	l.sealing = 0
}

// observe takes note of a state. Facts of an earlier epoch are worth nothing in the next; within one epoch they stay
// valid whatever the Rev does (lease.md rule 1). A state older than one already seen changes nothing.
func (l *ledger) observe(now time.Duration, s fsm.State) {
	if s.Epoch < l.epoch {
		return
	}
	if s.Epoch > l.epoch {
		switch l.primary {
		case "":
		case s.Primary:
			l.again = append([]time.Duration{now}, l.again...)
		default:
			l.appointed = append([]time.Duration{now}, l.appointed...)
		}
		l.epoch, l.primary, l.epochSince = s.Epoch, s.Primary, now
		l.clear()
	}
	l.appointed, l.again = recent(now, l.appointed), recent(now, l.again)
	id := ""
	if s.Wish != nil {
		id = s.Wish.ID
	}
	if id != l.wish {
		l.wish, l.wishSince = id, now
	}
}

// recent drops the instants that no back-off looks at any more.
func recent(now time.Duration, instants []time.Duration) []time.Duration {
	for n := len(instants); n > 0 && now-instants[n-1] > rememberAppoints; n-- {
		instants = instants[:n-1]
	}
	return instants
}

// noteSealing remembers when the sealing of epoch began.
func (l *ledger) noteSealing(now time.Duration, epoch fsm.Epoch) {
	if epoch == l.epoch && l.sealing == 0 {
		l.sealing = now
	}
}

// The four notes say what node answered for epoch; an answer for another epoch than the present one is dropped.

func (l *ledger) noteAnswer(now time.Duration, node fsm.NodeID, epoch fsm.Epoch, r lease.AskReply) {
	if epoch == l.epoch {
		l.answers[node] = received[lease.AskReply]{r, now}
	}
}

func (l *ledger) noteSeal(now time.Duration, node fsm.NodeID, epoch fsm.Epoch, r lease.SealReply) {
	if epoch != l.epoch || r.Epoch < epoch {
		return
	}
	if _, has := l.seals[node]; has {
		return // the first answer's wait began first; a later one can't know better
	}
	l.seals[node] = received[lease.SealReply]{r, now}
}

func (l *ledger) notePosition(node fsm.NodeID, epoch fsm.Epoch, p fsm.Position) {
	if epoch == l.epoch && p.Node == node && p.Detached >= epoch {
		l.positions[node] = p
		delete(l.failed, node)
	}
}

func (l *ledger) noteRefusal(now time.Duration, node fsm.NodeID, epoch fsm.Epoch, err error) {
	if _, has := l.positions[node]; epoch == l.epoch && !has && errors.Is(err, ErrRefused) {
		l.failed[node] = received[string]{err.Error(), now}
	}
}

// fill puts the ledger's part into v, every age as of now.
func (l *ledger) fill(now time.Duration, v *failover.View) {
	v.Answers = make(map[fsm.NodeID]failover.Answer, len(l.answers))
	for id, a := range l.answers {
		v.Answers[id] = failover.Answer{Age: now - a.at, VouchedAgo: a.what.VouchedAgo, NeverVouched: a.what.NeverVouched, Sealed: a.what.Sealed}
	}
	v.Seals = make(map[fsm.NodeID]failover.Sealed, len(l.seals))
	for id, s := range l.seals {
		v.Seals[id] = failover.Sealed{Epoch: s.what.Epoch, Left: s.what.Left, Age: now - s.at}
	}
	v.Positions = maps.Clone(l.positions)
	v.Failed = make(map[fsm.NodeID]string, len(l.failed))
	for id, f := range l.failed {
		if now-f.at <= refusalHolds {
			v.Failed[id] = f.what
		}
	}
	for _, at := range l.appointed {
		v.Appointed = append(v.Appointed, now-at)
	}
	for _, at := range l.again {
		v.Reappointed = append(v.Reappointed, now-at)
	}
	v.EpochAge = now - l.epochSince
	if l.wish != "" {
		v.WishAge = now - l.wishSince
	}
	if l.sealing > 0 {
		v.SealingFor = now - l.sealing
	}
}
