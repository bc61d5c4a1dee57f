package wal_test

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/internal/pg/wal"
	"github.com/quorate/quorate/internal/pgtest"
)

// TestWalkAgainstWaldump compares every record, and every commit with its transaction and time, with what pg_waldump says.
func TestWalkAgainstWaldump(t *testing.T) {
	c := pgtest.Start(t, pgtest.Options{Settings: map[string]string{"max_prepared_transactions": "5", "wal_level": "logical", "fsync": "off"}})
	c.Exec("CHECKPOINT")
	c.Exec("CREATE TABLE t (id int primary key, v text); CREATE TABLE gone (id int)")
	for n := range 20 {
		c.Exec(fmt.Sprintf("INSERT INTO t VALUES (%d, repeat('x', 3000))", n))
	}
	c.Exec("BEGIN; INSERT INTO t VALUES (100); SAVEPOINT a; INSERT INTO t VALUES (101); COMMIT")
	c.Exec("BEGIN; INSERT INTO t VALUES (102); ROLLBACK")
	// Prepared, with every kind of list in its record.
	c.Exec("BEGIN; INSERT INTO t VALUES (103); SAVEPOINT a; DROP TABLE gone; CREATE TABLE more (id int); PREPARE TRANSACTION 'p'")
	c.Exec("COMMIT PREPARED 'p'")
	c.Exec("SELECT pg_replication_origin_create('elsewhere'), pg_replication_origin_session_setup('elsewhere'); INSERT INTO t VALUES (104)")
	c.Exec("VACUUM t")
	c.Kill()

	log, control := describeLog(t, c)
	var got, commits []string
	checkpoints := 0
	end, err := log.Walk(control.Redo, func(r wal.Record) bool {
		got = append(got, fmt.Sprintf("%s %d %s", wal.ManagerName(r.Manager), r.XID, r.Start))
		if r.Checkpoint() {
			checkpoints++
		}
		if r.Commit != nil {
			at := time.UnixMicro(r.Commit.UnixMicro).UTC().Format("2006-01-02 15:04:05.000000")
			commits = append(commits, fmt.Sprintf("%s %d %s prepared=%t", r.Start, r.Commit.XID, at, r.Commit.Prepared))
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	want, wantCommits := waldump(t, c, control.Redo, log.Timeline)
	compareLines(t, "records", got, want)
	compareLines(t, "commits", commits, wantCommits)
	if checkpoints != 1 || len(commits) < 24 {
		t.Errorf("%d checkpoints, %d commits", checkpoints, len(commits))
	}
	found, err := log.FindEnd(control.Redo)
	if err != nil || found != end {
		t.Errorf("FindEnd says %+v, %v; Walk %+v", found, err, end)
	}
	asked, err := log.Walk(control.Redo, func(wal.Record) bool { return false })
	if err != nil || asked.Stop != wal.StopAsked || asked.Records != 1 {
		t.Errorf("asked to stop at once: %+v, %v", asked, err)
	}
	firstRecords(t, log, control, got)
}

// firstRecords asks for the first record of every page and looks it up among all.
func firstRecords(t *testing.T, log wal.Log, control pg.Control, all []string) {
	t.Helper()
	begins := map[string]bool{}
	for _, line := range all {
		begins[line[strings.LastIndexByte(line, ' ')+1:]] = true
	}
	pages, lastStart := 0, mustLSN(t, all[len(all)-1][strings.LastIndexByte(all[len(all)-1], ' ')+1:])
	for page := control.Redo - control.Redo%8192 + 8192; page < lastStart; page += 8192 {
		first, ok, err := log.FirstRecord(page)
		if err != nil || !ok {
			t.Fatalf("page %s: %t, %v", page, ok, err)
		}
		if first > lastStart {
			break
		}
		shown := first
		if first%8192 == 0 { // the beginning of a page stands for the first place after its header
			shown += 24
			if first%pg.LSN(log.SegmentSize) == 0 {
				shown += 16
			}
		}
		if !begins[shown.String()] {
			t.Errorf("page %s: no record begins at %s", page, first)
		}
		pages++
	}
	if pages < 5 {
		t.Errorf("only %d pages", pages)
	}
	if _, ok, err := log.FirstRecord(control.Redo + 1<<40&^8191); ok || err != nil {
		t.Errorf("beyond the log: %t, %v", ok, err)
	}
}

// waldump renders pg_waldump's opinion as the test does its own.
func waldump(t *testing.T, c *pgtest.Cluster, start pg.LSN, tli pg.Timeline) (records, commits []string) {
	t.Helper()
	cmd := c.Command("pg_waldump", "-p", filepath.Join(c.Dir, "pg_wal"), "-t", fmt.Sprint(tli), "-s", start.String())
	cmd.Env = append(cmd.Env, "TZ=UTC")
	out, _ := cmd.Output() // it complains about the end of every log
	line := regexp.MustCompile(`^rmgr: (\S+) +len .*, tx: +(\d+), lsn: ([0-9A-F/]+), prev .*, desc: (\S+) (.*)`)
	prepared := regexp.MustCompile(`^(\d+): `)
	for text := range strings.Lines(string(out)) {
		m := line.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		at := mustLSN(t, m[3]).String()
		records = append(records, fmt.Sprintf("%s %s %s", m[1], m[2], at))
		if m[1] != "Transaction" || m[4] != "COMMIT" && m[4] != "COMMIT_PREPARED" {
			continue
		}
		xid, desc := m[2], m[5]
		if m[4] == "COMMIT_PREPARED" {
			p := prepared.FindStringSubmatch(desc)
			if p == nil {
				t.Fatalf("no transaction in %q", text)
			}
			xid, desc = p[1], desc[len(p[0]):]
		}
		commits = append(commits, fmt.Sprintf("%s %s %s prepared=%t", at, xid, desc[:len("2006-01-02 15:04:05.000000")], m[4] == "COMMIT_PREPARED"))
	}
	return records, commits
}

func compareLines(t *testing.T, what string, got, want []string) {
	t.Helper()
	for n := range max(len(got), len(want)) {
		if n >= len(got) || n >= len(want) || got[n] != want[n] {
			t.Fatalf("%s differ at %d of %d and %d: %q, pg_waldump says %q", what, n, len(got), len(want), got[min(n, len(got)-1)], want[min(n, len(want)-1)])
		}
	}
}
