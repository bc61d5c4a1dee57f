package api

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// Certificate names the files that HTTPS is served with. They are read again when they have changed, for the connections
// that come after; while the new ones can't be used the old ones stay, and Failed is told once why.
type Certificate struct {
	CertFile, KeyFile string
	CAFile            string             // of client certificates; empty: none is asked for
	Client            tls.ClientAuthType // how it asks
	Failed            func(error)
}

// Config reads the files, and returns what a listener and, for other nodes, a client needs.
func (c Certificate) Config() (*tls.Config, error) {
	k := &keys{Certificate: c}
	first, err := k.current()
	if err != nil {
		return nil, err
	}
	out := first.Clone()
	out.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return k.current() }
	return out, nil
}

// keys is a Certificate as it was read last.
type keys struct {
	Certificate

	mu     sync.Mutex
	config *tls.Config
	stamp  string // of the files that config is from
	failed string // the stamp that Failed was told of
}

// current returns the configuration of the files as they are now, or the one before if that can't be used.
func (k *keys) current() (*tls.Config, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	stamp := k.stampOf()
	if k.config != nil && (stamp == k.stamp || stamp == k.failed) {
		return k.config, nil
	}
	config, err := k.read()
	switch {
	case err == nil:
		k.config, k.stamp, k.failed = config, stamp, ""
	case k.config == nil:
		return nil, err
	default:
		k.failed = stamp
		k.Failed(err)
	}
	return k.config, nil
}

// stampOf tells versions of the files apart. What can't be looked at reads as another version, and then says why.
func (k *keys) stampOf() string {
	out := ""
	for _, path := range []string{k.CertFile, k.KeyFile, k.CAFile} {
		if info, err := os.Stat(path); path != "" && err == nil {
			out += fmt.Sprintf("%d %s;", info.Size(), info.ModTime().Format(time.RFC3339Nano))
		} else {
			out += "-;"
		}
	}
	return out
}

func (k *keys) read() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(k.CertFile, k.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read restapi.certfile and restapi.keyfile: %w", err)
	}
	out := &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, ClientAuth: k.Client}
	if k.CAFile == "" {
		return out, nil
	}
	pem, err := os.ReadFile(k.CAFile)
	if err != nil {
		return nil, fmt.Errorf("read restapi.cafile: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read restapi.cafile %s: %w", k.CAFile, errors.New("there is no certificate in it"))
	}
	out.ClientCAs, out.RootCAs = pool, pool
	return out, nil
}
