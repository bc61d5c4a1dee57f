package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// troubled are clusters in which something is the matter, seen from n2.
func troubled(t *testing.T) map[string]*fake {
	t.Helper()
	all := situations(t)
	all["healthy"] = three(t, "n2")

	silent := three(t, "n2")
	silent.hear("n3", func(s *failover.Sighting) { s.Age = 65 * time.Second })
	silent.hear("n1", func(s *failover.Sighting) { s.Report.Streaming = s.Report.Streaming[:1] })
	all["n3 silent"] = silent

	clone := three(t, "n2")
	clone.state.Sync.Members = []fsm.NodeID{"n1", "n2"}
	clone.hear("n3", func(s *failover.Sighting) {
		s.Report = failover.Report{Node: "n3", Epoch: 8, Rev: 12, Run: failover.RunCloning, Progress: "cloning from n1: 120 MiB"}
	})
	clone.hear("n1", func(s *failover.Sighting) { s.Report.Streaming = s.Report.Streaming[:1] })
	all["n3 cloning"] = clone

	cut := three(t, "n2") // n2 hears nobody and knows no leader.
	cut.leader = ""
	for _, id := range []fsm.NodeID{"n1", "n3"} {
		cut.hear(id, func(s *failover.Sighting) { s.Age = 3200 * time.Millisecond })
	}
	all["cut off"] = cut

	for name, says := range map[string]string{"removed": "removed; join it again", "removed and sick": "the disk is full"} {
		removed := three(t, "n2") // It is a member still by what it knows, and nobody talks to it.
		removed.leader, removed.local.Removed, removed.local.Certificate = "", "removed; join it again", "the certificate ends"
		for _, id := range []fsm.NodeID{"n1", "n3"} {
			removed.hear(id, func(s *failover.Sighting) { s.Age = 3200 * time.Millisecond })
		}
		removed.hear("n2", func(s *failover.Sighting) { s.Report.Problem = says })
		all[name] = removed
	}

	gone := three(t, "n2")
	gone.hear("n1", func(s *failover.Sighting) { s.Age = 2 * time.Second })
	all["primary gone"] = gone

	paused := three(t, "n2")
	paused.state.Paused = true
	all["paused"] = paused

	alone := three(t, "n1") // The primary hears nobody and serves on without a lease.
	alone.state.Paused, alone.leader = true, ""
	alone.hear("n1", func(s *failover.Sighting) { s.Report.Unleased, s.Report.Streaming = true, nil })
	for _, id := range []fsm.NodeID{"n2", "n3"} {
		alone.hear(id, func(s *failover.Sighting) { s.Age = 3200 * time.Millisecond })
	}
	all["primary cut off in a pause"] = alone

	waiting := three(t, "n2") // A setting waits for a restart.
	waiting.hear("n2", func(s *failover.Sighting) { s.Report.Config.Pending = []string{"max_connections"} })
	waiting.local.PendingRestart = map[string]PendingRestart{"max_connections": {"100", "200"}}
	all["restart pending"] = waiting

	async := three(t, "n2")
	async.state.Sync, async.state.Config.Settings.Durability = fsm.SyncRule{}, fsm.DurabilityAsync
	all["async"] = async

	witness := three(t, "n2")
	m := witness.state.Members["n3"]
	m.Role, m.Postgres = fsm.RoleWitness, ""
	witness.state.Members["n3"] = m
	witness.state.Sync.Members = []fsm.NodeID{"n1", "n2"}
	witness.hear("n3", func(s *failover.Sighting) {
		s.Report = failover.Report{Node: "n3", Run: failover.RunNone, Healthy: true}
	})
	witness.hear("n1", func(s *failover.Sighting) { s.Report.Streaming = s.Report.Streaming[:1] })
	all["witness"] = witness

	all["no cluster"] = &fake{self: "n1", changed: make(chan struct{}), absent: fmt.Errorf("%w: this node belongs to no cluster yet", ErrNoQuorum)}
	return all
}

// TestDocuments compares whole answers; `go test ./api -rewrite` writes what they are now.
func TestDocuments(t *testing.T) {
	clock := regexp.MustCompile(`"dcs_last_seen": \d+`)
	datadriven.RunTest(t, "testdata/documents", func(t *testing.T, d *datadriven.TestData) string {
		var name, path string
		for _, a := range d.CmdArgs {
			switch a.Key {
			case "of":
				name = a.Vals[0]
			default:
				path = a.Key
			}
		}
		f, ok := troubled(t)[name]
		if !ok {
			t.Fatalf("%s: no situation is called %q", d.Pos, name)
		}
		w := ask(t, server(f), http.MethodGet, path)
		if d.Cmd == "summary" {
			var s Status
			if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil {
				t.Fatal(err)
			}
			out := s.Summary + fmt.Sprintf("\nquorum %t, serving %t, survives %t, degraded %t\n", s.Quorum, s.Serving, s.Survives, s.Degraded)
			for _, p := range s.Problems {
				out += "- " + p + "\n"
			}
			return out
		}
		var b bytes.Buffer
		if err := json.Indent(&b, w.Body.Bytes(), "", "  "); err != nil {
			t.Fatal(err)
		}
		text := clock.ReplaceAllString(b.String(), `"dcs_last_seen": now`)
		return fmt.Sprintf("%d %s\n%s", w.Code, w.Header().Get("Content-Type"), text)
	})
}

// TestUnleased: who serves without a lease says what its commits wait for.
func TestUnleased(t *testing.T) {
	for _, c := range []struct {
		copies  int
		members []string
		want    string
	}{
		{2, []string{"n1", "n2", "n3"}, "is acknowledged only when it is also on 1 of n2, n3."},
		{3, []string{"n1", "n2", "n3", "n4", "n5"}, "is acknowledged only when it is also on 2 of n2, n3, n4, n5."},
		{2, []string{"n1", "n2"}, "is acknowledged only when it is also on n2."},
		{1, []string{"n1", "n2"}, "may be acknowledged by n1 alone."},
		{1, []string{"n1"}, "may be acknowledged by n1 alone."},
		{0, nil, "may be acknowledged by n1 alone."}, // async
	} {
		if got := unleased("n1", Data{Copies: c.copies, Members: c.members}); !strings.HasSuffix(got, " A commit there "+c.want) {
			t.Errorf("%d copies of %v: %s", c.copies, c.members, got)
		}
	}
}

// TestVersionSpoken: monitoring reads three numbers there and wants at least 3.0.4.
func TestVersionSpoken(t *testing.T) {
	var major, minor, patch int
	n, err := fmt.Sscanf(spokenVersion+"\n", "%d.%d.%d\n", &major, &minor, &patch)
	if err != nil || n != 3 || major < 3 || major == 3 && minor == 0 && patch < 4 {
		t.Errorf("%s: %v", spokenVersion, err)
	}
}
