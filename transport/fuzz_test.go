package transport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
)

// recording is a connection whose peer has said all that it will say. What it is answered is kept.
type recording struct {
	said     io.Reader
	answered bytes.Buffer
}

func (r *recording) Read(b []byte) (int, error)       { return r.said.Read(b) }
func (r *recording) Write(b []byte) (int, error)      { return r.answered.Write(b) }
func (r *recording) Close() error                     { return nil }
func (r *recording) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7400} }
func (r *recording) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (r *recording) SetDeadline(time.Time) error      { return nil }
func (r *recording) SetReadDeadline(time.Time) error  { return nil }
func (r *recording) SetWriteDeadline(time.Time) error { return nil }

// firstFlight is what a node says first that speaks TLS.
func firstFlight(creds *Credentials, proto Proto) []byte {
	c := &recording{said: bytes.NewReader(nil)}
	_ = tls.Client(c, creds.current.Load().clientConfig(proto)).Handshake() // nobody answers
	return c.answered.Bytes()
}

// Whatever a stranger says first, nobody is let in by a port with a secret, and by one without only who names a protocol,
// the scope and the cluster. Who is refused gets a frame that a node understands, an alert, or nothing.
func FuzzFirstBytes(f *testing.F) {
	secure := testCredentials(f, "demo", "c1", "n1", testSecret(f, 1))
	plain := mustInsecure(f)
	if err := plain.SetIdentity("c1", "n1"); err != nil {
		f.Fatal(err)
	}
	for _, proto := range protocols() {
		f.Add(firstFlight(testCredentials(f, "demo", "c1", "n2", testSecret(f, 1)), Proto(proto)))
		var b bytes.Buffer
		if err := writeHello(&b, hello{proto: Proto(proto), id: identity{"demo", "c1", "n2"}}); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	f.Add([]byte{0, 0, 0, 8, 4, 210, 22, 47}) // PostgreSQL
	f.Add([]byte(magic + "\xff\xff"))
	n := NewMemory()
	closed := startMux(f, n.Host("n1"), "n1:7400", secure, nil)
	open := startMux(f, n.Host("n1"), "n1:7401", plain, nil)
	for _, proto := range protocols() {
		closed.Accept(Proto(proto))
		open.Accept(Proto(proto))
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		tried := &recording{said: bytes.NewReader(said)}
		if c, _, err := closed.welcome(tried); err == nil || c != nil {
			t.Fatalf("%x was let in without a certificate: %v", said, c)
		}
		if a := tried.answered.Bytes(); len(a) > 0 && a[0] != 0x15 && a[0] != 0x16 {
			understood(t, a)
		}
		tried = &recording{said: bytes.NewReader(said)}
		c, _, err := open.welcome(tried)
		if err != nil {
			if c != nil {
				t.Fatalf("%x: refused (%v), and there is a connection", said, err)
			}
			if tried.answered.Len() > 0 {
				understood(t, tried.answered.Bytes())
			}
			return
		}
		defer open.forget(c)
		h, err := readHello(bytes.NewReader(said))
		if err != nil || !slices.Contains(protocols(), string(h.proto)) || h.id != c.peer || h.id.scope != "demo" {
			t.Fatalf("%x was let in as %+v: it says %+v, %v", said, c.peer, h, err)
		}
		if h.id.clusterID != "c1" && (h.proto != ProtoRPC || h.id.clusterID != NewCluster) {
			t.Fatalf("%x was let in for %s of cluster %s", said, h.proto, h.id.clusterID)
		}
	})
}

// understood holds what the answer to somebody who is refused must be.
func understood(t *testing.T, answer []byte) {
	t.Helper()
	r := bytes.NewReader(answer)
	err := readMagic(r)
	reason := ""
	if err == nil {
		reason, err = readVerdict(r)
	}
	if err != nil || reason == "" || r.Len() > 0 {
		t.Fatalf("answered by %q: no node understands why: %q, %v", answer, reason, err)
	}
}

// A secret that is taken is written and read back as the same, and no message repeats what was given.
func FuzzSecrets(f *testing.F) {
	one, two := testSecret(f, 1), testSecret(f, 2)
	f.Add([]byte(one.Hex() + "\n" + two.Hex() + "\n"))
	f.Add([]byte("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="))
	f.Add([]byte("_wEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"))
	f.Add([]byte(strings.Repeat("00", SecretSize)))
	f.Add([]byte(one.Hex()[:SecretSize]))
	f.Fuzz(func(t *testing.T, file []byte) {
		secrets, err := ParseSecrets(file)
		if err != nil {
			if !errors.Is(err, ErrBadSecret) {
				t.Fatalf("untyped error %v", err)
			}
			for _, word := range bytes.Fields(file) {
				if len(word) >= SecretSize/2 && strings.Contains(err.Error(), string(word)) {
					t.Fatalf("%q is told: %v", word, err)
				}
			}
			return
		}
		if len(secrets) == 0 || len(secrets) > maxSecrets {
			t.Fatalf("%d secrets", len(secrets))
		}
		var lines []string
		for _, s := range secrets {
			lines = append(lines, s.Hex())
		}
		again, err := ParseSecrets([]byte(strings.Join(lines, "\n")))
		if err != nil || !slices.Equal(again, secrets) {
			t.Fatalf("%d secrets became %d, %v", len(secrets), len(again), err)
		}
	})
}

// A name that is taken stands in a certificate's URI as it is, and comes out of it.
func FuzzIdentity(f *testing.F) {
	f.Add("demo", "new", "n1")
	f.Add("a.b-c_d", "11111111-2222-3333-4444-555555555555", "N1")
	f.Add("..", "a/b", "%41")
	f.Fuzz(func(t *testing.T, scope, cluster, node string) {
		id := identity{scope, cluster, node}
		if id.validate() != nil {
			return
		}
		u, err := url.Parse(id.uri().String())
		if err != nil || u.Host != scope || u.Path != "/"+cluster+"/"+node || u.String() != id.uri().String() {
			t.Fatalf("%+v became %v, %v", id, u, err)
		}
	})
}
