package bubble

import (
	"bytes"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/transport"
)

// inWires is inBubble with other wires than the plain ones between the nodes. Only the plain ones count as never leaving the
// process, so the nodes have a secret.
func inWires(t *testing.T, n int, wires func(w *world) func(host string) transport.Network, story func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, n)
		defer w.stop()
		w.wires = wires(w)
		secret := transport.GenerateSecret()
		for _, n := range w.nodes {
			n.secrets = []transport.Secret{secret}
			n.run()
		}
		story(w)
		w.checkOneWriter()
	})
}

// apart sends packets another way than connections.
type apart struct {
	transport.Network
	packets transport.Network
	arrived *atomic.Int64 // packets
}

func (a apart) ListenPacket(addr string) (transport.PacketConn, error) {
	c, err := a.packets.ListenPacket(addr)
	if err != nil {
		return nil, err
	}
	return counted{c, a.arrived}, nil
}

type counted struct {
	transport.PacketConn
	arrived *atomic.Int64
}

func (c counted) ReadPacket(b []byte) (int, net.Addr, error) {
	n, from, err := c.PacketConn.ReadPacket(b)
	if err == nil {
		c.arrived.Add(1)
	}
	return n, from, err
}

// slow carries what is written on its connections in order, each write after a delay of its own.
type slow struct {
	transport.Network
	// takes is how long it takes to a host with what was written at one instant, which is that many bytes so far; false: the
	// last of them never arrive, nor does what is sent after them.
	takes func(to string, size int) (time.Duration, bool)
}

func (s slow) Dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := s.Network.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return s.over(c), nil
}

func (s slow) Listen(addr string) (net.Listener, error) {
	l, err := s.Network.Listen(addr)
	if err != nil {
		return nil, err
	}
	return slowListener{l, s}, nil
}

type slowListener struct {
	net.Listener
	on slow
}

func (l slowListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.on.over(c), nil
}

func (s slow) over(c net.Conn) net.Conn {
	to, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	out := &slowConn{Conn: c, takes: func(size int) (time.Duration, bool) { return s.takes(to, size) }, queue: make(chan written, 1<<12), closed: make(chan struct{})}
	go out.carry()
	return out
}

// slowConn is an end of a connection.
type slowConn struct {
	net.Conn
	takes  func(size int) (time.Duration, bool)
	queue  chan written
	closed chan struct{}
	once   sync.Once

	mu   sync.Mutex
	at   time.Time // of the last write
	size int       // of all that was written at that instant
}

type written struct {
	bytes []byte
	due   time.Time
	lost  bool
}

func (c *slowConn) Write(p []byte) (int, error) {
	takes, arrives := c.takes(c.burst(len(p)))
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	case c.queue <- written{bytes.Clone(p), time.Now().Add(takes), !arrives}:
		return len(p), nil
	}
}

// burst is how much was written at this instant: one message is many writes.
func (c *slowConn) burst(size int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); !now.Equal(c.at) {
		c.at, c.size = now, 0
	}
	c.size += size
	return c.size
}

func (c *slowConn) carry() {
	for {
		select {
		case <-c.closed:
			return
		case w := <-c.queue:
			if w.lost {
				<-c.closed
				return
			}
			if !c.arrives(time.Until(w.due)) {
				return
			}
			if _, err := c.Conn.Write(w.bytes); err != nil {
				_ = c.Conn.Close() // the next read says what is wrong
				<-c.closed
				return
			}
		}
	}
}

// arrives returns false if the connection is closed first. What is due makes no timer: one that fires in the select that looks at
// it runs with a state of the race detector that the whole bubble shares, and two at once crash it (Go 1.26,
// runtime.(*timer).maybeRunChan).
func (c *slowConn) arrives(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	select {
	case <-c.closed:
		return false
	case <-time.After(d):
		return true
	}
}

func (c *slowConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
