package hostile

import (
	"crypto/tls"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/transport"
)

const (
	// What may be alive beyond what was before, in bytes: during a storm, the attackers' own buffers included, and after it.
	mostDuring = 96 << 20
	mostAfter  = 8 << 20
	// stray is how many goroutines and files more or less mean nothing: a dial, a health check that is under way.
	stray = 6
	// mostLines is of log, of three nodes in a whole test.
	mostLines = 200
)

// load is what a process costs.
type load struct {
	heap              int64
	goroutines, files int
}

func measure(t *testing.T) load {
	t.Helper()
	runtime.GC()
	runtime.GC() // what finalizers let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return load{int64(m.HeapAlloc), runtime.NumGoroutine(), len(open)}
}

// TestHostileBytes: strangers, a thousand slow ones and members gone mad at every port at once, for longer than a lease
// lasts. The lease is held throughout, the same node leads, health says 200, and after it all is as it was before.
func TestHostileBytes(t *testing.T) {
	open(t, func(w *world) {
		thousand := attack{"a thousand slow handshakes", 1000, slow}
		w.unchanged(func() {
			var all sync.WaitGroup
			for _, storm := range []func(){
				func() { w.storms("cluster", w.peers, "127.0.0.66", w.atCluster()...) },
				func() { w.storms("API", []string{w.plain}, "127.0.0.66", atAPI()...) },
				func() { w.storms("API over TLS", []string{w.secure}, "127.0.0.66", atSecureAPI()...) },
				func() { w.storm("cluster", w.peers, "127.0.0.67", thousand) },
				func() { w.storm("cluster, from a member's address", w.peers, "127.0.0.1", thousand) },
				func() { w.storm("API", []string{w.plain}, "127.0.0.67", thousand) },
				func() { w.storm("API over TLS", []string{w.secure}, "127.0.0.67", thousand) },
				func() { w.storm("cluster", w.peers[:2], "127.0.0.68", w.asMember()...) },
				w.datagrams,
			} {
				all.Go(storm)
			}
			all.Wait()
		})
	})
}

// anywhere are attacks on every port.
func anywhere() []attack {
	return []attack{
		{"noise", 30, raw(noise)},
		{"closed for writing early", 30, half},
		{"torn", 300, torn},
	}
}

func (w *world) atCluster() []attack {
	id, self := w.nodes[0].ClusterID(), string(w.nodes[0].Self())
	other := transport.GenerateSecret()
	member := w.certificate(id, string(w.nodes[2].Self()))
	with := func(certificates []tls.Certificate, protos ...string) func() *tls.Config {
		return func() *tls.Config {
			return &tls.Config{InsecureSkipVerify: true, Certificates: certificates, NextProtos: protos}
		}
	}
	return append(anywhere(),
		attack{"plain HTTP", 6, raw(fixed(plainHTTP))},
		attack{"a preamble without TLS", 6, raw(fixed("quorate\x01\xff\xff"))},
		attack{"a TLS record of 65535 bytes", 6, raw(fixed("\x16\x03\x01\xff\xff" + strings.Repeat("x", 60000)))},
		attack{"TLS without a certificate", 6, shake(with(nil, string(transport.ProtoRaft)))},
		attack{"a member's certificate and no ALPN", 6, shake(with([]tls.Certificate{member}))},
		attack{"a member's certificate and HTTP's ALPN", 6, shake(with([]tls.Certificate{member}, "h2", "http/1.1"))},
		attack{"another secret", 6, w.come(other, id, self, transport.ProtoRaft)},
		attack{"another cluster of the same CA, raft", 6, w.come(w.secret, "other", "x", transport.ProtoRaft)},
		attack{"another cluster of the same CA, beats", 6, w.come(w.secret, "other", "x", transport.ProtoBeat)},
		attack{"another cluster of the same CA, gossip", 6, w.come(w.secret, "other", "x", transport.ProtoGossip)},
		attack{"another cluster of the same CA, calls", 6, w.come(w.secret, "other", "x", transport.ProtoRPC)},
		attack{"no member, raft", 6, w.come(w.secret, id, "x", transport.ProtoRaft)},
		attack{"not joined yet, beats", 6, w.come(w.secret, transport.NewCluster, "x", transport.ProtoBeat)},
		attack{"a protocol of another version", 6, w.come(w.secret, id, "x", "quorate-raft/9")},
	)
}

const (
	plainHTTP = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	change    = "POST /v1/switchover HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token\r\nContent-Type: application/json\r\n"
)

func atAPI() []attack {
	endless := "{\"to\":\"" + strings.Repeat("x", 1<<20)
	return append(anywhere(),
		attack{"TLS", 6, shake(func() *tls.Config { return &tls.Config{InsecureSkipVerify: true} })},
		attack{"a preamble of the cluster port", 6, raw(fixed("quorate\x01\xff\xff\r\n\r\n"))},
		attack{"a header without end", 6, raw(fixed("GET / HTTP/1.1\r\nX: " + endless))},
		attack{"a body of 2^62 bytes", 6, raw(fixed(change + "Content-Length: 4611686018427387904\r\n\r\n" + endless))},
		attack{"a chunk of 2^63 bytes", 6, raw(fixed(change + "Transfer-Encoding: chunked\r\n\r\n8000000000000000\r\n" + endless))},
		attack{"a change without a token", 6, raw(fixed("POST /v1/switchover HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))},
	)
}

func atSecureAPI() []attack {
	return append(anywhere(),
		attack{"plain HTTP", 6, raw(fixed(plainHTTP))},
		attack{"TLS 1.0", 6, shake(func() *tls.Config {
			return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}
		})},
	)
}

// asMember is what somebody with a member's certificate may send: messages of any length, or none that can be read.
func (w *world) asMember() []attack {
	label := string([]byte{244, byte(len(w.nodes[0].ClusterID()))}) + w.nodes[0].ClusterID()
	return []attack{
		{"a beat of 4 GiB", 10, w.frames(transport.ProtoBeat, "\xff\xff\xff\xff")},
		{"a beat that is no JSON", 10, w.frames(transport.ProtoBeat, "\x00\x00\x10\x00")},
		{"a call of 4 GiB", 10, w.frames(transport.ProtoRPC, "\xff\xff\xff\xff")},
		{"a call without a name", 10, w.frames(transport.ProtoRPC, "\x00\x00\x10\x00")},
		{"a message of Raft that is none", 10, w.frames(transport.ProtoRaft, "\xff")},
		{"4 G entries of Raft", 10, w.frames(transport.ProtoRaft, "\x00\x81\xa7Entries\xdd\xff\xff\xff\xff")},
		{"an unknown field of Raft of 4 GiB", 10, w.part("\x00\x81\xa1Z\xc6\xff\xff\xff\xff")},
		{"a name of a field of Raft of 4 GiB", 10, w.part("\x00\x81\xdb\xff\xff\xff\xff")},
		{"a text of Raft of 4 GiB", 10, w.part("\x00\x81\xa6Leader\xc6\xff\xff\xff\xff")},
		{"a stream of gossip of 4 GiB", 10, w.frames(transport.ProtoGossip, label+"\x0a\xff\xff\xff\xff")},
		{"a stream of gossip in the clear", 10, w.frames(transport.ProtoGossip, label+
			"\x06\x83\xa5Nodes\xcf\x7f\xff\xff\xff\xff\xff\xff\xff")},
	}
}

// unchanged does something and checks that nothing came of it.
func (w *world) unchanged(do func()) {
	w.t.Helper()
	leader, term := w.leader(), w.leader().RaftInfo().Term
	before := measure(w.t)
	sampled := w.sample()
	do()
	peak := sampled()
	w.t.Logf("before: %+v; most at a time: %+v", before, peak)
	if grown := peak.heap - before.heap; grown > mostDuring {
		w.t.Errorf("the heap grew by %d bytes meanwhile, at most %d", grown, int64(mostDuring))
	}
	w.wait("everything is let go of", func() bool {
		now := measure(w.t)
		return now.goroutines <= before.goroutines+stray && now.files <= before.files+stray &&
			now.heap <= before.heap+mostAfter
	})
	w.t.Logf("after: %+v", measure(w.t))
	if lines := strings.Count(w.logs.String(), "\n"); lines > mostLines {
		w.t.Errorf("%d lines of log:\n%s", lines, w.logs.String())
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.nodes[0].State()
	if w.lapsed > 0 || w.higher > 0 || w.until <= w.boot() || s.Epoch != 1 || s.Primary != w.nodes[0].Self() {
		w.t.Errorf("the lease ran out %d times, %d later epochs; epoch %d of %s", w.lapsed, w.higher, s.Epoch, s.Name(s.Primary))
	}
	if now := w.leader(); now != leader || now.RaftInfo().Term != term {
		w.t.Errorf("the leader has changed: term %d, now %+v", term, now.RaftInfo())
	}
	if w.failed.Load() > 0 || w.served.Load() == 0 {
		w.t.Errorf("%d health checks failed, %d did not", w.failed.Load(), w.served.Load())
	}
	w.t.Logf("%d health checks said 200", w.served.Load())
}

// sample looks at the load until the function returned is called, which gives the most of each.
func (w *world) sample() (end func() load) {
	var most load
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for ended := false; !ended; {
			now := measure(w.t)
			most = load{max(most.heap, now.heap), max(most.goroutines, now.goroutines), max(most.files, now.files)}
			select {
			case <-stop:
				ended = true
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return func() load { close(stop); <-done; return most }
}
