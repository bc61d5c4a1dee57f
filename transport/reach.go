package transport

import (
	"context"
	"errors"
	"time"
)

// retirePause is between two connections that Retire closes: a peer's beats go over
// two connections, and one of them must always stand.
const retirePause = time.Second

// Retire closes, one after the other, the connections whose peer proved itself by a
// secret that is no longer accepted: who has nothing else can't come back. It
// returns when none is left or ctx ends.
func (m *Mux) Retire(ctx context.Context) {
	for {
		c := m.disbelieved()
		if c == nil {
			return
		}
		_ = c.Close()
		select {
		case <-ctx.Done():
			return
		case <-time.After(retirePause):
		}
	}
}

// disbelieved is a connection of a peer that would not be believed now, or nil.
func (m *Mux) disbelieved() *Conn {
	now := m.cfg.Credentials.current.Load()
	m.mu.Lock()
	defer m.mu.Unlock()
	for c := range m.conns {
		if c.issuer != "" && !now.believes(c.issuer) {
			return c
		}
	}
	return nil
}

// DialAny is DialNode at whichever of addrs leads to the node first. Trying them in
// turn would wait for a dead address as long as ctx lasts.
func (m *Mux) DialAny(ctx context.Context, proto Proto, nodeID string, addrs []string) (*Conn, error) {
	type outcome struct {
		conn *Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := make(chan outcome, len(addrs))
	for _, addr := range addrs {
		go func() {
			conn, err := m.DialNode(ctx, proto, addr, nodeID)
			out <- outcome{conn, err}
		}()
	}
	var errs []error
	for left := len(addrs); left > 0; left-- {
		o := <-out
		if o.err != nil {
			errs = append(errs, o.err)
			continue
		}
		go func() { // the others end with ctx; one may have succeeded before
			for range left - 1 {
				if o := <-out; o.conn != nil {
					_ = o.conn.Close()
				}
			}
		}()
		return o.conn, nil
	}
	return nil, errors.Join(errs...)
}
