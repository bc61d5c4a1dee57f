package pgctl

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/pg"
)

func (n *node) wants(extra map[string]string, hba ...string) Parameters {
	p := Parameters{Set: map[string]string{}, HBA: hba}
	for _, set := range []map[string]string{n.cfg.Parameters, extra} {
		for k, v := range set {
			p.Set[k] = v
		}
	}
	return p
}

func (n *node) take(p Parameters) error {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
	defer cancel()
	return n.SetParameters(ctx, p)
}

func (n *node) mustTake(p Parameters) {
	n.t.Helper()
	if err := n.take(p); err != nil {
		n.t.Fatalf("%s: %v", n.name, err)
	}
}

// surveyed polls for what the running server says, because a reload takes a moment.
func (n *node) surveyed(what string, done func(Survey) bool) Survey {
	n.t.Helper()
	var found Survey
	eventually(n.t, what, func() bool {
		var err error
		if found, err = n.Survey(n.t.Context()); err != nil {
			n.t.Fatal(err)
		}
		return done(found)
	})
	return found
}

// restart is what the agent does for `quorate restart`.
func (c *cluster) restart(n *node) {
	n.t.Helper()
	if err := n.StopFast(n.t.Context(), 30*time.Second); err != nil {
		n.t.Fatal(err)
	}
	done := streaming
	if n == c.primary {
		done = isRun(pg.RunPrimary)
	}
	n.drive(c.want(n), "a restarted server", done)
}

// TestParametersAlone: what a reload can change is changed at once, what it can't waits for a restart, and what Postgres
// refuses leaves everything as it was, so that the next start works.
func TestParametersAlone(t *testing.T) {
	c := boot(t, "n1")
	n := c.primary
	n.mustTake(n.wants(map[string]string{"work_mem": "7MB", "shared_buffers": "24MB"}))
	eventually(t, "the reload", func() bool { return n.sql("SHOW work_mem") == "7MB" })
	n.surveyed("a setting that waits", func(s Survey) bool { return strings.Join(s.Pending, " ") == "shared_buffers" })

	n.mustTake(n.wants(map[string]string{"work_mem": "7MB", "shared_buffers": "24MB", "huge_pages": "off"}))
	n.surveyed("another one that waits", func(s Survey) bool { return strings.Join(s.Pending, " ") == "huge_pages shared_buffers" })
	n.mustTake(n.wants(map[string]string{"work_mem": "7MB", "shared_buffers": "24MB"}))
	n.surveyed("one that waits no longer", func(s Survey) bool { return strings.Join(s.Pending, " ") == "shared_buffers" })

	before, err := os.ReadFile(n.cfg.confFile())
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		name string
		p    Parameters
		want string
	}{
		{"a value that is none", n.wants(map[string]string{"work_mem": "lots"}), `invalid value for parameter "work_mem": "lots"`},
		{"a setting that is none", n.wants(map[string]string{"work_memory": "1MB"}), `unrecognized configuration parameter "work_memory"`},
		{"a value for the next start only", n.wants(map[string]string{"shared_buffers": "-3"}), "shared_buffers"},
		{"a library that is not there", n.wants(map[string]string{"shared_preload_libraries": "nope"}), `could not access file "nope"`},
		{"TLS without a certificate", n.wants(map[string]string{"ssl": "on"}), `could not load server certificate file "server.crt"`},
		{"what quorate owns", n.wants(map[string]string{"port": "1"}), "port is set by quorate itself"},
		{"an hba line", n.wants(nil, "local all all peer", "host all all 10.0.0.0/99 md5"), `pg_hba line "host all all 10.0.0.0/99 md5"`},
	} {
		if err := n.take(bad.p); !errors.Is(err, ErrParameters) || !strings.Contains(err.Error(), bad.want) {
			t.Errorf("%s: %v, want %s", bad.name, err, bad.want)
		} else {
			t.Logf("%s: %v", bad.name, err)
		}
	}
	if _, err := os.Stat(n.cfg.pgFile("check")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the double of the data directory is still there: %v", err)
	}
	if after, err := os.ReadFile(n.cfg.confFile()); err != nil || string(after) != string(before) {
		t.Errorf("refused settings changed the file (%v):\n%s", err, after)
	}
	n.mustTake(n.wants(map[string]string{"work_mem": "7MB", "shared_buffers": "24MB"}, "local all all peer", "host all postgres samenet scram-sha-256", "host all all 203.0.113.0/24 reject"))
	if got := n.sql("SELECT count(*) FROM pg_hba_file_rules WHERE address = '203.0.113.0'"); got != "1" {
		t.Errorf("the hba line is there %s times", got)
	}
	// The record, not the node file, decides from now on.
	n.stopAgent()
	n.startAgent()
	c.restart(n)
	if got := n.sql("SHOW shared_buffers"); got != "24MB" {
		t.Errorf("after the restart shared_buffers is %s", got)
	}
	n.surveyed("nothing that waits", func(s Survey) bool { return len(s.Pending) == 0 && s.Hot == pg.HotStandby{30, 8, 0, 64} })
}

// order decides for both nodes as their agents would.
func (c *cluster) order(wanted map[string]string) (held []string) {
	c.primary.t.Helper()
	hot := map[string]pg.HotStandby{}
	for _, n := range c.members {
		s, err := n.Survey(n.t.Context())
		if err != nil {
			n.t.Fatal(err)
		}
		hot[n.name] = s.Hot
	}
	for _, n := range c.members {
		o := Ordering{Wanted: wanted, Primary: n == c.primary, Running: hot[n.name], Control: n.Status(n.t.Context()).Dir.Control.HotStandby(), Standbys: map[string]pg.HotStandby{}}
		for _, other := range c.members {
			if other != n && n == c.primary {
				o.Standbys[other.name] = hot[other.name]
			} else if other == c.primary {
				o.Upstream = hot[other.name]
			}
		}
		file, waits := o.Decide()
		for _, w := range waits {
			held = append(held, n.name+": "+w.Because)
		}
		if err := n.SetHotStandby(file); err != nil {
			n.t.Fatal(err)
		}
	}
	return held
}

// TestParametersInOrder: max_connections is raised and lowered on two nodes, one restart after the other, and the standby
// replays all the time.
func TestParametersInOrder(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	replays := func(note string) {
		t.Helper()
		n1.sql("CREATE TABLE t_" + note + " ()")
		eventually(t, "n2 to replay", func() bool {
			out, err := n2.trySQL(t.Context(), "SELECT count(*) FROM pg_class WHERE relname = 't_"+note+"'")
			return err == nil && out == "1"
		})
		if n2.sql("SELECT pg_is_wal_replay_paused()") != "f" {
			t.Error("replay is paused")
		}
	}
	for _, step := range []struct {
		name, wanted  string
		first, second *node
		held          string
	}{
		{"raise", "60", n2, n1, "n1: max_connections stays 30 here until n2 runs with 60"},
		{"lower", "40", n1, n2, "n2: max_connections stays 60 here until the primary runs with 40"},
	} {
		set := map[string]string{"max_connections": step.wanted}
		for _, n := range c.members {
			n.mustTake(n.wants(set))
		}
		if held := c.order(set); strings.Join(held, ";") != step.held {
			t.Fatalf("%s: held back %q, want %q", step.name, held, step.held)
		}
		step.first.surveyed("the first to wait", func(s Survey) bool { return strings.Join(s.Pending, " ") == "max_connections" })
		step.second.surveyed("the second not to", func(s Survey) bool { return len(s.Pending) == 0 })
		c.restart(step.first)
		replays(step.name)
		eventually(t, "the order to go on", func() bool { return len(c.order(set)) == 0 })
		step.second.surveyed("the second to wait", func(s Survey) bool { return strings.Join(s.Pending, " ") == "max_connections" })
		c.restart(step.second)
		replays(step.name + "_2")
		for _, n := range c.members {
			if got := n.sql("SHOW max_connections"); got != step.wanted {
				t.Errorf("%s: %s runs with %s", step.name, n.name, got)
			}
		}
	}
}

// TestParametersOfAStart: what a start would load is loaded to see whether it can be, from where a start would look, and what
// can be is taken.
func TestParametersOfAStart(t *testing.T) {
	c := boot(t, "n1")
	n := c.primary
	tls := n.wants(map[string]string{"ssl": "on", "shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.max": "200"})
	if err := n.take(tls); !errors.Is(err, ErrParameters) || !strings.Contains(err.Error(), `could not load server certificate file "server.crt"`) {
		t.Errorf("without a certificate: %v", err)
	}
	crt, key := certificate(t)
	if err := errors.Join(n.writeFile(filepath.Join(n.cfg.DataDir, "server.crt"), crt), n.writeFile(filepath.Join(n.cfg.DataDir, "server.key"), key)); err != nil {
		t.Fatal(err)
	}
	n.mustTake(tls)
	c.restart(n)
	if got := n.sql("SELECT current_setting('ssl') || ' ' || current_setting('pg_stat_statements.max')"); got != "on 200" {
		t.Errorf("after the restart: %s", got)
	}
}

// certificate makes a key and a certificate that it signed itself.
func certificate(t *testing.T) (crt, key []byte) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &secret.PublicKey, secret)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})
}

func TestComplaints(t *testing.T) {
	text := `run postgres: exit status 1: 2026-01-01 10:00:00.000 UTC [7] LOG:  invalid value for parameter "work_mem": "lots"; 2026-01-01 10:00:00.000 UTC [7] HINT:  Valid units are "kB"; 2026-01-01 10:00:00.000 UTC [7] FATAL:  configuration file "/x" contains errors`
	if got, want := complaints(text), `invalid value for parameter "work_mem": "lots"; Valid units are "kB"`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := complaints("something else"); got != "something else" {
		t.Errorf("got %q", got)
	}
}
