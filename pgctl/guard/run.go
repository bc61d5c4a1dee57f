package guard

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

const (
	socketName = "guard.sock"
	lockName   = "guard.lock"
	runName    = "guard.run"
	logName    = "guard.log"
	agentLock  = "agent.lock"

	// PausedMarker is the file in Options.Dir whose existence lets a run with
	// VerdictUnleased outlive the agent. The agent makes and removes it.
	PausedMarker = "guard.paused"
	pausedEvery  = 500 * time.Millisecond
)

// RunOptions configure the guard process. They must agree with the Options of
// the agent that starts it.
type RunOptions struct {
	Dir     string       // short: the socket path in it may have 107 bytes
	Cgroup  string       // relative to the cgroup2 mount, like quorate/n1; "" means signals
	Signals bool         // fence by signals even if cgroups would work
	Version string       // of this program, for the agent to compare
	Logger  hclog.Logger // nil: standard error
}

// Run is the guard process. It returns after a quit command, or with the reason
// why it can't guard; it never returns nil while a postmaster runs. The caller's
// main must have locked the main thread: the postmaster gets SIGQUIT when the
// thread that forked it ends.
func Run(o RunOptions) error {
	runtime.LockOSThread()
	if o.Logger == nil {
		o.Logger = hclog.New(&hclog.LoggerOptions{Name: "guard", Output: os.Stderr, Level: hclog.Info})
	}
	lock, err := lockFile(filepath.Join(o.Dir, lockName), ErrGuardRunning)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	id, err := self()
	if err != nil {
		return err
	}
	if err := writeJSON(lock, id.lines()); err != nil {
		return err
	}
	// The deadline thread must not queue for a processor behind the goroutines.
	runtime.GOMAXPROCS(max(4, runtime.NumCPU()))
	debug.SetGCPercent(gcPercent)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become the subreaper: %w", err)
	}
	rec, fd, err := newRecord(id)
	if err != nil {
		return err
	}
	return o.guard(id, rec, fd)
}

func (o RunOptions) guard(id identity, rec *record, recordFD int) error {
	last := readRun(o.Dir)
	reqs, events := make(chan request, 16), make(chan Status, 256)
	l := &loop{rec: rec, reqs: reqs, events: events, paused: &atomic.Bool{}}
	l.status.GuardPID, l.status.Version = id.pid, o.Version
	if last.Boot == bootText(id.boot) {
		l.status.Run = last.Run // the next run gets a number that this boot never saw
	}
	o.pickFence(l)
	if err := l.open(); err != nil {
		return err
	}
	l.status.Locked, l.status.OOM = lockMemory(), protectFromOOM()
	l.status.Sched = raisePriority()
	l.reject, l.status.Reject = newRejector(id, o.Logger)

	sock, err := listen(filepath.Join(o.Dir, socketName))
	if err != nil {
		return err
	}
	defer func() { _ = sock.Close() }()
	book := &runBook{dir: o.Dir, boot: bootText(id.boot), cgroup: o.Cgroup, log: o.Logger}
	s := &server{reqs: reqs, wake: l.wake, recordFD: recordFD, subs: map[chan Status]bool{}, ran: book.started}
	s.current = func() Status { return l.now() }
	l.publish()
	l.rec.setTick(Now())
	o.Logger.Info("guard runs", "pid", id.pid, "dir", o.Dir, "fence", l.status.Fence, "why", l.status.FenceWhy,
		"sched", l.status.Sched, "locked", l.status.Locked, "oom", l.status.OOM, "reject", l.status.Reject, "version", o.Version)
	l.paused.Store(o.pausedMarker())
	go s.accept(sock)
	go o.watchMarker(l.paused)
	go o.watchSignals(s)
	go l.reject.run()
	go func() {
		for st := range events {
			s.tell(st)
			book.changed(st)
		}
	}()
	return l.run()
}

// pickFence decides by trying.
func (o RunOptions) pickFence(l *loop) {
	l.fence, l.status.Fence = signalFence{guard: l.status.GuardPID}, "signals"
	switch {
	case o.Signals:
		l.status.FenceWhy = "signals were asked for"
		return
	case o.Cgroup == "":
		l.status.FenceWhy = "no cgroup was named"
		return
	}
	c, err := newCgroupFence(o.Cgroup)
	if err == nil {
		err = joinCgroup(o.Cgroup)
	}
	if err != nil {
		l.status.FenceWhy = err.Error()
		return
	}
	l.fence, l.status.Fence = c, "cgroup"
}

// now is the newest published status with a fresh tick; for goroutines.
func (l *loop) now() Status {
	st := *l.shown.Load()
	if v, ok := l.rec.view(); ok {
		st.View = v
	}
	return st
}

func (o RunOptions) pausedMarker() bool {
	_, err := os.Stat(filepath.Join(o.Dir, PausedMarker))
	return err == nil
}

// watchMarker looks for the marker away from the deadline thread. While a disk
// hangs the last answer stands.
func (o RunOptions) watchMarker(paused *atomic.Bool) {
	for range time.Tick(pausedEvery) {
		paused.Store(o.pausedMarker())
	}
}

// watchSignals keeps the guard alive through what a service manager sends to a
// whole group, and ends it when it guards nothing. The signals are caught, not
// ignored: Postgres would inherit an ignored one.
func (o RunOptions) watchSignals(s *server) {
	ch := make(chan os.Signal, 8)
	signal.Notify(ch, unix.SIGTERM, unix.SIGINT, unix.SIGHUP)
	for sig := range ch {
		_, err := s.run(command{Cmd: "quit"})
		o.Logger.Info("guard got a signal", "signal", sig.String(), "stays", err)
	}
}
