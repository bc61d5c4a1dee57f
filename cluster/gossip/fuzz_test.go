package gossip

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// What a member says of itself is read back as it was said, within memberlist's limit; what says no address is refused, and
// the error names who it was.
func FuzzMeta(f *testing.F) {
	for _, n := range []Node{{Addr: "10.0.0.1:7400", API: "10.0.0.1:8008", Postgres: "10.0.0.1:5432"}, {Addr: "n1:7400"}} {
		f.Add(n.meta())
	}
	f.Add([]byte(`{"a":"x:1"}`))
	f.Fuzz(func(t *testing.T, meta []byte) {
		n, err := nodeOf("n7", meta)
		if err != nil {
			if !bytes.Contains([]byte(err.Error()), []byte("n7")) {
				t.Fatalf("who said it is not told: %v", err)
			}
			return
		}
		again := n.meta()
		if len(again) > maxMeta || len(meta) <= maxMeta/8 && again == nil { // 8: JSON writes some bytes as six
			t.Fatalf("%q becomes %d bytes", meta, len(again))
		}
		if again == nil {
			return
		}
		if back, err := nodeOf("n7", again); err != nil || back.Addr != n.Addr || back.ID != "n7" {
			t.Fatalf("%+v became %+v, %v", n, back, err)
		}
	})
}

// What is sealed is opened as it was by who has the key, whichever of his keys it is, and by nobody else, nor when one bit of
// it or of the label has changed.
func FuzzSeal(f *testing.F) {
	f.Add([]byte{1, 2, 3}, 60, byte(1))
	f.Add([]byte{6, 0x81}, 3, byte(0x80))
	f.Add([]byte{}, 0, byte(1))
	key := func(n byte) []byte { return bytes.Repeat([]byte{n}, 32) }
	var mine, rotated, others sealer
	for s, keys := range map[*sealer][][]byte{&mine: {key(1)}, &rotated: {key(2), key(1)}, &others: {key(3)}} {
		if err := s.set(keys); err != nil {
			f.Fatal(err)
		}
	}
	f.Fuzz(func(t *testing.T, content []byte, at int, flip byte) {
		packet := label(content...) // as every one is
		if _, err := mine.open(packet); err == nil {
			t.Fatalf("%x was opened, and nobody sealed it", packet)
		}
		sealed, err := mine.seal(bytes.Clone(packet))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []*sealer{&mine, &rotated} {
			if got, err := s.open(bytes.Clone(sealed)); err != nil || !bytes.Equal(got, packet) {
				t.Fatalf("%x became %x, %v", packet, got, err)
			}
		}
		if _, err := others.open(sealed); err == nil {
			t.Fatalf("%x is opened by another key", packet)
		}
		if flip != 0 && at >= 0 {
			sealed[at%len(sealed)] ^= flip
			if got, err := mine.open(sealed); err == nil {
				t.Fatalf("%x was changed and became %x", packet, got)
			}
		}
	})
}

// mailbox is the packet port of a node: what is put into it, and nowhere for what is sent.
type mailbox struct {
	in     chan []byte
	idle   chan struct{} // told whenever all before was handed on
	closed chan struct{}
	once   sync.Once
}

func (m *mailbox) ReadPacket(b []byte) (int, net.Addr, error) {
	select {
	case m.idle <- struct{}{}:
	case <-m.closed:
		return 0, nil, net.ErrClosed
	}
	select {
	case p := <-m.in:
		return copy(b, p), &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1}, nil
	case <-m.closed:
		return 0, nil, net.ErrClosed
	}
}

func (m *mailbox) WritePacket([]byte, string) error { return nil }

func (m *mailbox) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

// put hands a packet over and returns when the node has taken it.
func (m *mailbox) put(p []byte) {
	<-m.idle
	m.in <- p
	<-m.idle
	// The turn that was just taken is given back: the reader waits for a packet again.
	m.in <- nil
}

// door is where streams come in.
type door struct {
	in     chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.in:
		return c, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

func (d *door) Addr() net.Addr { return &net.TCPAddr{} }

func (d *door) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

// spoken is a stream whose peer has said all that it will say. What it is answered is lost.
type spoken struct {
	io.Reader
	ended chan struct{}
	once  sync.Once
}

func (s *spoken) Write(b []byte) (int, error)      { return len(b), nil }
func (s *spoken) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 7400} }
func (s *spoken) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }
func (s *spoken) SetDeadline(time.Time) error      { return nil }
func (s *spoken) SetReadDeadline(time.Time) error  { return nil }
func (s *spoken) SetWriteDeadline(time.Time) error { return nil }

func (s *spoken) Close() error {
	s.once.Do(func() { close(s.ended) })
	return nil
}

// listener runs the member a, of a, b and c, with the true memberlist behind our gate, without keys, so that whatever is put
// in reaches the gate.
func listener(f *testing.F) (*Gossip, *mailbox, *door) {
	f.Helper()
	box := &mailbox{in: make(chan []byte), idle: make(chan struct{}), closed: make(chan struct{})}
	streams := &door{in: make(chan net.Conn), closed: make(chan struct{})}
	g, err := New(Config{
		Self: Node{ID: "a", Addr: "a:7400"}, File: filepath.Join(f.TempDir(), "book"), Logger: hclog.NewNullLogger(),
		Members:  func() map[string]string { return map[string]string{"a": "a:7400", "b": "b:7400", "c": "c:7400"} },
		Open:     func() (Packets, error) { return box, nil },
		Accept:   func() net.Listener { return streams },
		Dial:     func(context.Context, string) (net.Conn, error) { return nil, fmt.Errorf("nobody is there") },
		OnChange: func() {},
	}, nil)
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { g.Run(ctx, clusterID) })
	f.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return g, box, streams
}

// known holds that a node knows members only, and of each of them an address.
func known(t *testing.T, g *Gossip) {
	t.Helper()
	g.book.mu.Lock()
	defer g.book.mu.Unlock()
	for id, n := range g.book.nodes {
		if (id != "b" && id != "c") || n.Addr == "" {
			t.Fatalf("%q is known as %+v", id, n)
		}
	}
}

// Whatever comes to the packet port, memberlist lives on, and nobody but members becomes known.
func FuzzPacket(f *testing.F) {
	b := alive{Node: "b", Addr: []byte{127, 0, 0, 1}, Port: 1, Incarnation: 1, Meta: Node{Addr: "b:7400"}.meta(), Vsn: []byte{1, 5, 2, 0, 0, 0}}
	one := encoded(f, msgAlive, b)
	f.Add(one)
	f.Add(append([]byte{msgCompound, 2, 0, byte(len(one)), 0, byte(len(one))}, append(bytes.Clone(one), one...)...))
	f.Add(encoded(f, msgAlive, []any{b.Incarnation, b.Node, b.Addr, b.Port, b.Meta, b.Vsn}))
	named := map[string]any{"Incarnation": 1, "Node": "a", "From": "b", "SeqNo": 7, "SourceAddr": []byte{127, 0, 0, 1}, "SourcePort": 1,
		"SourceNode": "b", "Target": []byte{127, 0, 0, 1}, "Port": 1, "Nack": true}
	for _, kind := range []byte{msgPing, msgIndirectPing, msgAck, msgSuspect, msgDead, msgNack} {
		f.Add(encoded(f, kind, named))
	}
	f.Add([]byte{msgCRC, 0, 0, 0, 0, msgPing})
	g, box, _ := listener(f)
	f.Fuzz(func(t *testing.T, content []byte) {
		if len(content) > maxPacket {
			return
		}
		box.put(label(content...))
		box.put(content)
		known(t, g)
	})
}

// Whatever a stream says, memberlist lives on, nobody but members becomes known, and no more is read than is allowed.
func FuzzStream(f *testing.F) {
	member := nodeState{Name: "b", Addr: []byte{127, 0, 0, 1}, Port: 1, Meta: Node{Addr: "b:7400"}.meta(), Vsn: []byte{1, 5, 2, 0, 0, 0}}
	f.Add(encoded(f, msgPushPull, stateHead{Nodes: 1, Join: true}, member))
	f.Add(encoded(f, msgPushPull, stateHead{Nodes: 2}, member, member))
	f.Add(encoded(f, msgPushPull, []any{1, 0, true}, []any{member.Name, member.Addr, member.Port, member.Meta, 1, 0, member.Vsn}))
	f.Add(encoded(f, msgPing, map[string]any{"SeqNo": 7, "Node": "a"}))
	f.Add([]byte("\x06\x81\xa5Nodes\x01\x81\xa4Meta\xc6\xff\xff\xff\xff"))
	g, _, streams := listener(f)
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, said := range [][]byte{label(content...), content} {
			rest := bytes.NewReader(said)
			c := &spoken{Reader: rest, ended: make(chan struct{})}
			streams.in <- c
			<-c.ended
			if read := len(said) - rest.Len(); read > maxStream {
				t.Fatalf("%d bytes were read", read)
			}
		}
		known(t, g)
	})
}
