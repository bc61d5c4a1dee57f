package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/transport"
)

// day is what certificates are counted in.
const day = 24 * time.Hour

// readCertificate reads the files of an own PKI; nil where there is none.
func readCertificate(c config.TLS) (*transport.PEM, error) {
	if c == (config.TLS{}) {
		return nil, nil
	}
	var files transport.PEM
	var errs []error
	for _, f := range []struct {
		key, path string
		into      *[]byte
	}{{"cert_file", c.CertFile, &files.Cert}, {"key_file", c.KeyFile, &files.Key}, {"ca_file", c.CAFile, &files.CA}} {
		b, err := os.ReadFile(f.path)
		if err != nil {
			errs = append(errs, fmt.Errorf("read cluster.tls.%s: %w", f.key, err))
		}
		*f.into = b
	}
	return &files, errors.Join(errs...)
}

// certificateWatch takes over what is written into the files of an own PKI, and says when a certificate is about to end.
type certificateWatch struct {
	cfg     config.TLS
	now     transport.PEM // in use
	install func(transport.PEM) error
	ends    func() (time.Time, bool)
	log     hclog.Logger
	said    string // the last trouble
	warned  int    // days left when it was last warned of; 0: not yet
}

func (w *certificateWatch) look(asked bool) {
	if asked {
		w.said = ""
	}
	files, err := readCertificate(w.cfg)
	if err == nil && !equalFiles(*files, w.now) {
		if err = w.install(*files); err == nil {
			w.now, w.warned = *files, 0
			end, _ := w.ends()
			w.log.Info("certificate changed", "ends", end.Format(time.RFC3339))
		}
	}
	if err != nil && w.said != err.Error() {
		w.log.Error("the files of cluster.tls can't be used; those read before stay in use", "error", err)
	}
	w.said = ""
	if err != nil {
		w.said = err.Error()
	}
	w.warn()
}

// warn says it at 30, 7 and 1 days before the end, and after it.
func (w *certificateWatch) warn() {
	end, own := w.ends()
	if !own {
		return
	}
	threshold, text := expiry(time.Until(end))
	if text == "" || threshold == w.warned {
		return
	}
	w.warned = threshold
	w.log.Warn(text, "ends", end.Format(time.RFC3339), "file", w.cfg.CertFile)
}

// expiry says what to say of a certificate that ends in left, and at which threshold of days that is: -1 is after the end.
func expiry(left time.Duration) (threshold int, text string) {
	if left <= 0 {
		return -1, "the certificate of cluster.tls, or its CA, has ended: new connections are refused; renew it"
	}
	if left <= day {
		return 1, "the certificate of cluster.tls, or its CA, ends within a day: renew it"
	}
	for _, days := range []int{7, 30} {
		if left <= time.Duration(days)*day {
			return days, fmt.Sprintf("the certificate of cluster.tls, or its CA, ends within %d days: renew it", int(left/day)+1)
		}
	}
	return 0, ""
}

func equalFiles(a, b transport.PEM) bool {
	return bytes.Equal(a.Cert, b.Cert) && bytes.Equal(a.Key, b.Key) && bytes.Equal(a.CA, b.CA)
}
