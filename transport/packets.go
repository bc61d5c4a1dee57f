package transport

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// MaxPacket is the largest packet in bytes; a longer one arrives cut off.
	MaxPacket = 2048
	// resolvedFor is how long the address of a name is used without asking again.
	resolvedFor = 30 * time.Second
	// maxResolved bounds the names that are remembered.
	maxResolved = 64
)

// PacketConn sends and receives packets of at most MaxPacket bytes, of which any may
// be lost. Its methods may be called from any goroutine.
type PacketConn interface {
	// ReadPacket waits for a packet. After Close it returns net.ErrClosed.
	ReadPacket(b []byte) (n int, from net.Addr, err error)
	// WritePacket sends b to "host:port" or drops it; it does not wait for anybody
	// but a name server.
	WritePacket(b []byte, addr string) error
	Close() error
}

// ListenPacket opens the UDP port with the number of the cluster port. What comes in
// is from anybody: whoever reads it has to decrypt it before believing it.
func (m *Mux) ListenPacket() (PacketConn, error) {
	conn, err := m.cfg.Network.ListenPacket(m.Addr().String())
	if err != nil {
		return nil, fmt.Errorf("listen for packets on %s: %w", m.Addr(), err)
	}
	if m.cfg.Credentials.Insecure() {
		return loopbackPackets{conn, m.cfg.Network}, nil
	}
	return conn, nil
}

// loopbackPackets sends nothing to another machine.
type loopbackPackets struct {
	PacketConn
	network Network
}

func (p loopbackPackets) WritePacket(b []byte, addr string) error {
	if err := checkLoopback(p.network, addr); err != nil {
		return fmt.Errorf("send to %s: %w", addr, err)
	}
	return p.PacketConn.WritePacket(b, addr)
}

// ListenPacket opens a UDP socket.
func (tcp) ListenPacket(addr string) (PacketConn, error) {
	conn, err := new(net.ListenConfig).ListenPacket(context.Background(), "udp", addr)
	if err != nil {
		return nil, err
	}
	return &udp{UDPConn: conn.(*net.UDPConn), known: map[string]resolved{}}, nil
}

type udp struct {
	*net.UDPConn

	mu    sync.Mutex
	known map[string]resolved
}

type resolved struct {
	addr netip.AddrPort
	at   time.Time
}

func (u *udp) ReadPacket(b []byte) (int, net.Addr, error) {
	n, from, err := u.ReadFromUDPAddrPort(b)
	return n, net.UDPAddrFromAddrPort(from), err
}

func (u *udp) WritePacket(b []byte, addr string) error {
	to, err := u.resolve(addr)
	if err != nil {
		return err
	}
	_, err = u.WriteToUDPAddrPort(b, to)
	return err
}

// resolve asks for a name's address now and then, not for every packet.
func (u *udp) resolve(addr string) (netip.AddrPort, error) {
	if literal, err := netip.ParseAddrPort(addr); err == nil {
		return literal, nil
	}
	u.mu.Lock()
	known, ok := u.known[addr]
	u.mu.Unlock()
	if ok && time.Since(known.at) < resolvedFor {
		return known.addr, nil
	}
	found, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.known) >= maxResolved {
		clear(u.known)
	}
	u.known[addr] = resolved{found.AddrPort(), time.Now()}
	return found.AddrPort(), nil
}
