package node

import (
	"sync"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl/guard"
)

// guardLate is how old the guard's last tick may be: four ticks of 25 ms would be a hiccup, ten are a guard that can't
// enforce a deadline (DETAILS 11).
const guardLate = 250 * time.Millisecond

// guardRecord is the part of guard.Client that carries the lease.
type guardRecord interface {
	Record() guard.View
	Set(v guard.Verdict, epoch uint64, deadline time.Duration) bool
}

// fence carries the lease from the beats to the guard. It starts nothing and thaws nothing by itself: only a Postgres
// that was started or promoted for serving has its deadline moved, and only within one unbroken tenure of this node.
type fence struct {
	guard  guardRecord
	margin time.Duration
	self   fsm.NodeID
	state  func() fsm.State

	mu       sync.Mutex
	epoch    fsm.Epoch
	deadline time.Duration // lease end less the margin, on the guard's clock
	barred   fsm.Epoch     // no epoch below this is ever served again
}

// Lease takes an extension. It is called from the goroutine that counted the last vouch and does not block.
func (f *fence) Lease(epoch fsm.Epoch, until time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if epoch < f.epoch || epoch < f.barred {
		return
	}
	f.epoch, f.deadline = epoch, until-f.margin
	v := f.guard.Record()
	alive := v.State == guard.StateRunning || v.State == guard.StateFrozen
	if guard.Now()-v.Tick > guardLate {
		f.deadline = 0 // Nobody would enforce it: what is not extended ends by itself, where it still can.
		return
	}
	if alive && v.Verdict == guard.VerdictServe && sameTenure(f.state(), fsm.Epoch(v.Epoch), epoch, f.self) {
		f.guard.Set(guard.VerdictServe, uint64(epoch), f.deadline)
	}
}

// Higher kills what serves an epoch below the given one: another node is primary by now.
func (f *fence) Higher(epoch fsm.Epoch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.barred = max(f.barred, epoch)
	if f.epoch < epoch {
		f.deadline = 0
	}
	if v := f.guard.Record(); (v.Verdict == guard.VerdictServe || v.Verdict == guard.VerdictUnleased) && fsm.Epoch(v.Epoch) < epoch {
		f.guard.Set(guard.VerdictStop, v.Epoch, 0)
	}
}

// Release forgets the lease of epoch, which this node has released.
func (f *fence) Release(epoch fsm.Epoch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.barred = max(f.barred, epoch+1)
	if f.epoch <= epoch {
		f.deadline = 0
	}
}

// Held returns the epoch of the newest lease and its end less the margin, a value of guard.Now; it may be over.
func (f *fence) Held() (epoch uint64, deadline time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return uint64(f.epoch), f.deadline
}

// live says whether the lease of epoch is held at now, a margin before its end.
func (f *fence) live(epoch fsm.Epoch, now time.Duration) bool {
	held, deadline := f.Held()
	return fsm.Epoch(held) == epoch && now < deadline
}

// sameTenure says whether every assignment after from up to and including to names self on one timeline: then what was
// started for from may go on under to. Without this check a node that was replaced and appointed again, and applied both
// at once, would go on writing a timeline that another node has continued.
func sameTenure(s fsm.State, from, to fsm.Epoch, self fsm.NodeID) bool {
	if from == to {
		return true
	}
	seen := fsm.Epoch(0)
	for i, l := range s.Lineage {
		if l.Epoch < from || l.Epoch > to {
			continue
		}
		if l.Node != self || seen != 0 && (l.Epoch != seen+1 || l.Timeline != s.Lineage[i-1].Timeline) {
			return false
		}
		if seen == 0 && l.Epoch != from {
			return false
		}
		seen = l.Epoch
	}
	return seen == to
}
