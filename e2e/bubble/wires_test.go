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

// slow carries what is written on its connections in order, each write after what it takes.
type slow struct {
	transport.Network
	takes func() time.Duration
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
	out := &slowConn{Conn: c, takes: s.takes, queue: make(chan written, 1<<12), closed: make(chan struct{})}
	go out.carry()
	return out
}

// slowConn is an end of a connection.
type slowConn struct {
	net.Conn
	takes  func() time.Duration
	queue  chan written
	closed chan struct{}
	once   sync.Once
}

type written struct {
	bytes []byte
	due   time.Time
}

func (c *slowConn) Write(p []byte) (int, error) {
	select {
	case <-c.closed:
		return 0, net.ErrClosed
	case c.queue <- written{bytes.Clone(p), time.Now().Add(c.takes())}:
		return len(p), nil
	}
}

func (c *slowConn) carry() {
	for {
		select {
		case <-c.closed:
			return
		case w := <-c.queue:
			select {
			case <-c.closed:
				return
			case <-time.After(time.Until(w.due)):
			}
			if _, err := c.Conn.Write(w.bytes); err != nil {
				_ = c.Conn.Close() // the next read says what is wrong
				<-c.closed
				return
			}
		}
	}
}

func (c *slowConn) Close() error {
	c.once.Do(func() { close(c.closed) })
	return c.Conn.Close()
}
