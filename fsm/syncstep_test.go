package fsm

import (
	"slices"
	"testing"
	"time"
)

func quorum() Settings { return Settings{FailoverAfterMS: 1000, Durability: DurabilityQuorum} }

func TestNextSync(t *testing.T) {
	long, moment := time.Minute, 900*time.Millisecond
	strict, async := quorum(), Settings{FailoverAfterMS: 1000, Durability: DurabilityAsync}
	strict.Strict = true
	lost := func(age time.Duration, ids ...NodeID) map[NodeID]time.Duration {
		m := map[NodeID]time.Duration{}
		for _, id := range ids {
			m[id] = age
		}
		return m
	}
	for _, c := range []struct {
		name  string
		from  SyncRule
		facts SyncFacts
		kind  SyncKind // empty: no step
		to    SyncRule
	}{
		{"a primary alone waits for company", rule(1, "n1"), SyncFacts{}, "", SyncRule{}},
		{"the first standby joins", rule(1, "n1"), SyncFacts{CaughtUp: []NodeID{"n3", "n2"}}, SyncGrow, rule(1, "n1", "n2")},
		{"not while its log is being rebuilt", rule(1, "n1"), SyncFacts{CaughtUp: []NodeID{"n2"}, Unfit: []NodeID{"n2"}}, "", SyncRule{}},
		{"then commits wait for it", rule(1, "n1", "n2"), SyncFacts{CaughtUp: []NodeID{"n2", "n3"}}, SyncRaise, rule(2, "n1", "n2")},
		{"not while it is behind", rule(1, "n1", "n2"), SyncFacts{}, "", SyncRule{}},
		{"nor while it has stalled", rule(1, "n1", "n2"), SyncFacts{CaughtUp: []NodeID{"n2"}, Lost: lost(time.Second, "n2")}, "", SyncRule{}},
		{"another one joins instead", rule(1, "n1", "n2"), SyncFacts{CaughtUp: []NodeID{"n3"}, Lost: lost(time.Second, "n2")}, SyncGrow, rule(1, "n1", "n2", "n3")},
		{"and is waited for before the absent one leaves", rule(1, "n1", "n2", "n3"), SyncFacts{CaughtUp: []NodeID{"n3"}, Lost: lost(long, "n2")}, SyncRaise, rule(2, "n1", "n2", "n3")},
		{"the third joins last", rule(2, "n1", "n2"), SyncFacts{CaughtUp: []NodeID{"n2", "n3"}}, SyncGrow, rule(2, "n1", "n2", "n3")},
		{"complete", rule(2, "n1", "n2", "n3"), SyncFacts{CaughtUp: []NodeID{"n2", "n3"}}, "", SyncRule{}},

		{"one of two standbys away: commits go on as before", rule(2, "n1", "n2", "n3"), SyncFacts{CaughtUp: []NodeID{"n2"}, Lost: lost(25*time.Second, "n3")}, "", SyncRule{}},
		{"for long: elections stop counting on it", rule(2, "n1", "n2", "n3"), SyncFacts{CaughtUp: []NodeID{"n2"}, Lost: lost(long, "n3")}, SyncLeave, rule(2, "n1", "n2")},
		{"one whose log is being rebuilt leaves at once", rule(2, "n1", "n2", "n3"), SyncFacts{CaughtUp: []NodeID{"n2"}, Unfit: []NodeID{"n3"}}, SyncLeave, rule(2, "n1", "n2")},
		{"not if the other one is away too", rule(2, "n1", "n2", "n3"), SyncFacts{Lost: map[NodeID]time.Duration{"n2": time.Second}, Unfit: []NodeID{"n3"}}, "", SyncRule{}},
		{"both away for a moment", rule(2, "n1", "n2", "n3"), SyncFacts{Lost: lost(moment, "n2", "n3")}, "", SyncRule{}},
		{"both away: commits go on with fewer copies", rule(2, "n1", "n2", "n3"), SyncFacts{Lost: lost(time.Second, "n2", "n3")}, SyncDegrade, rule(1, "n1", "n2", "n3")},
		{"two nodes: the standby dies", rule(2, "n1", "n2"), SyncFacts{Lost: lost(time.Second, "n2")}, SyncDegrade, rule(1, "n1", "n2")},
		{"and stays away", rule(1, "n1", "n2"), SyncFacts{Lost: lost(long, "n2")}, SyncLeave, rule(1, "n1")},
		{"strict: they wait", rule(2, "n1", "n2"), SyncFacts{Settings: strict, Lost: lost(long, "n2")}, "", SyncRule{}},
		{"strict: a member may leave if the rest suffices", rule(2, "n1", "n2", "n3"), SyncFacts{Settings: strict, Lost: lost(long, "n3")}, SyncLeave, rule(2, "n1", "n2")},
		{"down to as many as are there", rule(3, "n1", "n2", "n3", "n4", "n5"), SyncFacts{Lost: lost(time.Second, "n2", "n3", "n4")}, SyncDegrade, rule(2, "n1", "n2", "n3", "n4", "n5")},
		{"a K of a larger D", rule(3, "n1", "n2", "n3", "n4"), SyncFacts{Settings: strict, CaughtUp: []NodeID{"n2", "n3", "n4"}}, SyncFit, rule(2, "n1", "n2", "n3", "n4")},
		{"an operator takes one of three out", rule(2, "n1", "n2", "n3"), SyncFacts{CaughtUp: []NodeID{"n2"}, Unfit: []NodeID{"n3"}, Leaving: []NodeID{"n3"}}, SyncLeave, rule(2, "n1", "n2")},
		{"the other one of two: first no commit waits for it", rule(2, "n1", "n2"), SyncFacts{Settings: strict, Unfit: []NodeID{"n2"}, Leaving: []NodeID{"n2"}}, SyncFit, rule(1, "n1", "n2")},
		{"then no election needs it", rule(1, "n1", "n2"), SyncFacts{CaughtUp: []NodeID{"n2"}, Unfit: []NodeID{"n2"}, Leaving: []NodeID{"n2"}}, SyncLeave, rule(1, "n1")},
		{"two of three at once", rule(2, "n1", "n2", "n3"), SyncFacts{Unfit: []NodeID{"n2", "n3"}, Leaving: []NodeID{"n2", "n3"}}, SyncFit, rule(1, "n1", "n2", "n3")},
		{"the primary never leaves", rule(1, "n1", "n2"), SyncFacts{Lost: lost(long, "n1"), Unfit: []NodeID{"n1"}}, "", SyncRule{}},

		{"to async", rule(2, "n1", "n2"), SyncFacts{Settings: async, CaughtUp: []NodeID{"n2"}}, SyncAsync, rule(0)},
		{"async is not grown", rule(0), SyncFacts{Settings: async, CaughtUp: []NodeID{"n2"}}, "", SyncRule{}},
		{"back from async: the primary first", rule(0), SyncFacts{CaughtUp: []NodeID{"n2"}}, SyncReturn, rule(1, "n1")},
		{"a rule without the primary is left alone", rule(1, "n2"), SyncFacts{CaughtUp: []NodeID{"n2"}}, "", SyncRule{}},
	} {
		f := c.facts
		f.Primary = "n1"
		if f.Settings == (Settings{}) {
			f.Settings = quorum()
		}
		step, ok := NextSync(c.from, f)
		if ok != (c.kind != "") || ok && (step.Kind != c.kind || !step.To.Equal(c.to)) {
			t.Errorf("%s: %v %v", c.name, step, ok)
		}
	}
}

// everyFacts are all facts about the standbys of n1 among nodes.
func everyFacts(settings Settings, standbys ...NodeID) []SyncFacts {
	out := []SyncFacts{{Primary: "n1", Settings: settings, Lost: map[NodeID]time.Duration{}}}
	for _, id := range standbys {
		var more []SyncFacts
		for _, f := range out {
			for what := range 5 {
				g := SyncFacts{Primary: "n1", Settings: settings, CaughtUp: slices.Clone(f.CaughtUp), Unfit: slices.Clone(f.Unfit), Lost: map[NodeID]time.Duration{}}
				for k, v := range f.Lost {
					g.Lost[k] = v
				}
				believe(&g, id, what)
				more = append(more, g)
			}
		}
		out = more
	}
	return out
}

// Every step from every rule under all facts: the machine accepts it, with the promise exactly where Postgres goes first;
// what Postgres then enforces first is safe for both rules; commits have enough nodes to go on; and repeating the step
// while the facts stay ends.
func TestEveryStepIsAcceptedAndEnds(t *testing.T) {
	base := three(t)
	base = must(t, base, SetMember{dataMember("n4")})
	nodes := []NodeID{"n1", "n2", "n3", "n4"}
	kinds := map[SyncKind]int{}
	strict, async := quorum(), quorum()
	strict.Strict, async.Durability = true, DurabilityAsync
	for _, settings := range []Settings{quorum(), strict, async} {
		base.Config.Settings = settings
		for _, f := range everyFacts(settings, nodes[1:]...) {
			for _, r := range everyRule(nodes...) {
				if len(r.Members) > 0 && !r.Has("n1") {
					continue
				}
				base.Sync = r
				s := base
				for n := 0; ; n++ {
					step, ok := NextSync(s.Sync, f)
					if !ok {
						break
					}
					if n > 12 {
						t.Fatalf("from %v with %+v the steps never end", r, f)
					}
					kinds[step.Kind]++
					s = takeStep(t, s, step, f)
				}
				checkEnd(t, s.Sync, f)
			}
		}
	}
	t.Logf("steps: %v", kinds)
	if len(kinds) != 7 {
		t.Errorf("steps taken: %v, want all seven kinds", kinds)
	}
}

func takeStep(t *testing.T, s State, step SyncStep, f SyncFacts) State {
	t.Helper()
	c := SetSync{Rule: step.To}
	goal, raise := Enforce(s, "n1", nil, step)
	if step.NeedsPromise() {
		if _, err := try(s, c); err == nil {
			t.Fatalf("%v: the machine needs no promise for %v", s.Sync, step)
		}
		if raise == nil || !raise.Equal(step.To) || !goal.Equal(step.To) {
			t.Fatalf("%v: Postgres can't go first for %v", s.Sync, step)
		}
		c.Promise = &Promise{Node: "n1", Rev: s.Rev, Rule: step.To}
	} else if raise != nil || !goal.Equal(s.Sync) {
		t.Fatalf("%v: Postgres goes first for %v", s.Sync, step)
	}
	next, err := try(s, c)
	if err != nil {
		t.Fatalf("%v: the machine refuses %v: %v", s.Sync, step, err)
	}
	if there := thereFor(step.To, f); step.Kind != SyncGrow && len(step.To.Members) > 0 && there < step.To.Copies && !f.Settings.Strict {
		t.Fatalf("%v with %+v: %v leaves commits waiting for nobody", s.Sync, f, step)
	}
	return next
}

func thereFor(r SyncRule, f SyncFacts) int {
	n := 0
	for _, id := range r.Members {
		if f.present(id) {
			n++
		}
	}
	return n
}

// checkEnd holds what must be true when no step is left.
func checkEnd(t *testing.T, r SyncRule, f SyncFacts) {
	t.Helper()
	fail := func(what string) { t.Helper(); t.Fatalf("%s: ends with %v for %+v", what, r, f) }
	if f.Settings.Durability == DurabilityAsync {
		if len(r.Members) != 0 {
			fail("async")
		}
		return
	}
	if !f.Settings.Strict && thereFor(r, f) < r.Copies {
		fail("commits wait for nobody")
	}
	for _, id := range f.CaughtUp {
		if !r.Has(id) {
			fail(string(id) + " streams and is not in D")
		}
	}
	if want := min(TargetCopies(len(r.Members)), 1+len(f.CaughtUp)); r.Copies < want {
		fail("fewer copies than possible")
	}
}

func TestPromiseBinds(t *testing.T) {
	if p := (&Promise{Rev: 5}); !p.Binds(4) || !p.Binds(5) || p.Binds(6) || (*Promise)(nil).Binds(1) {
		t.Error("a promise holds until a later revision than its own is applied")
	}
}

func TestEnforce(t *testing.T) {
	s := three(t)
	raise := SyncStep{Kind: SyncLeave, To: rule(2, "n1", "n2")}
	if goal, promise := Enforce(s, "n2", nil, raise); !goal.Equal(s.Sync) || promise != nil {
		t.Errorf("a standby: %v %v, want the agreed rule", goal, promise)
	}
	frozen := &Promise{Node: "n1", Rev: s.Rev, Rule: rule(2, "n1", "n3")}
	if goal, promise := Enforce(s, "n1", frozen, raise); !goal.Equal(frozen.Rule) || promise != nil {
		t.Errorf("bound by a promise: %v %v", goal, promise)
	}
	frozen.Rev--
	if goal, promise := Enforce(s, "n1", frozen, raise); !goal.Equal(raise.To) || promise == nil {
		t.Errorf("by an old promise: %v %v", goal, promise)
	}
	if goal, promise := Enforce(s, "n1", nil, SyncStep{Kind: SyncRaise, To: rule(1, "n2", "n4")}); !goal.Equal(s.Sync) || promise != nil {
		t.Errorf("a step that can't be enforced beside the agreed rule: %v %v", goal, promise)
	}
}
