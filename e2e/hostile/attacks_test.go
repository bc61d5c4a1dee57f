package hostile

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/transport"
)

// certificate is one that the cluster's secret vouches for, as a node makes it for itself.
func (w *world) certificate(clusterID, nodeID string) tls.Certificate {
	w.t.Helper()
	ca := ed25519.NewKeyFromSeed(transport.DeriveKey(w.secret, "quorate/ca/1"))
	sum := sha256.Sum256(ca.Public().(ed25519.PublicKey))
	parent := &x509.Certificate{Subject: pkix.Name{CommonName: scope}, SubjectKeyId: sum[:20], PublicKey: ca.Public()}
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		w.t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(99), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), DNSNames: []string{"quorate"},
		URIs:        []*url.URL{{Scheme: "quorate", Host: scope, Path: "/" + clusterID + "/" + nodeID}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, public, ca)
	if err != nil {
		w.t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// dial opens a connection from another address of this machine. What can't be opened counts as an answer.
func dial(from, to string) (*net.TCPConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	c, err := d.Dial("tcp", to)
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// answer reads what a port says until it closes, which it must, and puts it in a few words.
func answer(c net.Conn) string {
	_ = c.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(io.LimitReader(c, 64<<10))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return keptOpen
	case bytes.HasPrefix(got, []byte("HTTP/")):
		line, _, _ := strings.Cut(string(got), "\r\n")
		return line
	case len(got) > 6 && got[0] == 0x15:
		return "TLS alert: " + tls.AlertError(got[6]).Error()
	case bytes.HasPrefix(got, []byte("quorate\x01\x01")):
		return "refused: " + string(got[11:])
	case len(got) > 0:
		return fmt.Sprintf("%d bytes", len(got))
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	}
	return "closed"
}

const keptOpen = "kept open"

// attack is one way to disturb a port.
type attack struct {
	name  string
	times int
	// one makes one attempt from an address at a port and says what came of it.
	one func(from, to string, i int) string
}

// raw sends bytes and waits for the end.
func raw(content func(i int) []byte) func(string, string, int) string {
	return func(from, to string, i int) string {
		c, err := dial(from, to)
		if err != nil {
			return "not even connected"
		}
		defer c.Close()
		go func() { _, _ = c.Write(content(i)) }()
		return answer(c)
	}
}

func fixed(text string) func(int) []byte { return func(int) []byte { return []byte(text) } }

// noise is random, and the same in every run. It is as long as a TLS server waits for before it judges, and ends as
// a header of HTTP does: who waits is another attack.
func noise(i int) []byte {
	r := mathrand.New(mathrand.NewPCG(7, uint64(i)))
	b := make([]byte, 5+r.IntN(8192))
	for j := range b {
		b[j] = byte(r.Uint32())
	}
	return append(b, "\r\n\r\n"...)
}

// slow holds a connection after its first byte.
func slow(from, to string, _ int) string {
	c, err := dial(from, to)
	if err != nil {
		return "not even connected"
	}
	defer c.Close()
	_, _ = c.Write([]byte{0x16})
	return answer(c)
}

// half says that nothing more comes, and waits.
func half(from, to string, i int) string {
	c, err := dial(from, to)
	if err != nil {
		return "not even connected"
	}
	defer c.Close()
	_, _ = c.Write(noise(i)[:i%5])
	_ = c.CloseWrite()
	return answer(c)
}

// torn resets the connection after some bytes.
func torn(from, to string, i int) string {
	c, err := dial(from, to)
	if err != nil {
		return "not even connected"
	}
	_ = c.SetLinger(0)
	_, _ = c.Write(noise(i))
	_ = c.Close()
	return "torn by us"
}

// shake tries a TLS handshake and reads on.
func shake(config func() *tls.Config) func(string, string, int) string {
	return func(from, to string, _ int) string {
		c, err := dial(from, to)
		if err != nil {
			return "not even connected"
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		secure := tls.Client(c, config())
		if err := secure.Handshake(); err != nil {
			return short(err)
		}
		if _, err = secure.Read(make([]byte, 1)); err != nil {
			return short(err)
		}
		return "taken"
	}
}

// short leaves out of an error what differs from run to run.
func short(err error) string {
	var record tls.RecordHeaderError
	var op *net.OpError
	switch {
	case errors.As(err, &record):
		return record.Msg
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, io.EOF):
		return "closed"
	case errors.As(err, &op):
		return op.Err.Error()
	}
	return err.Error()
}

// come dials as a node does, with some identity, for a protocol.
func (w *world) come(secret transport.Secret, clusterID, nodeID string, proto transport.Proto) func(string, string, int) string {
	return func(from, to string, _ int) string {
		m, err := node(from, secret, clusterID, nodeID)
		if err != nil {
			return err.Error()
		}
		defer m.Close()
		c, err := m.Dial(w.t.Context(), proto, to)
		if err != nil {
			var refused *transport.RefusedError
			if errors.As(err, &refused) {
				return "refused: " + w.without(refused.Reason)
			}
			return short(err)
		}
		_ = c.Close()
		return "taken"
	}
}

// without leaves out of a text the ids, which differ from run to run.
func (w *world) without(text string) string {
	text = strings.ReplaceAll(text, w.nodes[0].ClusterID(), "<this>")
	for _, n := range w.nodes {
		text = strings.ReplaceAll(text, string(n.Self()), "<node>")
	}
	return text
}

// elsewhere is a network whose connections come from a host of their own.
type elsewhere struct {
	transport.Network
	from string
}

func (e elsewhere) Dial(_ context.Context, to string) (net.Conn, error) { return dial(e.from, to) }

// node is the port of somebody who has a secret.
func node(from string, secret transport.Secret, clusterID, nodeID string) (*transport.Mux, error) {
	creds, err := transport.NewCredentials(scope, nodeID, secret)
	if err != nil {
		return nil, err
	}
	if err := creds.SetIdentity(clusterID, nodeID); err != nil {
		return nil, err
	}
	return transport.NewMux(transport.MuxConfig{
		Network: elsewhere{transport.TCP(0), from}, Listen: from + ":0", Credentials: creds, Logger: hclog.NewNullLogger(),
	})
}

// frames sends bytes inside a connection that is as good as a member's, and waits for the end.
func (w *world) frames(proto transport.Proto, content string) func(string, string, int) string {
	return w.inside(proto, func(c net.Conn) string {
		_, _ = c.Write(append([]byte(content), make([]byte, 16<<10)...))
		return answer(c)
	})
}

// part sends the beginning of a message of Raft, which waits for the rest as long as the connection stands, and leaves.
func (w *world) part(content string) func(string, string, int) string {
	return w.inside(transport.ProtoRaft, func(c net.Conn) string {
		_, _ = c.Write(append([]byte(content), make([]byte, 1<<20)...))
		return "left by us"
	})
}

func (w *world) inside(proto transport.Proto, speak func(net.Conn) string) func(string, string, int) string {
	return func(from, to string, _ int) string {
		m, err := node(from, w.secret, w.nodes[0].ClusterID(), string(w.nodes[2].Self()))
		if err != nil {
			return err.Error()
		}
		defer m.Close()
		c, err := m.Dial(w.t.Context(), proto, to)
		if err != nil {
			return short(err)
		}
		defer c.Close()
		return speak(c)
	}
}

// datagrams sends packets of all kinds to the gossip port.
func (w *world) datagrams() {
	w.t.Helper()
	from, err := net.ListenPacket("udp", "127.0.0.66:0")
	if err != nil {
		w.t.Fatal(err)
	}
	defer from.Close()
	label := append([]byte{244, byte(len(w.nodes[0].ClusterID()))}, w.nodes[0].ClusterID()...)
	for i := range 3000 {
		b := noise(i)
		switch i % 4 {
		case 1:
			b = append(slices.Clone(label), b...)
		case 2:
			b = append(append(slices.Clone(label), 10, 0xff, 0xff, 0xff, 0xff), b...)
		case 3:
			b = nil
		}
		to, err := net.ResolveUDPAddr("udp", w.peers[i%len(w.peers)])
		if err != nil {
			w.t.Fatal(err)
		}
		_, _ = from.WriteTo(b, to) // Too many at once are dropped.
	}
}

// storms repeats a storm until the lease was extended so often that it would have been lost without that.
func (w *world) storms(port string, addrs []string, from string, attacks ...attack) {
	w.t.Helper()
	w.mu.Lock()
	enough := w.extended + 2*int(failoverAfter/beat)
	w.mu.Unlock()
	got := map[string]map[string]int{}
	for more, end := true, time.Now().Add(patience); more; {
		for _, a := range attacks {
			if got[a.name] == nil {
				got[a.name] = map[string]int{}
			}
			a.make(addrs, from, got[a.name])
		}
		w.mu.Lock()
		more = w.extended < enough && time.Now().Before(end)
		w.mu.Unlock()
	}
	for _, a := range attacks {
		w.tell(port, a.name, got[a.name])
	}
}

// storm makes all attempts of one attack after the other, once.
func (w *world) storm(port string, addrs []string, from string, attacks ...attack) {
	w.t.Helper()
	for _, a := range attacks {
		got := map[string]int{}
		a.make(addrs, from, got)
		w.tell(port, a.name, got)
	}
}

// make makes all attempts at once and counts the answers in got.
func (a attack) make(addrs []string, from string, got map[string]int) {
	var mu sync.Mutex
	var all sync.WaitGroup
	for i := range a.times {
		all.Go(func() {
			said := a.one(from, addrs[i%len(addrs)], i)
			mu.Lock()
			defer mu.Unlock()
			got[said]++
		})
	}
	all.Wait()
}

func (w *world) tell(port, name string, got map[string]int) {
	w.t.Helper()
	for _, said := range slices.Sorted(maps.Keys(got)) {
		w.t.Logf("%s | %s | %d × %s", port, name, got[said], said)
	}
	for _, wrong := range []string{keptOpen, "taken"} {
		if got[wrong] > 0 {
			w.t.Errorf("%s, %s: %d connections were %s", port, name, got[wrong], wrong)
		}
	}
}
