package transport

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

const (
	// memoryBuffer is how much one direction holds before writes block, as a
	// kernel's send and receive buffers do.
	memoryBuffer = 256 << 10
	// memoryUserTimeout is how long a write waits on a cut link before the
	// connection is given up, as TCP_USER_TIMEOUT does.
	memoryUserTimeout = 2 * time.Second
)

// memoryPipe is one connection; Memory.mu guards it.
type memoryPipe struct {
	net     *Memory
	ends    [2]memoryConn
	changed chan struct{} // closed and replaced on every change
}

func (p *memoryPipe) wakeLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// memoryConn is one end of a connection. out holds what it wrote and its peer has
// not read, across a cut link too: TCP would retransmit it.
type memoryConn struct {
	pipe            *memoryPipe
	peer            *memoryConn
	local, remote   memoryAddr
	out             []byte
	closed          bool
	failed          error // why this end is dead, if not by its own Close
	reset           bool  // the peer gets a reset instead of an end of stream
	readBy, writeBy time.Time
}

func (c *memoryConn) Read(b []byte) (int, error) {
	m := c.pipe.net
	for {
		m.mu.Lock()
		n, err, done := c.tryReadLocked(b)
		changed, by := c.pipe.changed, c.readBy
		m.mu.Unlock()
		if done {
			return n, err
		}
		await(changed, by)
	}
}

func (c *memoryConn) tryReadLocked(b []byte) (n int, err error, done bool) {
	if err := c.brokenLocked("read", c.readBy); err != nil {
		return 0, err, true
	}
	if len(b) == 0 {
		return 0, nil, true
	}
	if !c.pipe.net.open(c.remote.host, c.local.host) {
		return 0, nil, false
	}
	if len(c.peer.out) > 0 {
		n = copy(b, c.peer.out)
		c.peer.out = c.peer.out[n:]
		c.pipe.wakeLocked()
		return n, nil, true
	}
	if c.peer.closed {
		return 0, io.EOF, true
	}
	return 0, nil, false
}

func (c *memoryConn) Write(b []byte) (int, error) {
	m := c.pipe.net
	total := 0
	var stalled time.Time // since when nothing could be written on a cut link
	for {
		m.mu.Lock()
		n, err := c.tryWriteLocked(b[total:])
		total += n
		open := m.open(c.local.host, c.remote.host) && m.open(c.remote.host, c.local.host)
		if n > 0 || open {
			stalled = time.Time{}
		} else if stalled.IsZero() {
			stalled = time.Now()
		} else if time.Since(stalled) >= memoryUserTimeout && err == nil {
			c.resetLocked()
			c.failed = syscall.ETIMEDOUT
			err = opError("write", c.remote, c.failed)
		}
		changed, by := c.pipe.changed, c.writeBy
		m.mu.Unlock()
		if err != nil || total == len(b) {
			return total, err
		}
		if giveUp := stalled.Add(memoryUserTimeout); !stalled.IsZero() && (by.IsZero() || giveUp.Before(by)) {
			by = giveUp
		}
		await(changed, by)
	}
}

func (c *memoryConn) tryWriteLocked(b []byte) (int, error) {
	if err := c.brokenLocked("write", c.writeBy); err != nil {
		return 0, err
	}
	m := c.pipe.net
	open := m.open(c.local.host, c.remote.host) && m.open(c.remote.host, c.local.host)
	if c.peer.closed && open {
		return 0, opError("write", c.remote, syscall.EPIPE)
	}
	n := min(len(b), memoryBuffer-len(c.out))
	if n > 0 {
		c.out = append(c.out, b[:n]...)
		c.pipe.wakeLocked()
	}
	return n, nil
}

// brokenLocked says why nothing more can be done with this end, or nil.
func (c *memoryConn) brokenLocked(op string, by time.Time) error {
	switch {
	case c.failed != nil:
		return opError(op, c.remote, c.failed)
	case c.closed:
		return opError(op, c.remote, net.ErrClosed)
	case !by.IsZero() && !time.Now().Before(by):
		return opError(op, c.remote, os.ErrDeadlineExceeded)
	case c.peer.reset && c.pipe.net.open(c.remote.host, c.local.host):
		return opError(op, c.remote, syscall.ECONNRESET)
	}
	return nil
}

// Close ends the stream for the peer after what was written, and both directions here.
func (c *memoryConn) Close() error {
	m := c.pipe.net
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.closed {
		return opError("close", c.remote, net.ErrClosed)
	}
	c.closeLocked()
	return nil
}

func (c *memoryConn) closeLocked() {
	c.closed = true
	if c.peer.closed {
		delete(c.pipe.net.pipes, c.pipe)
	}
	c.pipe.wakeLocked()
}

func (c *memoryConn) resetLocked() {
	if c.closed {
		return
	}
	c.reset, c.failed, c.out = true, syscall.ECONNRESET, nil
	c.closeLocked()
}

func (c *memoryConn) LocalAddr() net.Addr  { return c.local }
func (c *memoryConn) RemoteAddr() net.Addr { return c.remote }

func (c *memoryConn) SetDeadline(t time.Time) error      { return c.setDeadlines(&t, &t) }
func (c *memoryConn) SetReadDeadline(t time.Time) error  { return c.setDeadlines(&t, nil) }
func (c *memoryConn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(nil, &t) }

func (c *memoryConn) setDeadlines(read, write *time.Time) error {
	c.pipe.net.mu.Lock()
	defer c.pipe.net.mu.Unlock()
	if c.closed {
		return opError("set", c.remote, net.ErrClosed)
	}
	if read != nil {
		c.readBy = *read
	}
	if write != nil {
		c.writeBy = *write
	}
	c.pipe.wakeLocked()
	return nil
}

// await returns when changed is closed or the time has come; no time means never.
func await(changed <-chan struct{}, by time.Time) {
	if by.IsZero() {
		<-changed
		return
	}
	t := time.NewTimer(time.Until(by))
	defer t.Stop()
	select {
	case <-changed:
	case <-t.C:
	}
}
