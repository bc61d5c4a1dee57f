package node

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/transport"
)

func TestExpiryIsSaidInTime(t *testing.T) {
	for left, want := range map[time.Duration]struct {
		threshold int
		says      string
	}{
		31 * day:              {0, ""},
		30 * day:              {30, "ends within 31 days"},
		7*day + time.Second:   {30, "ends within 8 days"},
		7 * day:               {7, "ends within 8 days"},
		25 * time.Hour:        {7, "ends within 2 days"},
		time.Hour:             {1, "ends within a day"},
		0:                     {-1, "has ended"},
		-365 * 24 * time.Hour: {-1, "has ended"},
	} {
		threshold, text := expiry(left)
		if threshold != want.threshold || !strings.Contains(text, want.says) || (text == "") != (want.says == "") {
			t.Errorf("%s left: %d, %q", left, threshold, text)
		}
	}
}

// The files are followed; what can't be used changes nothing and is said once; the end is said at 30, 7 and 1 days.
func TestTheCertificateIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		c := config.TLS{CertFile: filepath.Join(dir, "cert"), KeyFile: filepath.Join(dir, "key"), CAFile: filepath.Join(dir, "ca")}
		for _, path := range []string{c.CertFile, c.KeyFile, c.CAFile} {
			if err := os.WriteFile(path, []byte("1"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		now, err := readCertificate(c)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		end, refuse, installed := time.Now().Add(40*day), false, 0
		w := &certificateWatch{
			cfg: c, now: *now, ends: func() (time.Time, bool) { return end, true },
			log: hclog.New(&hclog.LoggerOptions{Output: &log}),
			install: func(transport.PEM) error {
				if refuse {
					return errors.New("not now")
				}
				installed++
				return nil
			},
		}
		for range 41 * 4 {
			w.look(false)
			time.Sleep(day / 4)
		}
		if got := strings.Count(log.String(), "[WARN]"); got != 4 || installed != 0 {
			t.Errorf("warned %d times on the way to the end, want 4; installed %d times:\n%s", got, installed, log.String())
		}
		log.Reset()
		refuse = true
		if err := os.WriteFile(c.CertFile, []byte("2"), 0o600); err != nil {
			t.Fatal(err)
		}
		w.look(false)
		w.look(false)
		if got := strings.Count(log.String(), "can't be used"); got != 1 {
			t.Errorf("said %d times, want once:\n%s", got, log.String())
		}
		w.look(true)
		if got := strings.Count(log.String(), "can't be used"); got != 2 {
			t.Errorf("said %d times after somebody asked, want twice:\n%s", got, log.String())
		}
		refuse, end = false, time.Now().Add(365*day)
		w.look(false)
		w.look(false)
		if installed != 1 || !strings.Contains(log.String(), "certificate changed") {
			t.Errorf("installed %d times, want once:\n%s", installed, log.String())
		}
		if err := os.Remove(c.KeyFile); err != nil {
			t.Fatal(err)
		}
		if w.look(false); installed != 1 || !strings.Contains(log.String(), "cluster.tls.key_file") {
			t.Errorf("without the key: installed %d times:\n%s", installed, log.String())
		}
	})
}
