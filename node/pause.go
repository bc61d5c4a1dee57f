package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl/guard"
)

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

// pausing is what the agent remembers of the marker: the file that lets the guard honour a pause while no agent lives.
type pausing struct {
	path  string
	known bool // whether it is there is known
	there bool
	said  string // the last trouble with it
}

// pause brings the guard's orders in line with s, before anybody is shown that this node has it: a leader that is shown a resume
// takes it that the lease holds again here (lease.md rule 10). False: that did not succeed, so nobody may be shown.
//
// The file is made before the deadline goes and removed after it is back, since it means nothing beside a deadline. It is touched
// when something changes, not at each look: a disk that hangs must not keep this loop.
func (a *agent) pause(s fsm.State) bool {
	p := &a.pausing
	if p.path == "" {
		p.path = filepath.Join(a.cfg.Cluster.DataDir, "guard", guard.PausedMarker)
	}
	if a.fence.mayPause(s, a.records.ReleasedEpoch()) {
		if err := p.set(true); err != nil {
			a.sayPausing(err)
			return true // it keeps its lease instead
		}
		a.fence.Pause(s)
		return true
	}
	acted := a.fence.Unpause(s)
	if leaseless(s, a.cluster.Self(), a.records.ReleasedEpoch()) {
		return acted // it is down, or not opened yet, which takes a lease; the file may be there for when it has one
	}
	if err := p.set(false); err != nil {
		a.sayPausing(err)
	}
	return acted
}

func (a *agent) sayPausing(err error) {
	if a.pausing.said != err.Error() {
		a.pausing.said = err.Error()
		a.log.Error("the marker of the pause can't be changed; Postgres has its deadline", "error", err)
	}
}

// set makes or removes the marker, if that is not known to be done.
func (p *pausing) set(there bool) error {
	if p.known && p.there == there {
		return nil
	}
	if !there {
		if err := os.Remove(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("end the pause for the guard: %w", err)
		}
	} else if f, err := os.OpenFile(p.path, os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
		return fmt.Errorf("tell the guard of the pause: %w", err)
	} else if err := f.Close(); err != nil {
		return fmt.Errorf("tell the guard of the pause: %w", err)
	}
	p.known, p.there = true, there
	return nil
}
