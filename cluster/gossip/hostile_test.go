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
		for piece := label(10, 1, 0x40, 0, 0); err == nil; piece = bytes.Repeat([]byte{7}, 64<<10) {
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
