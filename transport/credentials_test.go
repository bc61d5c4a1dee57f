package transport

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"
)

func testCredentials(t testing.TB, scope, cluster, node string, secrets ...Secret) *Credentials {
	t.Helper()
	c, err := NewCredentials(scope, node, secrets...)
	if err == nil {
		err = c.SetIdentity(cluster, node)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Every node must make the same CA bytes, in this release and the next.
func TestCACertificateIsDeterministic(t *testing.T) {
	a := testCredentials(t, "demo", NewCluster, "n1", testSecret(t, 1))
	b := testCredentials(t, "demo", "c1", "n2", testSecret(t, 1), testSecret(t, 2))
	if !bytes.Equal(a.current.Load().cas[0].cert.Raw, b.current.Load().cas[0].cert.Raw) {
		t.Fatal("two nodes make different CA certificates of one secret")
	}
	sum := sha256.Sum256(a.current.Load().cas[0].cert.Raw)
	if got, want := hex.EncodeToString(sum[:]), "d6902a8c3497b8d0713fb0274269e297e668b6e3016109fc37e43ad865ed78f9"; got != want {
		t.Fatalf("CA certificate changed: %s, want %s", got, want)
	}
	if bytes.Equal(b.current.Load().cas[0].cert.Raw, b.current.Load().cas[1].cert.Raw) {
		t.Fatal("two secrets make one CA")
	}
	ca := a.current.Load().cas[0].cert
	if ca.SerialNumber.Int64() != 1 || ca.Subject.CommonName != "demo" || ca.NotBefore.Year() != 1970 || ca.NotAfter.Year() != 9999 || len(ca.SubjectKeyId) == 0 {
		t.Fatalf("CA is %v %v %v..%v", ca.SerialNumber, ca.Subject, ca.NotBefore, ca.NotAfter)
	}
}

func TestLeafNamesTheNode(t *testing.T) {
	c := testCredentials(t, "my_app.test", NewCluster, "n1", testSecret(t, 1))
	first := c.current.Load().leaf.Leaf
	if got := first.URIs[0].String(); got != "quorate://my_app.test/new/n1" {
		t.Fatal(got)
	}
	if err := c.SetIdentity("c0ffee", "n1"); err != nil {
		t.Fatal(err)
	}
	leaf := c.current.Load().leaf.Leaf
	id, err := identityOf(leaf)
	if err != nil || id != (identity{"my_app.test", "c0ffee", "n1"}) {
		t.Fatal(id, err)
	}
	if leaf.DNSNames[0] != "quorate" || leaf.NotAfter.Year() != 9999 || leaf.IsCA {
		t.Fatalf("%v %v %v", leaf.DNSNames, leaf.NotAfter, leaf.IsCA)
	}
}

func TestNamesAreChecked(t *testing.T) {
	s := testSecret(t, 1)
	for _, bad := range []string{"", "a/b", "a b", "-a", "a..b", "a.", "é", "a\n", strings.Repeat("x", 64)} {
		if _, err := NewCredentials(bad, "n1", s); err == nil {
			t.Errorf("scope %q accepted", bad)
		}
		if _, err := Insecure("demo", bad); err == nil {
			t.Errorf("node id %q accepted", bad)
		}
	}
	if _, err := NewCredentials("demo", "n1"); err == nil {
		t.Error("no secret accepted")
	}
	if _, err := NewCredentials("demo", "n1", Secret{}); err == nil {
		t.Error("zero secret accepted")
	}
}
