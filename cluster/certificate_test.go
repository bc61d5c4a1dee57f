package cluster

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// certificates gives files for nodes by their names, from one CA.
func certificates(t *testing.T) func(name string) *transport.PEM {
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	issue := func(cert *x509.Certificate, public any) []byte {
		t.Helper()
		der, err := x509.CreateCertificate(rand.Reader, cert, ca, public, key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	root := issue(ca, public)
	return func(name string) *transport.PEM {
		public, own, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := x509.MarshalPKCS8PrivateKey(own)
		if err != nil {
			t.Fatal(err)
		}
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(2), DNSNames: []string{name}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
			ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		}
		return &transport.PEM{Cert: issue(leaf, public), Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), CA: root}
	}
}

// dialAs opens a connection for beats with other credentials than a node's.
func dialAs(t *testing.T, network transport.Network, creds *transport.Credentials, addr string) error {
	t.Helper()
	mux, err := transport.NewMux(transport.MuxConfig{Network: network, Listen: ":7400", Credentials: creds, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer mux.Close()
	_, err = mux.Dial(t.Context(), transport.ProtoBeat, addr)
	return err
}

// With an own PKI the cluster begins, Raft, beats, calls and gossip work, and a member is held to its name.
func TestAClusterWithOwnCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeerNodes(t, 3)
		p.secrets, p.certificate = []transport.Secret{transport.GenerateSecret()}, certificates(t)
		all := []*Cluster{p.open("n1"), p.open("n2"), p.open("n3")}
		var stops []func() error
		for _, c := range all {
			stops = append(stops, p.run(c))
		}
		waitFor(t, "a primary with a lease, known to all by gossip too", func() bool {
			for _, c := range all {
				for _, o := range all {
					if _, heard := c.gossip.Announced(string(o.Self())); o != c && !heard {
						return false
					}
				}
			}
			epoch, _ := all[0].Lease()
			return epoch == 1
		})
		if err := all[2].Submit(t.Context(), fsm.Pause{}, 0, "test"); err != nil {
			t.Error(err)
		}
		if _, own := all[0].CertificateEnds(); !own {
			t.Error("the certificate is said to be derived")
		}
		next := transport.GenerateSecret()
		if err := all[0].SetSecrets([]transport.Secret{p.secrets[0], next}); err != nil {
			t.Errorf("another secret beside own certificates: %v", err)
		}
		if err := all[0].SetCertificate(*p.certificate("n1")); err != nil {
			t.Error(err)
		}
		// Who has n3's certificate can't come as n2.
		thief, err := transport.NewOwnCredentials("test", "n3", string(all[1].Self()), *p.certificate("n3"))
		if err == nil {
			err = thief.SetIdentity(all[0].ClusterID(), string(all[1].Self()))
		}
		if err != nil {
			t.Fatal(err)
		}
		err = dialAs(t, p.net.Host("thief"), thief, "n1:7400")
		if err == nil || !strings.Contains(err.Error(), "is n2, and the certificate is for n3") {
			t.Errorf("a member under another one's certificate: %v", err)
		}
		p.mustStop(stops...)
	})
}
