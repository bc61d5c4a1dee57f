package transport

import (
	"slices"
	"time"
)

// What a node that is no member may have of this one. In an own PKI that is whoever has a certificate of its CA; with a secret it is
// a node that joins. Members are bounded by their number and by what they do.
const (
	// maxStrangers bounds their connections for calls, in all: the oldest ends for a new one, so that nobody keeps a node from
	// joining by holding on to what there is.
	maxStrangers = 16
	// maxStrangerFrame bounds a call of theirs, in bytes; the longest is the founding of a cluster.
	maxStrangerFrame = 64 << 10
	// strangerIdle is how long one may take for his next call, and to take his answer.
	strangerIdle = 10 * time.Second
)

// limits are what a connection that this node serves may cost.
type limits struct {
	frame int           // bytes of a call
	idle  time.Duration // 0: for ever
}

// meet says what an accepted connection may cost, and makes room for it.
func (r *RPC) meet(c *Conn) limits {
	if !r.mux.stranger(c) {
		return limits{frame: MaxRPC}
	}
	r.mu.Lock()
	var oldest *Conn
	if len(r.strangers) >= maxStrangers {
		oldest, r.strangers = r.strangers[0], slices.Clone(r.strangers[1:])
	}
	r.strangers = append(r.strangers, c)
	r.mu.Unlock()
	if oldest != nil {
		r.logger.Debug("closing the oldest connection of a node that is no member, for a newer one", "peer", oldest.RemoteAddr(), "limit", maxStrangers)
		r.running.Go(func() { _ = oldest.Close() }) // which may wait for a dead peer
	}
	return limits{frame: maxStrangerFrame, idle: strangerIdle}
}

// part forgets a connection that has ended.
func (r *RPC) part(c *Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.strangers = slices.DeleteFunc(r.strangers, func(o *Conn) bool { return o == c })
}

func (l limits) beforeRead(c *Conn) error {
	if l.idle == 0 {
		return nil
	}
	return c.SetReadDeadline(time.Now().Add(l.idle))
}

func (l limits) beforeWrite(c *Conn) error {
	if l.idle == 0 {
		return nil
	}
	return c.SetWriteDeadline(time.Now().Add(l.idle))
}

// stranger says whether the peer is no member of this node's cluster. Before there is one all are.
func (m *Mux) stranger(c *Conn) bool {
	local := m.cfg.Credentials.current.Load().id
	if local.clusterID == NewCluster || c.peer.clusterID != local.clusterID {
		return true
	}
	if m.cfg.NameOf == nil {
		return false
	}
	_, member := m.cfg.NameOf(c.peer.nodeID)
	return !member
}
