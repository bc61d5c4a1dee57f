package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// reported is the healthy cluster after n1 took over from n2, which was silent, with the report of that.
func reported(t *testing.T, change func(*fake, *fsm.Failover)) *fake {
	t.Helper()
	f := three(t, "n3")
	r := fsm.Failover{
		Epoch: 8, From: "n2", To: "n1", Rule: "best-standby", Cause: "ask-first: n1 heard n2 1.003s ago (limit 1s)", Wall: start + 1000,
		Phases: []fsm.Phase{{Name: "silent", MS: 1003}, {Name: "appointed", MS: 1021}, {Name: "serving", MS: 1070}, {Name: "streaming", MS: 1110}},
	}
	if change != nil {
		change(f, &r)
	}
	f.state.Failovers = []fsm.Failover{r}
	return f
}

func discarded(lossy bool) fsm.Discard {
	return fsm.Discard{
		ID: "n2-8", Node: "n2", Epoch: 8, Timeline: 1, From: 0x3000148, To: 0x3000800, Commits: 3, Way: "rewind",
		Path: "/var/lib/quorate/evidence/n2-8", SHA256: "ab", Lossy: lossy,
	}
}

// pasts are clusters with something behind them.
func pasts(t *testing.T) map[string]*fake {
	t.Helper()
	silent := func(id fsm.NodeID) func(f *fake, _ *fsm.Failover) {
		return func(f *fake, _ *fsm.Failover) {
			f.hear(id, func(s *failover.Sighting) { s.Age = 5 * time.Minute })
		}
	}
	async := func(f *fake, r *fsm.Failover) {
		f.state.Lineage[2].Async = true
		f.state.Sync, f.state.Config.Settings.Durability = fsm.SyncRule{}, fsm.DurabilityAsync
	}
	told := func(change func(*failover.Report)) func(*fake, *fsm.Failover) {
		return func(f *fake, _ *fsm.Failover) {
			f.hear("n2", func(s *failover.Sighting) { change(&s.Report) })
		}
	}
	return map[string]*fake{
		"not reported": three(t, "n2"),
		"all well":     reported(t, nil),
		"n2 away":      reported(t, silent("n2")),
		"n1 away":      reported(t, silent("n1")),
		"not serving":  reported(t, func(f *fake, _ *fsm.Failover) { f.hear("n1", func(s *failover.Sighting) { s.Report.Serving = 0 }) }),
		"switchover":   reported(t, func(_ *fake, r *fsm.Failover) { r.Wish = "switchover-7-x" }),
		"stopped":      reported(t, func(_ *fake, r *fsm.Failover) { r.Wish = "stop" }),
		"released":     reported(t, func(_ *fake, r *fsm.Failover) { r.Cause = "primary-released: n2 released epoch 7 at 0/3000148" }),
		"no log": reported(t, func(_ *fake, r *fsm.Failover) {
			r.Cause = "ask-unread: n2 was appointed for epoch 7 4.1s ago and shows epoch 6"
		}),
		"cause lost": reported(t, func(_ *fake, r *fsm.Failover) { r.Cause, r.Phases = "", nil }),
		"again": reported(t, func(f *fake, r *fsm.Failover) {
			f.state.Lineage[1].Node, r.Rule = "n1", "re-appoint"
		}),
		"in place": reported(t, func(f *fake, r *fsm.Failover) {
			f.state.Lineage[1].Node, r.Rule = "n1", "restart-in-place"
		}),
		"discard": reported(t, func(f *fake, _ *fsm.Failover) { f.state.Discards = []fsm.Discard{discarded(false)} }),
		"dismissed": reported(t, func(f *fake, _ *fsm.Failover) {
			d := discarded(false)
			d.Dismissed = true
			f.state.Discards = []fsm.Discard{d}
		}),
		"async": reported(t, async),
		"accepted": reported(t, func(f *fake, r *fsm.Failover) {
			f.state.Lineage[2].Async, r.Rule = true, RuleAcceptedLoss
		}),
		"async, n2 away": reported(t, func(f *fake, r *fsm.Failover) {
			async(f, r)
			silent("n2")(f, r)
		}),
		"async, discard": reported(t, func(f *fake, r *fsm.Failover) {
			async(f, r)
			f.state.Discards = []fsm.Discard{discarded(true)}
		}),
		"disk":    reported(t, told(func(r *failover.Report) { r.Problem = "No space left on device" })),
		"held":    reported(t, told(func(r *failover.Report) { r.Problem = "the data directory is another cluster's" })),
		"cloning": reported(t, told(func(r *failover.Report) { r.Progress = "cloning from n1: 120 MiB" })),
		"catching": reported(t, func(f *fake, _ *fsm.Failover) {
			f.hear("n1", func(s *failover.Sighting) { s.Report.Streaming = s.Report.Streaming[1:] })
		}),
		"no cluster": {self: "n1", changed: make(chan struct{})},
	}
}

// TestHistory: "tell" says what an operator wants to know of an epoch, "get" compares the whole answer.
func TestHistory(t *testing.T) {
	datadriven.RunTest(t, "testdata/history", func(t *testing.T, d *datadriven.TestData) string {
		f, ok := pasts(t)[strings.TrimSpace(d.Input)]
		if !ok {
			t.Fatalf("%s: no past is called %q", d.Pos, d.Input)
		}
		w := ask(t, server(f), http.MethodGet, d.CmdArgs[0].Key)
		if d.Cmd == "tell" {
			var a Assignment
			if err := json.Unmarshal(w.Body.Bytes(), &a); err != nil {
				t.Fatal(err)
			}
			lost, ack := "unknown", "unknown"
			if a.Lost != nil {
				lost = fmt.Sprint(*a.Lost)
			}
			if a.AckMS != nil {
				ack = fmt.Sprint(*a.AckMS, " ms")
			}
			return fmt.Sprintf("%s: %s; lost %s, acknowledging again after %s\n- %s\n", a.Kind, a.Why, lost, ack, strings.Join(a.Now, "\n- "))
		}
		var b bytes.Buffer
		if err := json.Indent(&b, w.Body.Bytes(), "", "  "); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("%d\n%s", w.Code, b.String())
	})
}

// TestPatronisHistoryOutlivesTheEvents: the report remembers what the events have forgotten.
func TestPatronisHistoryOutlivesTheEvents(t *testing.T) {
	f := reported(t, nil)
	before := ask(t, server(f), http.MethodGet, "/history").Body.String()
	f.state.Events = nil
	if after := ask(t, server(f), http.MethodGet, "/history").Body.String(); after != before || !strings.Contains(after, "best-standby") {
		t.Errorf("before\n%safter\n%s", before, after)
	}
}
