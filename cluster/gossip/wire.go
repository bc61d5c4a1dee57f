package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// nowhere is the address that memberlist is told of every member: where one is, the wire looks up by its id.
	nowhere = "127.0.0.1:1"
	// maxPacket bounds a packet in bytes: memberlist fills 1400, and longer ones are not from it.
	maxPacket = 2048
	// maxStreams and maxStream bound what peers can make this node keep in memory: so many streams at a time, so many
	// bytes of each. The state of a hundred members has a tenth of that.
	maxStreams = 16
	maxStream  = 256 << 10
	// readAgain is the pause after reading the packet port failed for a passing reason.
	readAgain = 100 * time.Millisecond
)

var errStreamTooLong = fmt.Errorf("a gossip stream is longer than %d bytes", maxStream)

// wire is memberlist's transport: packets and streams of the cluster port, addressed by the ids of members.
type wire struct {
	g        *Gossip
	label    string
	packets  Packets
	listener net.Listener
	packetCh chan *memberlist.Packet
	streamCh chan net.Conn
	slots    chan struct{} // one for each stream that was accepted

	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*wire)(nil)

func newWire(g *Gossip, label string, packets Packets, listener net.Listener) *wire {
	w := &wire{
		g: g, label: label, packets: packets, listener: listener, packetCh: make(chan *memberlist.Packet), streamCh: make(chan net.Conn),
		slots: make(chan struct{}, maxStreams),
	}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.running.Go(w.readPackets)
	w.running.Go(w.acceptStreams)
	return w
}

// readPackets hands packets on one at a time; the kernel drops what comes faster.
func (w *wire) readPackets() {
	buf := make([]byte, maxPacket+1)
	for {
		n, from, err := w.packets.ReadPacket(buf)
		if errors.Is(err, net.ErrClosed) || w.ctx.Err() != nil {
			return
		}
		if err != nil {
			w.g.log.Debug("reading gossip packets failed", "error", err)
			pause(w.ctx, readAgain)
			continue
		}
		if n == 0 || n > maxPacket {
			continue
		}
		content, err := w.unseal(buf[:n])
		if err != nil {
			_, _ = fmt.Fprintf(w.g.lines, "packet refused: %v from=%s", err, from)
			continue
		}
		packet := &memberlist.Packet{Buf: content, From: from, Timestamp: time.Now()}
		select {
		case w.packetCh <- packet:
		case <-w.ctx.Done():
			return
		}
	}
}

// unseal gives a packet that memberlist may have: one under another label, which it refuses by itself, or a good one of ours.
func (w *wire) unseal(packet []byte) ([]byte, error) {
	_, label, err := memberlist.RemoveLabelHeaderFromPacket(packet)
	if err != nil {
		return nil, err
	}
	if label != w.label {
		return append([]byte(nil), packet...), nil
	}
	plain, err := w.g.sealer.open(append([]byte(nil), packet...))
	if err == nil {
		err = vetPacket(plain)
	}
	return plain, err
}

func (w *wire) acceptStreams() {
	for {
		conn, err := w.listener.Accept()
		if err != nil {
			return // it ends with the port
		}
		select {
		case w.slots <- struct{}{}:
		default:
			_ = conn.Close()
			continue
		}
		bounded := &stream{Conn: conn, left: maxStream, freed: func() { <-w.slots }}
		select {
		case w.streamCh <- bounded:
		case <-w.ctx.Done():
			_ = bounded.Close()
			return
		}
	}
}

// FinalAdvertiseAddr gives the address that means nothing.
func (w *wire) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IPv4(127, 0, 0, 1), 1, nil
}

// PacketCh gives the packets that arrive.
func (w *wire) PacketCh() <-chan *memberlist.Packet { return w.packetCh }

// StreamCh gives the streams that members opened.
func (w *wire) StreamCh() <-chan net.Conn { return w.streamCh }

// WriteTo is not used: every message of ours names a node.
func (w *wire) WriteTo(b []byte, addr string) (time.Time, error) {
	return w.WriteToAddress(b, memberlist.Address{Addr: addr})
}

// DialTimeout is not used either.
func (w *wire) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return w.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// WriteToAddress sends a packet to where the node is to be reached now.
func (w *wire) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	addr, err := w.locate(to.Name)
	if err == nil {
		b, err = w.g.sealer.seal(b)
	}
	if err != nil {
		return time.Time{}, err
	}
	return time.Now(), w.packets.WritePacket(b, addr)
}

// locate prefers what a member says of itself to what the replicated state says of it.
func (w *wire) locate(id string) (string, error) {
	replicated, member := w.g.cfg.Members()[id]
	if !member {
		return "", fmt.Errorf("%q is not a member", id)
	}
	if said, ok := w.g.book.get(id); ok {
		return said.Addr, nil
	}
	return replicated, nil
}

// DialAddressTimeout opens a stream to a member, or to the address that stands in place of its id.
func (w *wire) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if _, member := w.g.cfg.Members()[to.Name]; !member && !strings.Contains(to.Name, ":") {
		return nil, fmt.Errorf("%q is not a member", to.Name)
	}
	ctx, cancel := context.WithTimeout(w.ctx, timeout)
	defer cancel()
	conn, err := w.g.cfg.Dial(ctx, to.Name)
	if err != nil {
		return nil, err
	}
	ended := context.AfterFunc(w.ctx, func() { _ = conn.Close() })
	return &stream{Conn: conn, left: maxStream, freed: func() { ended() }}, nil
}

// Shutdown ends the packets and the streams.
func (w *wire) Shutdown() error {
	w.close()
	return nil
}

func (w *wire) close() {
	w.cancel()
	_ = w.packets.Close()
	_ = w.listener.Close() // and the streams that it accepted
	w.running.Wait()
}

// stream ends after a number of bytes, and gives none of a message before all of it was looked at.
type stream struct {
	net.Conn
	left   int64
	freed  func()
	closed sync.Once

	vetted bool
	ahead  bytes.Buffer // what was read to look at it
	bad    error
}

// Read is for one goroutine at a time.
func (s *stream) Read(b []byte) (int, error) {
	if !s.vetted {
		s.vetted = true
		s.bad = vetStream(io.TeeReader(readerFunc(s.read), &s.ahead))
	}
	switch {
	case s.bad != nil:
		return 0, s.bad
	case s.ahead.Len() > 0:
		return s.ahead.Read(b)
	}
	return s.read(b)
}

func (s *stream) read(b []byte) (int, error) {
	if s.left <= 0 {
		return 0, errStreamTooLong
	}
	n, err := s.Conn.Read(b[:min(int64(len(b)), s.left)])
	s.left -= int64(n)
	return n, err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// Close may be called again.
func (s *stream) Close() error {
	err := io.ErrClosedPipe
	s.closed.Do(func() {
		err = s.Conn.Close()
		s.freed()
	})
	return err
}
