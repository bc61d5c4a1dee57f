package transport

import (
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// The whole rotation, step by step on one node after the other: at every moment each reaches the other anew.
func TestASecretIsRotatedWithoutInterruption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, old, next := NewMemory(), testSecret(t, 1), testSecret(t, 2)
		ca, cb := testCredentials(t, "demo", "c1", "n1", old), testCredentials(t, "demo", "c1", "n2", old)
		a, b := startMux(t, net.Host("n1"), "n1:7400", ca, nil), startMux(t, net.Host("n2"), "n2:7400", cb, nil)
		echo(a, ProtoBeat)
		echo(b, ProtoBeat)
		standing, err := b.Dial(t.Context(), ProtoBeat, "n1:7400")
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			who     *Credentials
			secrets []Secret
		}{
			{ca, []Secret{old, next}}, {cb, []Secret{old, next}},
			{ca, []Secret{next, old}}, {cb, []Secret{next, old}},
			{ca, []Secret{next}}, {cb, []Secret{next}},
		} {
			if err := step.who.SetSecrets(step.secrets...); err != nil {
				t.Fatal(err)
			}
			for from, to := range map[*Mux]string{a: "n2:7400", b: "n1:7400"} {
				c, err := from.Dial(t.Context(), ProtoBeat, to)
				if err != nil {
					t.Fatalf("to %s with %d secrets: %v", to, len(step.secrets), err)
				}
				checkEcho(t, c)
				_ = c.Close()
			}
			checkEcho(t, standing)
		}
		var refused *RefusedError
		stranger := startMux(t, net.Host("n3"), "n3:7400", testCredentials(t, "demo", "c1", "n3", old), nil)
		if _, err := stranger.Dial(t.Context(), ProtoBeat, "n1:7400"); !errors.As(err, &refused) {
			t.Fatalf("with the old secret only: %v", err)
		}
	})
}

// What a dropped secret proved ends, one connection at a time; the others stay.
func TestRetireEndsWhatADroppedSecretProved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, old, next := NewMemory(), testSecret(t, 1), testSecret(t, 2)
		ca := testCredentials(t, "demo", "c1", "n1", old, next)
		a := startMux(t, net.Host("n1"), "n1:7400", ca, nil)
		echo(a, ProtoBeat)
		var stale [2]*Conn
		late := startMux(t, net.Host("n2"), "n2:7400", testCredentials(t, "demo", "c1", "n2", old), nil)
		for i := range stale {
			var err error
			if stale[i], err = late.Dial(t.Context(), ProtoBeat, "n1:7400"); err != nil {
				t.Fatal(err)
			}
		}
		current := startMux(t, net.Host("n3"), "n3:7400", testCredentials(t, "demo", "c1", "n3", next, old), nil)
		kept, err := current.Dial(t.Context(), ProtoBeat, "n1:7400")
		if err != nil {
			t.Fatal(err)
		}
		if err := ca.SetSecrets(next); err != nil {
			t.Fatal(err)
		}
		ended := make(chan time.Time, 2)
		for _, c := range stale {
			go func() {
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("a stale connection: %v", err)
				}
				ended <- time.Now()
			}()
		}
		a.Retire(t.Context())
		if first, second := <-ended, <-ended; second.Sub(first) != retirePause {
			t.Errorf("the second ended %s after the first, want %s", second.Sub(first), retirePause)
		}
		checkEcho(t, kept)
	})
}

func TestAnInsecureNodeStaysOne(t *testing.T) {
	if err := mustInsecure(t).SetSecrets(testSecret(t, 1)); err == nil {
		t.Error("a node without a secret took one while running")
	}
	c := testCredentials(t, "demo", "c1", "n1", testSecret(t, 1))
	if err := c.SetSecrets(); err == nil {
		t.Error("a node gave up its last secret")
	}
	if err := c.SetSecrets(testSecret(t, 2), Secret{}); err == nil {
		t.Error("a zero secret was taken")
	}
	if _, err := startMux(t, NewMemory().Host("n1"), "n1:7400", c, nil).Dial(t.Context(), ProtoRPC, "nowhere:1"); err == nil {
		t.Error("dialed nowhere")
	}
}

// Of two addresses the one where the node is wins, whatever is at the other.
func TestDialAnyFindsTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, s := NewMemory(), testSecret(t, 1)
		start := func(host, node string) *Mux {
			m := startMux(t, net.Host(host), host+":7400", testCredentials(t, "demo", "c1", node, s), nil)
			echo(m, ProtoBeat)
			return m
		}
		me := start("n1", "n1")
		start("there", "n2")
		start("moved", "n3") // lives where n2 was
		net.Host("gone")     // nobody listens
		net.Host("dark")
		net.Isolate("dark") // not even a refusal comes back
		for name, old := range map[string]string{"another node": "moved:7400", "nobody": "gone:7400", "no answer": "dark:7400"} {
			began := time.Now()
			c, err := me.DialAny(t.Context(), ProtoBeat, "n2", []string{old, "there:7400"})
			if err != nil || c.peer.nodeID != "n2" || time.Since(began) != 0 {
				t.Errorf("%s at the old address: %v after %s", name, err, time.Since(began))
				continue
			}
			checkEcho(t, c)
		}
		var refused *RefusedError
		if _, err := me.DialAny(t.Context(), ProtoBeat, "n4", []string{"moved:7400", "there:7400"}); !errors.As(err, &refused) {
			t.Errorf("a node that is at neither: %v", err)
		}
		c, err := me.DialAny(t.Context(), ProtoBeat, "n2", []string{"there:7400", "there:7400"})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if n := established(me); n != 4 {
			t.Errorf("%d connections stand, want the 4 that were given out", n)
		}
		checkEcho(t, c)
	})
}

func established(m *Mux) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.conns)
}
