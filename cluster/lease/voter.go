package lease

import (
	"time"

	"github.com/quorate/quorate/fsm"
)

// Voter is one member's side of the lease. It has no lock: the caller holds one mutex over the whole of check, record
// and reply, reads the clock under it, and hands in instants that never go back (lease.md rule 4).
type Voter struct {
	durable VoterRecord // what is on disk: all that may be spoken of
	// asked is durable or more: a record whose write was begun. Should the write fail, it may be on disk all the same,
	// so from then on nothing is vouched for that it forbids.
	asked     VoterRecord
	start     time.Duration
	busyUntil time.Duration // until then some holder may be inside a lease that this voter helped to give
	lastVouch time.Duration
	lastEpoch fsm.Epoch // of the last vouch since the start; 0 when there was none
}

// VouchReply answers a beat.
type VouchReply struct {
	Yes    bool
	Sealed fsm.Epoch // durable
}

// SealReply answers a seal. Left is what is left of the voter's last vouch, rounded up to milliseconds: whoever waits
// that long after the receipt, on any clock, knows that the vouch is worth nothing any more.
type SealReply struct {
	Epoch        fsm.Epoch // durable: the highest epoch sealed, at least the one asked for
	Left         time.Duration
	VouchedAgo   time.Duration
	NeverVouched bool
}

// AskReply answers an ask: a query that promises nothing. VouchedAgo is the age of the last vouch, rounded down to
// milliseconds; with NeverVouched, which says that the voter vouched for nothing of the epoch asked or later since its
// start, it is the time since that start.
type AskReply struct {
	VouchedAgo   time.Duration
	NeverVouched bool
	Sealed       fsm.Epoch
}

// NewVoter is the voter of a process that started at start with rec read from its disk. It may have vouched a moment
// before it went down, for as much as rec.Lmax, so it counts as busy for all of that.
func NewVoter(rec VoterRecord, start time.Duration) *Voter {
	v := &Voter{durable: rec, asked: rec, start: start, lastVouch: start}
	if remembersVouch {
		v.busyUntil = start + Wait(rec.Lmax)
	}
	return v
}

// Record is what the voter knows to be on disk.
func (v *Voter) Record() VoterRecord { return v.durable }

// Vouch answers beat b, received at now. A record that comes back must be made durable and handed to Persisted before b
// is put to Vouch again; the reply beside it says no and may be sent if that fails.
func (v *Voter) Vouch(now time.Duration, b Beat) (VouchReply, *VoterRecord) {
	no := VouchReply{Sealed: v.durable.Sealed}
	if b.Epoch <= v.asked.Sealed || b.L <= 0 || b.L > MaxL {
		return no, nil
	}
	if b.L > v.durable.Lmax {
		v.asked.Lmax = max(v.asked.Lmax, b.L)
		rec := v.asked
		return no, &rec
	}
	v.busyUntil = max(v.busyUntil, now+Wait(b.L))
	v.lastVouch = now
	v.lastEpoch = b.Epoch
	return VouchReply{Yes: true, Sealed: v.durable.Sealed}, nil
}

// Seal begins the promise never again to vouch for an epoch <= e. With changed, rec must be made durable and handed to
// Persisted before SealReply is asked; without, the promise is on disk already.
func (v *Voter) Seal(e fsm.Epoch) (rec VoterRecord, changed bool) {
	v.asked.Sealed = max(v.asked.Sealed, e)
	return v.asked, v.asked.Sealed > v.durable.Sealed
}

// Persisted tells that rec, which came from Vouch or Seal, is on disk.
func (v *Voter) Persisted(rec VoterRecord) {
	v.durable.Sealed = max(v.durable.Sealed, rec.Sealed)
	v.durable.Lmax = max(v.durable.Lmax, rec.Lmax)
}

// SealReply is the answer to a Seal that is durable, with now read after it became so.
func (v *Voter) SealReply(now time.Duration) SealReply {
	ask := v.AskReply(now, v.durable.Sealed)
	return SealReply{
		Epoch:        v.durable.Sealed,
		Left:         ceilMS(max(0, v.busyUntil-now)),
		VouchedAgo:   ask.VouchedAgo,
		NeverVouched: ask.NeverVouched,
	}
}

// AskReply answers, at now, when this voter last vouched for epoch e or a later one.
func (v *Voter) AskReply(now time.Duration, e fsm.Epoch) AskReply {
	r := AskReply{Sealed: v.durable.Sealed}
	since := v.lastVouch
	if v.lastEpoch == 0 || v.lastEpoch < e {
		r.NeverVouched = true
		since = v.start
	}
	r.VouchedAgo = max(0, now-since).Truncate(time.Millisecond)
	return r
}
