package pgctl

import (
	"fmt"
	"testing"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/rejoin"
)

// survivor is an old primary with a commit that nobody else has, killed at the end of its lease; its peer is away.
func survivor(t *testing.T) (c *cluster, n1, n2 *node) {
	t.Helper()
	c = boot(t, "n1", "n2")
	n1, n2 = c.members[0], c.members[1]
	c.rule(t)
	acked(n1)
	if err := n2.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	unacknowledged(t, n1)
	n1.hold(0)
	if err := n1.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	n1.took()
	return c, n1, n2
}

// reads is what a node is told that released the present epoch and was not replaced.
func (c *cluster) reads(n *node) Want {
	w := c.want(n)
	w.Role, w.Reads, w.LeaseLive = RoleStandby, true, false
	return w
}

// servesReads checks that clients can read there and not write.
func servesReads(t *testing.T, n *node, rows string) {
	t.Helper()
	eventually(t, "a client to be let in", func() bool {
		v, err := n.trySQL(t.Context(), "SELECT count(*) FROM t")
		return err == nil && v == rows
	})
	if _, err := n.trySQL(t.Context(), "INSERT INTO t VALUES (9)"); sqlState(err) != "25006" {
		t.Errorf("a write: %v", err)
	}
}

// The whole way of a survivor: read-only behind the gate, reads when its log is known to be on another disk, and writing
// again on the same timeline with the same log.
func TestSurvivorServesReads(t *testing.T) {
	c, n1, n2 := survivor(t)
	s := n1.drive(c.reads(n1), "to run read-only behind the gate", isRun(pg.RunStandby))
	if got, want := n1.took(), "examine find-commits start-reader"; got != want || !s.Gated || s.Position == nil || s.Own != 1 || s.Upstream.Name != "" {
		t.Fatalf("n1 took %q, want %q; %+v", got, want, s)
	}
	refused(t, c, n1)
	at := s.Position.LSN
	if shown := s.Position.Shown; shown == 0 || shown > at || shown < at-1024 {
		t.Errorf("the last commit is at %s of %s", shown, at)
	}

	want := c.reads(n1)
	want.Copies = []Copy{{Name: "n2", Timeline: 1, LSN: at}}
	n1.drive(want, "the gate to open", func(s Status) bool { return !s.Gated })
	servesReads(t, n1, "2")

	// It has added nothing to the log for which it is released, as a look at the disk shows that knows of no earlier one.
	n1.stopAgent()
	n1.startAgent()
	if err := n1.SetMembers(t.Context(), []Member{local("n2")}); err != nil {
		t.Fatal(err)
	}
	servesReads(t, n1, "2")
	if err := n1.StopFast(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	if p, err := n1.Examine(t.Context()); err != nil || p.LSN != at || p.Timeline != 1 {
		t.Errorf("the log ends at %+v, %v; it was released at %s", p, err, at)
	}
	n1.drive(want, "to serve reads again", isRun(pg.RunStandby))
	servesReads(t, n1, "2")
	n1.took()

	c.epoch = 2
	n1.hold(2)
	s = n1.drive(c.want(n1), "to write again", isRun(pg.RunPrimary))
	if got, want := n1.took(), "stop start-writer mark"; got != want || s.Timeline != 1 || !s.Gated {
		t.Errorf("n1 took %q, want %q; timeline %d, gated %t", got, want, s.Timeline, s.Gated)
	}
	n2.drive(c.want(n2), "to stream", streaming)
	n1.drive(c.want(n1), "the gate to open", func(s Status) bool { return !s.Gated })
	eventually(t, "a write", func() bool {
		_, err := n1.trySQL(t.Context(), "INSERT INTO t VALUES (3)")
		return err == nil
	})
}

// A survivor whose standby has all commits, and not the rest of its log, shows what it has at once.
func TestSurvivorWithoutATail(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	c.rule(t)
	acked(n1)
	eventually(t, "the commit on n2", func() bool { return n2.Status(t.Context()).Flush >= n1.Status(t.Context()).Flush })
	has := n2.Status(t.Context()).Flush
	if err := n2.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	n1.sql("SELECT pg_switch_wal(); CHECKPOINT")
	n1.sql("BEGIN; CREATE TABLE never (id int); INSERT INTO never SELECT generate_series(1, 1000); ROLLBACK; SELECT pg_switch_wal()")
	n1.hold(0)
	if err := n1.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := c.reads(n1)
	want.Copies = []Copy{{Name: "n2", Timeline: 1, LSN: has}}
	s := n1.drive(want, "to serve reads", isRun(pg.RunStandby))
	if s.Gated || s.Position.LSN <= has || s.Position.Shown > has {
		t.Errorf("gated %t, the log ends at %s, its last commit at %s, n2 has %s", s.Gated, s.Position.LSN, s.Position.Shown, has)
	}
	servesReads(t, n1, "1")
}

// A primary may have lowered max_connections for its next start. One that only reads needs what wrote the log.
func TestSurvivorStartsWithWhatItsLogNeeds(t *testing.T) {
	c, n1, _ := survivor(t)
	needs := n1.Status(t.Context()).Dir.Control.HotStandby()
	lowered := needs
	lowered[0] -= 10
	if err := n1.SetHotStandby(lowered); err != nil {
		t.Fatal(err)
	}
	s := n1.drive(c.reads(n1), "to run read-only behind the gate", isRun(pg.RunStandby))
	if _, file := n1.Parameters(); file != needs {
		t.Errorf("started with %v, its log needs %v", file, needs)
	}
	want := c.reads(n1)
	want.Copies = []Copy{{Name: "n2", Timeline: 1, LSN: s.Position.LSN}}
	n1.drive(want, "the gate to open", func(s Status) bool { return !s.Gated })
	servesReads(t, n1, "2")
	if got := n1.sql("SHOW max_connections"); got != fmt.Sprint(needs[0]) {
		t.Errorf("it runs with max_connections %s, its log needs %d", got, needs[0])
	}
}

// A reader that was killed, or whose start was cut short, can be started for writing all the same.
func TestSurvivorIsKilledAndAppointed(t *testing.T) {
	c, n1, n2 := survivor(t)
	n1.drive(c.reads(n1), "to run read-only", isRun(pg.RunStandby))
	if err := n1.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	n1.stopAgent()
	n1.startAgent()
	if err := n1.SetMembers(t.Context(), []Member{local("n2")}); err != nil {
		t.Fatal(err)
	}
	n1.took()
	c.epoch = 2
	n1.hold(2)
	n1.drive(c.want(n1), "to write again", isRun(pg.RunPrimary))
	if got, want := n1.took(), "examine start-writer mark"; got != want {
		t.Errorf("n1 took %q, want %q", got, want)
	}
	n2.drive(c.want(n2), "to stream", streaming)
}

// Another node is appointed while the survivor serves reads: it comes back as any old primary, its tail kept as evidence.
func TestSurvivorIsReplaced(t *testing.T) {
	c, n1, n2 := survivor(t)
	// Detached first: otherwise it would stream the survivor's tail from there.
	w := c.want(n2)
	w.Upstream = Upstream{}
	n2.drive(w, "to run read-only", isRun(pg.RunStandby))
	at := detach(t, n2, 1, 0)
	n1.drive(c.reads(n1), "to run read-only", isRun(pg.RunStandby))
	n1.took()
	c.epoch, c.primary, c.final = 2, n2, false
	c.target = rejoin.Branch{Timeline: 2, History: pg.History{{Timeline: 1, End: at.LSN}}}
	n2.hold(2)
	n2.drive(c.want(n2), "the promotion", isRun(pg.RunPrimary))
	c.final, c.target.History = true, pg.History{{Timeline: 1, End: switchOf(t, n2, 2)}}

	s := n1.drive(c.want(n1), "to follow", streaming)
	if s.Own != 0 || len(s.Evidence) != 1 || s.Evidence[0].Commits != 1 {
		t.Errorf("own %d, evidence %+v", s.Own, s.Evidence)
	}
	t.Logf("n1 took %s", n1.took())
	n2.drive(c.want(n2), "the gate to open", func(s Status) bool { return !s.Gated })
	eventually(t, "reads on n1", func() bool {
		v, err := n1.trySQL(t.Context(), "SELECT count(*) FROM t")
		return err == nil && v == "1"
	})
}
