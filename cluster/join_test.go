package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/transport"
)

// TestWhatAJoinIsTold: what can't change by itself ends it at once, and nobody's answer is no refusal.
func TestWhatAJoinIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := transport.GenerateSecret()
		p := newPeerNodes(t, 1)
		p.secrets = []transport.Secret{ours}
		n1 := p.open("n1")
		stop := p.run(n1)
		waitFor(t, "n1 leads", func() bool { return n1.RaftInfo().State == "leader" && initialised(n1) })
		for _, c := range []struct {
			what   string
			name   string
			secret transport.Secret
			addrs  []string
			want   error
			says   string
			atOnce bool
		}{
			{"another secret", "n2", transport.GenerateSecret(), []string{"n1:7400"}, ErrUnfit, "another cluster.secret", true},
			{"another secret, and one that is down", "n3", transport.GenerateSecret(), []string{"down:7400", "n1:7400"}, ErrUnfit, "another cluster.secret", true},
			{"nobody is there", "n4", ours, []string{"down:7400"}, ErrNobody, "down:7400", false},
		} {
			p.secrets, p.peers = []transport.Secret{c.secret}, c.addrs
			began := time.Now()
			err := p.joins(c.name, n1.ClusterID())
			if !errors.Is(err, c.want) || errors.Is(err, ErrNotYet) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want %v with %q", c.what, err, c.want, c.says)
			}
			if took := time.Since(began); (took < joinAgain) != c.atOnce {
				t.Errorf("%s: told after %s", c.what, took)
			}
		}
		p.mustStop(stop)
	})
}

// TestOnlyTheTokensClusterIsJoined: who answers at the address may let a node into any cluster that he likes.
func TestOnlyTheTokensClusterIsJoined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeerNodes(t, 1)
		creds, err := transport.Insecure("test", "liar")
		if err == nil {
			err = creds.SetIdentity("c1", "liar")
		}
		if err != nil {
			t.Fatal(err)
		}
		mux, err := transport.NewMux(transport.MuxConfig{Network: p.net.Host("n1"), Listen: "n1:7400", Credentials: creds, Logger: hclog.NewNullLogger()})
		if err != nil {
			t.Fatal(err)
		}
		rpc := transport.NewRPC(mux, hclog.NewNullLogger())
		rpc.HandleRPC(callJoin, func(context.Context, transport.Peer, []byte) ([]byte, error) {
			return json.Marshal(joined{ClusterID: "c2", Seed: strings.Repeat("ab", 32), FailoverAfterMS: 1000})
		})
		if err := p.joins("n2", "c1"); !errors.Is(err, ErrOtherCluster) || !strings.Contains(err.Error(), "c2") {
			t.Errorf("let into another cluster than was asked for: %v", err)
		}
		if belongs, err := Belongs(filepath.Join(p.dir, "n2")); belongs || err != nil {
			t.Errorf("it belongs to one: %v", err)
		}
		if err := errors.Join(rpc.Close(), mux.Close()); err != nil {
			t.Error(err)
		}
	})
}
