package lease

import (
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
)

// maxPending bounds the beats whose vouches are still counted. Beats are sent every failover_after/8 and L is 0.8 of it,
// so an older one could no longer extend anything.
const maxPending = 16

// Holder is a primary's side of the lease: it counts vouches and knows until when the node may accept writes. It has no
// lock; the caller serialises all calls.
type Holder struct {
	incarnation uint64
	self        fsm.NodeID
	epoch       fsm.Epoch // the epoch held, or last held
	holding     bool
	barred      fsm.Epoch // never again holds an epoch <= barred
	until       time.Duration
	lastSeq     uint64
	pending     []sent // oldest first
}

// sent is a beat whose vouches are being counted.
type sent struct {
	seq    uint64
	at     time.Duration // read before the beat went out
	l      time.Duration
	voters []fsm.NodeID // the electorate at the time of sending
	yes    []fsm.NodeID // a set, part of voters
}

// NewHolder is the holder of one start of the process. incarnation must be random: a vouch for an earlier start's beat
// of the same seq would otherwise extend a lease whose beat nobody ever saw.
func NewHolder(incarnation uint64) *Holder {
	return &Holder{incarnation: incarnation}
}

// Start says that self's applied and durable state names it primary of epoch. It reports whether the holder now holds
// that epoch: it does not if it stopped that epoch or a later one. A re-appointment (the next epoch, the same node) keeps
// the lease, so that a false suspicion stalls no write; any other new epoch begins without one. Vouches for beats of the
// epoch before are dropped.
func (h *Holder) Start(epoch fsm.Epoch, self fsm.NodeID) bool {
	if epoch == 0 || epoch <= h.barred || epoch < h.epoch {
		return false
	}
	if h.holding && epoch == h.epoch {
		return true
	}
	if !h.holding || epoch != h.epoch+1 || self != h.self {
		h.until = 0
	}
	h.self, h.epoch, h.holding, h.pending = self, epoch, true, nil
	return true
}

// Stop says that this node never again holds an epoch <= epoch: it released it, or the state names another primary. A
// lease of such an epoch ends at once, and vouches still under way count for nothing. It reports whether one was held.
func (h *Holder) Stop(epoch fsm.Epoch) bool {
	h.barred = max(h.barred, epoch)
	if !h.holding || h.epoch > h.barred {
		return false
	}
	h.holding, h.until, h.pending = false, 0, nil
	return true
}

// Higher says that somebody has seen epoch with another primary: a Stop of all epochs before it.
func (h *Holder) Higher(epoch fsm.Epoch) bool {
	return epoch > 0 && h.Stop(epoch-1)
}

// Sent notes a beat that asks voters to vouch for a lease of l. It is called before the beat leaves, with now read before
// it. seq must be higher than every one before; another is not counted.
func (h *Holder) Sent(seq uint64, now time.Duration, voters []fsm.NodeID, l time.Duration) {
	if !h.holding || seq <= h.lastSeq || l <= 0 {
		return
	}
	h.lastSeq = seq
	if len(h.pending) == maxPending {
		h.pending = slices.Delete(h.pending, 0, 1)
	}
	h.pending = append(h.pending, sent{seq: seq, at: now, l: l, voters: slices.Clone(voters)})
}

// Vouched counts a voter's yes to the beat (incarnation, seq) of epoch. When it is the one that makes a majority of the
// electorate the beat was sent under, and the lease thereby ends later than before, extended is true and until is the new
// end, on the clock that Sent was given.
func (h *Holder) Vouched(voter fsm.NodeID, incarnation, seq uint64, epoch fsm.Epoch) (until time.Duration, extended bool) {
	if !h.holding || incarnation != h.incarnation || epoch != h.epoch {
		return h.until, false
	}
	i := slices.IndexFunc(h.pending, func(s sent) bool { return s.seq == seq })
	if i < 0 {
		return h.until, false
	}
	s := &h.pending[i]
	if !slices.Contains(s.voters, voter) || slices.Contains(s.yes, voter) {
		return h.until, false
	}
	s.yes = append(s.yes, voter)
	if len(s.yes) <= len(s.voters)/2 {
		return h.until, false
	}
	end := s.at + s.l
	h.pending = slices.Delete(h.pending, 0, i+1) // older beats cannot reach further under the same L
	if end <= h.until {
		return h.until, false
	}
	h.until = end
	return h.until, true
}

// Until is the end of the lease; 0 when there is none. The node may accept writes only while now is before it by a
// margin that covers the latency of enforcement.
func (h *Holder) Until() time.Duration { return h.until }

// Epoch is the epoch held; 0 when none is.
func (h *Holder) Epoch() fsm.Epoch {
	if !h.holding {
		return 0
	}
	return h.epoch
}
