package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl/guard"
)

// leaseless says that Postgres here may go on accepting writes without a lease: the cluster is paused as far as this node's
// disk knows, this node is its primary and has not released (lease.md rule 10). Nobody else is appointed meanwhile.
func leaseless(s fsm.State, self fsm.NodeID, released fsm.Epoch) bool {
	return s.Paused && s.Epoch > 0 && s.Primary == self && released < s.Epoch
}

// Pause brings the guard's orders in line with a pause: a Postgres that serves goes on without a deadline for as long as the
// pause lasts, and has one again when that ends, a past one if there is no lease. It is called again and again: that is what
// keeps the guard believing while the agent lives. marker is the file that does so while no agent does.
func (f *fence) Pause(s fsm.State, released fsm.Epoch, marker string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.guard.Record()
	serves := (v.State == guard.StateRunning || v.State == guard.StateFrozen) && (v.Verdict == guard.VerdictServe || v.Verdict == guard.VerdictUnleased)
	allowed := leaseless(s, f.self, released) && s.Epoch >= f.barred && sameTenure(s, fsm.Epoch(v.Epoch), s.Epoch, f.self)
	switch {
	case serves && allowed:
		if err := mark(marker); err != nil {
			return err
		}
		f.guard.Set(guard.VerdictUnleased, uint64(s.Epoch), 0)
	case s.Paused && allowed: // it is down, or not opened yet: that takes a lease
	default:
		// First the file: the guard's orders end with it even if this process does.
		if err := os.Remove(marker); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("end the pause for the guard: %w", err)
		}
		if serves && v.Verdict == guard.VerdictUnleased {
			f.guard.Set(guard.VerdictServe, v.Epoch, f.leaseOf(fsm.Epoch(v.Epoch), s))
		}
	}
	return nil
}

// leaseOf is the end of the lease under which a Postgres that was opened for epoch may go on, 0 if there is none. The caller
// holds f.mu.
func (f *fence) leaseOf(epoch fsm.Epoch, s fsm.State) time.Duration {
	if sameTenure(s, epoch, f.epoch, f.self) && f.epoch >= f.barred {
		return f.deadline
	}
	return 0
}

// mark makes an empty file, once.
func mark(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("tell the guard of the pause: %w", err)
	}
	return f.Close()
}

// unleased says that Postgres here serves the present epoch without a deadline, and may.
func (f *fence) unleased(s fsm.State, released fsm.Epoch) bool {
	v := f.guard.Record()
	return v.Verdict == guard.VerdictUnleased && fsm.Epoch(v.Epoch) == s.Epoch && leaseless(s, f.self, released)
}
