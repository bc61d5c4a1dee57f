package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	tickEvery    = 25 * time.Millisecond
	killingEvery = 2 * time.Millisecond // while waiting for the last process to go
	killingSoon  = 200 * time.Millisecond
	holdEvery    = 100 * time.Millisecond
)

// loop is the deadline thread. Nothing in it may wait for a disk, a socket or
// another goroutine: what it tells goes through channels that drop when full.
type loop struct {
	rec    *record
	fence  fence
	reject *rejector
	reqs   <-chan request
	events chan<- Status          // one per state change
	shown  atomic.Pointer[Status] // newest, for goroutines
	paused *atomic.Bool           // guard.paused exists; kept by a goroutine

	epoll, timer, wake int
	armed              time.Duration

	status    Status
	req       StartRequest // of the current run
	seen      order        // last order read, whatever its run
	leaseEnd  time.Duration
	held      time.Duration // when a frozen run was last frozen again
	entitled  time.Duration // until when the run had the right to go on; lateness counts from it
	pidfd     int           // of the postmaster, -1 without one
	childless bool
	quit      bool
}

// request is one command for the deadline thread; reply has room for one answer.
type request struct {
	start  *startFiles
	signal unix.Signal
	run    uint64
	quit   bool
	reply  chan<- reply
}

type reply struct {
	status Status
	err    error
}

// open makes the descriptors the loop waits on. wake is an eventfd that agents
// and goroutines write to.
func (l *loop) open() error {
	var err error
	if l.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return fmt.Errorf("create an epoll: %w", err)
	}
	if l.timer, err = unix.TimerfdCreate(clock, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return fmt.Errorf("create the deadline timer: %w", err)
	}
	if l.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("create the wake-up: %w", err)
	}
	l.pidfd = -1
	return errors.Join(l.watch(l.timer, unix.EPOLLIN), l.watch(l.wake, unix.EPOLLIN))
}

func (l *loop) watch(fd int, events uint32) error {
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: int32(fd)}); err != nil {
		return fmt.Errorf("watch descriptor %d: %w", fd, err)
	}
	return nil
}

// run is the deadline thread; the caller has locked it.
func (l *loop) run() error {
	for !l.quit {
		if err := l.wait(); err != nil {
			return err
		}
		l.reap()
		if l.status.State == StateKilling {
			l.finish()
		}
		l.advance()
		l.serve()
		l.advance()
		l.rec.setTick(Now())
	}
	return nil
}

// wait sleeps until the deadline, an event or the next tick.
func (l *loop) wait() error {
	every := tickEvery
	if l.status.State == StateKilling && Now()-l.status.Since < killingSoon {
		every = killingEvery // later it is something that hangs, and no use to spin for
	}
	var events [8]unix.EpollEvent
	n, err := unix.EpollWait(l.epoll, events[:], int(every/time.Millisecond))
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for events: %w", err)
	}
	var buf [256]byte
	for _, e := range events[:max(n, 0)] {
		// Reading only clears the event, or the next wait would return at once: the
		// loop looks at everything itself. A pidfd can't be read; reap closes it.
		switch fd := int(e.Fd); fd {
		case l.timer, l.wake:
			_, _ = unix.Read(fd, buf[:])
		case l.pidfd:
		default: // cgroup.events
			_, _ = unix.Pread(fd, buf[:], 0)
		}
	}
	return nil
}

// reap collects every dead child, adopted orphans included.
func (l *loop) reap() {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			l.childless = errors.Is(err, unix.ECHILD)
			return
		case pid == 0:
			l.childless = false
			return
		case pid == l.status.PID && !l.status.Exited:
			_ = unix.Close(l.pidfd) // leaves the epoll by itself
			l.pidfd = -1
			l.status.Exited, l.status.WaitStatus = true, uint32(ws)
		}
	}
}

// advance obeys the record until there is nothing left to do. It re-reads the
// record after each act: a lease may have come back during a freeze.
func (l *loop) advance() {
	for range 4 {
		l.read()
		f := facts{
			now: Now(), state: l.status.State, since: l.status.Since, exited: l.status.Exited,
			verdict: l.status.Verdict, leaseEnd: l.leaseEnd, killAfter: l.req.KillAfter,
			paused: l.paused.Load(),
		}
		f.beat = min(l.rec.beat(), f.now)
		act, next := decide(f)
		switch act {
		case actFreeze:
			l.freeze()
		case actThaw:
			l.thaw()
		case actKill:
			l.kill()
		default:
			l.arm(next)
			l.hold()
			return
		}
	}
	poke(l.wake) // orders come faster than they can be obeyed; commands get their turn
}

// read takes a new order for the current run. A new deadline is capped once, when
// it is first seen: capping it at every look would never let a wrong one end.
func (l *loop) read() {
	o, ok := l.rec.order()
	if !ok || o == l.seen {
		return
	}
	l.seen = o
	if o.run == l.status.Run && o.verdict != VerdictNone {
		l.obey(o)
	}
}

func (l *loop) obey(o order) {
	now := Now()
	before := now // without a deadline the right lasted until this order
	if l.status.Verdict == VerdictServe {
		before = min(now, l.leaseEnd)
	}
	l.leaseEnd = 0
	if o.verdict == VerdictServe {
		l.leaseEnd = min(o.deadline, now+l.req.L)
		l.entitled = max(before, l.leaseEnd)
	}
	l.status.Verdict, l.status.Epoch, l.status.Deadline = o.verdict, o.epoch, l.leaseEnd
	l.rec.setView(l.status.View)
}

func (l *loop) arm(next time.Duration) {
	if next == l.armed {
		return
	}
	l.armed = next
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(next))}
	if err := unix.TimerfdSettime(l.timer, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		l.note(fmt.Errorf("arm the deadline timer: %w", err)) // the tick still looks every 25 ms
	}
}

// freeze ends the run's ability to commit.
func (l *loop) freeze() {
	l.reject.set(l.req.Listen) // first, but not waited for (docs/decisions/0005)
	err := l.freezeNow()
	if l.status.Verdict == VerdictServe {
		late := Now() - l.entitled
		l.status.WorstLateness = max(l.status.WorstLateness, late)
		if late > l.req.Margin {
			l.status.FenceLate++
		}
	}
	if err != nil {
		l.note(err)
		l.kill() // what can't be frozen isn't given kill_after
		return
	}
	l.enter(StateFrozen)
}

// freezeNow falls back to signals if the cgroup fails.
func (l *loop) freezeNow() error {
	err := l.fence.freeze(l.status.PID)
	if err == nil {
		return nil
	}
	l.note(err)
	return signalFence{guard: l.status.GuardPID}.freeze(l.status.PID)
}

// hold freezes again now and then: somebody may have sent a SIGCONT.
func (l *loop) hold() {
	now := Now()
	if l.status.State != StateFrozen || now-l.held < holdEvery {
		return
	}
	l.held = now
	if err := l.fence.hold(); err != nil {
		l.note(err)
		l.kill()
	}
}

func (l *loop) thaw() {
	if err := l.fence.thaw(l.status.PID); err != nil {
		l.note(err)
		l.kill() // half thawed is neither serving nor fenced
		return
	}
	l.enter(StateRunning)
}

func (l *loop) kill() {
	l.slay()
	l.enter(StateKilling)
	l.finish()
}

func (l *loop) slay() {
	if !killsChildren {
		if l.status.Exited {
			return // its pid may be another's by now
		}
		if err := sendSignal(l.status.PID, unix.SIGKILL); err != nil {
			l.note(err)
		}
		return
	}
	if err := l.fence.kill(l.status.PID); err != nil {
		l.note(err)
		if err := (signalFence{guard: l.status.GuardPID}).kill(l.status.PID); err != nil {
			l.note(err)
		}
	}
}

// finish leaves StateKilling when the postmaster was reaped and nothing else of
// the run is left; else it kills again what a fork may have saved.
func (l *loop) finish() {
	l.reap()
	empty, err := l.fence.empty(l.childless)
	if err != nil {
		l.note(err)
	}
	if !empty && killsChildren || !l.status.Exited {
		l.slay()
		return
	}
	l.enter(StateEmpty)
}

func (l *loop) enter(s State) {
	l.status.State, l.status.Since = s, Now()
	if s == StateRunning || s == StateEmpty {
		l.reject.set(nil)
	}
	l.publish()
}

func (l *loop) note(err error) { l.status.Note = err.Error() }

// publish shows the state to the agent, to socket clients and to the log.
func (l *loop) publish() {
	l.status.Tick = Now()
	l.rec.setView(l.status.View)
	s := l.status
	l.shown.Store(&s)
	select {
	case l.events <- s:
	default: // only a client that reads nothing for hundreds of changes; the record is right
	}
}

// serve answers what the socket goroutines ask.
func (l *loop) serve() {
	for {
		select {
		case r := <-l.reqs:
			err := l.handle(r)
			s := l.status
			s.Tick = Now()
			r.reply <- reply{status: s, err: err}
		default:
			return
		}
	}
}

func (l *loop) handle(r request) error {
	switch {
	case r.quit:
		if !l.status.Gone() {
			return fmt.Errorf("quit with pid %d %s: %w", l.status.PID, l.status.State, ErrRunning)
		}
		l.quit = true
		return nil
	case r.start != nil:
		return l.start(r.start)
	case l.status.PID == 0 || l.status.Exited || (r.run != 0 && r.run != l.status.Run):
		return fmt.Errorf("send %s to run %d: %w", unix.SignalName(r.signal), r.run, ErrNotRunning)
	default:
		// Not reaped yet, so the pid can't have been reused.
		return sendSignal(l.status.PID, r.signal)
	}
}

// poke wakes an eventfd; it never blocks, and a full counter is a wake-up too.
func poke(fd int) {
	var one [8]byte
	binary.NativeEndian.PutUint64(one[:], 1)
	_, _ = unix.Write(fd, one[:])
}
