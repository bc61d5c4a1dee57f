package cluster

import (
	"context"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// Three nodes over real sockets and TLS, from nothing to a first primary with a lease.
func TestThreeNodesOverTLS(t *testing.T) {
	secret := transport.GenerateSecret()
	var peers []string
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, l.Addr().String())
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	start, dir := time.Now(), t.TempDir()
	var all []*Cluster
	leased := make(chan fsm.NodeID, 1)
	for i, addr := range peers {
		name := []string{"n1", "n2", "n3"}[i]
		var c *Cluster
		c, err := Open(Config{
			Dir: filepath.Join(dir, name), Scope: "test", Listen: addr, Peers: peers, Secrets: []transport.Secret{secret},
			Member:   fsm.Member{Name: name, Role: fsm.RoleData, Addr: addr, Postgres: "127.0.0.1:1"},
			Settings: fsm.Settings{FailoverAfterMS: 1000, Durability: fsm.DurabilityQuorum},
		}, Deps{
			Boot: func() time.Duration { return time.Since(start) + time.Hour }, Logger: hclog.NewNullLogger(), Network: transport.TCP(time.Second),
			DataFacts: func() DataFacts { return DataFacts{Empty: true} }, MayHold: func(fsm.Epoch) bool { return true },
			Detach: func(context.Context, fsm.Epoch) (fsm.Position, error) { return fsm.Position{}, nil },
			OnLease: func(fsm.Epoch, time.Duration) {
				select {
				case leased <- c.Self():
				default:
				}
			},
			OnHigher: func(fsm.Epoch) {}, Exit: func(r string) { t.Errorf("exit: %s", r) },
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
		running.Go(func() {
			if err := c.Run(ctx); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
		running.Go(func() {
			for ctx.Err() == nil {
				changed, s := c.Changed(), c.State()
				c.SetReport(failover.Report{Epoch: s.Epoch, Rev: s.Rev, Run: failover.RunRunning, Healthy: true})
				select {
				case <-changed:
				case <-ctx.Done():
				}
			}
		})
	}
	select {
	case id := <-leased:
		if id != all[0].Self() {
			t.Errorf("the lease is at %s, want the first node's %s", id, all[0].Self())
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("no lease within 30s; n1: %+v, state %+v", all[0].RaftInfo(), all[0].State())
	}
}
