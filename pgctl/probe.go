package pgctl

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/pgctl/guard"
)

// Probe names one of the things that are tried again and again.
type Probe string

// The probes.
const (
	ProbeConnect Probe = "connect" // a new connection and SELECT 1
	ProbeData    Probe = "data"    // a write and fsync in the data directory
	ProbeWAL     Probe = "wal"     // the same in the directory of the log, where that is on another file system
	ProbeEnd     Probe = "end"     // no try: whether what is being killed comes to its end
)

// What makes a row of failures a sickness (DETAILS 29).
const (
	probesPerFailoverAfter = 4
	sickFailures           = 3
)

// Sickness is what the probes find: Postgres, or a disk under it, does not work although its processes live.
type Sickness struct {
	Probe    Probe
	Failures int           // in a row; one that does not return counts once for every time it keeps the next from beginning
	For      time.Duration // since the first of them began
	Why      string        // of the last that ended, or that it does not return
	Full     bool          // the disk has no room left
	ReadOnly bool          // the file system is mounted read-only
}

// String is a sentence for people. It does not change from one failure to the next, so that a report that carries it is
// new only when something is.
func (s Sickness) String() string {
	what := map[Probe]string{
		ProbeConnect: "new sessions get no answer",
		ProbeData:    "the data directory can't be written",
		ProbeWAL:     "the directory of the log can't be written",
		ProbeEnd:     "Postgres is being killed",
	}[s.Probe]
	switch {
	case s.Full:
		return what + ": its disk is full; make room"
	case s.ReadOnly:
		return what + ": its file system is read-only"
	}
	return what + ": " + s.Why
}

// outcome is how one attempt of a probe ended.
type outcome struct {
	failed   bool
	why      string
	full     bool
	readOnly bool
}

// outcomeOf reads the error of a file probe.
func outcomeOf(err error) outcome {
	if err == nil {
		return outcome{}
	}
	return outcome{
		failed: true, why: err.Error(),
		full:     errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT),
		readOnly: errors.Is(err, unix.EROFS),
	}
}

// outcomeOfConnect reads the error of a connection. The errors in which the server itself says that it can't take this
// session now are no failures: it forked a process, which answered. It may have no slot left, be starting, or be shutting
// down, which others look after, or not know the role or the database: somebody may have dropped that, and did so on the
// standbys too.
func outcomeOfConnect(err error) outcome {
	switch code := sqlState(err); {
	case err == nil, code == stateTooMany, code == stateCannotConnect, code == stateShutdown, code == stateCrash, code == stateNoDatabase:
		return outcome{}
	case len(code) == 5 && code[:2] == "28": // invalid authorization
		return outcome{}
	}
	return outcome{failed: true, why: err.Error()}
}

// streak is what one probe has found in a row. The zero value knows nothing yet.
type streak struct {
	failures int
	since    time.Duration // when the first failure began
	last     outcome       // of the newest failure
	out      bool          // an attempt is under way
	began    time.Duration // when it was begun
}

// begin notes that an attempt begins.
func (s streak) begin(now time.Duration) streak {
	s.out, s.began = true, now
	return s
}

// end notes how the attempt under way ended: a success forgets all before it.
func (s streak) end(o outcome) streak {
	if !o.failed {
		return streak{}
	}
	if s.failures == 0 {
		s.since = s.began
	}
	s.failures++
	s.last, s.out = o, false
	return s
}

// at counts an attempt that has not returned: once for every further attempt that it has kept from beginning.
func (s streak) at(now, every time.Duration) streak {
	if !s.out || now-s.began < every {
		return s
	}
	if s.failures == 0 {
		s.since = s.began
	}
	s.failures += int((now - s.began) / every)
	s.last = outcome{failed: true, why: "a try does not return"}
	return s
}

// sickness says whether the streak of probe p is one, at now, with an attempt every so often.
func (s streak) sickness(p Probe, now, every time.Duration) *Sickness {
	s = s.at(now, every)
	limit := every * probesPerFailoverAfter * 3 / 2
	if s.failures < sickFailures || now-s.since < limit {
		return nil
	}
	return &Sickness{Probe: p, Failures: s.failures, For: now - s.since, Why: s.last.why, Full: s.last.full, ReadOnly: s.last.readOnly}
}

// undying is the sickness of a run that is being killed and does not end within failoverAfter. Nobody is served by it, yet
// its agent goes on and asks for its lease, so that no silence tells the others; and a probe of the disks need not show
// what it hangs in.
func undying(v guard.View, now, failoverAfter time.Duration) *Sickness {
	if v.State != guard.StateKilling || now-v.Since < failoverAfter {
		return nil
	}
	return &Sickness{Probe: ProbeEnd, Failures: 1, For: now - v.Since, Why: "its processes do not end, as in a disk that hangs"}
}

// excuse makes the attempt under way count from now: what kept it so far is no fault of what is probed.
func (s streak) excuse(now time.Duration) streak {
	if s.out {
		s.began = now
	}
	return s
}

// idle says that the next attempt may begin.
func (s streak) idle() bool { return !s.out }

// probeFile is the content of a file probe; its size is that of a block, so that a full disk has no room for it.
func probeFile(now time.Duration) []byte {
	block := make([]byte, 8<<10)
	copy(block, fmt.Sprintf("written by quorate to see whether it can be, %s after boot", now))
	return block
}
