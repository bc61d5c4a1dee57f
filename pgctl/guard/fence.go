package guard

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// fence is the means of stopping a run. Only the deadline thread calls it.
type fence interface {
	// prepare is called before each fork. It returns the descriptor of the cgroup
	// to fork into and that of its events, -1 without one, and fails with
	// ErrNotEmpty over the rest of an earlier run.
	prepare(childless bool) (into, events int, err error)
	// freeze returns when no process of the run will execute user code any more.
	freeze(postmaster int) error
	// hold undoes what somebody else thawed.
	hold() error
	thaw(postmaster int) error
	// kill is called again and again until empty says true.
	kill(postmaster int) error
	// empty is asked after all zombies were reaped.
	empty(childless bool) (bool, error)
}

// freezeLimit bounds the passes of a freeze by signals: a fork bomb must not keep
// the deadline thread from going on to the kill.
const freezeLimit = 2 * time.Second

// signalFence works without cgroups. The guard is the subreaper of all that it
// forked, so what belongs to the run is exactly what descends from the guard.
type signalFence struct{ guard int }

func (s signalFence) prepare(childless bool) (into, events int, err error) {
	if !childless {
		return -1, -1, ErrNotEmpty
	}
	return -1, -1, nil
}

func (s signalFence) freeze(postmaster int) error {
	// The postmaster first: stopped, it neither forks nor reaps, so no pid of a
	// child can be reused while we go through them.
	if err := sendSignal(postmaster, unix.SIGSTOP); err != nil {
		return fmt.Errorf("stop the postmaster: %w", err)
	}
	stopped := map[int]bool{}
	limit := Now() + freezeLimit
	for quiet := 0; quiet < 2; {
		fresh, err := s.stopPass(stopped)
		switch {
		case err != nil:
			return err
		case fresh == 0:
			quiet++
		case Now() > limit:
			return fmt.Errorf("stop every backend within %s: new ones keep appearing", freezeLimit)
		default:
			quiet = 0
		}
	}
	return nil
}

func (s signalFence) hold() error {
	_, err := s.stopPass(map[int]bool{})
	return err
}

// stopPass stops what isn't yet, and counts what stopped doesn't hold.
func (s signalFence) stopPass(stopped map[int]bool) (fresh int, err error) {
	all, err := processes()
	if err != nil {
		return 0, err
	}
	for _, p := range descendants(all, s.guard) {
		if p.dead() {
			continue
		}
		if !stopped[p.pid] {
			fresh++
			stopped[p.pid] = true
		}
		if p.state == 'T' {
			continue
		}
		if err := sendSignal(p.pid, unix.SIGSTOP); err != nil {
			return fresh, fmt.Errorf("stop process %d: %w", p.pid, err)
		}
	}
	return fresh, nil
}

// thaw wakes the children before the postmaster, which acts on their exits.
func (s signalFence) thaw(postmaster int) error {
	all, err := processes()
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range descendants(all, s.guard) {
		if p.pid != postmaster {
			errs = append(errs, sendSignal(p.pid, unix.SIGCONT))
		}
	}
	return errors.Join(append(errs, sendSignal(postmaster, unix.SIGCONT))...)
}

// kill stops the postmaster so that it forks no more, kills the others, then it.
func (s signalFence) kill(postmaster int) error {
	all, err := processes()
	if err != nil {
		return err
	}
	return killTree(postmaster, descendants(all, s.guard))
}

func killTree(postmaster int, tree []proc) error {
	has := false
	for _, p := range tree {
		has = has || (p.pid == postmaster && !p.dead())
	}
	var errs []error
	if has {
		errs = append(errs, sendSignal(postmaster, unix.SIGSTOP))
	}
	for _, p := range tree {
		if p.pid != postmaster && !p.dead() {
			errs = append(errs, sendSignal(p.pid, unix.SIGKILL))
		}
	}
	if has {
		errs = append(errs, sendSignal(postmaster, unix.SIGKILL))
	}
	return errors.Join(errs...)
}

// empty relies on the kernel alone: orphans come to the subreaper, so a guard
// without children has no descendants.
func (s signalFence) empty(childless bool) (bool, error) { return childless, nil }

// sendSignal takes a process that is gone for a success.
func sendSignal(pid int, sig unix.Signal) error {
	if pid <= 1 {
		return fmt.Errorf("send %s to pid %d: refused", unix.SignalName(sig), pid)
	}
	if err := unix.Kill(pid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to pid %d: %w", unix.SignalName(sig), pid, err)
	}
	return nil
}
