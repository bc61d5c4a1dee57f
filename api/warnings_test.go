package api

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/failover"
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
