package gossip

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/quorate/quorate/transport"
)

// label is what every packet and stream of the cluster begins with, and no secret.
func label(rest ...byte) []byte {
	return append(append([]byte{244, byte(len(clusterID))}, clusterID...), rest...)
}

// hostile gives bytes of every kind, from a seed.
func hostile(r *rand.Rand, i int) []byte {
	random := make([]byte, r.IntN(3*maxPacket))
	for j := range random {
		random[j] = byte(r.Uint32())
	}
	length := binary.BigEndian.AppendUint32(nil, r.Uint32())
	switch i % 6 {
	case 0:
		return random
	case 1:
		return label(random...)
	case 2: // an encrypted message of whatever length it says
		return label(append(append([]byte{10}, length...), random...)...)
	case 3: // the largest that is read
		return label(append([]byte{10, 1, 0x40, 0, 0}, random...)...)
	case 4: // a message in the clear: push/pull of 2^63 nodes
		return label(append([]byte{6, 0x83, 0xa5}, "Nodes\xcf\x7f\xff\xff\xff\xff\xff\xff\xff"...)...)
	default: // a label longer than what follows
		return []byte{244, 255, 'x'}
	}
}

// heap is what lives after a collection, in bytes.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Whatever comes to the packet port, from anybody, and over streams, from a member gone mad: memory stays bounded,
// nobody falls silent, and news still come through.
func TestHostileBytes(t *testing.T) {
	inVillage(t, func(v *village) {
		a, b := v.start("a", "a"), v.start("b", "b")
		v.hears(a, "b", "b")
		mad := v.start("c", "c")
		before, changes := heap(), a.changes.Load()
		r := rand.New(rand.NewPCG(1, 2))
		from, err := v.net.Host("evil").ListenPacket("evil:1")
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close()
		for i := range 3000 {
			if err := from.WritePacket(hostile(r, i), "a:7400"); err != nil {
				t.Fatal(err)
			}
			if i%10 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		for i := range 300 {
			if conn, err := mad.mux.Dial(v.t.Context(), transport.ProtoGossip, "a:7400"); err == nil {
				_, _ = conn.Write(hostile(r, i))
				go func() { _, _ = io.Copy(io.Discard, conn); _ = conn.Close() }()
			}
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(10 * time.Second)
		if grown := heap() - before; grown > 4<<20 {
			t.Errorf("the heap grew by %d bytes", grown)
		}
		if got := a.changes.Load(); got > changes+2 { // c joined meanwhile
			t.Errorf("%d changes were seen", got-changes)
		}
		if lines := strings.Count(a.log.String(), "refused"); lines > 8 {
			t.Errorf("%d lines of log about it:\n%s", lines, a.log)
		}
		b.stop()
		b = v.start("b", "b2")
		v.hears(a, "b", "b2")
		for _, n := range []*villager{a, b, mad} {
			n.stop()
		}
	})
}

// A stream that never ends is cut off long before it fills the memory.
func TestEndlessStreams(t *testing.T) {
	inVillage(t, func(v *village) {
		a, mad := v.start("a", "a"), v.start("c", "c")
		v.hears(a, "c", "c")
		conn, err := mad.mux.Dial(v.t.Context(), transport.ProtoGossip, "a:7400")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		sent := 0
		piece := label([]byte("\x06\x81\xa5Nodes\x01\x81\xa4Meta\xc6\xff\xff\xff\xff")...)
		for ; err == nil; piece = bytes.Repeat([]byte{7}, 64<<10) {
			_, err = conn.Write(piece)
			sent += len(piece)
		}
		if sent > 2<<20 {
			t.Errorf("%d bytes were taken before the end", sent)
		}
		a.stop()
		mad.stop()
	})
}

// Only so many streams at a time cost anything, and after their time there is room for others.
func TestSilentStreams(t *testing.T) {
	inVillage(t, func(v *village) {
		a, mad := v.start("a", "a"), v.start("c", "c")
		v.hears(a, "c", "c")
		began := time.Now()
		ended := make(chan time.Duration, 2*maxStreams)
		for range 2 * maxStreams {
			conn, err := mad.mux.Dial(v.t.Context(), transport.ProtoGossip, "a:7400")
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				_, _ = io.Copy(io.Discard, conn)
				ended <- time.Since(began)
				_ = conn.Close()
			}()
		}
		b := v.start("b", "b")
		v.hears(b, "a", "a")
		v.hears(a, "b", "b")
		turnedAway := 0
		for range 2 * maxStreams {
			if took := <-ended; took == 0 {
				turnedAway++
			} else if took > streamLimit {
				t.Errorf("a silent stream was kept for %s", took)
			}
		}
		if turnedAway < maxStreams {
			t.Errorf("%d of %d streams were turned away at once, want those beyond %d", turnedAway, 2*maxStreams, maxStreams)
		}
		for _, n := range []*villager{a, b, mad} {
			n.stop()
		}
	})
}

// Who has the cluster's id and another secret is refused, and both sides say why.
func TestAnotherSecretIsSaid(t *testing.T) {
	inVillage(t, func(v *village) {
		a := v.start("a", "a")
		from, err := v.net.Host("b").ListenPacket("b:7400")
		if err != nil {
			t.Fatal(err)
		}
		defer from.Close()
		foreign := bytes.Replace(label(1, 2, 3), []byte(clusterID), []byte("another-cluster-of-just-the-same-len"), 1)
		for range 100 {
			for _, packet := range [][]byte{label(bytes.Repeat([]byte{1}, 100)...), foreign} {
				if err := from.WritePacket(packet, "a:7400"); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
		for _, want := range []string{"encrypted with another cluster.secret", "it is of another cluster"} {
			if got := strings.Count(a.log.String(), want); got != 1 {
				t.Errorf("%q was said %d times within ten seconds, want once\n%s", want, got, a.log)
			}
		}
		a.stop()
	})
}

// encoded is a message with its kind before it, as memberlist encodes.
func encoded(t testing.TB, kind byte, values ...any) []byte {
	t.Helper()
	out := bytes.NewBuffer([]byte{kind})
	for _, v := range values {
		if err := codec.NewEncoder(out, &codec.MsgpackHandle{}).Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

// What memberlist would die of, or has no bound for, comes from who has the key, or from anybody where there is none: it is
// refused, said, and nobody falls silent.
func TestWhatWouldEndTheProcess(t *testing.T) {
	short := alive{Node: "b", Addr: []byte{127, 0, 0, 1}, Port: 1, Incarnation: 1 << 20, Vsn: []byte{1}}
	one := encoded(t, msgAlive, short)
	packets := map[string][]byte{
		"one version": one,
		"without the names of the fields": encoded(t, msgAlive,
			[]any{short.Incarnation, short.Node, short.Addr, short.Port, short.Meta, short.Vsn}),
		"compressed":                  encoded(t, 9, struct{ Algo, Buf []byte }{}),
		"several, one of them short":  append([]byte{msgCompound, 1, 0, byte(len(one))}, one...),
		"of several only the number":  {msgCompound, 200},
		"nothing at all":              {},
		"a message of our own making": encoded(t, 8, "x"),
	}
	member := nodeState{Name: "b", Addr: short.Addr, Port: 1, Vsn: []byte{1, 5}}
	streams := map[string][]byte{
		"two versions":        encoded(t, msgPushPull, stateHead{Nodes: 1, Join: true}, member),
		"fewer than no nodes": encoded(t, msgPushPull, stateHead{Nodes: -1}),
		"a million nodes":     encoded(t, msgPushPull, stateHead{Nodes: 1 << 20}),
		"2^62 bytes more":     encoded(t, msgPushPull, stateHead{UserStateLen: 1 << 62}),
		"compressed":          encoded(t, 9, struct{ Algo, Buf []byte }{}),
		"encrypted":           {10, 0, 0, 0, 0},
	}
	for _, secrets := range [][]transport.Secret{{transport.GenerateSecret()}, nil} {
		inVillage(t, func(v *village) {
			v.secrets = secrets
			a, mad := v.start("a", "a"), v.start("c", "c")
			v.hears(a, "c", "c")
			from, err := v.net.Host("evil").ListenPacket("evil:1")
			if err != nil {
				t.Fatal(err)
			}
			defer from.Close()
			for what, content := range packets {
				packet, err := mad.gossip.sealer.seal(label(content...))
				if err == nil {
					err = from.WritePacket(packet, "a:7400")
				}
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			for what, content := range streams {
				conn, err := mad.mux.Dial(v.t.Context(), transport.ProtoGossip, "a:7400")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Write(label(content...)); err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(conn); err != nil || bytes.Contains(got, []byte("Nodes")) {
					t.Errorf("%s: answered by %q, %v", what, got, err)
				}
				_ = conn.Close()
			}
			time.Sleep(time.Second)
			b := v.start("b", "b")
			v.hears(a, "b", "b")
			for _, from := range []string{"out of order: from=evil", "out of order: from=c"} {
				if said := strings.Count(a.log.String(), from); said != 1 {
					t.Errorf("%q is said %d times, want once\n%s", from, said, a.log)
				}
			}
			for _, n := range []*villager{a, b, mad} {
				n.stop()
			}
		})
	}
}
