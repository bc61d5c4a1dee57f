package node

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/transport"
)

// The secret file is followed while the node runs; what can't be used changes nothing and is said once.
func TestTheSecretFileIsFollowed(t *testing.T) {
	one, two := transport.GenerateSecret(), transport.GenerateSecret()
	path := filepath.Join(t.TempDir(), "secret")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(one.Hex() + "\n")
	c := config.Cluster{SecretFile: path}
	now, err := readSecrets(c)
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	var installed [][]transport.Secret
	refuse := false
	w := &secretWatch{cfg: c, now: now, log: hclog.New(&hclog.LoggerOptions{Output: &log}), install: func(s []transport.Secret) error {
		if refuse {
			return errors.New("not now")
		}
		installed = append(installed, s)
		return nil
	}}
	for _, step := range []struct {
		file string
		want []transport.Secret // installed anew; nil: nothing
		says string
	}{
		{one.Hex(), nil, ""},
		{one.Hex() + "\n" + two.Hex() + "\n", []transport.Secret{one, two}, "cluster secrets changed"},
		{"", nil, "it is empty"},
		{one.Hex()[:20], nil, "must have 32"},
		{two.Hex() + "\n" + one.Hex() + "\n", []transport.Secret{two, one}, "cluster secrets changed"},
		{two.Hex(), []transport.Secret{two}, "cluster secrets changed"},
	} {
		write(step.file)
		before := len(installed)
		log.Reset()
		w.look(false)
		w.look(false)
		got := installed[before:]
		if step.want == nil && len(got) > 0 || step.want != nil && (len(got) != 1 || !slices.Equal(got[0], step.want)) {
			t.Errorf("%q: installed %d times", step.file, len(got))
		}
		if lines := strings.Count(log.String(), "\n"); !strings.Contains(log.String(), step.says) || lines > 1 {
			t.Errorf("%q: said\n%swant %q once", step.file, log.String(), step.says)
		}
		for _, s := range []transport.Secret{one, two} {
			if strings.Contains(log.String(), s.Hex()[:16]) {
				t.Errorf("the log gives a secret away: %s", log.String())
			}
		}
	}
	refuse = true
	write(one.Hex())
	w.look(false)
	refuse = false
	if w.look(false); len(installed) != 4 || !slices.Equal(installed[3], []transport.Secret{one}) {
		t.Error("what was refused is not tried again")
	}
}

// A secret that others may read is used, and warned of: once for each mode, and again when somebody asks.
func TestASecretThatOthersMayReadIsWarnedOf(t *testing.T) {
	secret := transport.GenerateSecret()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(secret.Hex()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	w := &secretWatch{
		cfg: config.Cluster{SecretFile: path}, now: []transport.Secret{secret}, log: hclog.New(&hclog.LoggerOptions{Output: &log}),
		install: func([]transport.Secret) error { return errors.New("nothing has changed") },
	}
	for _, step := range []struct {
		mode  os.FileMode
		asked bool
		says  string // the mode that is named; empty: nothing
	}{
		{0o600, false, ""},
		{0o640, false, "0640"},
		{0o640, false, ""},
		{0o640, true, "0640"},
		{0o604, false, "0604"},
		{0o400, false, ""},
		{0o604, false, "0604"},
	} {
		if err := os.Chmod(path, step.mode); err != nil {
			t.Fatal(err)
		}
		log.Reset()
		w.look(step.asked)
		said := log.String()
		if step.says == "" && said != "" || step.says != "" &&
			(strings.Count(said, "\n") != 1 || !strings.Contains(said, "mode="+step.says) || !strings.Contains(said, "chmod 600 "+path)) {
			t.Errorf("mode %04o, asked %v: said %q, want a warning of %q", step.mode, step.asked, said, step.says)
		}
	}
}

func TestTheSecretFileIsReadWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two := transport.GenerateSecret(), transport.GenerateSecret()
		path := filepath.Join(t.TempDir(), "secret")
		installed := make(chan time.Time, 2)
		w := &secretWatch{
			cfg: config.Cluster{SecretFile: path}, now: []transport.Secret{one}, log: hclog.NewNullLogger(),
			install: func([]transport.Secret) error { installed <- time.Now(); return nil },
		}
		asked := make(chan struct{}, 1)
		go follow(t.Context(), asked, w.look)
		for _, c := range []struct {
			text  string
			ask   bool
			after time.Duration
		}{{two.Hex(), true, 0}, {one.Hex(), false, rereadEvery}} {
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if c.ask {
				asked <- struct{}{}
			}
			if took := (<-installed).Sub(began); took != c.after {
				t.Errorf("asked %v: taken over after %s, want %s", c.ask, took, c.after)
			}
		}
	})
}

// Passwords that the node file leaves out come from the founding and from nothing that is rotated.
func TestPasswordsAreOfTheFounding(t *testing.T) {
	dir := t.TempDir()
	p := &passwords{dir: dir, log: hclog.NewNullLogger()}
	c := p.credentials(config.Role{Username: "replicator"}, "replication")
	if got := c.Ask(); got != "" {
		t.Errorf("without a cluster the password is %q", got)
	}
	seed, err := transport.NewSecret(bytes.Repeat([]byte{1}, transport.SecretSize))
	if err != nil {
		t.Fatal(err)
	}
	record := map[string]any{"node_id": "n", "founding": map[string]any{"seed": seed.Hex()}}
	if err := durable.Save(filepath.Join(dir, "identity.bin"), 1, record); err != nil {
		t.Fatal(err)
	}
	replication, superuser := c.Ask(), p.of("superuser")
	// In the database for ever: another value would lock every member out.
	if want := "bc0f4d88a77f6ed0e238839182dbacd6"; replication != want || len(superuser) != len(want) || superuser == replication {
		t.Errorf("passwords %q and %q, want %q for replication", replication, superuser, want)
	}
	if given := p.credentials(config.Role{Username: "r", Password: "x"}, "replication"); given.Password != "x" {
		t.Errorf("a password of the node file became %q", given.Password)
	}
}
