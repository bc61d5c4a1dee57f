package guard

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const (
	answerLimit = 2 * time.Second  // for the guard to answer anything but a start
	startLimit  = 30 * time.Second // exec of Postgres from a slow disk
	changesKept = 16
)

// Client is the agent's side. All methods are safe for any goroutine; Record and
// Set never wait for I/O. At most one Client exists per directory.
type Client struct {
	opts   Options
	lock   *os.File
	conn   *net.UnixConn
	rec    *record
	wake   int
	guard  identity
	run    atomic.Uint64
	known  atomic.Pointer[View]
	change chan Status
	lost   chan struct{} // closed when the connection to the guard ended

	mu     sync.Mutex // serialises the writers of the record, and close against them
	last   order
	closed bool
}

// Start forks Postgres under the guard and returns the run's number and the
// postmaster's pid. Later calls of Set are about this run. ErrRunning while an
// earlier run isn't empty; ErrNotEmpty if foreign processes are in its cgroup.
func (c *Client) Start(r StartRequest) (run uint64, pid int, err error) {
	if err := r.check(); err != nil {
		return 0, 0, err
	}
	if r.Verdict == VerdictUnleased {
		c.Heartbeat()
	}
	a, err := c.ask(command{Cmd: "start", Start: &r}, startLimit)
	if err != nil {
		return 0, 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.run.Store(a.Status.Run)
	c.last = order{run: a.Status.Run, verdict: r.Verdict, epoch: r.Epoch, deadline: r.Deadline}
	return a.Status.Run, a.Status.PID, nil
}

// Status asks over the socket; ErrGuardLost if nobody answers in 2 s.
func (c *Client) Status() (Status, error) {
	a, err := c.ask(command{Cmd: "status"}, answerLimit)
	return a.Status, err
}

// Signal sends a signal named like SIGHUP to the postmaster of the current run,
// if it still lives (else ErrNotRunning). HUP, INT, TERM, QUIT, USR1 and USR2
// only: to kill is VerdictStop.
func (c *Client) Signal(name string) error {
	c.mu.Lock()
	if !c.closed && c.rec != nil { // a guard with another version of the record has none here
		c.catchUp()
	}
	run := c.run.Load()
	c.mu.Unlock()
	_, err := c.ask(command{Cmd: "signal", Signal: name, Run: run}, answerLimit)
	return err
}

// Quit ends the guard process and returns when it is gone; ErrRunning while its
// run isn't empty.
func (c *Client) Quit() error {
	_, err := c.ask(command{Cmd: "quit"}, answerLimit)
	if err != nil && !errors.Is(err, ErrGuardLost) {
		return err
	}
	// It may be gone before its answer was out.
	return waitGone(c.guard, answerLimit)
}

// Record reads the shared record without any wait. If the guard died in the
// middle of a write, it is the last whole one; its Tick tells.
func (c *Client) Record() View {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		if v, ok := c.rec.view(); ok {
			c.known.Store(&v)
		}
	}
	return *c.known.Load()
}

// Set tells the guard what to do with the current run: deadline is a value of Now
// and counts for VerdictServe only, where it must already be the lease's end less
// the margin. It is written at once, wakes the guard, and counts as a heartbeat.
// False means that it was not written, because it would go back: the run was
// stopped, the epoch is lower, or the lease of this epoch already ends later (or
// the Client is closed).
func (c *Client) Set(v Verdict, epoch uint64, deadline time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.rec.setBeat(Now())
	c.catchUp()
	next := order{run: c.run.Load(), verdict: v, epoch: epoch, deadline: deadline}
	if v != VerdictServe {
		next.deadline = 0
	}
	if !c.last.accepts(next) {
		return false
	}
	c.last = next
	c.rec.setOrder(next)
	poke(c.wake)
	return true
}

// catchUp makes orders be about the run that the guard has. One whose Start was given up here may have been forked all the
// same; an order for the run before it would be passed over by the guard, and a Postgres opened without a deadline. The
// caller holds c.mu.
func (c *Client) catchUp() {
	if v, ok := c.rec.view(); ok && v.Run > c.run.Load() {
		c.run.Store(v.Run)
		c.last = order{run: v.Run, verdict: v.Verdict, epoch: v.Epoch, deadline: v.Deadline}
	}
}

// Heartbeat keeps VerdictUnleased honoured for another 5 s.
func (c *Client) Heartbeat() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.rec.setBeat(Now())
	}
}

// Changes delivers the status after each state change, within about 1 ms. If the
// receiver is slow the oldest are dropped. It is closed when the guard is lost.
func (c *Client) Changes() <-chan Status { return c.change }

// WaitEmpty returns when no process of the current run exists. ErrGuardLost if
// the guard is gone before it said so: then Sweep must prove it.
func (c *Client) WaitEmpty(ctx context.Context) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if v := c.Record(); v.Run >= c.run.Load() && v.Gone() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until run %d is empty: %w", c.run.Load(), ctx.Err())
		case <-c.lost:
			if v := c.Record(); v.Run >= c.run.Load() && v.Gone() {
				return nil
			}
			return fmt.Errorf("wait until run %d is empty: %w", c.run.Load(), ErrGuardLost)
		case <-tick.C:
		}
	}
}

// Kill ends a guard that doesn't tick any more and everything it guards, and
// returns when it is proved that nothing is left (or ErrNotEmpty: call it again).
// The Client is of no use afterwards but for Close.
func (c *Client) Kill() error {
	if err := killGuard(c.guard); err != nil {
		return err
	}
	return Sweep(c.opts)
}

// Close lets go of the guard, which goes on with its last orders. Another Ensure
// may adopt it.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return errors.Join(c.conn.Close(), c.rec.close(), unix.Close(c.wake), c.lock.Close())
}

// ask sends one command on a connection of its own.
func (c *Client) ask(cmd command, limit time.Duration) (answer, error) {
	conn, err := dial(c.opts.Dir, limit)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = conn.Close() }()
	if err := json.NewEncoder(conn).Encode(cmd); err != nil {
		return answer{}, fmt.Errorf("send %s to the guard: %w (%w)", cmd.Cmd, err, ErrGuardLost)
	}
	var a answer
	if err := json.NewDecoder(conn).Decode(&a); err != nil {
		return answer{}, fmt.Errorf("read the guard's answer to %s: %w (%w)", cmd.Cmd, err, ErrGuardLost)
	}
	if a.Error == "" {
		return a, nil
	}
	if sentinel, ok := sentinelCodes()[a.Code]; ok {
		return a, &remoteError{text: a.Error, is: sentinel}
	}
	return a, errors.New(a.Error)
}

// remoteError is an error of the guard with its identity.
type remoteError struct {
	text string
	is   error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }

func dial(dir string, limit time.Duration) (*net.UnixConn, error) {
	d := net.Dialer{Timeout: limit}
	conn, err := d.Dial("unix", filepath.Join(dir, socketName))
	if err != nil {
		return nil, fmt.Errorf("dial the guard: %w (%w)", err, ErrGuardLost)
	}
	if err := conn.SetDeadline(time.Now().Add(limit)); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("bound the talk with the guard: %w", err)
	}
	return conn.(*net.UnixConn), nil
}

// attach connects to a living guard, maps its record and subscribes.
func attach(o Options, limit time.Duration) (*Client, error) {
	conn, err := dial(o.Dir, limit)
	if err != nil {
		return nil, err
	}
	c, err := attachOn(o, conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return c, nil
}

func attachOn(o Options, conn *net.UnixConn) (*Client, error) {
	if err := json.NewEncoder(conn).Encode(command{Cmd: "attach"}); err != nil {
		return nil, fmt.Errorf("send attach to the guard: %w (%w)", err, ErrGuardLost)
	}
	buf, oob := make([]byte, 64<<10), make([]byte, unix.CmsgSpace(2*4))
	n, oobn, _, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil || n == 0 {
		return nil, fmt.Errorf("read the guard's answer to attach: %w (%w)", orEOF(err), ErrGuardLost)
	}
	fds, err := rights(oob[:oobn])
	if err != nil {
		return nil, err
	}
	rec, err := mapRecord(fds[0])
	_ = unix.Close(fds[0])
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, err
	}
	id, err := trust(rec, conn)
	if err != nil {
		_, _ = unix.Close(fds[1]), rec.close()
		return nil, err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("keep the connection to the guard: %w", err)
	}
	c := &Client{
		opts: o, conn: conn, rec: rec, wake: fds[1], guard: id,
		change: make(chan Status, changesKept), lost: make(chan struct{}),
	}
	v, ok := rec.view()
	if !ok {
		_, _ = unix.Close(fds[1]), rec.close()
		return nil, fmt.Errorf("read the record of a guard that stopped in a write: %w", ErrGuardLost)
	}
	c.known.Store(&v)
	c.run.Store(v.Run)
	// What the agent before us ordered, or began the run with, stays a floor.
	if last, ok := rec.order(); ok && last.run == v.Run {
		c.last = last
	} else {
		c.last = order{run: v.Run, verdict: v.Verdict, epoch: v.Epoch, deadline: v.Deadline}
	}
	go c.follow(io.MultiReader(bytes.NewReader(buf[:n]), conn))
	return c, nil
}

// rights takes the two descriptors out of the ancillary data.
func rights(oob []byte) ([]int, error) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(msgs) != 1 {
		return nil, fmt.Errorf("read the guard's descriptors: %d messages: %w", len(msgs), ErrIncompatible)
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil || len(fds) != 2 {
		return nil, fmt.Errorf("read the guard's descriptors: got %d of 2: %w", len(fds), ErrIncompatible)
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds, nil
}

// trust checks that the record belongs to the very process that answers.
func trust(rec *record, conn *net.UnixConn) (identity, error) {
	id, err := rec.check()
	if err != nil {
		return id, err
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return id, fmt.Errorf("ask who answers: %w", err)
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil || peerErr != nil {
		return id, fmt.Errorf("ask who answers: %w", errors.Join(err, peerErr))
	}
	if int(peer.Pid) != id.pid || !id.alive() {
		return id, fmt.Errorf("the record names pid %d, pid %d answers: %w", id.pid, peer.Pid, ErrGuardLost)
	}
	return id, nil
}

// follow reads the pushed lines until the connection ends.
func (c *Client) follow(r io.Reader) {
	defer close(c.change)
	defer close(c.lost)
	for sc := bufio.NewScanner(r); sc.Scan(); {
		var a answer
		if json.Unmarshal(sc.Bytes(), &a) != nil {
			return
		}
		for sent := false; !sent; {
			select {
			case c.change <- a.Status:
				sent = true
			default:
				select {
				case <-c.change:
				default:
				}
			}
		}
	}
}

func orEOF(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}
