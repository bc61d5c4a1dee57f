package api

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// TestWarningsAreShownAndDegradeNothing: what is to be mended some day is in status by the node's name, the exit code stays 0, and a
// node that is not heard warns of nothing.
func TestWarningsAreShownAndDegradeNothing(t *testing.T) {
	f := three(t, "n2")
	const said = "commits of role bulk in database shop are not kept by quorum: synchronous_commit is off there"
	f.hear("n1", func(s *failover.Sighting) { s.Report.Warnings = []string{said} })
	f.hear("n2", func(s *failover.Sighting) { s.Report.Warnings = []string{"restart to run PostgreSQL 15.19"} })
	e, err := f.ExplainHere()
	if err != nil {
		t.Fatal(err)
	}
	out := statusOf(e, "n2")
	if !slices.Equal(out.Problems, []string{"n1: " + said, "n2: restart to run PostgreSQL 15.19"}) || out.Degraded || e.Rule != "healthy" {
		t.Errorf("degraded %t by %s: %q", out.Degraded, e.Rule, out.Problems)
	}
	f.hear("n2", func(s *failover.Sighting) { s.Age = time.Minute })
	if e, err = f.ExplainHere(); err != nil {
		t.Fatal(err)
	}
	out = statusOf(e, "n2")
	if strings.Contains(strings.Join(out.Problems, "\n"), "15.19") || !out.Degraded {
		t.Errorf("degraded %t: %q", out.Degraded, out.Problems)
	}
}

// TestAHoleIsSaidBeforeItHurts: a standby that streams and does not get Raft's log is well to look at. It could neither be primary nor
// make a majority, which is said while nothing fails by it.
func TestAHoleIsSaidBeforeItHurts(t *testing.T) {
	f := three(t, "n2")
	status := func(lacking time.Duration) Status {
		f.ledger = func(v *failover.View) { v.Unapplied = map[fsm.NodeID]time.Duration{"n3": lacking} }
		e, err := f.ExplainHere()
		if err != nil {
			t.Fatal(err)
		}
		return statusOf(e, "n2")
	}
	if out := status(3 * time.Second); len(out.Problems) > 0 || !out.Survives || out.Degraded {
		t.Errorf("while it may be slow: %+v", out)
	}
	out := status(time.Minute)
	want := "n3: has shown nothing newer of Raft's log for 1m0s (limit 4s): it does not arrive, or its agent hangs or can't act on it (disk full, guard deaf)"
	if !slices.Equal(out.Problems, []string{want}) || out.Survives || !out.Degraded || out.Verdict != failover.AtRisk {
		t.Errorf("%+v", out)
	}
	f.hear("n3", func(s *failover.Sighting) { s.Report.Problem = "the disk is full" })
	if out := status(time.Minute); !slices.Equal(out.Problems, []string{strings.Replace(want, "has", "the disk is full; has", 1)}) {
		t.Errorf("with another problem: %q", out.Problems)
	}
}

// TestAStandbyIsWellOnlyIfItKeepsUp: one that runs and gets nothing, or nothing more, is a problem, though any node may be lost.
func TestAStandbyIsWellOnlyIfItKeepsUp(t *testing.T) {
	for _, c := range []struct {
		name   string
		lost   time.Duration
		change func(*failover.Sighting)
		want   string // what is to look at; empty: nothing
	}{
		{"it keeps up", 0, nil, ""},
		{"a hiccup", 900 * time.Millisecond, nil, ""},
		{"it streams and gets no further", 65 * time.Second, nil, "n3: has not kept up with n1 for 1m5s: it streams and gets no further"},
		{"it does not stream", 2 * time.Second, func(s *failover.Sighting) { s.Report.Upstream = "" }, "n3: has not kept up with n1 for 2s: it does not stream from it"},
		{"it says itself why", 2 * time.Second, func(s *failover.Sighting) { s.Report.Problem = "the disk is full" }, "n3: the disk is full"},
		{"it is being cloned", time.Minute, func(s *failover.Sighting) { s.Report.Progress = "cloning from n1: 5 MiB" }, "n3: cloning from n1: 5 MiB"},
		{"it is not heard", time.Minute, func(s *failover.Sighting) { s.Age = time.Minute }, "n3: last heard 1m0s ago."},
	} {
		f := three(t, "n2")
		f.ledger = func(v *failover.View) { v.Lost = map[fsm.NodeID]time.Duration{"n2": 0, "n3": c.lost} }
		if c.change != nil {
			f.hear("n3", c.change)
		}
		e, err := f.ExplainHere()
		if err != nil {
			t.Fatal(err)
		}
		out := statusOf(e, "n2")
		if got := strings.Join(out.Problems, "; "); got != c.want || out.Degraded != (c.want != "") || out.Nodes[2].Healthy && out.Nodes[2].Heard && c.lost >= time.Second {
			t.Errorf("%s: degraded %t, healthy %t: %q", c.name, out.Degraded, out.Nodes[2].Healthy, got)
		}
	}
}
