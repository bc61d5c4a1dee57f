package transport

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"syscall"
)

// memoryBacklog is how many dialed connections a listener holds before further
// dials are refused.
const memoryBacklog = 128

// Memory is a network of named hosts inside one process, usable in a synctest
// bubble: it waits only on channels and timers. It behaves like TCP: a cut link
// acts as a firewall's DROP (nothing arrives, nobody is told), bytes written
// meanwhile wait in a bounded buffer and arrive after the healing, and a reset
// or an end of stream crosses a cut link no sooner than data does. Packets that
// meet a cut link are lost.
// All methods may be called from any goroutine.
type Memory struct {
	mu        sync.Mutex
	hosts     map[string]bool
	listeners map[string]*memoryListener   // by "host:port"
	packets   map[string]*memoryPacketConn // by "host:port"
	pipes     map[*memoryPipe]struct{}
	cut       map[memoryLink]bool
	isolated  map[string]bool
	nextPort  int
	relinked  chan struct{} // closed and replaced whenever a link changes
}

type memoryLink struct{ from, to string }

// NewMemory gives an empty network with all links up.
func NewMemory() *Memory {
	return &Memory{
		hosts:     map[string]bool{},
		listeners: map[string]*memoryListener{},
		packets:   map[string]*memoryPacketConn{},
		pipes:     map[*memoryPipe]struct{}{},
		cut:       map[memoryLink]bool{},
		isolated:  map[string]bool{},
		nextPort:  40000,
		relinked:  make(chan struct{}),
	}
}

// Host gives the network as the named host sees it; the host exists from then on.
func (m *Memory) Host(name string) Network {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hosts[name] = true
	return memoryHost{net: m, name: name}
}

// Cut drops everything between a and b, both ways. Dials wait until their context
// ends or the link heals.
func (m *Memory) Cut(a, b string) {
	m.relink(func() { m.cut[memoryLink{a, b}], m.cut[memoryLink{b, a}] = true, true })
}

// CutOneWay drops what from sends to to. No new connection comes about in either
// direction, because a handshake needs both.
func (m *Memory) CutOneWay(from, to string) {
	m.relink(func() { m.cut[memoryLink{from, to}] = true })
}

// Heal undoes Cut and CutOneWay between a and b, not Isolate.
func (m *Memory) Heal(a, b string) {
	m.relink(func() {
		delete(m.cut, memoryLink{a, b})
		delete(m.cut, memoryLink{b, a})
	})
}

// Isolate drops everything between host and all others, also those created later.
// The host still reaches itself.
func (m *Memory) Isolate(host string) {
	m.relink(func() { m.isolated[host] = true })
}

// Rejoin undoes Isolate; single cuts stay.
func (m *Memory) Rejoin(host string) {
	m.relink(func() { delete(m.isolated, host) })
}

// Kill is the end of host's process: its listeners close and its connections are
// reset, which a peer sees as soon as the link lets it. The host can listen again.
func (m *Memory) Kill(host string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, l := range m.listeners {
		if l.addr.host == host {
			l.closeLocked()
		}
	}
	for _, p := range m.packets {
		if p.at.host == host {
			p.closeLocked()
		}
	}
	for p := range m.pipes {
		for i := range p.ends {
			if p.ends[i].local.host == host {
				p.ends[i].resetLocked()
			}
		}
	}
}

func (m *Memory) relink(change func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change()
	close(m.relinked)
	m.relinked = make(chan struct{})
	for p := range m.pipes {
		p.wakeLocked()
	}
}

// open says whether bytes travel from one host to another now.
func (m *Memory) open(from, to string) bool {
	if from == to {
		return true
	}
	return !m.isolated[from] && !m.isolated[to] && !m.cut[memoryLink{from, to}]
}

type memoryHost struct {
	net  *Memory
	name string
}

// inProcess marks a network whose bytes never leave the process (see checkLoopback).
func (memoryHost) inProcess() {}

// Listen accepts "host:port" and ":port" of this host only.
func (h memoryHost) Listen(addr string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if host != "" && host != h.name {
		return nil, fmt.Errorf("listen on %s: this is host %s", addr, h.name)
	}
	m := h.net
	m.mu.Lock()
	defer m.mu.Unlock()
	at := memoryAddr{host: h.name, port: port}
	if port == "0" {
		at.port = m.portLocked()
	}
	if m.listeners[at.String()] != nil {
		return nil, opError("listen", at, syscall.EADDRINUSE)
	}
	l := &memoryListener{net: m, addr: at, queue: make(chan net.Conn, memoryBacklog), done: make(chan struct{})}
	m.listeners[at.String()] = l
	return l, nil
}

func (m *Memory) portLocked() string {
	m.nextPort++
	return strconv.Itoa(m.nextPort)
}

// Dial connects to a listener of another host. On a cut link it waits for ctx.
func (h memoryHost) Dial(ctx context.Context, addr string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	at := memoryAddr{host: host, port: port}
	for {
		conn, wait, err := h.tryDial(at)
		if err != nil || conn != nil {
			return conn, err
		}
		select {
		case <-ctx.Done():
			return nil, opError("dial", at, ctx.Err())
		case <-wait:
		}
	}
}

// tryDial gives a connection, an error, or what to wait for.
func (h memoryHost) tryDial(at memoryAddr) (net.Conn, <-chan struct{}, error) {
	m := h.net
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.hosts[at.host] {
		return nil, nil, opError("dial", at, &net.DNSError{Err: "no such host", Name: at.host, IsNotFound: true})
	}
	if !m.open(h.name, at.host) || !m.open(at.host, h.name) {
		return nil, m.relinked, nil
	}
	l := m.listeners[at.String()]
	if l == nil || len(l.queue) == cap(l.queue) {
		return nil, nil, opError("dial", at, syscall.ECONNREFUSED)
	}
	p := &memoryPipe{net: m, changed: make(chan struct{})}
	mine := memoryAddr{host: h.name, port: m.portLocked()}
	p.ends[0] = memoryConn{pipe: p, peer: &p.ends[1], local: mine, remote: at}
	p.ends[1] = memoryConn{pipe: p, peer: &p.ends[0], local: at, remote: mine}
	m.pipes[p] = struct{}{}
	l.queue <- &p.ends[1] // does not block: only this function sends, under the lock
	return &p.ends[0], nil, nil
}

type memoryListener struct {
	net    *Memory
	addr   memoryAddr
	queue  chan net.Conn
	done   chan struct{}
	closed bool
}

func (l *memoryListener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, opError("accept", l.addr, net.ErrClosed)
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, opError("accept", l.addr, net.ErrClosed)
	}
}

func (l *memoryListener) Close() error {
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.closeLocked()
	return nil
}

func (l *memoryListener) closeLocked() {
	if l.closed {
		return
	}
	l.closed = true
	close(l.done)
	delete(l.net.listeners, l.addr.String())
	for {
		select {
		case c := <-l.queue:
			c.(*memoryConn).resetLocked()
		default:
			return
		}
	}
}

func (l *memoryListener) Addr() net.Addr { return l.addr }

type memoryAddr struct{ host, port string }

func (memoryAddr) Network() string  { return "memory" }
func (a memoryAddr) String() string { return net.JoinHostPort(a.host, a.port) }

func opError(op string, at net.Addr, err error) error {
	return &net.OpError{Op: op, Net: "memory", Addr: at, Err: err}
}
