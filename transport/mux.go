package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/internal/crowd"
)

// Proto is an application protocol on the cluster port, as ALPN names it.
type Proto string

// The protocols. Raft, beats and gossip are for members of one cluster; RPC also
// serves a node that has not joined yet, and its handlers look at Peer.ClusterID.
const (
	ProtoRaft   Proto = "quorate-raft/1"
	ProtoBeat   Proto = "quorate-beat/1"
	ProtoGossip Proto = "quorate-gossip/1"
	ProtoRPC    Proto = "quorate-rpc/1"
)

func protocols() []string {
	return []string{string(ProtoRaft), string(ProtoBeat), string(ProtoGossip), string(ProtoRPC)}
}

const (
	// handshakeLimit bounds a handshake, and the wait for a listener to take the
	// connection.
	handshakeLimit = time.Second
	// maxHandshakes bounds the handshakes under way, so that strangers cost bounded
	// memory: an old one ends for a new one, because a node that must come back can't
	// wait until strangers are silent no more. fairHandshakes is how many a host may
	// have without being the first of whom one ends: what a node opens at a time.
	maxHandshakes  = 128
	fairHandshakes = 8
	// acceptRetry is the pause after a failed accept, for example without file
	// descriptors.
	acceptRetry = 50 * time.Millisecond
	// refusedAgain is how long a refusal is not repeated in the log, and maxRefused
	// how many are remembered.
	refusedAgain = time.Minute
	maxRefused   = 256
)

// ErrClosed is returned by everything after Mux.Close.
var ErrClosed = errors.New("transport is closed")

// MuxConfig says what a Mux needs; all fields but Authorize and NameOf are required.
type MuxConfig struct {
	Network     Network
	Listen      string // "host:port"; without a secret it must be loopback
	Credentials *Credentials
	Logger      hclog.Logger
	// Authorize says whether a node of this very cluster may use anything but RPC,
	// when accepting and when dialing; it is not asked about RPC. It is called from
	// many goroutines and must be quick. Nil admits every node of the cluster.
	Authorize func(proto Proto, clusterID, nodeID string) error
	// NameOf gives the name of a member, for which its certificate must be in an own
	// PKI; false for who is no member. It is called like Authorize.
	NameOf func(nodeID string) (name string, member bool)
}

// Mux owns the cluster port. All methods may be called from any goroutine.
type Mux struct {
	cfg      MuxConfig
	listener net.Listener

	running sync.WaitGroup // the accept loop and handshakes
	done    chan struct{}

	mu        sync.Mutex
	closed    bool
	pending   *crowd.Crowd       // handshakes under way
	conns     map[*Conn]struct{} // established, accepted and dialed
	listeners map[Proto]*protoListener
	refused   map[refusal]time.Time // when each was last warned of
}

// refusal is what a peer's host was told, for the log.
type refusal struct{ host, reason string }

// NewMux opens the port and serves handshakes until Close.
func NewMux(cfg MuxConfig) (*Mux, error) {
	if cfg.Credentials.Insecure() {
		if err := checkLoopback(cfg.Network, cfg.Listen); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", cfg.Listen, err)
		}
	}
	l, err := cfg.Network.Listen(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", cfg.Listen, err)
	}
	m := &Mux{
		cfg:       cfg,
		listener:  l,
		done:      make(chan struct{}),
		pending:   crowd.New(maxHandshakes, fairHandshakes),
		conns:     map[*Conn]struct{}{},
		listeners: map[Proto]*protoListener{},
		refused:   map[refusal]time.Time{},
	}
	m.running.Add(1)
	go m.acceptLoop()
	return m, nil
}

// Addr is where the Mux listens, with the real port.
func (m *Mux) Addr() net.Addr { return m.listener.Addr() }

// Close ends the listening, all handshakes and all connections, accepted and
// dialed, and waits for the Mux's own goroutines.
func (m *Mux) Close() error {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil
	}
	m.closed = true
	close(m.done)
	open := m.pending.Conns()
	for c := range m.conns {
		open = append(open, c)
	}
	m.mu.Unlock()
	err := m.listener.Close()
	for _, c := range open {
		m.running.Go(func() { _ = c.Close() }) // each waits up to closeGrace for a dead peer
	}
	m.running.Wait()
	return err
}

// Reauthorize closes the established connections whose peer may no longer use
// their protocol. Call it when the membership or this node's identity changed.
func (m *Mux) Reauthorize() {
	local := m.cfg.Credentials.current.Load().id
	m.mu.Lock()
	conns := make([]*Conn, 0, len(m.conns))
	for c := range m.conns {
		conns = append(conns, c)
	}
	m.mu.Unlock()
	for _, c := range conns {
		if err := m.admitted(c, local); err != nil {
			m.cfg.Logger.Info("closing connection of a peer that is no longer permitted",
				"peer", c.RemoteAddr(), "protocol", c.proto, "reason", err)
			_ = c.Close()
		}
	}
}

// admitted decides about a connection. The name is looked at last: whom permit takes for a member is then held to that member's name,
// though nobody may have known of him a moment before.
func (m *Mux) admitted(c *Conn, local identity) error {
	return errors.Join(m.permit(c.proto, local, c.peer), m.named(c))
}

// permit decides about a peer whose identity is proved.
func (m *Mux) permit(proto Proto, local, peer identity) error {
	if err := admit(proto, local, peer); err != nil {
		return err
	}
	if proto == ProtoRPC || m.cfg.Authorize == nil {
		return nil
	}
	if err := m.cfg.Authorize(proto, peer.clusterID, peer.nodeID); err != nil {
		return fmt.Errorf("node %s may not use %s: %w", peer.nodeID, proto, err)
	}
	return nil
}

func (m *Mux) acceptLoop() {
	defer m.running.Done()
	for {
		raw, err := m.listener.Accept()
		if err == nil {
			m.begin(raw)
			continue
		}
		if errors.Is(err, net.ErrClosed) {
			select {
			case <-m.done:
			default:
				m.cfg.Logger.Error("cluster port was closed from outside", "address", m.Addr(), "error", err)
			}
			return
		}
		m.cfg.Logger.Warn("accept on the cluster port failed", "address", m.Addr(), "error", err)
		select {
		case <-m.done:
			return
		case <-time.After(acceptRetry):
		}
	}
}

// begin starts a handshake in its own goroutine and ends another one if there is no
// room for one more.
func (m *Mux) begin(raw net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		_ = raw.Close()
		return
	}
	if displaced := m.pending.Enter(raw); displaced != nil {
		_ = displaced.Close()
	}
	m.running.Add(1)
	go func() {
		defer m.running.Done()
		conn, listener, err := m.welcome(raw)
		m.finish(raw)
		if err != nil {
			_ = raw.Close()
			m.logRefused(raw, err)
			return
		}
		listener.offer(conn)
	}()
}

func (m *Mux) finish(raw net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pending.Leave(raw)
}

// logRefused warns of peers that proved to be somebody, once a minute for each
// reason, because a refused node tries many times per second. What any port scanner
// can cause is for debugging only.
func (m *Mux) logRefused(raw net.Conn, err error) {
	var refused *RefusedError
	if !errors.As(err, &refused) || !m.isNews(refusal{crowd.Host(raw.RemoteAddr()), refused.Reason}) {
		m.cfg.Logger.Debug("handshake failed", "peer", raw.RemoteAddr(), "error", err)
		return
	}
	m.cfg.Logger.Warn("refused a connection", "peer", raw.RemoteAddr(), "reason", refused.Reason)
}

func (m *Mux) isNews(r refusal) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if last, known := m.refused[r]; known && now.Sub(last) < refusedAgain {
		return false
	}
	if len(m.refused) >= maxRefused {
		clear(m.refused)
	}
	m.refused[r] = now
	return true
}

// track makes Close and Reauthorize know the connection.
func (m *Mux) track(c *Conn) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	m.conns[c] = struct{}{}
	return nil
}

func (m *Mux) forget(c *Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.conns, c)
}

// Accept gives the listener of one protocol; its connections are *Conn. There is
// one listener per protocol; while nobody asked for it, or after its Close, peers
// that want the protocol are refused. Closing it closes the connections it gave out.
func (m *Mux) Accept(proto Proto) net.Listener {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := m.listeners[proto]
	if l == nil {
		l = &protoListener{mux: m, proto: proto, ready: make(chan *Conn), done: make(chan struct{})}
		m.listeners[proto] = l
	}
	return l
}

func (m *Mux) listenerFor(proto Proto) *protoListener {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.listeners[proto]
}

// Dial connects to the node at addr. It ends with ctx, and a handshake takes one
// second at most. A peer that says why it refuses, or that this node refuses, is a
// *RefusedError.
func (m *Mux) Dial(ctx context.Context, proto Proto, addr string) (*Conn, error) {
	return m.DialNode(ctx, proto, addr, "")
}

// DialNode is Dial that refuses any node but the one with nodeID.
func (m *Mux) DialNode(ctx context.Context, proto Proto, addr, nodeID string) (*Conn, error) {
	if m.cfg.Credentials.Insecure() {
		if err := checkLoopback(m.cfg.Network, addr); err != nil {
			return nil, fmt.Errorf("dial %s: %w", addr, err)
		}
	}
	select {
	case <-m.done:
		return nil, ErrClosed
	default:
	}
	raw, err := m.cfg.Network.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	conn, err := m.introduce(ctx, raw, proto, addr, nodeID)
	if err != nil {
		_ = raw.Close()
		if ctx.Err() != nil {
			return nil, fmt.Errorf("handshake with %s: %w", addr, ctx.Err())
		}
		return nil, err
	}
	return conn, nil
}
