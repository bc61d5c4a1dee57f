package transport

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// memoryPair is a connection between hosts a and b of a fresh network.
func memoryPair(t *testing.T) (n *Memory, a, b net.Conn) {
	t.Helper()
	n = NewMemory()
	l, err := n.Host("b").Listen(":1")
	if err != nil {
		t.Fatal(err)
	}
	if a, err = n.Host("a").Dial(t.Context(), "b:1"); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return n, a, b
}

func readWithin(c net.Conn, d time.Duration) (string, error) {
	_ = c.SetReadDeadline(time.Now().Add(d))
	buf := make([]byte, 64)
	n, err := c.Read(buf)
	return string(buf[:n]), err
}

func TestMemoryCutHoldsBytesUntilHealed(t *testing.T) {
	cuts := map[string]struct {
		cut, heal      func(*Memory)
		a2b, b2a, dial bool
	}{
		"both ways":    {func(n *Memory) { n.Cut("a", "b") }, func(n *Memory) { n.Heal("b", "a") }, false, false, false},
		"one way":      {func(n *Memory) { n.CutOneWay("a", "b") }, func(n *Memory) { n.Heal("a", "b") }, false, true, false},
		"other way":    {func(n *Memory) { n.CutOneWay("b", "a") }, func(n *Memory) { n.Heal("a", "b") }, true, false, false},
		"isolated":     {func(n *Memory) { n.Isolate("b") }, func(n *Memory) { n.Rejoin("b") }, false, false, false},
		"other's link": {func(n *Memory) { n.Cut("a", "c") }, func(n *Memory) { n.Heal("a", "c") }, true, true, true},
	}
	for name, c := range cuts {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, a, b := memoryPair(t)
				defer a.Close()
				defer b.Close()
				c.cut(n)
				for _, way := range []struct {
					from, to net.Conn
					through  bool
				}{{a, b, c.a2b}, {b, a, c.b2a}} {
					if _, err := way.from.Write([]byte("x")); err != nil {
						t.Fatal("a small write knows nothing of a cut:", err)
					}
					got, err := readWithin(way.to, time.Minute)
					if way.through && got != "x" || !way.through && !errors.Is(err, os.ErrDeadlineExceeded) {
						t.Fatalf("through %v: %q, %v", way.through, got, err)
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				begun := time.Now()
				if d, err := n.Host("a").Dial(ctx, "b:1"); (err == nil) != c.dial {
					t.Fatalf("dial: %v", err)
				} else if c.dial {
					_ = d.Close()
				} else if time.Since(begun) != time.Second {
					t.Fatalf("dial ended after %v", time.Since(begun))
				}
				dialed := make(chan error)
				go func() {
					d, err := n.Host("a").Dial(t.Context(), "b:1")
					if err == nil {
						_ = d.Close()
					}
					dialed <- err
				}()
				synctest.Wait()
				c.heal(n)
				if err := <-dialed; err != nil {
					t.Fatal("dial across the healing:", err)
				}
				for _, way := range []struct {
					to      net.Conn
					through bool
				}{{b, c.a2b}, {a, c.b2a}} {
					if got, err := readWithin(way.to, time.Second); !way.through && got != "x" {
						t.Fatalf("after healing: %q, %v", got, err)
					}
				}
			})
		})
	}
}

func TestMemoryWritesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := memoryPair(t)
		defer b.Close()
		_ = a.SetWriteDeadline(time.Now().Add(time.Second))
		if wrote, err := a.Write(make([]byte, 2*memoryBuffer)); wrote != memoryBuffer || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("peer does not read: %d, %v", wrote, err)
		}
		_ = a.SetWriteDeadline(time.Time{})
		n.Cut("a", "b")
		begun := time.Now()
		if _, err := a.Write([]byte("x")); !errors.Is(err, syscall.ETIMEDOUT) || time.Since(begun) != memoryUserTimeout {
			t.Fatalf("peer is cut off: %v after %v", err, time.Since(begun))
		}
	})
}

func TestMemoryEndsOfAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := memoryPair(t)
		_, _ = a.Write([]byte("last words"))
		_ = a.Close()
		if got, err := readWithin(b, time.Second); got != "last words" {
			t.Fatal(got, err)
		}
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatal("end of stream:", err)
		}
		if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Fatal("write to a closed peer:", err)
		}
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Fatal("read of a closed connection:", err)
		}
		_ = b.Close()

		n, a, b := memoryPair(t)
		n.Cut("a", "b")
		n.Kill("b")
		if _, err := b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal("the killed end:", err)
		}
		if _, err := readWithin(a, time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a reset crosses a cut link:", err)
		}
		n.Heal("a", "b")
		if _, err := readWithin(a, time.Second); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal("the other end:", err)
		}
		if _, err := n.Host("a").Dial(t.Context(), "b:1"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Fatal("dial to a killed host:", err)
		}
		if _, err := n.Host("b").Listen("b:1"); err != nil {
			t.Fatal("listen again:", err)
		}
		if _, err := n.Host("b").Listen("b:1"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal("listen twice:", err)
		}
		_ = a.Close()
		if len(n.pipes) != 0 {
			t.Fatalf("%d connections remembered", len(n.pipes))
		}
	})
}

// A peer behind a cut link cannot make Close wait, with or without TLS.
func TestCloseOfACutConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewMemory()
		s := testSecret(t, 1)
		a := startMux(t, n.Host("n1"), "n1:7400", testCredentials(t, "demo", "c1", "n1", s), nil)
		b := startMux(t, n.Host("n2"), "n2:7400", testCredentials(t, "demo", "c1", "n2", s), nil)
		l := a.Accept(ProtoRaft)
		c, err := b.Dial(t.Context(), ProtoRaft, "n1:7400")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Accept(); err != nil {
			t.Fatal(err)
		}
		n.Isolate("n1")
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := c.Write(make([]byte, 2*memoryBuffer)); err == nil {
			t.Fatal("all of it fits")
		}
		begun := time.Now()
		_ = c.Close()
		if took := time.Since(begun); took > closeGrace {
			t.Fatalf("close took %v", took)
		}
	})
}
