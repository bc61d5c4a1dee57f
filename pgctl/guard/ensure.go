package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	attachLimit = 2 * time.Second // for a living guard to answer an agent
	bootLimit   = 5 * time.Second // for a new guard to answer
	sweepLimit  = 10 * time.Second
	retireLimit = 5 * time.Second // for Postgres to shut down under a guard that is replaced
	pollEvery   = 5 * time.Millisecond
)

// Options tell the agent's side where the guard lives and how to start one.
type Options struct {
	Dir    string   // must exist; short: the socket path in it may have 107 bytes
	Cgroup string   // relative to the cgroup2 mount, like quorate/n1; "" means signals
	Argv   []string // command line of a new guard, like {exe, guard, --dir, Dir, --cgroup, Cgroup}
	Env    []string // environment of a new guard
}

// Ensure adopts the living guard of the directory, with whatever it runs, or
// makes sure that nothing of a dead one is left and starts a new one. A guard
// that holds its lock but doesn't answer within 2 s is killed with all it guards.
// One with another version of the record, which can't be given a deadline, is
// replaced after its Postgres was asked to shut down, for 5 s at most.
// ErrAgentRunning if another Client exists, ErrNotEmpty if the rest of a run
// doesn't die (call again).
func Ensure(o Options) (*Client, error) {
	if !filepath.IsAbs(o.Dir) {
		return nil, fmt.Errorf("ensure a guard: directory %q must be absolute: %w", o.Dir, ErrBadRequest)
	}
	lock, err := lockFile(filepath.Join(o.Dir, agentLock), ErrAgentRunning)
	if err != nil {
		return nil, err
	}
	c, err := adoptOrStart(o)
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	c.lock = lock
	return c, nil
}

func adoptOrStart(o Options) (*Client, error) {
	id, held, err := guardOf(o.Dir)
	if err != nil {
		return nil, err
	}
	if held {
		c, err := attachWithin(o, attachLimit)
		if err == nil {
			return c, nil
		}
		if errors.Is(err, ErrIncompatible) {
			retire(o)
		}
		if err := killGuard(id); err != nil {
			return nil, err
		}
	}
	if err := Sweep(o); err != nil {
		return nil, err
	}
	if err := launch(o); err != nil {
		return nil, err
	}
	return attachWithin(o, bootLimit)
}

// guardOf reports who holds the guard's lock, if anybody.
func guardOf(dir string) (id identity, held bool, err error) {
	f, err := lockFile(filepath.Join(dir, lockName), ErrGuardRunning)
	if err == nil {
		return identity{}, false, f.Close()
	}
	if !errors.Is(err, ErrGuardRunning) {
		return identity{}, false, err
	}
	b, err := os.ReadFile(filepath.Join(dir, lockName))
	if err != nil {
		return identity{}, true, fmt.Errorf("read who holds %s: %w", lockName, err)
	}
	boot, err := bootID()
	if err != nil {
		return identity{}, true, err
	}
	return lockHolder(b, boot), true, nil
}

// lockHolder is who wrote the guard's lock since the machine booted; nobody if that is not written yet, as when it just started.
func lockHolder(content []byte, boot [2]uint64) identity {
	var e lockEntry
	if json.Unmarshal(content, &e) != nil || e.Boot != bootText(boot) {
		return identity{}
	}
	return identity{pid: e.PID, start: e.Start, boot: boot}
}

// attachWithin tries again and again until a guard answers.
func attachWithin(o Options, limit time.Duration) (*Client, error) {
	for end := Now() + limit; ; time.Sleep(pollEvery) {
		left := max(end-Now(), pollEvery)
		c, err := attach(o, left)
		if err == nil || errors.Is(err, ErrIncompatible) || Now() >= end {
			return c, err
		}
	}
}

// retire has a guard that can't be adopted shut its Postgres down, so that the
// kill that follows meets nothing. A primary is frozen and killed by that guard
// when its lease is over: nobody can extend it. What fails here is left to the kill.
func retire(o Options) {
	old := &Client{opts: o} // run 0 is the current one
	if old.Signal("SIGINT") != nil {
		return
	}
	for end := Now() + retireLimit; Now() < end; time.Sleep(pollEvery) {
		if s, err := old.Status(); err != nil || s.Gone() {
			return
		}
	}
}

// launch starts a guard in a session of its own. It leaves the agent's cgroup by
// itself. Its output goes to guard.log.
func launch(o Options) error {
	if len(o.Argv) == 0 {
		return fmt.Errorf("start the guard: no command line given")
	}
	log, err := os.OpenFile(filepath.Join(o.Dir, logName), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the guard's log: %w", err)
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(o.Argv[0], o.Argv[1:]...)
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = o.Env, "/", log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the guard: %w", err)
	}
	go func() { _ = cmd.Wait() }() // only to reap it; how it ended stands in its log
	return nil
}

// killGuard ends that very guard process and waits until it is gone. Its
// postmaster then gets SIGQUIT, or will when it is thawed: Sweep must follow.
func killGuard(id identity) error {
	if id.pid == 0 {
		return nil
	}
	fd, err := unix.PidfdOpen(id.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open guard process %d: %w", id.pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	// Checked after the open: from here on the pid can't be another's. Its first
	// thread may be a zombie before the others are gone.
	if p, ok := readProc(id.pid); !ok || p.start != id.start {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill guard process %d: %w", id.pid, err)
	}
	return waitExit(fd, id.pid, sweepLimit)
}

// waitGone waits for the end of that very process.
func waitGone(id identity, limit time.Duration) error {
	fd, err := unix.PidfdOpen(id.pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open guard process %d: %w", id.pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if p, ok := readProc(id.pid); !ok || p.start != id.start {
		return nil
	}
	return waitExit(fd, id.pid, limit)
}

// waitExit returns when the last thread of the process is gone, and with it its
// locks.
func waitExit(pidfd, pid int, limit time.Duration) error {
	for end := Now() + limit; ; {
		left := max(end-Now(), 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left/time.Millisecond))
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for the end of guard process %d: %w", pid, err)
		case left == 0:
			return fmt.Errorf("wait %s for the end of guard process %d: %w", limit, pid, ErrNotEmpty)
		}
	}
}

// Sweep kills what a dead guard left of its run and returns when nothing of it
// exists. It thaws nothing: a frozen postmaster would act on the guard's death
// signal. It refuses with ErrGuardRunning while a guard lives. ErrNotEmpty after
// 10 s: something hangs in the kernel; it can't commit, but call Sweep again
// before anybody is told that this node is fenced.
func Sweep(o Options) error {
	lock, err := lockFile(filepath.Join(o.Dir, lockName), ErrGuardRunning)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	e := readRun(o.Dir)
	boot, err := bootID()
	if err != nil {
		return err
	}
	recorded := !e.Empty && e.PID != 0 && e.Boot == bootText(boot)
	for end := Now() + sweepLimit; ; time.Sleep(pollEvery) {
		empty, err := sweepOnce(o, e, recorded)
		if err != nil {
			return err
		}
		if empty {
			break
		}
		if Now() > end {
			return fmt.Errorf("sweep run %d of %s within %s: %w", e.Run, o.Dir, sweepLimit, ErrNotEmpty)
		}
	}
	if !recorded {
		return nil
	}
	e.Empty = true
	return saveRun(o.Dir, e)
}

// sweepOnce goes over the cgroups named by the options and by the dead guard,
// and over the processes of the recorded run wherever they are.
func sweepOnce(o Options, e runEntry, recorded bool) (bool, error) {
	empty := true
	paths := []string{o.Cgroup}
	if recorded && e.Cgroup != o.Cgroup {
		paths = append(paths, e.Cgroup)
	}
	for _, path := range paths {
		if path == "" {
			continue
		}
		if _, err := cgroupMount(); err != nil {
			continue // then no guard was ever in a cgroup
		}
		none, err := sweepCgroup(path)
		if err != nil {
			return false, err
		}
		empty = empty && none
	}
	if !recorded {
		return empty, nil
	}
	none, err := sweepProcesses(e)
	return empty && none, err
}

// sweepProcesses kills the recorded postmaster with its descendants, and backends
// that lost it: those run the same binary in the same PGDATA.
func sweepProcesses(e runEntry) (bool, error) {
	all, err := processes()
	if err != nil {
		return false, err
	}
	var roots []int
	var tree []proc
	postmaster := 0
	for _, p := range all {
		switch {
		case p.dead():
		case p.pid == e.PID && p.start == e.Start:
			postmaster = p.pid
			roots, tree = append(roots, p.pid), append(tree, p)
		case e.orphan(p.pid):
			roots, tree = append(roots, p.pid), append(tree, p)
		}
	}
	for _, p := range descendants(all, roots...) {
		if !p.dead() {
			tree = append(tree, p)
		}
	}
	return len(tree) == 0, killTree(postmaster, tree)
}

func (e runEntry) orphan(pid int) bool {
	exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil || exe != e.Exe {
		return false
	}
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && cwd == e.Dir
}
