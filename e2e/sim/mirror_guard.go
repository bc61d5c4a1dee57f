package sim

// Copied word for word from package guard; TestMirrorsAreFaithful compares. Copy it again when it complains.

import "time"

// heartbeatLimit is how long VerdictUnleased outlives the agent's last heartbeat
// when there is no paused marker.
const heartbeatLimit = 5 * time.Second

// facts is all that decide looks at. Times are values of Now.
type facts struct {
	now       time.Duration
	state     State
	since     time.Duration // when state was entered
	exited    bool          // the postmaster was reaped
	verdict   Verdict
	leaseEnd  time.Duration // deadline after the cap; read for VerdictServe only
	beat      time.Duration // the agent's last heartbeat
	paused    bool          // guard.paused exists
	killAfter time.Duration
}

// decide returns the one next action, and the time at which the answer changes
// by itself (0: never). Killing is final: only the loop leaves StateKilling, when
// nothing is left. A verdict that it doesn't know is an ended lease.
func decide(f facts) (action, time.Duration) {
	if f.state != StateRunning && f.state != StateFrozen {
		return actNothing, 0
	}
	if f.exited || f.verdict == VerdictStop {
		return actKill, 0
	}
	end, bounded := f.end()
	switch {
	case !bounded || f.now < end:
		if f.state == StateFrozen {
			return actThaw, end
		}
		return actNothing, end
	case f.state == StateRunning:
		return actFreeze, end
	case f.now >= f.since+f.killAfter:
		return actKill, 0
	default:
		return actNothing, f.since + f.killAfter
	}
}

// end returns when the right to run ends, and whether it ends at all.
func (f facts) end() (time.Duration, bool) {
	switch f.verdict {
	case VerdictStandby:
		return 0, false
	case VerdictServe:
		return f.leaseEnd, true
	case VerdictUnleased:
		if f.beat > f.now+heartbeatLimit {
			return 0, !f.paused // on nobody's clock: it is no heartbeat
		}
		return f.beat + heartbeatLimit, !f.paused
	default:
		return 0, true
	}
}

// accepts reports whether next may replace last in the record: stop is final for
// its run, epochs don't go back within a run, and a lease isn't shortened but by
// another verdict or epoch. This keeps a late beat goroutine from undoing what
// the agent decided after it.
func (last order) accepts(next order) bool {
	switch {
	case next.verdict == VerdictNone || next.run < last.run:
		return false
	case next.run > last.run:
		return true
	case last.verdict == VerdictStop:
		return false
	case next.epoch < last.epoch:
		return next.verdict == VerdictStop
	case next.verdict == VerdictServe && last.verdict == VerdictServe && next.epoch == last.epoch:
		return next.deadline > last.deadline
	default:
		return true
	}
}

// order is what the agent wants of one run.
type order struct {
	run      uint64
	verdict  Verdict
	epoch    uint64
	deadline time.Duration
}
