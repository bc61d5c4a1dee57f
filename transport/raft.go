package transport

import (
	"context"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// RaftLayer is ProtoRaft as raft's network transport wants it. addr is what raft
// tells the others to dial. Its Close also closes the connections it accepted,
// which raft reads without a deadline.
func RaftLayer(m *Mux, addr string) raft.StreamLayer {
	return raftLayer{Listener: m.Accept(ProtoRaft), mux: m, addr: addr}
}

type raftLayer struct {
	net.Listener
	mux  *Mux
	addr string
}

// Dial connects to a member; timeout bounds it, handshake included.
func (l raftLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx := context.Background()
	if timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	conn, err := l.mux.Dial(ctx, ProtoRaft, string(address))
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
