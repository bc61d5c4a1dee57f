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
	cas  []authority // empty: insecure
	pool *x509.CertPool
	key  ed25519.PrivateKey // of the leaf, fresh at every start

	changing sync.Mutex // one SetIdentity at a time
	current  atomic.Pointer[credential]
}

// credential is one identity with the certificate that proves it.
type credential struct {
	id   identity
	leaf *tls.Certificate // nil when insecure
}

type authority struct {
	cert *x509.Certificate
	key  ed25519.PrivateKey
}

// NewCredentials makes the credentials of a node that knows no cluster id yet. The
// first secret issues its certificate; a peer's may come from any of them, which is
// how a secret is rotated.
func NewCredentials(scope, nodeID string, secrets ...Secret) (*Credentials, error) {
	if len(secrets) == 0 {
		return nil, errors.New("no cluster.secret given: use Insecure, which is for loopback only")
	}
	id := identity{scope: scope, clusterID: NewCluster, nodeID: nodeID}
	if err := id.validate(); err != nil {
		return nil, err
	}
	c := &Credentials{pool: x509.NewCertPool()}
	for _, s := range secrets {
		if s.isZero() {
			return nil, fmt.Errorf("%w: it is not set", ErrBadSecret)
		}
		ca, err := newAuthority(scope, s)
		if err != nil {
			return nil, err
		}
		c.cas = append(c.cas, ca)
		c.pool.AddCert(ca.cert)
	}
	var err error
	if _, c.key, err = ed25519.GenerateKey(rand.Reader); err != nil {
		return nil, fmt.Errorf("make certificate key: %w", err)
	}
	return c, c.SetIdentity(NewCluster, nodeID)
}

// Insecure makes credentials without a secret: nothing is proved or hidden, and a
// Mux refuses to use them off loopback.
func Insecure(scope, nodeID string) (*Credentials, error) {
	c := &Credentials{}
	c.current.Store(&credential{id: identity{scope: scope}})
	return c, c.SetIdentity(NewCluster, nodeID)
}

// SetIdentity changes what new connections say of this node: call it when the
// cluster id is learned. Established connections keep the identity they began with.
func (c *Credentials) SetIdentity(clusterID, nodeID string) error {
	c.changing.Lock()
	defer c.changing.Unlock()
	next := &credential{id: identity{scope: c.scope(), clusterID: clusterID, nodeID: nodeID}}
	if err := next.id.validate(); err != nil {
		return err
	}
	if len(c.cas) > 0 {
		leaf, err := c.cas[0].issue(next.id, c.key)
		if err != nil {
			return err
		}
		next.leaf = leaf
	}
	c.current.Store(next)
	return nil
}

// Identity is what SetIdentity set last; clusterID is NewCluster before the first.
func (c *Credentials) Identity() (clusterID, nodeID string) {
	id := c.current.Load().id
	return id.clusterID, id.nodeID
}

// Insecure says whether there is no secret.
func (c *Credentials) Insecure() bool { return len(c.cas) == 0 }

func (c *Credentials) scope() string {
	if len(c.cas) > 0 {
		return c.cas[0].cert.Subject.CommonName
	}
	return c.current.Load().id.scope
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
func (c *Credentials) serverConfig() *tls.Config {
	cfg := c.commonConfig(protocols()...)
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	cfg.ClientCAs = c.pool
	cfg.SessionTicketsDisabled = true // a resumed session would carry an old identity
	cfg.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		return c.current.Load().leaf, nil
	}
	return cfg
}

// clientConfig is the dialing side, offering one protocol. The identity is the
// caller's snapshot, so that its checks and its certificate agree.
func (c *Credentials) clientConfig(proto Proto, me *credential) *tls.Config {
	cfg := c.commonConfig(string(proto))
	cfg.RootCAs = c.pool
	cfg.ServerName = serverName
	cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return me.leaf, nil
	}
	return cfg
}

func (c *Credentials) commonConfig(protos ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: protos,
		Time:       judgedAt,
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyConnection(state, c.scope())
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
