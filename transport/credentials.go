package transport

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// serverName is every node's DNS name in certificates and every dialer's
// ServerName: who it is stands in the URI.
const serverName = "quorate"

// Credentials are what a node proves itself with and judges others by. They are
// made from the cluster secret, or Insecure for a node without one.
type Credentials struct {
	key  ed25519.PrivateKey // of the derived leaf, fresh at every start; else nil
	name string             // of this node in an own PKI; else empty

	changing sync.Mutex // one change at a time
	current  atomic.Pointer[credential]
}

// credential is one identity with what proves it, and whom it believes.
type credential struct {
	id   identity
	cas  []authority      // the first issues, if they are derived; empty: insecure
	pool *x509.CertPool   // of all of them
	leaf *tls.Certificate // nil when insecure
	// own: leaf and cas are of an own PKI, notAfter is when the first of them ends.
	own      bool
	notAfter time.Time
}

type authority struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey // nil in an own PKI
}

// NewCredentials makes the credentials of a node that knows no cluster id yet. The
// first secret issues its certificate; a peer's may come from any of them, which is
// how a secret is rotated.
func NewCredentials(scope, nodeID string, secrets ...Secret) (*Credentials, error) {
	c := &Credentials{}
	next := credential{id: identity{scope: scope, clusterID: NewCluster, nodeID: nodeID}}
	if err := next.id.validate(); err != nil {
		return nil, err
	}
	if err := next.trust(secrets); err != nil {
		return nil, err
	}
	var err error
	if _, c.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, fmt.Errorf("make certificate key: %w", err)
	}
	return c, c.install(next)
}

// Insecure makes credentials without a secret: nothing is proved or hidden, and a
// Mux refuses to use them off loopback.
func Insecure(scope, nodeID string) (*Credentials, error) {
	c := &Credentials{}
	return c, c.install(credential{id: identity{scope: scope, clusterID: NewCluster, nodeID: nodeID}})
}

// SetIdentity changes what new connections say of this node: call it when the
// cluster id is learned. Established connections keep the identity they began with.
func (c *Credentials) SetIdentity(clusterID, nodeID string) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	next := *c.current.Load()
	next.id.clusterID, next.id.nodeID = clusterID, nodeID
	return c.install(next)
}

// SetSecrets changes what new connections are proved with and judged by, as in
// NewCredentials. Established connections stay; see Mux.Retire. A node without a
// secret stays one, because the others would not understand it any more.
func (c *Credentials) SetSecrets(secrets ...Secret) error {
	if c.Own() {
		return errors.New("certificates are of an own PKI here and do not come from cluster.secret")
	}
	if c.Insecure() {
		return errors.New("a cluster without cluster.secret gets one only when all its nodes are restarted with it")
	}
	c.changing.Lock()
	defer c.changing.Unlock()
	next := *c.current.Load()
	if err := next.trust(secrets); err != nil {
		return err
	}
	return c.install(next)
}

// trust makes the CAs of secrets the ones that are believed.
func (c *credential) trust(secrets []Secret) error {
	if len(secrets) == 0 {
		return errors.New("no cluster.secret given: use Insecure, which is for loopback only")
	}
	c.cas, c.pool = nil, x509.NewCertPool()
	for _, s := range secrets {
		if s.isZero() {
			return fmt.Errorf("%w: it is not set", ErrBadSecret)
		}
		ca, err := newAuthority(c.id.scope, s)
		if err != nil {
			return err
		}
		c.cas = append(c.cas, ca)
		c.pool.AddCert(ca.cert)
	}
	return nil
}

// install issues the certificate of next and makes it the present credential.
func (c *Credentials) install(next credential) error {
	if err := next.id.validate(); err != nil {
		return err
	}
	if c.key != nil {
		leaf, err := next.cas[0].issue(next.id, c.key)
		if err != nil {
			return err
		}
		next.leaf = leaf
	}
	c.current.Store(&next)
	return nil
}

// Identity is what SetIdentity set last; clusterID is NewCluster before the first.
func (c *Credentials) Identity() (clusterID, nodeID string) {
	id := c.current.Load().id
	return id.clusterID, id.nodeID
}

// Insecure says whether there is no secret.
func (c *Credentials) Insecure() bool { return c.key == nil && !c.Own() }

// believes says whether a peer that issuer vouched for would be believed now.
func (c *credential) believes(issuer string) bool {
	return slices.ContainsFunc(c.cas, func(ca authority) bool { return fingerprint(ca.cert) == issuer })
}

// issuerOf is the CA under the peer's verified certificate.
func issuerOf(state tls.ConnectionState) string {
	chain := state.VerifiedChains[0]
	return fingerprint(chain[len(chain)-1])
}

// newAuthority makes the CA of a secret: the same bytes on every node, because the
// key is derived, Ed25519 signs deterministically and no field depends on the node.
func newAuthority(scope string, s Secret) (authority, error) {
	key := ed25519.NewKeyFromSeed(DeriveKey(s, "quorate/ca/1"))
	public := key.Public().(ed25519.PublicKey)
	keyID := sha256.Sum256(public)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: scope},
		NotBefore:             validFrom(),
		NotAfter:              validTo(),
		SubjectKeyId:          keyID[:20],
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		return authority{}, fmt.Errorf("make CA certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return authority{}, fmt.Errorf("read own CA certificate: %w", err)
	}
	return authority{cert: cert, key: key}, nil
}

// issue makes a node's certificate. Its dates are the CA's: clocks may be wrong at
// boot, and who holds the secret can issue anew anyway.
func (a authority) issue(id identity, key ed25519.PrivateKey) (*tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("make certificate serial: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(2)), // 1 is the CA's
		Subject:               pkix.Name{CommonName: id.nodeID},
		NotBefore:             validFrom(),
		NotAfter:              validTo(),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{serverName},
		URIs:                  []*url.URL{id.uri()},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("make node certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read own node certificate: %w", err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

func validFrom() time.Time { return time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC) }
func validTo() time.Time   { return time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC) }

// judgedAt is the instant at which certificates are judged, whatever the clock says.
func judgedAt() time.Time { return time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC) }

// serverConfig is the accepting side. Whether the peer may use the protocol is
// asked after the handshake, where the reason can be told.
func (c *credential) serverConfig() *tls.Config {
	if c.own {
		return c.ownConfig(protocols()...)
	}
	cfg := c.commonConfig(protocols()...)
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	cfg.ClientCAs = c.pool
	cfg.SessionTicketsDisabled = true // a resumed session would carry an old identity
	cfg.Certificates = []tls.Certificate{*c.leaf}
	return cfg
}

// clientConfig is the dialing side, offering one protocol. The certificate is given
// whatever CAs the server names, so that a refusal has a reason.
func (c *credential) clientConfig(proto Proto) *tls.Config {
	if c.own {
		return c.ownConfig(string(proto))
	}
	cfg := c.commonConfig(string(proto))
	cfg.RootCAs = c.pool
	cfg.ServerName = serverName
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return c.leaf, nil
	}
	return cfg
}

func (c *credential) commonConfig(protos ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: protos,
		Time:       judgedAt,
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyConnection(state, c.id.scope)
		},
	}
}

// errNoProtocol: Go accepts a peer that offers no ALPN at all.
var errNoProtocol = errors.New("the peer names no protocol (ALPN)")

func verifyConnection(state tls.ConnectionState, scope string) error {
	if state.Version != tls.VersionTLS13 {
		return fmt.Errorf("%s instead of TLS 1.3", tls.VersionName(state.Version))
	}
	if state.NegotiatedProtocol == "" {
		return errNoProtocol
	}
	if len(state.VerifiedChains) == 0 {
		return errors.New("the certificate was not verified")
	}
	peer, err := identityOf(state.PeerCertificates[0])
	if err != nil {
		return err
	}
	if peer.scope != scope {
		return fmt.Errorf("scope is %q here and %q there", scope, peer.scope)
	}
	return nil
}
