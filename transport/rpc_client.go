package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

const (
	// maxIdle is how many connections to a peer stay open between calls.
	maxIdle = 2
	// warmRetry is the pause between attempts to open a warm connection.
	warmRetry = 250 * time.Millisecond
)

// ErrNoAnswer: the whole request was sent and no answer came. The peer may have
// executed the call, may be doing it still, or may never have seen it.
var ErrNoAnswer = errors.New("no answer: the call may or may not have been executed")

// client is the calling side of RPC: standing connections by address.
type client struct {
	rpc *RPC

	mu     sync.Mutex
	closed bool
	idle   map[string][]*clientConn
	busy   map[*clientConn]struct{}
	warm   map[string]bool // addresses to keep a connection to; true while dialing
}

// clientConn is one connection of the pool. A goroutine reads it all the time, so
// that a peer's restart shows before the next call needs the connection.
type clientConn struct {
	*Conn
	addr    string
	made    *credential // a connection made under an older identity is not used again
	answers chan []byte
	broken  chan struct{}
	err     error // why, once broken is closed
}

// Warm keeps a connection to addr open from now on, so that a call does not have
// to wait for a handshake. It returns at once and may be repeated.
func (r *RPC) Warm(addr string) {
	c := &r.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.warm[addr]; !known && !c.closed {
		c.warm[addr] = false
		c.rewarmLocked(addr)
	}
}

// Cool undoes Warm, for a peer that left.
func (r *RPC) Cool(addr string) {
	c := &r.client
	c.mu.Lock()
	delete(c.warm, addr)
	c.mu.Unlock()
	c.drop(addr)
}

// Call sends req to the handler of that name at addr and gives its result. It ends
// with ctx, whatever the peer does. A handler's error is a *RemoteError; if the
// request went out and nothing came back, the error is an ErrNoAnswer; any other
// error means that the peer did not execute the call.
func (r *RPC) Call(ctx context.Context, addr, name string, req []byte) ([]byte, error) {
	q := request{name: name, body: req}
	if deadline, ok := ctx.Deadline(); ok {
		q.timeout = max(time.Until(deadline), time.Millisecond)
	}
	frame, err := q.encode()
	if err != nil {
		return nil, err
	}
	if len(frame) > MaxRPC {
		return nil, fmt.Errorf("call %s: %w: %d bytes, at most %d", name, ErrTooLarge, len(frame), MaxRPC)
	}
	for first := true; ; first = false {
		conn, pooled, err := r.client.take(ctx, addr, first)
		if err != nil {
			return nil, fmt.Errorf("call %s at %s: %w", name, addr, err)
		}
		answer, sent, err := conn.exchange(ctx, frame)
		if err == nil {
			r.client.put(conn)
			result, err := decodeAnswer(answer)
			if err != nil {
				return nil, fmt.Errorf("call %s at %s: %w", name, addr, err)
			}
			return result, nil
		}
		r.client.discard(conn)
		switch {
		case ctx.Err() != nil:
			// The peer is perhaps cut off: what else stands to it is stale, and a
			// fresh connection is up sooner than TCP's backed-off retransmission.
			r.client.drop(addr)
			err = ctx.Err()
		case pooled && !sent:
			continue
		}
		if sent {
			return nil, fmt.Errorf("call %s at %s: %w (%w)", name, addr, ErrNoAnswer, err)
		}
		return nil, fmt.Errorf("call %s at %s: %w", name, addr, err)
	}
}

// exchange does one call. sent says whether the whole request was handed over.
func (c *clientConn) exchange(ctx context.Context, frame []byte) (answer []byte, sent bool, err error) {
	stop := context.AfterFunc(ctx, func() { _ = c.raw.SetWriteDeadline(time.Unix(1, 0)) })
	err = writeFrame(c.Conn, frame)
	ended := !stop() // then the write deadline is spoiled too
	switch {
	case err != nil && ended:
		return nil, false, ctx.Err()
	case err != nil:
		return nil, false, err
	case ended:
		return nil, true, ctx.Err()
	}
	select {
	case answer = <-c.answers:
		return answer, true, nil
	case <-c.broken:
		return nil, true, c.err
	case <-ctx.Done():
		return nil, true, ctx.Err()
	}
}

// read delivers answers until the connection ends. An answer that nobody asked for
// fits the buffer once and ends the connection the second time.
func (c *clientConn) read() {
	for {
		frame, err := readFrame(c.Conn, MaxRPC)
		if err == nil {
			select {
			case c.answers <- frame:
				continue
			default:
				err = errBadFrame
			}
		}
		c.err = err
		close(c.broken)
		return
	}
}

func (c *clientConn) usable(now *credential) bool {
	select {
	case <-c.broken:
		return false
	default:
		return c.made == now && len(c.answers) == 0
	}
}

// take gives an idle connection, or a new one when there is none or not wanted.
func (c *client) take(ctx context.Context, addr string, fromPool bool) (conn *clientConn, pooled bool, err error) {
	now := c.rpc.mux.cfg.Credentials.current.Load()
	for fromPool {
		c.mu.Lock()
		idle := c.idle[addr]
		if len(idle) == 0 {
			c.mu.Unlock()
			break
		}
		conn = idle[len(idle)-1]
		c.idle[addr] = idle[:len(idle)-1]
		c.busy[conn] = struct{}{}
		c.rewarmLocked(addr) // another call may come before this one is done
		c.mu.Unlock()
		if conn.usable(now) {
			return conn, true, nil
		}
		c.discard(conn)
	}
	conn, err = c.dial(ctx, addr)
	return conn, false, err
}

// dial opens a connection and counts it as busy.
func (c *client) dial(ctx context.Context, addr string) (*clientConn, error) {
	made := c.rpc.mux.cfg.Credentials.current.Load()
	raw, err := c.rpc.dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	conn := &clientConn{Conn: raw, addr: addr, made: made, answers: make(chan []byte, 1), broken: make(chan struct{})}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = raw.Close()
		return nil, ErrClosed
	}
	c.busy[conn] = struct{}{}
	c.rpc.running.Add(1)
	go func() {
		defer c.rpc.running.Done()
		conn.read()
		c.discard(conn)
	}()
	return conn, nil
}

// put gives a connection back after a whole exchange.
func (c *client) put(conn *clientConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, mine := c.busy[conn]; !mine {
		return // its reader or close discarded it
	}
	delete(c.busy, conn)
	if c.closed || len(c.idle[conn.addr]) >= maxIdle {
		go func() { _ = conn.Close() }() // may wait a moment for a dead peer
		return
	}
	c.idle[conn.addr] = append(c.idle[conn.addr], conn)
}

// discard closes a connection for good and opens another if its peer is to be warm.
func (c *client) discard(conn *clientConn) {
	c.mu.Lock()
	delete(c.busy, conn)
	idle := c.idle[conn.addr]
	for i := range idle {
		if idle[i] == conn {
			c.idle[conn.addr] = append(idle[:i:i], idle[i+1:]...)
			break
		}
	}
	c.rewarmLocked(conn.addr)
	c.mu.Unlock()
	_ = conn.Close()
}

// drop discards the idle connections to addr.
func (c *client) drop(addr string) {
	c.mu.Lock()
	stale := c.idle[addr]
	delete(c.idle, addr)
	c.rewarmLocked(addr)
	c.mu.Unlock()
	for _, conn := range stale {
		_ = conn.Close()
	}
}

// rewarmLocked starts opening a connection to a warm address that has none.
func (c *client) rewarmLocked(addr string) {
	dialing, wanted := c.warm[addr]
	if !wanted || dialing || c.closed || len(c.idle[addr]) > 0 {
		return
	}
	c.warm[addr] = true
	c.rpc.running.Add(1)
	go func() {
		defer c.rpc.running.Done()
		c.keepDialing(addr)
	}()
}

// keepDialing tries until there is a connection or none is wanted.
func (c *client) keepDialing(addr string) {
	for {
		ctx, cancel := context.WithTimeout(c.rpc.ctx, handshakeLimit)
		conn, err := c.dial(ctx, addr)
		cancel()
		c.mu.Lock()
		_, wanted := c.warm[addr]
		if err == nil || !wanted || c.closed {
			if wanted {
				c.warm[addr] = false
			}
			c.mu.Unlock()
			if conn != nil {
				c.put(conn)
			}
			return
		}
		c.mu.Unlock()
		if !errors.Is(err, net.ErrClosed) {
			c.rpc.logger.Debug("no connection for calls yet", "address", addr, "error", err)
		}
		select {
		case <-c.rpc.ctx.Done():
		case <-time.After(warmRetry):
		}
	}
}

func (c *client) close() {
	c.mu.Lock()
	c.closed = true
	var all []*clientConn
	for conn := range c.busy {
		all = append(all, conn)
	}
	for _, idle := range c.idle {
		all = append(all, idle...)
	}
	c.idle, c.busy = map[string][]*clientConn{}, map[*clientConn]struct{}{}
	c.mu.Unlock()
	for _, conn := range all {
		_ = conn.Close()
	}
}
