package transport

import (
	"net"
	"sync"
	"syscall"
)

// memoryPackets is how many packets wait for their reader before more are dropped.
const memoryPackets = 256

// ListenPacket takes packets for "host:port" or ":port" of this host.
func (h memoryHost) ListenPacket(addr string) (PacketConn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	m := h.net
	m.mu.Lock()
	defer m.mu.Unlock()
	at := memoryAddr{host: h.name, port: port}
	if host != "" && host != h.name {
		return nil, opError("listen", memoryAddr{host: host, port: port}, syscall.EADDRNOTAVAIL)
	}
	if m.packets[at.String()] != nil {
		return nil, opError("listen", at, syscall.EADDRINUSE)
	}
	p := &memoryPacketConn{net: m, at: at, queue: make(chan memoryPacket, memoryPackets), done: make(chan struct{})}
	m.packets[at.String()] = p
	return p, nil
}

type memoryPacket struct {
	bytes []byte
	from  memoryAddr
}

// memoryPacketConn is a bound packet socket. What crosses a cut link or finds nobody
// is lost without a word.
type memoryPacketConn struct {
	net   *Memory
	at    memoryAddr
	queue chan memoryPacket

	closing sync.Once
	done    chan struct{}
}

func (p *memoryPacketConn) ReadPacket(b []byte) (int, net.Addr, error) {
	select {
	case in := <-p.queue:
		return copy(b, in.bytes), in.from, nil
	case <-p.done:
		return 0, nil, opError("read", p.at, net.ErrClosed)
	}
}

func (p *memoryPacketConn) WritePacket(b []byte, addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	to := memoryAddr{host: host, port: port}
	m := p.net
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.hosts[host] {
		return opError("write", to, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true})
	}
	target := m.packets[to.String()]
	if target == nil || !m.open(p.at.host, host) {
		return nil
	}
	select {
	case target.queue <- memoryPacket{bytes: append([]byte(nil), b...), from: p.at}:
	default:
	}
	return nil
}

func (p *memoryPacketConn) Close() error {
	p.net.mu.Lock()
	defer p.net.mu.Unlock()
	p.closeLocked()
	return nil
}

func (p *memoryPacketConn) closeLocked() {
	p.closing.Do(func() {
		close(p.done)
		delete(p.net.packets, p.at.String())
	})
}
