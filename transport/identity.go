package transport

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
)

// NewCluster is the cluster id of a node that has not joined one yet.
const NewCluster = "new"

// Peer is who is at the other end, as its certificate (without a secret: its
// preamble) says.
type Peer struct {
	ClusterID string // or NewCluster
	NodeID    string
	Addr      string   // of the connection, for messages
	Names     []string // what its certificate is for, in an own PKI
}

// identity is what a certificate or preamble names.
type identity struct{ scope, clusterID, nodeID string }

func (id identity) validate() error {
	for _, part := range []struct{ what, value string }{
		{"scope", id.scope}, {"cluster id", id.clusterID}, {"node id", id.nodeID},
	} {
		if !plainName(part.value) {
			return fmt.Errorf("%s %q: it must have 1 to %d letters, digits, '-', '_' or single '.', and neither start with a sign nor end with '.'",
				part.what, part.value, maxName)
		}
	}
	return nil
}

const maxName = 63

// plainName says whether s can stand in a certificate's URI without escaping, as
// a host or as a part of the path.
func plainName(s string) bool {
	if s == "" || len(s) > maxName || strings.Contains(s, "..") || s[len(s)-1] == '.' || strings.IndexByte("-_.", s[0]) >= 0 {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}) < 0
}

func (id identity) uri() *url.URL {
	return &url.URL{Scheme: "quorate", Host: id.scope, Path: "/" + id.clusterID + "/" + id.nodeID}
}

// identityOf reads the one quorate URI of a certificate.
func identityOf(cert *x509.Certificate) (identity, error) {
	var found []identity
	for _, u := range cert.URIs {
		if u.Scheme != "quorate" {
			continue
		}
		parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
		if len(parts) != 2 {
			return identity{}, fmt.Errorf("certificate names %q, not quorate://scope/cluster/node", u)
		}
		found = append(found, identity{scope: u.Host, clusterID: parts[0], nodeID: parts[1]})
	}
	if len(found) != 1 {
		return identity{}, fmt.Errorf("certificate has %d quorate names, it must have one", len(found))
	}
	return found[0], found[0].validate()
}

// admit says whether local may talk proto with peer; membership of the node is
// Authorize's question. The text is read by people at either end.
func admit(proto Proto, local, peer identity) error {
	if local.scope != peer.scope {
		return fmt.Errorf("scope is %q here and %q there: give both node files the same scope", local.scope, peer.scope)
	}
	if local.clusterID == peer.clusterID && local.clusterID != NewCluster {
		return nil
	}
	if proto == ProtoRPC && (local.clusterID == NewCluster || peer.clusterID == NewCluster) {
		return nil
	}
	switch {
	case local.clusterID == NewCluster:
		return fmt.Errorf("node %s has not joined a cluster yet and takes no %s", local.nodeID, proto)
	case peer.clusterID == NewCluster:
		return fmt.Errorf("node %s has not joined cluster %s yet and may not use %s", peer.nodeID, local.clusterID, proto)
	}
	return fmt.Errorf("node %s is of cluster %s, node %s of cluster %s: they are different clusters with one scope and secret",
		local.nodeID, local.clusterID, peer.nodeID, peer.clusterID)
}
