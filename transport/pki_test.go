package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// office issues certificates as a company's PKI does.
type office struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newOffice(t testing.TB, name string) *office {
	t.Helper()
	o := &office{t: t}
	var err error
	if o.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().AddDate(-1, 0, 0),
		NotAfter: time.Now().AddDate(10, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, o.key.Public(), o.key)
	if err != nil {
		t.Fatal(err)
	}
	if o.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	o.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return o
}

// issue makes the files of a node, with the CAs of trusted, which are this one if none is given.
func (o *office) issue(name string, from, to time.Time, trusted ...*office) PEM {
	o.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		o.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: from, NotAfter: to, DNSNames: []string{name, name + ".example.com"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, o.cert, key.Public(), o.key)
	if err != nil {
		o.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		o.t.Fatal(err)
	}
	files := PEM{Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})}
	if len(trusted) == 0 {
		trusted = []*office{o}
	}
	for _, t := range trusted {
		files.CA = append(files.CA, t.pem...)
	}
	return files
}

// year is a certificate of now.
func (o *office) year(name string, trusted ...*office) PEM {
	return o.issue(name, time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0), trusted...)
}

// ownMux starts node id, whose certificate is files', as a member of the cluster c1 in which ids name members.
func ownMux(t testing.TB, net *Memory, id, name string, files PEM, members map[string]string) (*Mux, *Credentials) {
	t.Helper()
	creds, err := NewOwnCredentials("demo", name, id, files)
	if err == nil {
		err = creds.SetIdentity("c1", id)
	}
	if err != nil {
		t.Fatal(err)
	}
	m := startMux(t, net.Host(id), id+":7400", creds, func(_ Proto, _, id string) error {
		if members[id] == "" {
			return errors.New("not a member")
		}
		return nil
	})
	m.cfg.NameOf = func(id string) (string, bool) { name, ok := members[id]; return name, ok }
	echo(m, ProtoBeat, ProtoRPC)
	return m, creds
}

func TestOwnCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, ours, theirs := NewMemory(), newOffice(t, "ours"), newOffice(t, "theirs")
		members := map[string]string{"id1": "n1", "id2": "n2", "id3": "n3", "id4": "n4", "id5": "n5", "id6": "n6"}
		now := time.Now()
		a, _ := ownMux(t, net, "id1", "n1", ours.year("n1"), members)
		for _, row := range []struct {
			id, name string
			files    PEM
			want     string // at the one that dials n1; empty: they talk
			back     string // at n1 when it dials
		}{
			{"id2", "n2", ours.year("n2"), "", ""},
			{"id3", "other", ours.year("other"), "node id3 is n3, and the certificate is for other", "node id3 is n3"},
			{"id4", "n4", theirs.year("n4", theirs, ours), "from none of the CAs", "from none of the CAs"},
			{"id5", "n5", ours.issue("n5", now.AddDate(0, 0, -9), now.AddDate(0, 0, -1)), "not valid now", "not valid now"},
			{"id6", "n6", ours.issue("n6", now.AddDate(0, 0, 1), now.AddDate(0, 0, 9)), "not valid now", "not valid now"},
			{"id9", "n9", ours.year("n9"), "not a member", "not a member"},
		} {
			b, _ := ownMux(t, net, row.id, row.name, row.files, members)
			for _, way := range []struct {
				from *Mux
				to   string
				want string
			}{{b, "id1", row.want}, {a, row.id, row.back}} {
				c, err := way.from.DialNode(t.Context(), ProtoBeat, way.to+":7400", way.to)
				if way.want == "" {
					if err != nil {
						t.Fatalf("%s to %s: %v", row.name, way.to, err)
					}
					checkEcho(t, c)
					continue
				}
				var refused *RefusedError
				if !errors.As(err, &refused) || !strings.Contains(err.Error(), way.want) {
					t.Errorf("%s to %s: %v, want %q", row.name, way.to, err, way.want)
				}
			}
		}
	})
}

// A node that has not joined may use RPC and is known by the names of its certificate.
func TestOwnCertificatesOfNewcomers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, ours := NewMemory(), newOffice(t, "ours")
		a, _ := ownMux(t, net, "id1", "n1", ours.year("n1"), map[string]string{"id1": "n1"})
		creds, err := NewOwnCredentials("demo", "n2", "id2", ours.year("n2"))
		if err != nil {
			t.Fatal(err)
		}
		b := startMux(t, net.Host("id2"), "id2:7400", creds, nil)
		c, err := b.Dial(t.Context(), ProtoRPC, "id1:7400")
		if err != nil {
			t.Fatal(err)
		}
		if c.names[0] != "n1" {
			t.Errorf("the newcomer sees %v", c.names)
		}
		if _, err := b.Dial(t.Context(), ProtoBeat, "id1:7400"); err == nil || !strings.Contains(err.Error(), "has not joined") {
			t.Errorf("a newcomer's beats: %v", err)
		}
		derived := startMux(t, net.Host("id3"), "id3:7400", testCredentials(t, "demo", "c1", "id3", testSecret(t, 1)), nil)
		echo(derived, ProtoRPC)
		for _, way := range []struct {
			from *Mux
			to   string
		}{{derived, "id1:7400"}, {a, "id3:7400"}} {
			var refused *RefusedError
			if _, err := way.from.Dial(t.Context(), ProtoRPC, way.to); !errors.As(err, &refused) {
				t.Errorf("derived and own, to %s: %v", way.to, err)
			}
		}
	})
}

// New files are used by new connections; a CA that is left out is no longer believed, and what it proved ends.
func TestOwnCertificatesAreReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, old, next := NewMemory(), newOffice(t, "old"), newOffice(t, "next")
		members := map[string]string{"id1": "n1", "id2": "n2"}
		a, ca := ownMux(t, net, "id1", "n1", old.year("n1"), members)
		b, cb := ownMux(t, net, "id2", "n2", old.year("n2"), members)
		standing, err := b.Dial(t.Context(), ProtoBeat, "id1:7400")
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			creds *Credentials
			files PEM
		}{
			{ca, old.year("n1", old, next)}, {cb, old.year("n2", old, next)},
			{ca, next.year("n1", old, next)}, {cb, next.year("n2", old, next)},
			{ca, next.year("n1")}, {cb, next.year("n2")},
		} {
			if err := step.creds.SetFiles(step.files); err != nil {
				t.Fatal(err)
			}
			c, err := b.Dial(t.Context(), ProtoBeat, "id1:7400")
			if err != nil {
				t.Fatal(err)
			}
			checkEcho(t, c)
			_ = c.Close()
		}
		checkEcho(t, standing)
		a.Retire(t.Context())
		if _, err := standing.Read(make([]byte, 1)); err == nil {
			t.Error("a connection that the old CA proved stands")
		}
		for name, files := range map[string]PEM{
			"another node's": next.year("n9"), "no CA": {Cert: next.year("n1").Cert, Key: next.year("n1").Key},
			"another's key": {Cert: next.year("n1").Cert, Key: next.year("n1").Key, CA: next.pem}, "another CA": next.year("n1", old), "empty": {},
		} {
			if err := ca.SetFiles(files); !errors.Is(err, ErrBadCertificate) {
				t.Errorf("%s: %v, want ErrBadCertificate", name, err)
			}
		}
		if c, err := b.Dial(t.Context(), ProtoBeat, "id1:7400"); err != nil {
			t.Errorf("after files that can't be used: %v", err)
		} else {
			checkEcho(t, c)
		}
		time.Sleep(2 * 366 * 24 * time.Hour)
		if got := ca.NotAfter(); !got.Before(time.Now()) {
			t.Errorf("two years later the certificate ends at %s", got)
		}
		if _, err := b.Dial(t.Context(), ProtoBeat, "id1:7400"); err == nil || !strings.Contains(err.Error(), "not valid now") {
			t.Errorf("two years later: %v", err)
		}
	})
}
