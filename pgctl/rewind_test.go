package pgctl

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/rejoin"
)

// fork is where the histories of two nodes part in a test.
type fork struct {
	at      Position // end of what both have
	commits []string // xids that only the old primary committed
}

// diverge makes the standby primary of the next epoch after the old one committed on its own and was killed.
func (c *cluster) diverge(t *testing.T, next *node, alone int) fork {
	t.Helper()
	old := c.primary
	old.sql("CREATE TABLE IF NOT EXISTS t (id int); INSERT INTO t VALUES (1)")
	count := old.sql("SELECT count(*) FROM t")
	eventually(t, "the standby to have it", func() bool {
		v, err := next.trySQL(t.Context(), "SELECT count(*) FROM t")
		return err == nil && v == count
	})
	f := fork{at: detach(t, next, c.epoch, 0)}
	for range alone {
		f.commits = append(f.commits, old.sql("INSERT INTO t VALUES (2); SELECT xmin FROM t ORDER BY ctid DESC LIMIT 1"))
	}
	if err := old.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	old.hold(0)
	old.stopAgent() // its memory of positions goes too
	old.startAgent()

	c.epoch++
	history := slices.Concat(c.target.History, pg.History{{Timeline: c.target.Timeline, End: f.at.LSN}})
	c.primary, c.target = next, rejoin.Branch{Timeline: c.target.Timeline + 1, History: history}
	next.hold(c.epoch)
	next.drive(c.want(next), "the promotion", func(s Status) bool { return s.Run == pg.RunPrimary && len(s.Slots) > 0 })
	return f
}

// tell makes the members known to a node whose agent is new.
func (c *cluster) tell(t *testing.T, n *node) {
	t.Helper()
	var members []Member
	for _, m := range c.members {
		members = append(members, local(m.name))
	}
	if err := n.SetMembers(t.Context(), members); err != nil {
		t.Fatal(err)
	}
}

// kept returns the directories that were kept beside PGDATA under a name with this in it.
func keptAs(t *testing.T, n *node, how string) []string {
	t.Helper()
	dirs, err := filepath.Glob(n.cfg.DataDir + "." + how + ".*")
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// checkEvidence compares what was kept with what the old primary committed alone.
func checkEvidence(t *testing.T, e Evidence, f fork) manifest {
	t.Helper()
	if e.From != f.at.LSN || e.Timeline != f.at.Timeline || e.Commits != len(f.commits) || e.To <= e.From {
		t.Errorf("%+v, want %d commits from %s of timeline %d", e, len(f.commits), f.at.LSN, f.at.Timeline)
	}
	if info, err := os.Stat(e.Path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others may look into the evidence: %v, %v", info, err)
	}
	content, err := os.ReadFile(filepath.Join(e.Path, manifestFile))
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != e.SHA256 {
		t.Errorf("the manifest has another sum than %s", e.SHA256)
	}
	var m manifest
	if err := json.Unmarshal(content, &m); err != nil {
		t.Fatal(err)
	}
	if !m.Complete || m.Records["Transaction"] < uint64(len(f.commits)) || m.Records["Heap"] < uint64(len(f.commits)) || m.Bytes != uint64(e.To-e.From) {
		t.Errorf("manifest %+v", m)
	}
	names := map[string]bool{}
	for _, file := range m.Files {
		names[file.Path] = true
		content, err := os.ReadFile(filepath.Join(e.Path, file.Path))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != file.SHA256 || int64(len(content)) != file.Bytes {
			t.Errorf("%s is not as the manifest says", file.Path)
		}
	}
	if !names["pg_control"] || !names["postgres.log"] || !names[filepath.Join("wal", pg.SegmentName(e.Timeline, e.From, 16<<20))] {
		t.Errorf("files %v", m.Files)
	}
	var xids []string
	list, err := os.Open(filepath.Join(e.Path, commitsFile))
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	for lines := bufio.NewScanner(list); lines.Scan(); {
		var c commitLine
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		if c.LSN < e.From || c.LSN >= e.To || time.Since(c.Time).Abs() > time.Hour {
			t.Errorf("commit %+v", c)
		}
		xids = append(xids, fmt.Sprint(c.XID))
	}
	if !slices.Equal(xids, f.commits) {
		t.Errorf("the list has commits %v, want %v", xids, f.commits)
	}
	return m
}

// same compares the rows of both nodes.
func (c *cluster) same(t *testing.T, n *node) {
	t.Helper()
	const rows = "SELECT count(*) || '/' || count(*) FILTER (WHERE id = 2) FROM t"
	c.primary.sql("INSERT INTO t VALUES (3)")
	want := c.primary.sql(rows)
	eventually(t, "the same rows", func() bool { v, err := n.trySQL(t.Context(), rows); return err == nil && v == want })
	if !strings.HasSuffix(want, "/0") {
		t.Errorf("the primary has rows that were discarded: %s", want)
	}
}

// An old primary whose log goes past the switch goes back to it and follows. What it had alone is kept.
func TestDivergedPrimaryIsRewound(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	f := c.diverge(t, n2, 3)
	c.tell(t, n1)

	// While the switch is only predicted nothing is thrown away.
	c.final = false
	s := n1.drive(c.want(n1), "to wait", func(s Status) bool { return s.Position != nil })
	if step := Next(c.want(n1), s); step.Kind != Nothing {
		t.Errorf("before the promotion is known: %+v", step)
	}
	c.final = true
	n1.took()
	s = n1.drive(c.want(n1), "to be rewound and to follow", streaming)
	if got, want := n1.took(), "rewind examine start-reader "; !strings.HasPrefix(got, want) {
		t.Errorf("n1 took %q, want %q", got, want)
	}
	c.same(t, n1)
	if len(s.Evidence) != 1 || s.Rewind != nil || len(keptAs(t, n1, "*")) > 0 {
		t.Fatalf("evidence %+v, rewind %+v, kept %v", s.Evidence, s.Rewind, keptAs(t, n1, "*"))
	}
	if m := checkEvidence(t, s.Evidence[0], f); m.Discard.Way != "rewind" || m.Because == "" {
		t.Errorf("manifest %+v", m)
	}
	// It is listed until the cluster knows of it, also by the next agent, and stays on disk.
	n1.stopAgent()
	n1.startAgent()
	if s := n1.Status(t.Context()); len(s.Evidence) != 1 {
		t.Errorf("the next agent lists %+v", s.Evidence)
	}
	if err := n1.EvidenceRecorded(s.Evidence[0].ID); err != nil {
		t.Fatal(err)
	}
	n1.stopAgent()
	n1.startAgent()
	if now := n1.Status(t.Context()); len(now.Evidence) != 0 || !exists(s.Evidence[0].Path) {
		t.Errorf("after it was recorded: %+v", now.Evidence)
	}
}

// Without a way back the directory is cloned anew; the old one and the evidence stay.
func TestDivergedPrimaryIsCloned(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	f := c.diverge(t, n2, 2)
	c.tell(t, n1)
	if err := n1.setRewind(rewindPlan{Phase: rewindFailed, Note: "a test"}); err != nil {
		t.Fatal(err)
	}
	s := n1.drive(c.want(n1), "a new clone that follows", streaming)
	if got, want := n1.took(), "init start-writer mark slots examine clone examine start-reader "; !strings.HasPrefix(got, want) {
		t.Errorf("n1 took %q, want %q", got, want)
	}
	c.same(t, n1)
	old := keptAs(t, n1, "diverged")
	if len(old) != 1 || !exists(filepath.Join(old[0], "PG_VERSION")) {
		t.Fatalf("the old directory is not kept: %v", old)
	}
	if len(s.Evidence) != 1 || s.Rewind != nil {
		t.Fatalf("%+v", s)
	}
	if m := checkEvidence(t, s.Evidence[0], f); m.Discard.Way != "clone" {
		t.Errorf("manifest %+v", m)
	}
}

// A rewind that is killed after any of its steps is taken up by the next agent, or ends with a clone; what was there is
// kept or rewound, never lost. So is one that is killed in the middle of pg_rewind.
func TestRewindResumes(t *testing.T) {
	c := boot(t, "n1", "n2")
	steps := c.members[0].rewindSteps()
	for done := range len(steps) + 1 {
		old := c.primary
		next := c.members[0]
		if next == old {
			next = c.members[1]
		}
		evidence := len(old.Status(t.Context()).Evidence)
		f := c.diverge(t, next, 2)
		c.tell(t, old)
		crashRewindAfter(t, c, old, f, done)
		old.stopAgent()
		old.startAgent()
		c.tell(t, old)
		s := old.Status(t.Context())
		if !s.Rebuilding {
			t.Errorf("after %d steps: the log is not marked as being rebuilt", done)
		}
		if _, err := old.Examine(t.Context()); err == nil {
			t.Errorf("after %d steps: it reports a position", done)
		}
		old.took()
		before := len(keptAs(t, old, "*"))
		s = old.drive(c.want(old), "to follow", streaming)
		t.Logf("after %d steps (%s): %s", done, steps[min(done, len(steps)-1)].name, old.took())
		c.same(t, old)
		torn := done == len(steps) // stands for one that was cut in the middle of pg_rewind
		for n, step := range steps {
			torn = torn || n == done && step.phase == rewindWriting
		}
		kept := evidence + 1
		if torn {
			kept++ // the directory that was set aside, beside the log
		}
		if len(s.Evidence) != kept || s.Rewind != nil {
			t.Fatalf("after %d steps: evidence %+v, rewind %+v", done, s.Evidence, s.Rewind)
		}
		checkEvidence(t, s.Evidence[slices.IndexFunc(s.Evidence, func(e Evidence) bool { return e.Timeline == f.at.Timeline })], f)
		if quarantined := len(keptAs(t, old, "*")) > before; quarantined != torn {
			t.Errorf("after %d steps: a directory was set aside: %t, pg_rewind was cut short: %t", done, quarantined, torn)
		}
	}
}

// crashRewindAfter does the first steps of a rewind and then nothing more, as a killed agent would. The last number of
// steps stands for a kill in the middle of pg_rewind.
func crashRewindAfter(t *testing.T, c *cluster, n *node, f fork, done int) {
	t.Helper()
	if _, err := n.Examine(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := n.planRewind(c.primary.upstream(n, c.epoch), c.target.Timeline, f.at.LSN, "a test")
	if err != nil {
		t.Fatal(err)
	}
	steps := n.rewindSteps()
	middle := done == len(steps)
	for i, s := range steps {
		if i == done {
			return
		}
		ctx, cancel := context.WithCancel(t.Context())
		if middle && s.phase == rewindWriting {
			control := filepath.Join(n.cfg.DataDir, "backup_label")
			go func() {
				eventually(t, "pg_rewind to write", func() bool { return exists(control) || ctx.Err() != nil })
				cancel()
			}()
			if err := s.do(ctx, &p); err == nil {
				t.Log("pg_rewind was faster than its end")
			}
			cancel()
			return
		}
		if err := s.do(ctx, &p); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
		cancel()
	}
}

// A pg_control that nobody can read means a clone, and the damaged directory is set aside with the reason.
func TestDamagedDirectoryIsQuarantined(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	n1.sql("CREATE TABLE t (id int)")
	if err := n2.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	control := filepath.Join(n2.cfg.DataDir, "global", "pg_control")
	content, err := os.ReadFile(control)
	if err != nil {
		t.Fatal(err)
	}
	content[40] ^= 1
	if err := os.WriteFile(control, content, 0o600); err != nil {
		t.Fatal(err)
	}
	n2.took()
	n2.drive(c.want(n2), "a clone that follows", streaming)
	if got, want := n2.took(), "quarantine examine start-reader "; !strings.HasPrefix(got, want) {
		t.Errorf("n2 took %q, want %q", got, want)
	}
	c.same(t, n2)
	old := keptAs(t, n2, "quarantine")
	if len(old) != 1 {
		t.Fatalf("kept %v", old)
	}
	// The cluster is to know, also from an agent that begins now.
	n2.stopAgent()
	n2.startAgent()
	e := n2.Status(t.Context()).Evidence
	if len(e) != 1 || e[0].Way != "quarantine" || e[0].Commits != -1 || e[0].Path != old[0] || e[0].ID == "" || e[0].SHA256 == "" || e[0].Epoch != c.epoch {
		t.Fatalf("evidence %+v", e)
	}
	if err := n2.EvidenceRecorded(e[0].ID); err != nil {
		t.Fatal(err)
	}
	if e := n2.Status(t.Context()).Evidence; len(e) > 0 {
		t.Errorf("evidence that is recorded: %+v", e)
	}
	if why, err := os.ReadFile(filepath.Join(old[0], "QUARANTINE")); err != nil || !strings.Contains(string(why), "damaged") {
		t.Errorf("the reason is %q, %v", why, err)
	}
}

// A directory that was rewound while the primary went on answers only with log of the primary. When that has dropped it, the
// directory is cloned: it would start for ever.
func TestRewoundAndTheLogIsGone(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	f := c.diverge(t, n2, 1)
	c.tell(t, n1)
	n2.sql("ALTER SYSTEM SET wal_keep_size = 0")
	n2.sql("SELECT pg_reload_conf()")
	if err := n2.SetSlots(t.Context(), nil, true); err != nil {
		t.Fatal(err)
	}
	busy, quiet := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for busy.Err() == nil {
			_, _ = n2.trySQL(busy, "INSERT INTO t VALUES (1); SELECT pg_switch_wal()")
		}
	}()
	if _, err := n1.Examine(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n1.StartRewind(n2.upstream(n1, c.epoch), c.target.Timeline, f.at.LSN, "a test"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the rewind to be through", func() bool {
		s := n1.Status(t.Context())
		return s.Rewind != nil && !s.Rewind.Running && s.Rewind.Over != ""
	})
	quiet()
	<-stopped
	n2.sql("INSERT INTO t VALUES (1); SELECT pg_switch_wal()")
	n2.sql("CHECKPOINT")
	n1.took()
	// The slot of the clone is made while the rewound server waits.
	n1.drive(c.want(n1), "to give it up", func(s Status) bool {
		if s.WALGone && len(n2.Status(t.Context()).Slots) == 0 {
			n2.drive(c.want(n2), "the slot again", func(s Status) bool { return len(s.Slots) == 1 })
		}
		return streaming(s)
	})
	if got, want := n1.took(), "look-for-log stop examine clone examine start-reader"; !strings.Contains(got, want) {
		t.Errorf("n1 took %q, want %q", got, want)
	}
	c.same(t, n1)
}

func TestLabelStart(t *testing.T) {
	for label, want := range map[string]pg.LSN{
		"START WAL LOCATION: 1/2000028 (file 000000010000000100000002)\nCHECKPOINT LOCATION: 1/2000060\n": 0x1_0200_0028,
		"START WAL LOCATION: 0/5000028":  0x5000028,
		"CHECKPOINT LOCATION: 0/5000028": 0,
		"START WAL LOCATION: here":       0,
		"":                               0,
	} {
		if at, err := labelStart(label); at != want || (err == nil) != (want != 0) {
			t.Errorf("%q: %s, %v", label, at, err)
		}
	}
}
