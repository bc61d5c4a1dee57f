package failover

import (
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

const ms = time.Millisecond

// serving is a view of n1 serving and streaming to n2 at flush, which was heard heard ago.
func serving(flush pg.LSN, heard time.Duration) View {
	v := baseView()
	v.State = exhaustiveState()
	v.State.Sync = fsm.SyncRule{Members: []fsm.NodeID{"n1", "n2"}, Copies: 2}
	r := Report{Node: "n1", Epoch: 7, Serving: 7, Run: RunRunning, Flush: 0x5000}
	if flush > 0 {
		r.Streaming = []StreamingMember{{Node: "n2", Flush: flush}}
	}
	v.Seen["n1"] = Sighting{Report: r}
	v.Seen["n2"] = Sighting{Age: heard, Report: Report{Node: "n2", Run: RunRunning}}
	return v
}

func TestCopies(t *testing.T) {
	type look struct {
		at   time.Duration
		view View
		want time.Duration
	}
	silent, starting, next := serving(0, 0), serving(0, 0), serving(0, 1300*ms)
	s := silent.Seen["n1"]
	s.Age = time.Second
	silent.Seen["n1"] = s
	s = starting.Seen["n1"]
	s.Report.Serving = 0
	starting.Seen["n1"] = s
	next.State.Epoch, next.State.Primary = 8, "n3"
	indirectly := serving(0, time.Minute)
	s = indirectly.Seen["n1"]
	s.Report.Sightings = []Age{{Node: "n2", MS: 100}}
	indirectly.Seen["n1"] = s
	for _, c := range []struct {
		name  string
		looks []look
	}{
		{"it has everything", []look{{0, serving(0x5000, 0), 0}, {time.Minute, serving(0x5000, 0), 0}}},
		{"it is behind and gets on", []look{{0, serving(0x1000, 0), 0}, {time.Second, serving(0x1001, 0), 0}}},
		{"its stream ends", []look{{0, serving(0x5000, 0), 0}, {time.Second, serving(0x5000, 0), 0}, {1500 * ms, serving(0, 0), 500 * ms}, {3 * time.Second, serving(0, 0), 2 * time.Second}}},
		{"it comes back", []look{{0, serving(0, 0), 0}, {time.Minute, serving(0, 0), time.Minute}, {time.Minute + 1, serving(0x5000, 0), 0}}},
		{"its stream stands still, as after a loss of power", []look{{0, serving(0x4000, 0), 0}, {time.Second, serving(0x4000, time.Second), time.Second}}},
		{"its agent is gone, its Postgres is not", []look{{0, serving(0x4000, 0), 0}, {time.Minute, serving(0x4001, time.Minute), 0}}},
		{"who has just begun to look holds nothing against it", []look{{time.Hour, serving(0, 50*ms), 50 * ms}}},
		{"but that nobody hears it", []look{{time.Hour, serving(0, 1300*ms), 1300 * ms}}},
		{"the primary hears it", []look{{0, indirectly, 100 * ms}}},
		{"while the primary is silent nobody can stream", []look{{0, serving(0, 0), 0}, {time.Minute, silent, 0}, {time.Minute + ms, serving(0, 0), ms}}},
		{"nor before it serves", []look{{0, serving(0, 0), 0}, {time.Minute, starting, 0}, {time.Minute + ms, serving(0, 0), ms}}},
		{"a new primary: its predecessor's host is gone for longer than the epoch", []look{{0, serving(0x5000, 0), 0}, {time.Second, next, 1300 * ms}}},
	} {
		var copies Copies
		for i, l := range c.looks {
			if got := copies.Look(l.at, l.view)["n2"]; got != l.want {
				t.Errorf("%s: look %d says %s, want %s", c.name, i, got, l.want)
			}
		}
	}
}

// syncViews are all views of a serving primary n1 and of what can be thought of its two standbys, under every rule and
// setting and with every promise that the primary may show.
func syncViews(visit func(View)) {
	n1, n2, n3 := fsm.NodeID("n1"), fsm.NodeID("n2"), fsm.NodeID("n3")
	rules := []fsm.SyncRule{{}}
	for _, members := range [][]fsm.NodeID{{n1}, {n1, n2}, {n1, n3}, {n1, n2, n3}} {
		for k := 1; k <= len(members); k++ {
			rules = append(rules, fsm.SyncRule{Members: members, Copies: k})
		}
	}
	settings := []fsm.Settings{{FailoverAfterMS: 1000, Durability: fsm.DurabilityQuorum}, {FailoverAfterMS: 1000, Durability: fsm.DurabilityQuorum, Strict: true}, {FailoverAfterMS: 1000, Durability: fsm.DurabilityAsync}}
	type looks struct {
		lost    time.Duration
		streams bool
		run     Run
	}
	standbys := []looks{{0, true, RunRunning}, {100 * ms, false, RunRunning}, {time.Second, true, RunRunning}, {2 * time.Second, false, RunRunning}, {time.Minute, false, RunStopped}, {2 * time.Second, false, RunCloning}}
	for _, rule := range rules {
		for _, set := range settings {
			for _, promise := range append(rules, fsm.SyncRule{Copies: -1}) {
				for _, left := range standbys {
					for _, right := range standbys {
						for _, serves := range []fsm.Epoch{0, 7} {
							v := baseView()
							v.State = exhaustiveState()
							v.State.Sync, v.State.Config.Settings = rule, set
							r := Report{Node: n1, Epoch: 7, Rev: 9, Serving: serves, Run: RunRunning, Flush: 0x5000}
							if promise.Copies >= 0 {
								r.Promise = &fsm.Promise{Node: n1, Rev: 9, Rule: promise}
							}
							for id, s := range map[fsm.NodeID]looks{n2: left, n3: right} {
								v.Lost[id] = s.lost
								v.Seen[id] = Sighting{Report: Report{Node: id, Run: s.run}}
								if s.streams {
									v.Seen[id] = Sighting{Report: Report{Node: id, Run: s.run, Upstream: n1}}
									r.Streaming = append(r.Streaming, StreamingMember{Node: id, Flush: 0x5000})
								}
							}
							v.Seen[n1] = Sighting{Report: r}
							visit(v)
						}
					}
				}
			}
		}
	}
}

// TestEverySyncView: every change of the rule that is proposed is accepted by the state machine, or refused only because
// the primary promised what no rule can be; what lowers K leaves nobody waiting for copies that are not made; and every
// row is reached.
func TestEverySyncView(t *testing.T) {
	fired := map[string]int{}
	syncViews(func(v View) {
		d := Decide(v)
		fired[d.Rule]++
		p, ok := d.Do.(Propose)
		if !ok {
			return
		}
		c, ok := p.Command.(fsm.SetSync)
		if !ok {
			t.Fatalf("%s proposes %s", d.Rule, p.Command.Kind())
		}
		_, err := v.State.Apply(fsm.Envelope{ID: "x", IfRev: p.IfRev, By: d.Rule, Change: c})
		if err != nil && !(c.Promise != nil && len(c.Rule.Members) == 0) {
			t.Fatalf("%s: %v\n%+v\n%+v", d.Rule, err, v.State.Sync, v.Seen["n1"].Report)
		}
		if c.Promise == nil && len(c.Rule.Members) > 0 && c.Rule.Copies < v.State.Sync.Copies && d.Rule == "sync-degrade" && v.State.Config.Settings.Strict {
			t.Fatalf("degrades although strict: %+v", v.State.Sync)
		}
	})
	t.Logf("rules fired: %v", fired)
	for _, name := range []string{"sync-async", "sync-degrade", "sync-raise", "sync-leave", "sync-return", "sync-fit", "sync-grow", "sync-raising", "sync-leaving", "sync-returning", "degraded", "at-risk", "primary-starting", "healthy"} {
		if fired[name] == 0 {
			t.Errorf("rule %s never fired", name)
		}
	}
}
