package transport

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// ErrBadCertificate is in every error about the files of an own PKI.
var ErrBadCertificate = errors.New("bad cluster.tls")

// PEM is what the files of an own PKI hold: this node's certificate with what is
// between it and the CA, its key, and the CAs of all nodes.
type PEM struct{ Cert, Key, CA []byte }

// NewOwnCredentials makes the credentials of a node whose certificate somebody else
// issued. A person can't know ids beforehand, so such a certificate has the node's
// name as a DNS name; the ids are said inside the connection, and MuxConfig.NameOf
// ties them to names. Its dates count, and so does the clock.
func NewOwnCredentials(scope, name, nodeID string, files PEM) (*Credentials, error) {
	c := &Credentials{name: name}
	next := credential{id: identity{scope: scope, clusterID: NewCluster, nodeID: nodeID}}
	if err := next.read(files, name); err != nil {
		return nil, err
	}
	return c, c.install(next)
}

// SetFiles is SetSecrets for an own PKI.
func (c *Credentials) SetFiles(files PEM) error {
	if !c.Own() {
		return errors.New("certificates are derived from cluster.secret here; cluster.tls takes a restart of all nodes")
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	next := *c.current.Load()
	if err := next.read(files, c.name); err != nil {
		return err
	}
	return c.install(next)
}

// Own says whether the certificate is of an own PKI.
func (c *Credentials) Own() bool { return c.name != "" }

// NotAfter is when this node's certificate, or what it was issued by, ends; only
// meaningful for an own PKI.
func (c *Credentials) NotAfter() time.Time { return c.current.Load().notAfter }

// read takes certificate and CAs from files. A certificate that has expired is taken:
// the others refuse it, and say so.
func (c *credential) read(files PEM, name string) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrBadCertificate}, args...)...)
	}
	pair, err := tls.X509KeyPair(files.Cert, files.Key)
	if err != nil {
		return bad("cert_file and key_file: %w", err)
	}
	if !slices.Contains(pair.Leaf.DNSNames, name) {
		return bad("cert_file is for %q: it needs the DNS name %q, the name of this node", pair.Leaf.DNSNames, name)
	}
	c.own, c.leaf, c.cas, c.pool = true, &pair, nil, x509.NewCertPool()
	for rest := files.CA; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return bad("ca_file: %w", err)
		}
		c.cas = append(c.cas, authority{cert: ca})
		c.pool.AddCert(ca)
	}
	if len(c.cas) == 0 {
		return bad("ca_file has no certificate in PEM form")
	}
	chains, err := c.chains(pair.Leaf, intermediates(&pair), x509.ExtKeyUsageServerAuth, time.Now())
	if err != nil { // perhaps only its time is over
		chains, err = c.chains(pair.Leaf, intermediates(&pair), x509.ExtKeyUsageServerAuth, pair.Leaf.NotBefore)
	}
	if err != nil {
		return bad("cert_file is not from the CAs of ca_file: %w", err)
	}
	c.notAfter = pair.Leaf.NotAfter
	for _, cert := range chains[0] {
		if cert.NotAfter.Before(c.notAfter) {
			c.notAfter = cert.NotAfter
		}
	}
	return nil
}

func intermediates(pair *tls.Certificate) (out []*x509.Certificate) {
	for _, der := range pair.Certificate[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil {
			out = append(out, cert)
		}
	}
	return out
}

func (c *credential) chains(leaf *x509.Certificate, more []*x509.Certificate, usage x509.ExtKeyUsage, at time.Time) ([][]*x509.Certificate, error) {
	o := x509.VerifyOptions{Roots: c.pool, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{usage}, CurrentTime: at}
	for _, cert := range more {
		o.Intermediates.AddCert(cert)
	}
	return leaf.Verify(o)
}

// ownConfig proves this node and leaves judging the peer to judge, which has words
// for it: crypto/tls can only compare a name that is known beforehand.
func (c *credential) ownConfig(protos ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: protos, SessionTicketsDisabled: true,
		Certificates: []tls.Certificate{*c.leaf}, ClientAuth: tls.RequireAnyClientCert,
		InsecureSkipVerify: true, // see judge
	}
}

// judge decides about the certificate of a peer with an own PKI. usage is what the
// peer does in this connection.
func (c *credential) judge(state tls.ConnectionState, usage x509.ExtKeyUsage) (names []string, issuer string, err error) {
	if state.Version != tls.VersionTLS13 || state.NegotiatedProtocol == "" || len(state.PeerCertificates) == 0 {
		return nil, "", errNoProtocol
	}
	leaf := state.PeerCertificates[0]
	chains, err := c.chains(leaf, state.PeerCertificates[1:], usage, time.Now())
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return nil, "", errors.New("its certificate is from none of the CAs in cluster.tls.ca_file")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return nil, "", fmt.Errorf("its certificate or CA is not valid now: the certificate is from %s to %s; renew it, or mend the clock",
			leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))
	case err != nil:
		return nil, "", fmt.Errorf("its certificate can't be accepted: %w", err)
	}
	chain := chains[0]
	return leaf.DNSNames, fingerprint(chain[len(chain)-1]), nil
}

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return string(sum[:])
}

// named refuses a member under a certificate of another name. Who is not a member
// has no name to be held to yet.
func (m *Mux) named(c *Conn) error {
	if !m.cfg.Credentials.Own() || m.cfg.NameOf == nil {
		return nil
	}
	name, member := m.cfg.NameOf(c.peer.nodeID)
	if !member || slices.Contains(c.names, name) {
		return nil
	}
	return fmt.Errorf("node %s is %s, and the certificate is for %s", c.peer.nodeID, name, strings.Join(c.names, ", "))
}
