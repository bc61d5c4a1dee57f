package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// startMux starts a Mux on host of the network, with listeners for all protocols
// that echo what they get.
func startMux(t testing.TB, n Network, listen string, creds *Credentials, authorize func(Proto, string, string) error) *Mux {
	t.Helper()
	m, err := NewMux(MuxConfig{Network: n, Listen: listen, Credentials: creds, Logger: hclog.NewNullLogger(), Authorize: authorize})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

// echo serves a protocol until the Mux closes.
func echo(m *Mux, protos ...Proto) {
	for _, proto := range protos {
		l := m.Accept(proto)
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() {
					_, _ = io.Copy(c, c)
					_ = c.Close()
				}()
			}
		}()
	}
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// checkEcho shows that bytes go both ways.
func checkEcho(t testing.TB, c net.Conn) {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	want := "hello over there"
	if _, err := io.WriteString(c, want); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Fatalf("%q, %v", got, err)
	}
	_ = c.SetDeadline(time.Time{})
}

// dialPatiently repeats what a starved machine can make fail in real time.
func dialPatiently(t testing.TB, m *Mux, proto Proto, addr string) (*Conn, error) {
	t.Helper()
	ctx := within(t, 20*time.Second)
	for {
		c, err := m.Dial(ctx, proto, addr)
		var refused *RefusedError
		if err == nil || errors.As(err, &refused) || ctx.Err() != nil {
			return c, err
		}
	}
}

// Who may talk to whom, over which protocol, and what is said when not.
func TestHandshakeMatrix(t *testing.T) {
	one, two := testSecret(t, 1), testSecret(t, 2)
	secured := func(scope, cluster, node string, s ...Secret) func(*testing.T) *Credentials {
		return func(t *testing.T) *Credentials { return testCredentials(t, scope, cluster, node, s...) }
	}
	insecure := func(scope, cluster, node string) func(*testing.T) *Credentials {
		return func(t *testing.T) *Credentials {
			c, err := Insecure(scope, node)
			if err == nil {
				err = c.SetIdentity(cluster, node)
			}
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
	}
	rows := []struct {
		name           string
		server, client func(*testing.T) *Credentials
		proto          Proto
		want           string // in the error; empty: it works
	}{
		{"same cluster, raft", secured("demo", "c1", "n1", one), secured("demo", "c1", "n2", one), ProtoRaft, ""},
		{"same cluster, beat", secured("demo", "c1", "n1", one), secured("demo", "c1", "n2", one), ProtoBeat, ""},
		{"same cluster, rpc", secured("demo", "c1", "n1", one), secured("demo", "c1", "n2", one), ProtoRPC, ""},
		{"same cluster, gossip", secured("demo", "c1", "n1", one), secured("demo", "c1", "n2", one), ProtoGossip, ""},
		{"new caller, gossip", secured("demo", "c1", "n1", one), secured("demo", NewCluster, "n2", one), ProtoGossip, "n2 has not joined"},
		{"other cluster, gossip", secured("demo", "c1", "n1", one), secured("demo", "c2", "n2", one), ProtoGossip, "different clusters"},
		{"new caller, rpc", secured("demo", "c1", "n1", one), secured("demo", NewCluster, "n2", one), ProtoRPC, ""},
		{"new server, rpc", secured("demo", NewCluster, "n1", one), secured("demo", "c1", "n2", one), ProtoRPC, ""},
		{"both new, rpc", secured("demo", NewCluster, "n1", one), secured("demo", NewCluster, "n2", one), ProtoRPC, ""},
		{"new caller, raft", secured("demo", "c1", "n1", one), secured("demo", NewCluster, "n2", one), ProtoRaft, "n2 has not joined"},
		{"new server, beat", secured("demo", NewCluster, "n1", one), secured("demo", "c1", "n2", one), ProtoBeat, "n1 has not joined"},
		{"both new, raft", secured("demo", NewCluster, "n1", one), secured("demo", NewCluster, "n2", one), ProtoRaft, "has not joined"},
		{"other cluster, raft", secured("demo", "c1", "n1", one), secured("demo", "c2", "n2", one), ProtoRaft, "different clusters"},
		{"other cluster, rpc", secured("demo", "c1", "n1", one), secured("demo", "c2", "n2", one), ProtoRPC, "different clusters"},
		{"other secret", secured("demo", "c1", "n1", one), secured("demo", "c1", "n2", two), ProtoRaft, "another cluster.secret"},
		{"other scope", secured("demo", "c1", "n1", one), secured("prod", "c1", "n2", one), ProtoRaft, `scope is "demo", this node's is "prod"`},
		{"other scope and secret", secured("demo", "c1", "n1", one), secured("prod", "c1", "n2", two), ProtoRaft, "another cluster.secret"},
		{"rotation, server has both", secured("demo", "c1", "n1", one, two), secured("demo", "c1", "n2", two, one), ProtoRaft, ""},
		{"rotation, old caller", secured("demo", "c1", "n1", one, two), secured("demo", "c1", "n2", one), ProtoRaft, ""},
		{"rotation, too early", secured("demo", "c1", "n1", one), secured("demo", "c1", "n2", two, one), ProtoRaft, "refuses this node: it uses another cluster.secret"},
		{"insecure", insecure("demo", "c1", "n1"), insecure("demo", "c1", "n2"), ProtoRaft, ""},
		{"insecure, new caller, rpc", insecure("demo", "c1", "n1"), insecure("demo", NewCluster, "n2"), ProtoRPC, ""},
		{"insecure, new caller, raft", insecure("demo", "c1", "n1"), insecure("demo", NewCluster, "n2"), ProtoRaft, "n2 has not joined"},
		{"insecure, other cluster", insecure("demo", "c1", "n1"), insecure("demo", "c2", "n2"), ProtoBeat, "different clusters"},
		{"insecure, other scope", insecure("demo", "c1", "n1"), insecure("prod", "c1", "n2"), ProtoBeat, "scope"},
		{"secret only here", insecure("demo", "c1", "n1"), secured("demo", "c1", "n2", one), ProtoRaft, "without cluster.secret"},
		{"secret only there", secured("demo", "c1", "n1", one), insecure("demo", "c1", "n2"), ProtoRaft, "has a cluster.secret"},
		{"unknown protocol", secured("demo", "c1", "n1", one), secured("demo", "c1", "n2", one), "quorate-raft/9", "does not know the protocol"},
		{"unknown protocol, insecure", insecure("demo", "c1", "n1"), insecure("demo", "c1", "n2"), "quorate-raft/9", "unknown protocol"},
	}
	run := func(t *testing.T, server, client Network, listen string, sc, cc *Credentials, proto Proto, want string) {
		a := startMux(t, server, listen, sc, nil)
		b := startMux(t, client, strings.Replace(listen, "n1", "n2", 1), cc, nil)
		echo(a, ProtoRaft, ProtoBeat, ProtoGossip, ProtoRPC)
		c, err := dialPatiently(t, b, proto, a.Addr().String())
		if want == "" {
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if cluster, node := c.Peer(); cluster == "" || node != "n1" {
				t.Fatalf("peer is %s/%s", cluster, node)
			}
			checkEcho(t, c)
			return
		}
		var refused *RefusedError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), want) {
			t.Fatalf("got %v, want a refusal with %q", err, want)
		}
	}
	for _, r := range rows {
		t.Run("tcp/"+r.name, func(t *testing.T) {
			run(t, TCP(0), TCP(time.Second), "127.0.0.1:0", r.server(t), r.client(t), r.proto, r.want)
		})
		t.Run("bubble/"+r.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := NewMemory()
				run(t, n.Host("n1"), n.Host("n2"), "n1:0", r.server(t), r.client(t), r.proto, r.want)
			})
		})
	}
}

func TestAuthorizeDecidesOnBothSides(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := NewMemory()
		s := testSecret(t, 1)
		gone := ""
		a := startMux(t, net.Host("n1"), "n1:7400", testCredentials(t, "demo", "c1", "n1", s),
			func(_ Proto, cluster, node string) error {
				if cluster != "c1" || node == gone {
					return fmt.Errorf("not a member")
				}
				return nil
			})
		b := startMux(t, net.Host("n2"), "n2:7400", testCredentials(t, "demo", "c1", "n2", s), nil)
		echo(a, ProtoRaft, ProtoRPC)
		echo(b, ProtoRaft)
		raft, err := b.Dial(t.Context(), ProtoRaft, "n1:7400")
		if err != nil {
			t.Fatal(err)
		}
		rpc, err := b.Dial(t.Context(), ProtoRPC, "n1:7400")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		gone = "n2"
		a.Reauthorize()
		if _, err := raft.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Fatalf("connection of a removed node: %v", err)
		}
		checkEcho(t, rpc)
		var refused *RefusedError
		if _, err := b.Dial(t.Context(), ProtoRaft, "n1:7400"); !errors.As(err, &refused) || refused.Local || !strings.Contains(err.Error(), "not a member") {
			t.Fatalf("accepting: %v", err)
		}
		if _, err := a.Dial(t.Context(), ProtoRaft, "n2:7400"); !errors.As(err, &refused) || !refused.Local {
			t.Fatalf("dialing: %v", err)
		}
		if _, err := b.Dial(t.Context(), ProtoBeat, "n1:7400"); !errors.As(err, &refused) {
			t.Fatalf("protocol nobody serves: %v", err)
		}
	})
}

func TestDialNodeWantsThatNode(t *testing.T) {
	net := NewMemory()
	s := testSecret(t, 1)
	a := startMux(t, net.Host("n1"), "n1:7400", testCredentials(t, "demo", "c1", "n1", s), nil)
	b := startMux(t, net.Host("n2"), "n2:7400", testCredentials(t, "demo", "c1", "n2", s), nil)
	echo(a, ProtoRPC)
	if _, err := b.DialNode(within(t, 10*time.Second), ProtoRPC, "n1:7400", "n1"); err != nil {
		t.Fatal(err)
	}
	var refused *RefusedError
	_, err := b.DialNode(within(t, 10*time.Second), ProtoRPC, "n1:7400", "n3")
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "it is node n1, not n3") {
		t.Fatal(err)
	}
}

// A node that learns its cluster id is believed on its next connection.
func TestIdentityChangesByCallback(t *testing.T) {
	net := NewMemory()
	s := testSecret(t, 1)
	ca, cb := testCredentials(t, "demo", "c1", "n1", s), testCredentials(t, "demo", NewCluster, "n2", s)
	a := startMux(t, net.Host("n1"), "n1:7400", ca, nil)
	b := startMux(t, net.Host("n2"), "n2:7400", cb, nil)
	echo(a, ProtoRaft)
	echo(b, ProtoRaft)
	ctx := within(t, 10*time.Second)
	if _, err := b.Dial(ctx, ProtoRaft, "n1:7400"); err == nil {
		t.Fatal("a new node may use raft")
	}
	if err := cb.SetIdentity("c1", "n2"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Dial(ctx, ProtoRaft, "n1:7400"); err != nil {
		t.Fatal("as a client:", err)
	}
	if _, err := a.Dial(ctx, ProtoRaft, "n2:7400"); err != nil {
		t.Fatal("as a server:", err)
	}
}

// A peer with a good certificate that names no protocol: Go's TLS would take it.
func TestEmptyALPNIsRefused(t *testing.T) {
	s := testSecret(t, 1)
	a := startMux(t, TCP(0), "127.0.0.1:0", testCredentials(t, "demo", "c1", "n1", s), nil)
	echo(a, ProtoRaft, ProtoBeat, ProtoRPC)
	creds := testCredentials(t, "demo", "c1", "n2", s)
	for name, change := range map[string]func(*tls.Config){
		"no ALPN":        func(c *tls.Config) { c.NextProtos = nil; c.VerifyConnection = nil },
		"TLS 1.2":        func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
		"no certificate": func(c *tls.Config) { c.GetClientCertificate = nil },
	} {
		cfg := creds.current.Load().clientConfig(ProtoRaft)
		change(cfg)
		raw, err := net.Dial("tcp", a.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = raw.SetDeadline(time.Now().Add(10 * time.Second))
		c := tls.Client(raw, cfg)
		if err = c.Handshake(); err == nil {
			_, err = c.Read(make([]byte, 1))
		}
		if err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		_ = raw.Close()
	}
}

func TestInsecureIsForLoopbackOnly(t *testing.T) {
	creds, err := Insecure("demo", "n1")
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:7400"} {
		_, err := NewMux(MuxConfig{Network: TCP(0), Listen: addr, Credentials: creds, Logger: hclog.NewNullLogger()})
		if !errors.Is(err, ErrNeedsSecret) {
			t.Errorf("listen on %s: %v", addr, err)
		}
	}
	m := startMux(t, TCP(0), "localhost:0", creds, nil)
	if _, err := m.Dial(within(t, time.Second), ProtoRPC, "192.0.2.1:7400"); !errors.Is(err, ErrNeedsSecret) {
		t.Errorf("dial: %v", err)
	}
}
