package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// closeGrace is how long Close waits to tell the peer before it just closes.
const closeGrace = 100 * time.Millisecond

// Conn is an established connection to an identified peer.
type Conn struct {
	net.Conn // TLS, or raw without a secret

	raw    net.Conn
	mux    *Mux
	from   *protoListener // nil when dialed
	proto  Proto
	local  identity // what this node said of itself
	peer   identity
	issuer string   // fingerprint of the CA that vouched for the peer; empty without a secret
	names  []string // what the peer's certificate is for, in an own PKI

	closing sync.Once
	err     error
}

// Peer says who is at the other end. clusterID may be NewCluster on ProtoRPC.
func (c *Conn) Peer() (clusterID, nodeID string) { return c.peer.clusterID, c.peer.nodeID }

// Close never waits longer than 100 ms, also for a peer that is gone.
func (c *Conn) Close() error {
	c.closing.Do(func() {
		c.mux.forget(c)
		if secure, ok := c.Conn.(*tls.Conn); ok {
			t := time.AfterFunc(closeGrace, func() { _ = c.raw.Close() })
			defer t.Stop()
			c.err = secure.Close()
			return
		}
		c.err = c.raw.Close()
	})
	return c.err
}

// protoListener is the net.Listener of one protocol.
type protoListener struct {
	mux   *Mux
	proto Proto
	ready chan *Conn
	done  chan struct{}

	closing sync.Once
}

// offer hands an accepted connection to whoever calls Accept, soon or never.
func (l *protoListener) offer(c *Conn) {
	t := time.NewTimer(handshakeLimit)
	defer t.Stop()
	select {
	case l.ready <- c:
	case <-l.done:
		_ = c.Close()
	case <-l.mux.done:
		_ = c.Close()
	case <-t.C:
		l.mux.cfg.Logger.Warn("nobody took an accepted connection, closing it", "protocol", l.proto, "peer", c.RemoteAddr())
		_ = c.Close()
	}
}

// Accept waits for a connection; it is a *Conn.
func (l *protoListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ready:
		return c, nil
	case <-l.done:
	case <-l.mux.done:
	}
	return nil, &net.OpError{Op: "accept", Net: string(l.proto), Addr: l.Addr(), Err: net.ErrClosed}
}

// Close stops accepting the protocol and closes the connections that it accepted.
func (l *protoListener) Close() error {
	l.closing.Do(func() {
		close(l.done)
		m := l.mux
		m.mu.Lock()
		if m.listeners[l.proto] == l {
			delete(m.listeners, l.proto)
		}
		var mine []*Conn
		for c := range m.conns {
			if c.from == l {
				mine = append(mine, c)
			}
		}
		m.mu.Unlock()
		for _, c := range mine {
			_ = c.Close()
		}
	})
	return nil
}

// Addr is the port's address.
func (l *protoListener) Addr() net.Addr { return l.mux.Addr() }

// RefusedError says that two nodes did not come together for a reason that one of
// them knows.
type RefusedError struct {
	Addr   string // of the peer
	Reason string
	Local  bool // this node refused the peer; otherwise the peer refused this node
}

func (e *RefusedError) Error() string {
	if e.Local {
		return fmt.Sprintf("refused the peer at %s: %s", e.Addr, e.Reason)
	}
	return fmt.Sprintf("the peer at %s refuses this node: %s", e.Addr, e.Reason)
}

// notServing is in the reason of a node that is just starting or ending.
const notServing = "does not serve"

// Passing says that the same attempt may succeed in a moment, with nothing changed.
func (e *RefusedError) Passing() bool { return strings.Contains(e.Reason, notServing) }

// ErrNeedsSecret: without a secret anybody could talk to the node.
var ErrNeedsSecret = errors.New("without cluster.secret only loopback addresses are allowed: set cluster.secret_file on every node")

// checkLoopback lets addresses pass that no other machine can reach.
func checkLoopback(n Network, addr string) error {
	if _, ok := n.(interface{ inProcess() }); ok {
		return nil
	}
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if host == "localhost" {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
		return nil
	}
	return ErrNeedsSecret
}

func hostOf(addr net.Addr) string {
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}
