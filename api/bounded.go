package api

import (
	"net"
	"sync"

	"github.com/quorate/quorate/internal/crowd"
)

const (
	// maxConns bounds the connections that are open at a time. One costs a file descriptor and with TLS some 50 KB; a daemon
	// without descriptors could not write its own promises.
	maxConns = 512
	// fairConns is how many a host may have at a time without being the first of whom one is ended: health checks, a scraper.
	fairConns = 16
)

// bounded ends old connections for new ones beyond the limit, so that strangers cost little and can't lock health checks out.
type bounded struct {
	net.Listener

	mu   sync.Mutex
	open *crowd.Crowd
}

func bound(l net.Listener) *bounded {
	return &bounded{Listener: l, open: crowd.New(maxConns, fairConns)}
}

// Accept waits for a connection and makes room for it.
func (b *bounded) Accept() (net.Conn, error) {
	raw, err := b.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &boundedConn{Conn: raw, of: b}
	b.mu.Lock()
	displaced := b.open.Enter(c)
	b.mu.Unlock()
	if displaced != nil {
		_ = displaced.Close()
	}
	return c, nil
}

type boundedConn struct {
	net.Conn
	of *bounded
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
	c.of.mu.Lock()
	c.of.open.Leave(c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
