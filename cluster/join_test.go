package cluster

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
