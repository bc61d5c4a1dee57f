package pgctl

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/rejoin"
)

func TestFirstPrimaryAndClone(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	if got, want := n1.took(), "init start-writer mark slots"; got != want {
		t.Errorf("n1 took %q, want %q", got, want)
	}
	if got, want := n2.took(), "clone examine start-reader follow settle slots"; got != want {
		t.Errorf("n2 took %q, want %q", got, want)
	}
	if !exists(n1.signalFile()) {
		t.Error("standby.signal is not back on the primary")
	}
	n1.sql("CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
	eventually(t, "the row on n2", func() bool { v, err := n2.trySQL(t.Context(), "SELECT id FROM t"); return err == nil && v == "1" })
	s := n1.Status(t.Context())
	if s.Run != pg.RunPrimary || len(s.Senders) != 1 || s.Senders[0].Name != "n2" || !s.Senders[0].Streaming || s.Timeline != 1 {
		t.Errorf("n1: %+v", s)
	}
}

// acked writes a row under the sync rule and returns the position that was acknowledged.
func acked(n *node) pg.LSN {
	n.t.Helper()
	n.sql("CREATE TABLE IF NOT EXISTS t (id int); INSERT INTO t VALUES (1)")
	lsn, err := pg.ParseLSN(n.sql("SELECT pg_current_wal_flush_lsn()"))
	if err != nil {
		n.t.Fatal(err)
	}
	return lsn
}

// rule makes each node's own ANY 1 of the others.
func (c *cluster) rule(t *testing.T) {
	t.Helper()
	for _, n := range c.members {
		rule := Sync{K: 1}
		for _, o := range c.members {
			if o != n {
				rule.Names = append(rule.Names, o.name)
			}
		}
		c.sync[n.name] = rule
		n.drive(c.want(n), "its rule in force", func(s Status) bool { return s.enforces(rule) })
	}
}

// detach cuts a standby off and checks what it reports against what it has acknowledged.
func detach(t *testing.T, n *node, epoch uint64, atLeast pg.LSN) Position {
	t.Helper()
	began := time.Now()
	p, err := n.Detach(t.Context(), epoch)
	took := time.Since(began)
	if err != nil {
		t.Fatalf("%s: %v", n.name, err)
	}
	t.Logf("measured: %s detached in %s", n.name, took.Round(100*time.Microsecond))
	if p.LSN < atLeast {
		t.Errorf("%s reports %s and has acknowledged %s", n.name, p.LSN, atLeast)
	}
	if n.client.Record().Gone() {
		t.Logf("measured: %s had to be killed for it", n.name)
		return p
	}
	// One that was asked for before may still be forked; it ends without connecting.
	eventually(t, "no walreceiver", func() bool {
		pids, _, err := receivers(n.client.Record().PID, n.cfg.clusterName())
		return err == nil && len(pids) == 0
	})
	if again, err := n.Detach(t.Context(), epoch); err != nil || again.LSN != p.LSN {
		t.Errorf("%s: after that the position is %+v, it was %+v: %v", n.name, again, p, err)
	}
	return p
}

func TestFailoverFollowsThrough(t *testing.T) {
	c := boot(t, "n1", "n2", "n3")
	n1, n2, n3 := c.members[0], c.members[1], c.members[2]
	c.rule(t)
	lsn := acked(n1)

	n1.hold(0)
	if err := n1.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	p1, err := n1.Examine(t.Context())
	if err != nil || p1.LSN < lsn {
		t.Errorf("the stopped primary's log ends at %s, it had flushed %s: %v", p1.LSN, lsn, err)
	}
	var best *node
	var at, other Position
	best, at, other = n2, detach(t, n2, 1, 0), detach(t, n3, 1, 0)
	if other.LSN > at.LSN {
		best, at, other = n3, other, at
	}
	if at.LSN < lsn {
		t.Errorf("the best position is %s, %s was acknowledged", at.LSN, lsn)
	}
	waiting := n2
	if best == n2 {
		waiting = n3
	}

	// Timeline 2 was given to an appointment that never came to be, so this one is 3.
	c.epoch, c.primary, c.final = 2, best, false
	c.target = rejoin.Branch{Timeline: 3, History: pg.History{{Timeline: 1, End: at.LSN}}}
	waiting.drive(c.want(waiting), "to follow the candidate", streaming)
	pid := waiting.client.Record().PID
	best.hold(2)
	best.took()
	began := time.Now()
	s := best.drive(c.want(best), "the promotion", isRun(pg.RunPrimary))
	t.Logf("measured: promoted in %s with all steps", time.Since(began).Round(100*time.Microsecond))
	if s.Timeline != 3 {
		t.Errorf("%s is on timeline %d, 3 was predicted", best.name, s.Timeline)
	}
	if got, want := best.took(), "promote slots"; got != "promote" && got != want {
		t.Errorf("%s took %q, want %q", best.name, got, want)
	}
	if !exists(best.signalFile()) {
		t.Error("standby.signal is not back")
	}
	began = time.Now()
	best.sql("INSERT INTO t VALUES (2)")
	t.Logf("measured: first synchronous commit %s after", time.Since(began).Round(100*time.Microsecond))
	eventually(t, "the row on the other standby", func() bool {
		v, err := waiting.trySQL(t.Context(), "SELECT count(*) FROM t")
		return err == nil && v == "2"
	})
	if waiting.client.Record().PID != pid {
		t.Error("the other standby was restarted")
	}
	if s := waiting.Status(t.Context()); s.Timeline != 3 {
		t.Errorf("the other standby is on timeline %d", s.Timeline)
	}

	oldPrimaryRejoins(t, c, n1, p1)
}

// oldPrimaryRejoins brings the crashed primary back as a standby of c's.
func oldPrimaryRejoins(t *testing.T, c *cluster, n1 *node, p1 Position) {
	t.Helper()
	// The old primary's log ends where the new timeline begins, or its unacknowledged end was lost.
	c.final = true
	c.target.History = pg.History{{Timeline: 1, End: switchOf(t, c.primary, 3)}}
	n1.took()
	n1.drive(c.want(n1), "to rejoin", streaming)
	t.Logf("the old primary ended at %s, timeline 3 began at %s: %s", p1.LSN, c.target.History[0].End, n1.took())
	eventually(t, "the row on the old primary", func() bool {
		v, err := n1.trySQL(t.Context(), "SELECT count(*) FROM t")
		return err == nil && v == "2"
	})
}

// switchOf reads where a node's timeline began.
func switchOf(t *testing.T, n *node, tli pg.Timeline) pg.LSN {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(n.walDir(), pg.HistoryFileName(tli)))
	if err != nil {
		t.Fatal(err)
	}
	h, err := pg.ParseHistory(content, tli)
	if err != nil {
		t.Fatal(err)
	}
	return h[len(h)-1].End
}

// K3: with replay paused the walreceiver outlives a reload and goes on acknowledging. K4: the position is the end of the
// log, which replay has not reached.
func TestDetachWhileReplayIsPaused(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	c.rule(t)
	acked(n1)
	n2.sql("SELECT pg_wal_replay_pause()")
	eventually(t, "replay to pause", func() bool { return n2.sql("SELECT pg_get_wal_replay_pause_state()") == "paused" })
	lsn := acked(n1)
	replay, err := pg.ParseLSN(n2.sql("SELECT pg_last_wal_replay_lsn()"))
	if err != nil || replay >= lsn {
		t.Fatalf("replay is at %s, not behind %s: %v", replay, lsn, err)
	}
	p := detach(t, n2, 1, lsn)
	if again, err := n2.Detach(t.Context(), 1); err != nil || again.LSN != p.LSN {
		t.Errorf("again: %+v, %v", again, err)
	}

	// Nobody acknowledges any more: a commit waits until its client gives up.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := n1.trySQL(ctx, "INSERT INTO t VALUES (3)"); err == nil {
		t.Error("a commit was acknowledged after the detach")
	}
	if err := n2.Follow(t.Context(), n1.upstream(n2, 1)); err == nil {
		t.Error("it follows an epoch that it has detached from")
	}

	// The promise outlives Postgres and the agent, and so does the position.
	if err := n2.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	n2.stopAgent()
	n2.startAgent()
	if err := n2.StartReadOnly(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "n2 to answer", func() bool { return n2.Status(t.Context()).Run == pg.RunStandby })
	if v := n2.sql("SHOW primary_conninfo"); v != "" {
		t.Errorf("after a restart primary_conninfo is %q", v)
	}
	if again := detach(t, n2, 1, lsn); again.LSN != p.LSN || again.Timeline != 1 {
		t.Errorf("after a restart the position is %+v, it was %+v", again, p)
	}
}

// A standby that reaches a recovery target opens for writing, with nobody's lease: no file in PGDATA may set one.
func TestRecoveryTargetsAreNotTaken(t *testing.T) {
	c := boot(t, "n1", "n2")
	n2 := c.members[1]
	if err := n2.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	appendTo(t, n2.autoConf(), "recovery_target = 'immediate'\nrecovery_target_action = 'promote'\n")
	appendTo(t, filepath.Join(n2.cfg.DataDir, "postgresql.conf"), "recovery_target = 'immediate'\nrecovery_target_action = 'promote'\n")
	if err := n2.StartReadOnly(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	eventually(t, "n2 to answer", func() bool { run := n2.Status(t.Context()).Run; return run == pg.RunStandby || run == pg.RunPrimary })
	if v := n2.sql("SELECT current_setting('recovery_target') || pg_is_in_recovery()"); v != "true" {
		t.Errorf("target and recovery: %q", v)
	}
}

// A standby that was away for longer than the primary keeps log is cloned anew.
func TestCloneWhenTheLogIsGone(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	if err := n2.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	n1.sql("ALTER SYSTEM SET wal_keep_size = 0")
	n1.sql("SELECT pg_reload_conf()")
	if err := n1.SetSlots(t.Context(), nil, true); err != nil {
		t.Fatal(err)
	}
	n1.writeSegments(3)
	n1.drive(c.want(n1), "the slot again", func(s Status) bool { return len(s.Slots) == 1 })
	n2.clonedAnew(c)
}

// A slot may keep max_slot_wal_keep_size of log and no more. One that had to give log up is of no use to anybody: it is made anew,
// and its member gets a new copy.
func TestALostSlotIsMadeAnew(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	if err := n2.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	n1.sql("ALTER SYSTEM SET wal_keep_size = 0")
	n1.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
	n1.sql("SELECT pg_reload_conf()")
	const status = "SELECT string_agg(wal_status, ',') FROM pg_replication_slots"
	eventually(t, "the slot to lose its log", func() bool {
		n1.writeSegments(1)
		return n1.sql(status) == "lost"
	})
	if s := n1.Status(t.Context()); len(s.Slots) != 0 {
		t.Errorf("a slot that is lost counts as one: %v", s.Slots)
	}
	n1.drive(c.want(n1), "the slot anew", func(s Status) bool { return len(s.Slots) == 1 })
	if got := n1.sql(status); got != "reserved" {
		t.Errorf("the slot is %s", got)
	}
	n1.sql("ALTER SYSTEM RESET max_slot_wal_keep_size") // the copy's own checkpoint would go beyond it
	n1.sql("SELECT pg_reload_conf()")
	n2.clonedAnew(c)
}

// writeSegments fills so many segments of log and lets go of those that nobody keeps.
func (n *node) writeSegments(count int) {
	n.sql("CREATE TABLE IF NOT EXISTS t (id int)")
	for range count {
		n.sql("INSERT INTO t VALUES (1)")
		n.sql("SELECT pg_switch_wal()")
		n.sql("CHECKPOINT")
	}
}

// clonedAnew drives a standby that lacks log of its primary until it streams from a new copy; the old one is kept.
func (n *node) clonedAnew(c *cluster) {
	n.took()
	n.drive(c.want(n), "to follow", func(s Status) bool {
		return streaming(s) && n.Status(n.t.Context()).Receiver == "streaming" && len(kept(n.t, n)) == 1
	})
	if got := n.took(); !strings.Contains(got, "follow stop examine clone examine start-reader") {
		n.t.Errorf("%s took %q", n.name, got)
	}
}

// The rule is in force when SetSync returns, from the first commit on.
func TestSetSyncInForce(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	acked(n1)
	rule := Sync{K: 1, Names: []string{"n9"}} // nobody: every commit waits
	if err := n1.SetSync(t.Context(), rule); err != nil {
		t.Fatal(err)
	}
	if s := n1.Status(t.Context()); !s.enforces(rule) {
		t.Errorf("%+v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := n1.trySQL(ctx, "INSERT INTO t VALUES (2)"); err == nil {
		t.Error("a commit was acknowledged by nobody")
	}
	// What the agent itself writes does not wait, and the way back is open.
	if err := n1.SetSync(t.Context(), Sync{K: 1, Names: []string{"n2"}}); err != nil {
		t.Fatal(err)
	}
	acked(n1)

	// A walreceiver that holds its replies back leaves the change unproved.
	pids, _, err := receivers(n2.client.Record().PID, n2.cfg.clusterName())
	if err != nil || len(pids) != 1 {
		t.Fatalf("walreceivers %v: %v", pids, err)
	}
	if err := unix.Kill(pids[0], unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	short, cancelShort := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancelShort()
	if err := n1.SetSync(short, Sync{K: 1, Names: []string{"n2", "n3"}}); err == nil {
		t.Error("it is in force without a reply")
	}
	if s := n1.Status(t.Context()); s.SyncInForce {
		t.Error("Status says that it is in force")
	}
	if err := unix.Kill(pids[0], unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := n1.SetSync(t.Context(), Sync{K: 1, Names: []string{"n2", "n3"}}); err != nil {
		t.Error(err)
	}
}
