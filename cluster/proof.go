package cluster

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// joinKey is what the key of a proof is derived with.
const joinKey = "quorate/join/1"

// proofOf is what only a holder of the secret can say for this node and cluster.
func proofOf(s transport.Secret, clusterID string, node fsm.NodeID) string {
	mac := hmac.New(sha256.New, transport.DeriveKey(s, joinKey))
	_, _ = mac.Write([]byte(clusterID + "\x00" + string(node))) // a hash takes everything
	return hex.EncodeToString(mac.Sum(nil))
}

// checkProof refuses a node that does not have a secret of this cluster; one without secrets is on loopback and asks for none.
func (c *Cluster) checkProof(r JoinRequest) error {
	if r.ClusterID != c.identity.clusterID() {
		return otherToken(r.ClusterID, c.identity.clusterID())
	}
	secrets := *c.secrets.Load()
	for _, s := range secrets {
		if hmac.Equal([]byte(r.Proof), []byte(proofOf(s, c.identity.clusterID(), r.Member.ID))) {
			return nil
		}
	}
	if len(secrets) == 0 {
		return nil
	}
	return fmt.Errorf("%w: the node has not shown that it has the secret of cluster %s; get a token with: quorate token", ErrUnfit, c.identity.clusterID())
}
