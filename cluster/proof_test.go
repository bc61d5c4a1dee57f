package cluster

import (
	"errors"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// TestWhoJoinsHasTheSecret: a certificate is not enough, and a proof is for one node and one cluster.
func TestWhoJoinsHasTheSecret(t *testing.T) {
	ours, next, other := transport.GenerateSecret(), transport.GenerateSecret(), transport.GenerateSecret()
	c := &Cluster{identity: &identityStore{current: identity{Joined: &joined{ClusterID: "c1"}}}}
	for _, x := range []struct {
		name    string
		secrets []transport.Secret
		proof   string
		ok      bool
	}{
		{"the secret in use", []transport.Secret{ours}, proofOf(ours, "c1", "n"), true},
		{"one that is accepted too", []transport.Secret{ours, next}, proofOf(next, "c1", "n"), true},
		{"none", []transport.Secret{ours}, "", false},
		{"another secret", []transport.Secret{ours}, proofOf(other, "c1", "n"), false},
		{"another cluster's", []transport.Secret{ours}, proofOf(ours, "c2", "n"), false},
		{"another node's", []transport.Secret{ours}, proofOf(ours, "c1", "m"), false},
		{"a cluster without a secret, on loopback", nil, "", true},
	} {
		c.secrets.Store(&x.secrets)
		err := c.checkProof(JoinRequest{ClusterID: "c1", Member: fsm.Member{ID: "n"}, Proof: x.proof})
		if (err == nil) != x.ok || err != nil && !errors.Is(err, ErrUnfit) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}
