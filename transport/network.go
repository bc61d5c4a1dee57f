package transport

import (
	"context"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Network is where a node listens and whom it can reach: TCP in production, a
// host of Memory in tests. Its methods may be called from any goroutine.
type Network interface {
	// Listen opens addr ("host:port", port 0 picks one).
	Listen(addr string) (net.Listener, error)
	// Dial connects to addr and ends at the latest with ctx.
	Dial(ctx context.Context, addr string) (net.Conn, error)
	// ListenPacket opens addr for packets.
	ListenPacket(addr string) (PacketConn, error)
}

// TCP is the kernel's network. Connections have no Nagle delay and are probed
// every second when idle. userTimeout (TCP_USER_TIMEOUT) is how long sent data
// may stay unacknowledged before the kernel gives the connection up; 0 leaves
// the kernel's own answer, which is many minutes.
func TCP(userTimeout time.Duration) Network { return tcp{userTimeout: userTimeout} }

type tcp struct{ userTimeout time.Duration }

// keepAlive finds a dead peer on an idle connection in about four seconds.
func keepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 3}
}

// Listen opens a listening socket; accepted connections inherit its options.
func (t tcp) Listen(addr string) (net.Listener, error) {
	lc := net.ListenConfig{Control: t.control, KeepAliveConfig: keepAlive()}
	// Multipath TCP is the listener's default in Go and ignores some options.
	lc.SetMultipathTCP(false)
	return lc.Listen(context.Background(), "tcp", addr)
}

// Dial connects; TCP_NODELAY is Go's default.
func (t tcp) Dial(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Control: t.control, KeepAliveConfig: keepAlive()}
	return d.DialContext(ctx, "tcp", addr)
}

func (t tcp) control(_, _ string, c syscall.RawConn) error {
	if t.userTimeout <= 0 {
		return nil
	}
	var set error
	err := c.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(t.userTimeout.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return set
}
