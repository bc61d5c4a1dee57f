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
	n := fsm.Member{ID: "n", Name: "n1"}
	for _, x := range []struct {
		name    string
		secrets []transport.Secret
		proof   string
		ok      bool
	}{
		{"the secret in use", []transport.Secret{ours}, proofOf(ours, joinProof, "c1", n), true},
		{"one that is accepted too", []transport.Secret{ours, next}, proofOf(next, joinProof, "c1", n), true},
		{"none", []transport.Secret{ours}, "", false},
		{"another secret", []transport.Secret{ours}, proofOf(other, joinProof, "c1", n), false},
		{"another cluster's", []transport.Secret{ours}, proofOf(ours, joinProof, "c2", n), false},
		{"another node's", []transport.Secret{ours}, proofOf(ours, joinProof, "c1", fsm.Member{ID: "m", Name: "n1"}), false},
		{"under another name", []transport.Secret{ours}, proofOf(ours, joinProof, "c1", fsm.Member{ID: "n", Name: "n2"}), false},
		{"that of a Hello, which anybody is told", []transport.Secret{ours}, proofOf(ours, helloProof, "c1", n), false},
		{"that of a founding", []transport.Secret{ours}, proofOf(ours, formProof, "c1", n), false},
		{"a cluster without a secret, on loopback", nil, "", true},
	} {
		c.secrets.Store(&x.secrets)
		err := c.checkProof(JoinRequest{ClusterID: "c1", Member: n, Proof: x.proof})
		if (err == nil) != x.ok || err != nil && !errors.Is(err, ErrUnfit) {
			t.Errorf("%s: %v", x.name, err)
		}
	}
}
