package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// rpcPair is two nodes n1 and n2, with TLS, in the caller's bubble if there is one.
func rpcPair(t testing.TB) (net *Memory, a, b *RPC) {
	t.Helper()
	net = NewMemory()
	return net, startRPC(t, net, "n1"), startRPC(t, net, "n2")
}

func startRPC(t testing.TB, net *Memory, name string) *RPC {
	t.Helper()
	m := startMux(t, net.Host(name), name+":7400", testCredentials(t, "demo", "c1", name, testSecret(t, 1)), nil)
	r := NewRPC(m, hclog.NewNullLogger())
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func (r *RPC) idleTo(addr string) int {
	r.client.mu.Lock()
	defer r.client.mu.Unlock()
	return len(r.client.idle[addr])
}

func TestCallRoundTrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := rpcPair(t)
		a.HandleRPC("who", func(ctx context.Context, peer Peer, req []byte) ([]byte, error) {
			if _, limited := ctx.Deadline(); limited {
				return nil, errors.New("a limit nobody set")
			}
			return fmt.Appendf(nil, "%s/%s says %s", peer.ClusterID, peer.NodeID, req), nil
		})
		a.HandleRPC("coded", func(context.Context, Peer, []byte) ([]byte, error) {
			return nil, fmt.Errorf("submit: %w", &RemoteError{Code: "not-leader", Message: "n3 is"})
		})
		a.HandleRPC("plain", func(context.Context, Peer, []byte) ([]byte, error) { return nil, errors.New("bad\nluck") })
		a.HandleRPC("echo", func(_ context.Context, _ Peer, req []byte) ([]byte, error) { return req, nil })
		a.HandleRPC("huge", func(context.Context, Peer, []byte) ([]byte, error) { return make([]byte, MaxRPC), nil })
		for range 3 {
			got, err := b.Call(t.Context(), "n1:7400", "who", []byte("hi"))
			if err != nil || string(got) != "c1/n2 says hi" {
				t.Fatalf("%q, %v", got, err)
			}
		}
		if n := b.idleTo("n1:7400"); n != 1 {
			t.Fatalf("%d standing connections after three calls, want 1", n)
		}
		big := bytes.Repeat([]byte("0123456789abcdef"), (1<<20)/16)
		if got, err := b.Call(t.Context(), "n1:7400", "echo", big); err != nil || !bytes.Equal(got, big) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if got, err := b.Call(t.Context(), "n1:7400", "echo", nil); err != nil || len(got) != 0 {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		if _, err := b.Call(t.Context(), "n1:7400", "echo", make([]byte, MaxRPC)); !errors.Is(err, ErrTooLarge) {
			t.Fatal(err)
		}
		for name, want := range map[string]RemoteError{
			"coded":   {"not-leader", "submit: n3 is (not-leader)"},
			"plain":   {CodeFailed, "bad?luck"},
			"huge":    {CodeTooLarge, ""},
			"nothing": {CodeUnknownCall, `this node does not know the call "nothing"`},
		} {
			var got *RemoteError
			_, err := b.Call(t.Context(), "n1:7400", name, nil)
			if !errors.As(err, &got) || got.Code != want.Code || want.Message != "" && got.Message != want.Message {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestCallsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := rpcPair(t)
		a.HandleRPC("slow", func(context.Context, Peer, []byte) ([]byte, error) {
			time.Sleep(time.Second)
			return nil, nil
		})
		begun := time.Now()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if _, err := b.Call(t.Context(), "n1:7400", "slow", nil); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if took := time.Since(begun); took != time.Second {
			t.Fatalf("eight calls took %v", took)
		}
		if n := b.idleTo("n1:7400"); n != maxIdle {
			t.Fatalf("%d standing connections", n)
		}
	})
}

// A call to a peer behind a cut link ends with its context, in either direction of
// the cut, and calls work at once after the healing.
func TestCallAcrossAPartition(t *testing.T) {
	for name, cut := range map[string]func(*Memory){
		"both ways":    func(n *Memory) { n.Cut("n1", "n2") },
		"request lost": func(n *Memory) { n.CutOneWay("n2", "n1") },
		"answer lost":  func(n *Memory) { n.CutOneWay("n1", "n2") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, a, b := rpcPair(t)
				var served atomic.Int32
				a.HandleRPC("x", func(context.Context, Peer, []byte) ([]byte, error) { served.Add(1); return nil, nil })
				if _, err := b.Call(t.Context(), "n1:7400", "x", nil); err != nil {
					t.Fatal(err)
				}
				cut(n)
				begun := time.Now()
				_, err := b.Call(within(t, 300*time.Millisecond), "n1:7400", "x", nil)
				if !errors.Is(err, ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 300*time.Millisecond {
					t.Fatalf("on the standing connection: %v after %v", err, time.Since(begun))
				}
				_, err = b.Call(within(t, 300*time.Millisecond), "n1:7400", "x", nil)
				if errors.Is(err, ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("on a new one: %v", err)
				}
				n.Heal("n1", "n2")
				if _, err := b.Call(within(t, 300*time.Millisecond), "n1:7400", "x", nil); err != nil {
					t.Fatal("after healing:", err)
				}
				if got := served.Load(); got != 2 && got != 3 {
					t.Fatalf("served %d calls", got)
				}
			})
		})
	}
}

// The peer's process dies in the middle of a call: the caller is told at once that
// the outcome is unknown, and the next call meets the restarted peer.
func TestCallAndRestartedPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := rpcPair(t)
		entered := make(chan struct{})
		a.HandleRPC("hang", func(ctx context.Context, _ Peer, _ []byte) ([]byte, error) {
			close(entered)
			<-ctx.Done()
			return nil, ctx.Err()
		})
		failed := make(chan error)
		go func() { _, err := b.Call(t.Context(), "n1:7400", "hang", nil); failed <- err }()
		<-entered
		n.Kill("n1")
		if err := <-failed; !errors.Is(err, ErrNoAnswer) {
			t.Fatal(err)
		}
		_ = a.Close()
		_ = a.mux.Close()
		if _, err := b.Call(t.Context(), "n1:7400", "x", nil); err == nil || errors.Is(err, ErrNoAnswer) {
			t.Fatal("nobody listens:", err)
		}
		again := startRPC(t, n, "n1")
		again.HandleRPC("x", func(context.Context, Peer, []byte) ([]byte, error) { return []byte("again"), nil })
		if got, err := b.Call(t.Context(), "n1:7400", "x", nil); err != nil || string(got) != "again" {
			t.Fatal(string(got), err)
		}
	})
}

// A standing connection whose write fails is replaced once, and the call is done
// exactly once.
func TestCallRetriesWhatWasNotSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := rpcPair(t)
		var served atomic.Int32
		a.HandleRPC("x", func(context.Context, Peer, []byte) ([]byte, error) { served.Add(1); return nil, nil })
		if _, err := b.Call(t.Context(), "n1:7400", "x", nil); err != nil {
			t.Fatal(err)
		}
		_ = b.client.idle["n1:7400"][0].raw.SetWriteDeadline(time.Unix(1, 0)) // breaks writes, and no reader sees it
		if _, err := b.Call(t.Context(), "n1:7400", "x", nil); err != nil || served.Load() != 2 {
			t.Fatal(served.Load(), err)
		}
	})
}

func TestHandlerEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, a, b := rpcPair(t)
		ended := make(chan time.Duration, 1)
		a.HandleRPC("hang", func(ctx context.Context, _ Peer, _ []byte) ([]byte, error) {
			begun := time.Now()
			<-ctx.Done()
			ended <- time.Since(begun)
			return nil, ctx.Err()
		})
		_, err := b.Call(within(t, time.Second), "n1:7400", "hang", nil)
		if err == nil {
			t.Fatal("no error")
		}
		if took := <-ended; took > time.Second {
			t.Fatalf("by its limit: after %v", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2*time.Second, cancel)
		if _, err := b.Call(ctx, "n1:7400", "hang", nil); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if took := <-ended; took > 2*time.Second+closeGrace {
			t.Fatalf("by disconnecting: after %v", took)
		}
	})
}

func TestWarmConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, a, b := rpcPair(t)
		a.HandleRPC("x", func(context.Context, Peer, []byte) ([]byte, error) { return nil, nil })
		idle := func(want int, when string) {
			t.Helper()
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if got := b.idleTo("n1:7400"); got != want {
				t.Fatalf("%s: %d standing connections, want %d", when, got, want)
			}
		}
		b.Warm("n1:7400")
		b.Warm("n1:7400")
		idle(1, "at first")
		n.Kill("n1")
		idle(0, "killed")
		_ = a.Close()
		_ = a.mux.Close()
		again := startRPC(t, n, "n1")
		again.HandleRPC("x", func(context.Context, Peer, []byte) ([]byte, error) { return nil, nil })
		idle(1, "restarted")
		n.Cut("n1", "n2")
		_, err := b.Call(within(t, time.Second), "n1:7400", "x", nil)
		if !errors.Is(err, ErrNoAnswer) {
			t.Fatal(err)
		}
		idle(0, "cut")
		n.Heal("n1", "n2")
		idle(1, "healed")
		if err := b.mux.cfg.Credentials.SetIdentity("c1", "n2b"); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Call(t.Context(), "n1:7400", "x", nil); err != nil {
			t.Fatal(err)
		}
		b.Cool("n1:7400")
		n.Kill("n1")
		idle(0, "no longer wanted")
	})
}

// Calls over real sockets, and nothing left after Close with a call under way.
func TestCallOverTCP(t *testing.T) {
	s := testSecret(t, 1)
	newRPC := func(node string) *RPC {
		m := startMux(t, TCP(time.Second), "127.0.0.1:0", testCredentials(t, "demo", NewCluster, node, s), nil)
		return NewRPC(m, hclog.NewNullLogger())
	}
	a, b := newRPC("n1"), newRPC("n2")
	entered := make(chan struct{})
	a.HandleRPC("x", func(_ context.Context, _ Peer, req []byte) ([]byte, error) { return req, nil })
	a.HandleRPC("hang", func(ctx context.Context, _ Peer, _ []byte) ([]byte, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	})
	addr := a.mux.Addr().String()
	poll(t, func() bool { // a starved machine can make a handshake fail in real time
		_, err := b.Call(within(t, 10*time.Second), addr, "x", nil)
		return err == nil
	}, "no call succeeds")
	for range 3 {
		if got, err := b.Call(within(t, 10*time.Second), addr, "x", []byte("1")); err != nil || string(got) != "1" {
			t.Fatal(string(got), err)
		}
	}
	failed := make(chan error)
	go func() { _, err := b.Call(context.Background(), addr, "hang", nil); failed <- err }()
	<-entered
	_ = b.Close()
	// Which error depends on who is faster: the closing end, or the other one, whose handler ends when it hears of it.
	if err := <-failed; err == nil {
		t.Fatal("a call survived the close")
	}
	_ = a.Close()
	if _, err := b.Call(within(t, time.Second), addr, "x", nil); err == nil {
		t.Fatal("call after close")
	}
}

func TestTwoHandlersPanic(t *testing.T) {
	_, a, _ := rpcPair(t)
	a.HandleRPC("x", func(context.Context, Peer, []byte) ([]byte, error) { return nil, nil })
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	a.HandleRPC("x", func(context.Context, Peer, []byte) ([]byte, error) { return nil, nil })
}

func FuzzFrames(f *testing.F) {
	for _, q := range []request{{name: "hello", timeout: time.Second, body: []byte("x")}, {name: "y"}} {
		b, err := q.encode()
		if err != nil {
			f.Fatal(err)
		}
		var frame bytes.Buffer
		_ = writeFrame(&frame, b)
		f.Add(frame.Bytes())
	}
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Add(append([]byte{0, 0, 0, 20}, encodeError(&RemoteError{Code: "c", Message: "m"})...))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = readFrame(bytes.NewReader(data), MaxRPC)
		if q, err := decodeRequest(data); err == nil {
			if again, err := q.encode(); err != nil || !bytes.Equal(again, data) {
				t.Fatalf("%+v: %v", q, err)
			}
		}
		_, _ = decodeAnswer(data)
	})
}
