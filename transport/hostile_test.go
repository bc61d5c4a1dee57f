package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever strangers send, they are cut off and members are served.
func TestStrangersAreCutOff(t *testing.T) {
	random := make([]byte, 4096)
	rand.NewChaCha8([32]byte{1}).Read(random)
	rows := map[string][]byte{
		"HTTP":            []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
		"random":          random,
		"huge TLS record": append([]byte{0x16, 3, 1, 0xff, 0xff}, random...),
		"huge preamble":   append([]byte(magic+"\xff\xff"), random...),
		"empty preamble":  []byte(magic + "\x00\x00"),
		"PostgreSQL":      {0, 0, 0, 8, 4, 210, 22, 47},
		"nothing":         {},
	}
	insecure, err := Insecure("demo", "n1")
	if err != nil {
		t.Fatal(err)
	}
	for kind, creds := range map[string]*Credentials{"tls": testCredentials(t, "demo", "c1", "n1", testSecret(t, 1)), "insecure": insecure} {
		m := startMux(t, TCP(0), "127.0.0.1:0", creds, nil)
		echo(m, ProtoRPC)
		for name, bytes := range rows {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				c, err := net.Dial("tcp", m.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_, _ = c.Write(bytes)
				_ = c.SetDeadline(time.Now().Add(20 * time.Second))
				if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatal("the server keeps the connection")
				}
			})
		}
		c, err := dialPatiently(t, m, ProtoRPC, m.Addr().String())
		if err != nil {
			t.Fatal(kind, err)
		}
		checkEcho(t, c)
	}
}

// Those who say nothing keep no member out, from few hosts or from many, and end after a second.
func TestSlowHandshakes(t *testing.T) {
	for _, hosts := range []int{1, 5, 3 * maxHandshakes} {
		synctest.Test(t, func(t *testing.T) {
			n := NewMemory()
			s := testSecret(t, 1)
			a := startMux(t, n.Host("n1"), "n1:7400", testCredentials(t, "demo", "c1", "n1", s), nil)
			b := startMux(t, n.Host("n2"), "n2:7400", testCredentials(t, "demo", "c1", "n2", s), nil)
			echo(a, ProtoRPC)
			var slow []net.Conn
			for i := range 3 * maxHandshakes {
				c, err := n.Host(fmt.Sprintf("bad%d", i%hosts)).Dial(t.Context(), "n1:7400")
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				slow = append(slow, c)
				synctest.Wait() // it is accepted
			}
			if got := pendingOf(a); got != maxHandshakes {
				t.Fatalf("%d handshakes under way, want %d", got, maxHandshakes)
			}
			for range fairHandshakes {
				c, err := b.Dial(t.Context(), ProtoRPC, "n1:7400")
				if err != nil {
					t.Fatalf("%d hosts lock a member out: %v", hosts, err)
				}
				checkEcho(t, c)
			}
			begun := time.Now()
			for _, c := range slow {
				if _, err := c.Read(make([]byte, 1)); err == nil {
					t.Fatal("the server talks first")
				}
			}
			if took := time.Since(begun); took > handshakeLimit {
				t.Fatalf("slow handshakes lasted %v", took)
			}
			synctest.Wait()
			if got := pendingOf(a); got != 0 {
				t.Fatalf("%d handshakes left", got)
			}
		})
	}
}

// A member whose handshake has begun does not lose it to a host that opens more and more.
func TestAHandshakeOutlastsOneHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewMemory()
		startMux(t, n.Host("n1"), "n1:7400", testCredentials(t, "demo", "c1", "n1", testSecret(t, 1)), nil)
		member, err := n.Host("n2").Dial(t.Context(), "n1:7400")
		if err != nil {
			t.Fatal(err)
		}
		defer member.Close()
		for range 2 * maxHandshakes {
			c, err := n.Host("bad").Dial(t.Context(), "n1:7400")
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			synctest.Wait() // it is accepted
		}
		begun := time.Now()
		if _, err := member.Read(make([]byte, 1)); err == nil || time.Since(begun) != handshakeLimit {
			t.Fatalf("the member's ended after %v: %v", time.Since(begun), err)
		}
	})
}

func pendingOf(m *Mux) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.pending.Len()
}

// A server that accepts and stays silent costs a dialer a second, or its context.
func TestDialSilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewMemory()
		for _, creds := range []*Credentials{testCredentials(t, "demo", "c1", "n1", testSecret(t, 1)), mustInsecure(t)} {
			m := startMux(t, n.Host("n1"), "n1:0", creds, nil)
			l, err := n.Host("n9").Listen("n9:7400")
			if err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if _, err = m.Dial(t.Context(), ProtoRPC, "n9:7400"); err == nil || time.Since(begun) != handshakeLimit {
				t.Fatal(err, time.Since(begun))
			}
			begun = time.Now()
			if _, err = m.Dial(within(t, 300*time.Millisecond), ProtoRPC, "n9:7400"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 300*time.Millisecond {
				t.Fatal(err, time.Since(begun))
			}
			_ = l.Close()
		}
	})
}

// Close ends everything: a connection read without a deadline, a handshake that
// hangs, an Accept, and the goroutines behind them.
func TestCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	s := testSecret(t, 1)
	a := startMux(t, TCP(0), "127.0.0.1:0", testCredentials(t, "demo", "c1", "n1", s), nil)
	b := startMux(t, TCP(0), "127.0.0.1:0", testCredentials(t, "demo", "c1", "n2", s), nil)
	l := a.Accept(ProtoRaft)
	dialed, err := dialPatiently(t, b, ProtoRaft, a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	hanging, err := net.Dial("tcp", a.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer hanging.Close()
	ended := make(chan error, 3)
	for _, read := range []func([]byte) (int, error){dialed.Read, accepted.Read} {
		go func() { _, err := read(make([]byte, 1)); ended <- err }()
	}
	go func() { _, err := l.Accept(); ended <- err }()
	_ = a.Close()
	for range 3 {
		if err := <-ended; err == nil {
			t.Error("something still reads")
		}
	}
	_ = a.Close()
	_ = b.Close()
	if _, err := b.Dial(within(t, time.Second), ProtoRaft, a.Addr().String()); !errors.Is(err, ErrClosed) {
		t.Error("dial after close:", err)
	}
	if len(a.conns)+len(b.conns) > 0 {
		t.Errorf("%d and %d connections remembered", len(a.conns), len(b.conns))
	}
	poll(t, func() bool { return runtime.NumGoroutine() <= before }, "goroutines are left")
}

// poll waits for a state that other goroutines bring about.
func poll(t testing.TB, done func() bool, what string) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !done(); <-tick.C {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

func mustInsecure(t testing.TB) *Credentials {
	t.Helper()
	c, err := Insecure("demo", "n1")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func FuzzHello(f *testing.F) {
	var good bytes.Buffer
	if err := writeHello(&good, hello{proto: ProtoRaft, id: identity{"demo", "c1", "n1"}}); err != nil {
		f.Fatal(err)
	}
	f.Add(good.Bytes())
	f.Add([]byte(magic + "\x00\x04\x00\x00\x00\x00"))
	f.Add([]byte("\x16\x03\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		h, err := readHello(bytes.NewReader(data))
		if err != nil {
			return
		}
		var again bytes.Buffer
		if err := writeHello(&again, h); err != nil || !bytes.HasPrefix(data, again.Bytes()) {
			t.Fatalf("%+v: %v", h, err)
		}
	})
}

func FuzzVerdict(f *testing.F) {
	for _, reason := range []string{"", "no", strings.Repeat("é", 400)} {
		var b bytes.Buffer
		if err := writeVerdict(&b, reason); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		reason, err := readVerdict(bytes.NewReader(data))
		if err == nil && strings.ContainsAny(reason, "\n\r\x1b\x00") {
			t.Fatalf("%q", reason)
		}
	})
}

// A refused node knocks many times per second; the log says it once a minute, and
// at once when the reason changes.
func TestRefusalsDoNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := startMux(t, NewMemory().Host("n1"), "n1:7400", mustInsecure(t), nil)
		told := 0
		tell := func(reason string) {
			if m.isNews(refusal{"n2", reason}) {
				told++
			}
		}
		for range 100 {
			tell("not a member")
		}
		tell("other cluster")
		time.Sleep(refusedAgain)
		tell("not a member")
		if told != 3 {
			t.Fatalf("warned %d times, want 3", told)
		}
		for i := range 2 * maxRefused {
			tell(strings.Repeat("x", i))
		}
		if len(m.refused) > maxRefused {
			t.Fatalf("%d refusals remembered", len(m.refused))
		}
	})
}
