package transport

import (
	"context"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// RaftLayer is ProtoRaft as raft's network transport wants it. addr is what raft
// calls this node, and dial connects to another by what raft calls that one. Its
// Close also closes the connections it accepted, which raft reads without a deadline.
func RaftLayer(m *Mux, addr string, dial func(ctx context.Context, addr string) (*Conn, error)) raft.StreamLayer {
	return raftLayer{Listener: m.Accept(ProtoRaft), addr: addr, dial: dial}
}

type raftLayer struct {
	net.Listener
	addr string
	dial func(ctx context.Context, addr string) (*Conn, error)
}

// Dial connects to a member; timeout bounds it, handshake included.
func (l raftLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx := context.Background()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	conn, err := l.dial(ctx, string(address))
	if err != nil {
		return nil, err // not conn: a nil *Conn is not a nil net.Conn
	}
	return conn, nil
}

// Addr is the advertised address.
func (l raftLayer) Addr() net.Addr { return raftAddr(l.addr) }

type raftAddr string

func (raftAddr) Network() string  { return "quorate" }
func (a raftAddr) String() string { return string(a) }
