package api

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key}
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// issue makes a certificate for 127.0.0.1 with a serial number, and its key.
func (a authority) issue(t *testing.T, serial int64) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "node"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

func put(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// secure is a server with its certificate in files.
type secure struct {
	dir    string
	ca     authority
	base   string
	failed chan error
}

func serveTLS(t *testing.T, ask tls.ClientAuthType, access Access) *secure {
	t.Helper()
	s := &secure{dir: t.TempDir(), ca: newAuthority(t), failed: make(chan error, 9)}
	s.renew(t, 7)
	put(t, filepath.Join(s.dir, "ca"), s.ca.pem())
	config, err := Certificate{
		CertFile: filepath.Join(s.dir, "cert"), KeyFile: filepath.Join(s.dir, "key"), CAFile: filepath.Join(s.dir, "ca"),
		Client: ask, Failed: func(err error) { s.failed <- err },
	}.Config()
	if err != nil {
		t.Fatal(err)
	}
	f := three(t, "n1")
	f.state.Config.Doc = `{}`
	srv := changeServer(f)
	srv = New(f, srv.opts)
	srv.opts.TLS, srv.opts.Access = config, access
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.base = "https://" + l.Addr().String()
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(srv.Close(), <-ended); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *secure) renew(t *testing.T, serial int64) {
	t.Helper()
	cert, key := s.ca.issue(t, serial)
	put(t, filepath.Join(s.dir, "key"), key)
	put(t, filepath.Join(s.dir, "cert"), cert)
}

// client has a certificate of the authority, unless that is nil.
func (s *secure) client(t *testing.T, of *authority) *http.Client {
	t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(s.ca.cert)
	config := &tls.Config{RootCAs: pool}
	if of != nil {
		pair, err := tls.X509KeyPair(of.issue(t, 99))
		if err != nil {
			t.Fatal(err)
		}
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil } // Whatever is asked for.
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
}

// do returns the status and the server certificate's serial number; 0: there was no answer.
func (s *secure) do(t *testing.T, c *http.Client, method, path, authorization string) (code int, serial int64) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, s.base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, 0
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	return resp.StatusCode, resp.TLS.PeerCertificates[0].SerialNumber.Int64()
}

// TestClientCertificates: as with Patroni a certificate does where no user is named, and where one is it takes both. The token
// does without either; a listener that requires certificates lets nobody in without one.
func TestClientCertificates(t *testing.T) {
	const basic, wrong, token, badToken = "Basic YWRtaW46c2VjcmV0", "Basic YWRtaW46c2VjcmVs", "Bearer token", "Bearer tokem"
	optional, required := tls.VerifyClientCertIfGiven, tls.RequireAndVerifyClientCert
	stranger := newAuthority(t)
	for _, c := range []struct {
		ask    tls.ClientAuthType
		user   bool // restapi.authentication names one
		who    string
		read   int
		change map[string]int // by the Authorization
	}{
		{optional, false, "nobody", 200, map[string]int{"": 403, basic: 403, wrong: 403, token: 202, badToken: 401}},
		{optional, false, "ours", 200, map[string]int{"": 202, basic: 202, wrong: 202, token: 202, badToken: 202}},
		{optional, false, "stranger", 0, map[string]int{"": 0, token: 0}},
		{optional, true, "nobody", 200, map[string]int{"": 403, basic: 403, wrong: 403, token: 202, badToken: 401}},
		{optional, true, "ours", 200, map[string]int{"": 401, basic: 202, wrong: 401, token: 202, badToken: 401}},
		{required, false, "nobody", 0, map[string]int{"": 0, basic: 0, token: 0}},
		{required, false, "stranger", 0, map[string]int{"": 0, token: 0}},
		{required, false, "ours", 200, map[string]int{"": 202, wrong: 202, token: 202, badToken: 202}},
		{required, true, "ours", 200, map[string]int{"": 401, basic: 202, wrong: 401, token: 202, badToken: 401}},
	} {
		access := Access{ClientCerts: true}
		if c.user {
			access.Username, access.Password = "admin", "secret"
		}
		s := serveTLS(t, c.ask, access)
		who := map[string]*authority{"ours": &s.ca, "stranger": &stranger}[c.who]
		if code, _ := s.do(t, s.client(t, who), http.MethodGet, "/primary", ""); code != c.read {
			t.Errorf("%+v: GET gives %d", c, code)
		}
		for authorization, want := range c.change {
			if code, _ := s.do(t, s.client(t, who), http.MethodPost, "/reload", authorization); code != want {
				t.Errorf("%s, a user: %t, of %v with %q: POST gives %d, want %d", c.who, c.user, c.ask, authorization, code, want)
			}
		}
	}
}

// TestCertificateReload: new files hold from the next connection on, and bad ones change nothing.
func TestCertificateReload(t *testing.T) {
	s := serveTLS(t, tls.NoClientCert, Access{})
	c := s.client(t, nil)
	want := func(what string, serial int64) {
		t.Helper()
		if code, got := s.do(t, c, http.MethodGet, "/primary", ""); code != 200 || got != serial {
			t.Errorf("%s: %d with certificate %d, want %d", what, code, got, serial)
		}
	}
	want("at first", 7)
	put(t, filepath.Join(s.dir, "cert"), []byte("half of a certif"))
	want("half written", 7)
	want("and again", 7)
	if err := <-s.failed; err == nil || !strings.Contains(err.Error(), "restapi.certfile") || len(s.failed) > 0 {
		t.Errorf("said %v and %d more times", err, len(s.failed))
	}
	s.renew(t, 8888)
	want("renewed", 8888)
	if err := os.Remove(filepath.Join(s.dir, "cert")); err != nil {
		t.Fatal(err)
	}
	want("gone", 8888)
}

func TestCertificateRefused(t *testing.T) {
	dir, ca := t.TempDir(), newAuthority(t)
	cert, key := ca.issue(t, 1)
	_, other := ca.issue(t, 2)
	for name, content := range map[string][]byte{"cert": cert, "key": key, "other": other, "ca": []byte("no")} {
		put(t, filepath.Join(dir, name), content)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct{ cert, key, ca, want string }{
		{at("cert"), at("other"), "", "private key does not match"},
		{at("none"), at("key"), "", "no such file"},
		{at("cert"), at("key"), at("none"), "restapi.cafile"},
		{at("cert"), at("key"), at("ca"), "no certificate in it"},
	} {
		if _, err := (Certificate{CertFile: c.cert, KeyFile: c.key, CAFile: c.ca}).Config(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %s", err, c.want)
		}
	}
}

// TestOldClients: HAProxy's checks are HTTP/1.0 without a Host, and end the connection after the status line. OPTIONS * is
// a path that nobody knows, as with Patroni; net/http by itself says 200 to it.
func TestOldClients(t *testing.T) {
	for self, yes := range map[fsm.NodeID]string{"n1": "200", "n2": "503"} {
		srv := server(three(t, self))
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- srv.Serve(l) }()
		for what, want := range map[string]string{"OPTIONS /": yes, "OPTIONS *": "503", "HEAD /primary": yes, "GET /leader": yes} {
			for _, version := range []string{"HTTP/1.0\r\n\r\n", "HTTP/1.1\r\nHost: n\r\n\r\n"} {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				if _, err := fmt.Fprintf(c, "%s %s", what, version); err != nil {
					t.Fatal(err)
				}
				line, err := bufio.NewReader(c).ReadString('\n')
				if err != nil || !strings.HasPrefix(line, version[:8]+" "+want+" ") {
					t.Errorf("%s %.8s to %s: %q %v", what, version, self, line, err)
				}
				_ = c.Close()
			}
		}
		if err := errors.Join(srv.Close(), <-ended); err != nil {
			t.Error(err)
		}
	}
}
