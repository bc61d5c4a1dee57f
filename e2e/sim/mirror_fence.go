package sim

// Copied word for word from package node, but for the clock; TestMirrorsAreFaithful compares. Copy it again when it complains.

import (
	"fmt"
	"sync"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

const (
	firstPause   = time.Second
	longestPause = 30 * time.Second
	guardLate    = 250 * time.Millisecond
)

// now is the host's clock; the product reads CLOCK_BOOTTIME.
func (f *fence) now() time.Duration { return f.guard.(*keeper).h.boot() }

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
	if f.now()-v.Tick > guardLate {
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

// leaseless says that Postgres here may go on accepting writes without a lease: the cluster is paused as far as this node's
// disk knows, this node is its primary and has not released (lease.md rule 10). Nobody else is appointed meanwhile.
func leaseless(s fsm.State, self fsm.NodeID, released fsm.Epoch) bool {
	return s.Paused && s.Epoch > 0 && s.Primary == self && released < s.Epoch
}

// alive says that the guard has a Postgres that can run.
func alive(v guard.View) bool { return v.State == guard.StateRunning || v.State == guard.StateFrozen }

// mayPause says that Postgres here serves, or did when it was frozen, and may go on without a lease.
func (f *fence) mayPause(s fsm.State, released fsm.Epoch) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.guard.Record()
	return alive(v) && (v.Verdict == guard.VerdictServe || v.Verdict == guard.VerdictUnleased) &&
		leaseless(s, f.self, released) && s.Epoch >= f.barred && sameTenure(s, fsm.Epoch(v.Epoch), s.Epoch, f.self)
}

// Pause takes the deadline from a Postgres that mayPause. Calling it again is what keeps the guard believing.
func (f *fence) Pause(s fsm.State) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.guard.Set(guard.VerdictUnleased, uint64(s.Epoch), 0)
}

// Unpause gives the deadline back to a Postgres that has none: that of the lease, or a past one if there is no lease. It touches
// no disk. False: the guard did not take it, and Postgres may go on without one.
func (f *fence) Unpause(s fsm.State) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.guard.Record()
	if !alive(v) || v.Verdict != guard.VerdictUnleased {
		return true
	}
	deadline := time.Duration(0)
	if sameTenure(s, fsm.Epoch(v.Epoch), f.epoch, f.self) && f.epoch >= f.barred {
		deadline = f.deadline
	}
	f.guard.Set(guard.VerdictServe, v.Epoch, deadline)
	return f.guard.Record().Verdict != guard.VerdictUnleased
}

// unleased says that Postgres here serves the present epoch without a deadline, and may.
func (f *fence) unleased(s fsm.State, released fsm.Epoch) bool {
	v := f.guard.Record()
	return alive(v) && v.Verdict == guard.VerdictUnleased && fsm.Epoch(v.Epoch) == s.Epoch && leaseless(s, f.self, released)
}

// mayWrite says by what Postgres here may accept writes in the present epoch: the lease, or nothing but a pause.
func (f *fence) mayWrite(s fsm.State, released fsm.Epoch, now time.Duration) (leased, paused bool) {
	leased = f.live(s.Epoch, now)
	return leased, !leased && f.unleased(s, released)
}

// undying says that self is primary and that its Postgres, of this epoch or one before it, has been dying for longer than
// failoverAfter. Killing is final for a run, whatever it was begun for, and nothing is started before it has ended. An agent
// in its ordinary loop would release the epoch then and has to wait for that end.
func undying(s fsm.State, self fsm.NodeID, v guard.View, now, failoverAfter time.Duration) bool {
	return s.Epoch > 0 && s.Primary == self && !s.Paused && fsm.Epoch(v.Epoch) <= s.Epoch &&
		v.State == guard.StateKilling && now-v.Since >= failoverAfter
}

// stop tells the guard to kill what serves epoch or one before it, and bars it; false if nothing serves that. What is being
// killed already counts as well, for whatever it was told to end: a crash, or an agent before this one, may have told it,
// and in a disk that hangs it does not end. Refusing that order would leave an epoch that nobody serves and nobody releases.
func (f *fence) stop(epoch fsm.Epoch) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.guard.Record()
	dying := v.State == guard.StateKilling || v.Verdict == guard.VerdictStop
	if v.Gone() || v.Verdict != guard.VerdictServe && !dying || fsm.Epoch(v.Epoch) > epoch {
		return false
	}
	f.barred = max(f.barred, epoch+1)
	if f.epoch <= epoch {
		f.deadline = 0
	}
	return f.guard.Set(guard.VerdictStop, v.Epoch, 0) || dying // a stop is final, and not written twice
}

// trouble is what keeps a Postgres that is down from coming up: a directory that it can't start from, a log that can't be
// read. Nothing is given up or set aside for that, which a person may be about to mend: it is said and tried again, ever
// more rarely, because each attempt costs a disk and a log that may be in trouble themselves.
type trouble struct {
	step  pgctl.StepKind
	count int    // attempts in a row that failed
	why   string // of the last
	epoch fsm.Epoch
	next  time.Duration // not before this in the same epoch
	run   uint64        // the newest that was counted because it ended before it answered
}

// failed counts an attempt that failed at now.
func (t *trouble) failed(step pgctl.StepKind, why string, epoch fsm.Epoch, now time.Duration) {
	t.step, t.why, t.epoch = step, why, epoch
	t.next = now + min(firstPause<<min(t.count, 10), longestPause)
	t.count++
}

// look forgets the trouble when it is over, and says whether Postgres has ended before it answered in a run that was not
// counted yet. A start succeeds when it forks: what became of it is seen only here.
func (t *trouble) look(have pgctl.Status) (stillborn bool) {
	up := have.Run == pg.RunStandby || have.Run == pg.RunPrimary
	rebuilt := have.Clone != nil && have.Clone.Running || have.Rewind != nil && have.Rewind.Running
	if up || rebuilt || t.step == pgctl.Examine && have.Position != nil {
		*t = trouble{run: t.run}
	}
	if have.Died == "" || have.Answered || have.GuardRun == t.run {
		return false
	}
	t.run = have.GuardRun
	return true
}

// holds says whether a step waits for its time. Only what brings a standby up does, and the adoption of data, which nobody
// else has: an appointed node has no time to lose, and a new epoch may bring what was missing.
func (t *trouble) holds(step pgctl.StepKind, role pgctl.Role, epoch fsm.Epoch, now time.Duration) bool {
	waits := role == pgctl.RoleStandby || step == pgctl.Adopt
	return t.count > 0 && waits && bringsUp(step) && epoch == t.epoch && now < t.next
}

// bringsUp names the steps from a Postgres that is down to one that follows, or to one that can be started.
func bringsUp(step pgctl.StepKind) bool {
	switch step {
	case pgctl.Examine, pgctl.StartReader, pgctl.Adopt, pgctl.Clone, pgctl.Quarantine, pgctl.Rewind:
		return true
	}
	return false
}

// String says it to people, empty for no trouble.
func (t *trouble) String() string {
	switch t.count {
	case 0:
		return ""
	case 1:
		return "does not come up and is tried again: " + t.why
	}
	return fmt.Sprintf("has not come up in %d attempts and is tried again: %s", t.count, t.why)
}
