package transport

import (
	"context"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

type noFSM struct{}

func (noFSM) Apply(*raft.Log) any                 { return nil }
func (noFSM) Snapshot() (raft.FSMSnapshot, error) { return nil, io.EOF }
func (noFSM) Restore(io.ReadCloser) error         { return nil }

// startRaft starts a raft node over mTLS on the memory network.
func startRaft(t *testing.T, net *Memory, name string, servers []raft.Server) *raft.Raft {
	t.Helper()
	addr := name + ":7400"
	m := startMux(t, net.Host(name), addr, testCredentials(t, "demo", "c1", name, testSecret(t, 1)), nil)
	layer := RaftLayer(m, addr, func(ctx context.Context, addr string) (*Conn, error) { return m.Dial(ctx, ProtoRaft, addr) })
	if layer.Addr().String() != addr {
		t.Fatal(layer.Addr())
	}
	trans := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: layer, MaxPool: 2, MaxRPCsInFlight: 1, Timeout: time.Second, Logger: hclog.NewNullLogger(),
	})
	t.Cleanup(func() { _ = trans.Close() })
	cfg := raft.DefaultConfig()
	cfg.LocalID = raft.ServerID(name)
	cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = 500*time.Millisecond, 500*time.Millisecond, 500*time.Millisecond
	cfg.Logger = hclog.NewNullLogger()
	store := raft.NewInmemStore()
	if err := raft.BootstrapCluster(cfg, store, store, raft.NewInmemSnapshotStore(), trans, raft.Configuration{Servers: servers}); err != nil {
		t.Fatal(err)
	}
	node, err := raft.NewRaft(cfg, noFSM{}, store, store, raft.NewInmemSnapshotStore(), trans)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = node.Shutdown().Error() })
	return node
}

// The real raft over the real handshake: a leader that is cut off is replaced, and
// follows after the healing; all of it stops without a leftover.
func TestRaftLayerCarriesRaft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := NewMemory()
		names := []string{"n1", "n2", "n3"}
		var servers []raft.Server
		for _, n := range names {
			servers = append(servers, raft.Server{ID: raft.ServerID(n), Address: raft.ServerAddress(n + ":7400")})
		}
		nodes := map[string]*raft.Raft{}
		for _, n := range names {
			nodes[n] = startRaft(t, net, n, servers)
		}
		leader := func(except string) string {
			for range 600 {
				time.Sleep(50 * time.Millisecond)
				for n, r := range nodes {
					if n != except && r.State() == raft.Leader && r.Barrier(time.Second).Error() == nil {
						return n
					}
				}
			}
			t.Fatal("no leader in 30 s")
			return ""
		}
		first := leader("")
		net.Isolate(first)
		second := leader(first)
		if err := nodes[second].Apply([]byte("x"), time.Second).Error(); err != nil {
			t.Fatal(err)
		}
		net.Rejoin(first)
		want := nodes[second].AppliedIndex()
		for range 600 {
			time.Sleep(50 * time.Millisecond)
			if nodes[first].State() == raft.Follower && nodes[first].AppliedIndex() >= want {
				return
			}
		}
		t.Fatalf("the healed node is %v at %d of %d", nodes[first].State(), nodes[first].AppliedIndex(), want)
	})
}
