package cluster

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// What the key of a proof is derived with, one for each purpose: anybody is told the proof of a Hello, and it must open no door.
const (
	joinProof  = "quorate/join/1"
	helloProof = "quorate/hello/1"
	formProof  = "quorate/form/1"
)

// proofOf is what only a holder of the secret can say for this node in this cluster, which is "" before there is one. It is bound
// to the node's name, and so is the certificate of an own PKI: under another certificate a proof that was overheard is worth nothing.
func proofOf(s transport.Secret, purpose, clusterID string, m fsm.Member) string {
	mac := hmac.New(sha256.New, transport.DeriveKey(s, purpose))
	_, _ = mac.Write([]byte(clusterID + "\x00" + string(m.ID) + "\x00" + m.Name)) // a hash takes everything
	return hex.EncodeToString(mac.Sum(nil))
}

// proof is this node's own; a node without a secret has none.
func (c *Cluster) proof(purpose, clusterID string) string {
	secrets := *c.secrets.Load()
	if len(secrets) == 0 {
		return ""
	}
	return proofOf(secrets[0], purpose, clusterID, c.template())
}

// proved says whether m has one of this node's secrets; a node without secrets is on loopback and asks for none.
func (c *Cluster) proved(proof, purpose, clusterID string, m fsm.Member) bool {
	secrets := *c.secrets.Load()
	for _, s := range secrets {
		if hmac.Equal([]byte(proof), []byte(proofOf(s, purpose, clusterID, m))) {
			return true
		}
	}
	return len(secrets) == 0
}

// checkProof refuses a node that does not have a secret of this cluster.
func (c *Cluster) checkProof(r JoinRequest) error {
	if r.ClusterID != c.identity.clusterID() {
		return otherToken(r.ClusterID, c.identity.clusterID())
	}
	if c.proved(r.Proof, joinProof, c.identity.clusterID(), r.Member) {
		return nil
	}
	return fmt.Errorf("%w: the node has not shown that it has the secret of cluster %s; get a token with: quorate token", ErrUnfit, c.identity.clusterID())
}

// checkFounder refuses an initial node that can't show that it is the member it says it is: before the cluster is founded nobody else
// ties a node to a name, and in an own PKI anybody may have a certificate.
func (c *Cluster) checkFounder(peer transport.Peer, proof, purpose, clusterID string, m fsm.Member) error {
	if err := checkClaim(peer, m); err != nil {
		return err
	}
	if !c.proved(proof, purpose, clusterID, m) {
		return fmt.Errorf("%w: %s has not shown that it has this cluster's secret: give every node the same cluster.secret_file", ErrUnfit, m.Name)
	}
	return nil
}

// checkClaim refuses who speaks for a node that is not his: another id than the connection's, or a name that his certificate is not for.
func checkClaim(peer transport.Peer, m fsm.Member) error {
	if peer.NodeID != string(m.ID) {
		return fmt.Errorf("%w: node %s asks in the name of node %s", ErrUnfit, peer.NodeID, m.ID)
	}
	if peer.Names != nil && !slices.Contains(peer.Names, m.Name) {
		return fmt.Errorf("%w: the certificate of node %s is for %v, not for %s", ErrUnfit, peer.NodeID, peer.Names, m.Name)
	}
	return nil
}
