package api

import (
	"net"
	"sync"
)

const (
	// maxConns and maxConnsHost bound the connections that are open at a time, in all and from one host. A connection
	// costs a file descriptor and with TLS some 50 KB; a daemon without descriptors could not write its own promises.
	maxConns     = 512
	maxConnsHost = 128
)

// bounded closes at once what comes beyond the limits, so that strangers cost little and one can't lock the others out.
type bounded struct {
	net.Listener

	mu      sync.Mutex
	open    int
	perHost map[string]int
}

func bound(l net.Listener) *bounded { return &bounded{Listener: l, perHost: map[string]int{}} }

// Accept waits for a connection that there is room for.
func (b *bounded) Accept() (net.Conn, error) {
	for {
		c, err := b.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host, _, err := net.SplitHostPort(c.RemoteAddr().String())
		if err != nil {
			host = c.RemoteAddr().String()
		}
		if b.enter(host) {
			return &boundedConn{Conn: c, leave: sync.OnceFunc(func() { b.leave(host) })}, nil
		}
		_ = c.Close()
	}
}

func (b *bounded) enter(host string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open >= maxConns || b.perHost[host] >= maxConnsHost {
		return false
	}
	b.open++
	b.perHost[host]++
	return true
}

func (b *bounded) leave(host string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open--
	if b.perHost[host]--; b.perHost[host] == 0 {
		delete(b.perHost, host)
	}
}

type boundedConn struct {
	net.Conn
	leave func()
}

// CloseWrite ends one direction, as the server does after an error so that the caller still gets the answer.
func (c *boundedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// Close may be called again.
func (c *boundedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
