package pg_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/internal/pgtest"
)

// TestControlAgainstPostgres compares our reading of pg_control with pg_controldata's, for a
// running primary, a standby that was stopped, and a clean shutdown.
func TestControlAgainstPostgres(t *testing.T) {
	c := pgtest.Start(t, pgtest.Options{
		InitArgs: []string{"--wal-segsize=1", "--data-checksums"},
		Settings: map[string]string{"wal_log_hints": "on", "max_connections": "33", "max_worker_processes": "9", "max_wal_senders": "7", "max_prepared_transactions": "3", "max_locks_per_transaction": "77"},
	})
	compare := func(state string) {
		t.Helper()
		content, err := os.ReadFile(filepath.Join(c.Dir, "global/pg_control"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := pg.ParseControl(content)
		if err != nil {
			t.Fatal(err)
		}
		if got.State.String() != state {
			t.Errorf("state %s, want %s", got.State, state)
		}
		compareControl(t, controldata(t, c), got)
	}
	compare("in production")
	c.Exec("CREATE TABLE x AS SELECT 1; CHECKPOINT")
	c.Stop("fast")
	compare("shut down")
	if err := os.WriteFile(filepath.Join(c.Dir, "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c.Run()
	compare("in archive recovery")
	c.Stop("fast")
	compare("shut down in recovery")
	c.Run()
	c.Exec("SELECT pg_promote()")
	c.Exec("CHECKPOINT")
	compare("in production")
}

// controldata runs pg_controldata and returns its lines by label.
func controldata(t *testing.T, c *pgtest.Cluster) map[string]string {
	t.Helper()
	out, err := c.Command("pg_controldata", c.Dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for _, line := range strings.Split(string(out), "\n") {
		if label, value, ok := strings.Cut(line, ":"); ok {
			values[label] = strings.TrimSpace(value)
		}
	}
	return values
}

func compareControl(t *testing.T, want map[string]string, got pg.Control) {
	t.Helper()
	onOff := map[bool]string{true: "on", false: "off"}
	yesNo := map[bool]string{true: "yes", false: "no"}
	fields := map[string]any{
		"pg_control version number":          got.PgControlVersion,
		"Catalog version number":             got.CatalogVersion,
		"Database system identifier":         got.SystemID,
		"Database cluster state":             got.State,
		"Latest checkpoint location":         got.Checkpoint,
		"Latest checkpoint's REDO location":  got.Redo,
		"Latest checkpoint's REDO WAL file":  pg.SegmentName(got.CheckpointTimeline, got.Redo, got.WalSegmentSize),
		"Latest checkpoint's TimeLineID":     got.CheckpointTimeline,
		"Latest checkpoint's PrevTimeLineID": got.PrevTimeline,
		"Minimum recovery ending location":   got.MinRecoveryPoint,
		"Min recovery ending loc's timeline": got.MinRecoveryTimeline,
		"Backup start location":              got.BackupStart,
		"Backup end location":                got.BackupEnd,
		"End-of-backup record required":      yesNo[got.BackupEndRequired],
		"wal_log_hints setting":              onOff[got.WalLogHints],
		"wal_level setting":                  map[bool]string{true: "logical", false: "replica"}[got.Logical],
		"max_connections setting":            got.MaxConnections,
		"max_worker_processes setting":       got.MaxWorkerProcesses,
		"max_wal_senders setting":            got.MaxWalSenders,
		"max_prepared_xacts setting":         got.MaxPreparedXacts,
		"max_locks_per_xact setting":         got.MaxLocksPerXact,
		"Database block size":                got.BlockSize,
		"WAL block size":                     got.WalBlockSize,
		"Bytes per WAL segment":              got.WalSegmentSize,
		"Data page checksum version":         map[bool]int{true: 1, false: 0}[got.DataChecksums],
	}
	for label, value := range fields {
		if fmt.Sprint(value) != want[label] {
			t.Errorf("%s: %v, pg_controldata says %q", label, value, want[label])
		}
	}
}

// TestAgainstARealServer checks quoting, names and versions with the server's own opinion.
func TestAgainstARealServer(t *testing.T) {
	c := pgtest.Start(t, pgtest.Options{})
	for _, text := range []string{"", "plain", `it's`, `back\slash`, `both\'"`, "ünïcode\n"} {
		for _, conforming := range []string{"on", "off"} {
			sql := "SET standard_conforming_strings=" + conforming + "; SET backslash_quote=off; SELECT" + " " + pg.QuoteLiteral(text)
			if got := c.Exec(sql); got != text {
				t.Errorf("literal %q came back as %q", text, got)
			}
		}
	}
	for _, name := range []string{"n1", "Select", `a"b`, `with space`, `back\slash`} {
		c.Exec("CREATE SCHEMA " + pg.QuoteIdent(name))
		if got := c.Exec("SELECT count(*) FROM pg_namespace WHERE nspname = " + pg.QuoteLiteral(name)); got != "1" {
			t.Errorf("identifier %q: %s", name, got)
		}
		out, err := c.Command("psql", "-AtX", "-c", "SHOW application_name", "dbname=postgres application_name="+pg.QuoteConninfo(name)).Output()
		if err != nil || strings.TrimSuffix(string(out), "\n") != name {
			t.Errorf("conninfo %q: %q, %v", name, out, err)
		}
	}
	c.Exec("ALTER SYSTEM SET synchronous_standby_names = " + pg.QuoteLiteral(pg.FormatSSN(1, []string{"n2", "n-3"})))
	lsn, err := pg.ParseLSN(c.Exec("SELECT pg_current_wal_lsn()"))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Exec("SELECT pg_walfile_name(" + pg.QuoteLiteral((lsn + 8).String()) + ")"); got != pg.SegmentName(1, lsn, 16<<20) {
		t.Errorf("%s is in %s", lsn, got)
	}
	out, err := c.Command("postgres", "--version").Output()
	if err != nil {
		t.Fatal(err)
	}
	byOutput, err := pg.ParseVersionOutput(string(out))
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(c.Dir, "PG_VERSION"))
	if err != nil {
		t.Fatal(err)
	}
	if byFile, err := pg.ParseVersionFile(string(content)); err != nil || byFile != byOutput || !byFile.Supported() {
		t.Errorf("version %d by file, %d by output, %v", byFile, byOutput, err)
	}
}
