package failover

import (
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// The exhaustive test puts every combination of what a leader can know of three nodes before Decide. n1 is primary of
// epoch 7; n2 and n3 are standbys; n2 leads.

// standbyCase is one way in which a standby may look.
type standbyCase struct {
	age, heard time.Duration // of its report; of the primary's last beat in it
	answer     time.Duration // VouchedAgo of a fresh answer; negative: none
	seal       *Sealed
	position   *fsm.Position
	run        Run
	failed     bool
	logless    bool // Raft's log does not arrive there
}

const never = time.Duration(-1)

// noLog is for how long a node has got nothing of the log if it does not get it.
const noLog = 4*time.Second + time.Millisecond

func standbyCases(id fsm.NodeID) []standbyCase {
	var out []standbyCase
	positions := []*fsm.Position{nil}
	for _, at := range []fsm.Position{{Timeline: 3, LSN: 0x5000}, {Timeline: 3, LSN: 0x6000}, {Timeline: 2, LSN: 0x9000}, {Timeline: 9, LSN: 0x9000}} {
		at.Node, at.Detached = id, 7
		positions = append(positions, &at)
	}
	seals := []*Sealed{nil, {Epoch: 7, Left: 100 * time.Millisecond, Age: 50 * time.Millisecond}, {Epoch: 7, Left: 100 * time.Millisecond, Age: 100 * time.Millisecond}}
	type hearing struct{ heard, answer time.Duration }
	hearings := []hearing{
		{10 * time.Millisecond, never}, {1100 * time.Millisecond, never},
		{1100 * time.Millisecond, 10 * time.Millisecond}, {1100 * time.Millisecond, 1100 * time.Millisecond},
		{10 * time.Millisecond, 1100 * time.Millisecond},
	}
	for _, h := range hearings {
		for _, seal := range seals {
			for _, p := range positions {
				out = append(out, standbyCase{heard: h.heard, answer: h.answer, seal: seal, position: p, run: RunRunning})
			}
			out = append(out, standbyCase{heard: h.heard, answer: h.answer, seal: seal, run: RunCloning, failed: seal != nil})
		}
	}
	for _, p := range positions {
		out = append(out, standbyCase{age: time.Second, heard: 1100 * time.Millisecond, answer: never, position: p, run: RunRunning})
		out = append(out, standbyCase{heard: 1100 * time.Millisecond, answer: never, seal: seals[2], position: p, run: RunRunning, logless: true})
	}
	return out
}

// primaryCase is one way in which the primary may look to the leader.
type primaryCase struct {
	age         time.Duration
	run         Run
	released    pg.LSN
	restartable bool
	rev         uint64
	sick        string
	unread      bool // it was appointed long ago, shows the epoch before, and gets nothing of the log
}

func primaryCases() []primaryCase {
	return []primaryCase{
		{age: 50 * time.Millisecond, run: RunRunning, rev: 9},
		{age: 1100 * time.Millisecond, run: RunRunning, rev: 9},
		{age: 50 * time.Millisecond, run: RunFrozen, rev: 9},
		{age: 50 * time.Millisecond, run: RunStopped, released: 0x5000, restartable: true, rev: 9},
		{age: 50 * time.Millisecond, run: RunStopped, released: 0x7000, restartable: true, rev: 9},
		{age: 2 * time.Second, run: RunStopped, released: 0x7000, rev: 9},
		{age: 1100 * time.Millisecond, run: RunRunning, rev: 8},
		{age: 50 * time.Millisecond, run: RunStarting, rev: 9, sick: "nobody can connect"},
		{age: 1100 * time.Millisecond, run: RunRunning, rev: 9, sick: "nobody can connect"},
		{age: 50 * time.Millisecond, run: RunRunning, rev: 8, unread: true},
	}
}

func syncCases() []fsm.SyncRule {
	return []fsm.SyncRule{
		{Members: []fsm.NodeID{"n1", "n2", "n3"}, Copies: 2},
		{Members: []fsm.NodeID{"n1", "n2"}, Copies: 2},
		{Members: []fsm.NodeID{"n1", "n3"}, Copies: 1},
		{Members: []fsm.NodeID{"n1"}, Copies: 1},
		{Members: []fsm.NodeID{}, Copies: 0},
	}
}

func exhaustiveState() fsm.State {
	s := baseView().State
	s.Lineage = []fsm.Lineage{
		{Epoch: 5, Node: "n3", Timeline: 2, Parent: 1, SwitchLSN: 0x2000, Promoted: true},
		{Epoch: 7, Node: "n1", Timeline: 3, Parent: 2, SwitchLSN: 0x3000, Promoted: true},
	}
	s.Version, s.Scope, s.SystemID = 9, "demo", 1
	for _, id := range []fsm.NodeID{"n1", "n2", "n3"} {
		s.Members[id] = fsm.Member{ID: id, Name: string(id), Role: fsm.RoleData}
	}
	s.Electorate = fsm.Electorate{Voters: []fsm.NodeID{"n1", "n2", "n3"}, Version: 1}
	return s
}

func compose(s fsm.State, p primaryCase, standbys map[fsm.NodeID]standbyCase) View {
	v := baseView()
	v.State = s
	r := Report{Node: "n1", Epoch: 7, Rev: p.rev, Run: p.run, Timeline: 3, Flush: 0x5000, Restartable: p.restartable, Sick: p.sick}
	if p.released != 0 {
		r.Released = &fsm.Release{Epoch: 7, Node: "n1", Timeline: 3, FinalLSN: p.released}
	} else if p.run == RunRunning && !p.unread {
		r.Serving = 7
	}
	if p.unread {
		r.Epoch, v.Unapplied["n1"] = 6, noLog
	}
	v.Seen["n1"] = Sighting{Age: p.age, Report: r}
	for id, c := range standbys {
		sr := Report{Node: id, Epoch: 7, Rev: 9, Run: c.run, Timeline: 3, Sightings: []Age{{Node: "n1", MS: c.heard.Milliseconds()}}}
		if sr.Healthy = c.run == RunRunning; sr.Healthy && c.answer == never {
			sr.Upstream = "n1"
		}
		v.Seen[id] = Sighting{Age: c.age, Report: sr}
		if c.answer != never {
			v.Answers[id] = Answer{VouchedAgo: c.answer}
		}
		if c.seal != nil {
			v.Seals[id] = *c.seal
			v.SealingFor = 300 * time.Millisecond
		}
		if c.position != nil {
			v.Positions[id] = *c.position
		}
		if c.failed {
			v.Failed[id] = "cloning"
		}
		if c.logless {
			v.Unapplied[id] = noLog
		}
	}
	return v
}

// replacementViews puts one of each n views in which the primary may have to be replaced into see, with what it is made of.
func replacementViews(n int, see func(v View, what string)) {
	count := 0
	base := exhaustiveState()
	left, right := standbyCases("n2"), standbyCases("n3")
	for _, rule := range syncCases() {
		base.Sync = rule
		base.Config.Settings.Durability = fsm.DurabilityQuorum
		if len(rule.Members) == 0 {
			base.Config.Settings.Durability = fsm.DurabilityAsync
		}
		for _, resumed := range []uint64{0, 9} {
			base.PauseRev = resumed
			for k, p := range primaryCases() {
				for i := range left {
					for j := range right {
						if count++; count%n != 0 {
							continue
						}
						v := compose(base, p, map[fsm.NodeID]standbyCase{"n2": left[i], "n3": right[j]})
						see(v, fmt.Sprintf("D=%v K=%d, resumed %d, primary %d, n2 %d, n3 %d", rule.Members, rule.Copies, resumed, k, i, j))
					}
				}
			}
		}
	}
}

// TestEveryView holds, for every view in bounds: some rule of the table decides; another node is appointed only when the
// old lease has certainly ended and the appointee holds every acknowledged commit of the sync rule, which is what the
// state machine itself accepts; nothing is sealed before the primary released or a majority has not vouched for
// failover_after; a paused cluster and one whose resume the primary has not shown are left alone. Nobody is asked or sealed while
// the primary is heard, unless it released or does not learn that it is primary. Whoever does not get Raft's log is appointed only
// if nobody else could be.
func TestEveryView(t *testing.T) {
	fired, views := map[string]int{}, 0
	replacementViews(1, func(v View, what string) {
		d := Decide(v)
		views++
		fired[d.Rule]++
		if why := unsafe(v, d); why != "" {
			t.Fatalf("%s\nrule %s %v\n%s", why, d.Rule, d.Because, what)
		}
	})
	t.Logf("%d views, rules fired: %v", views, fired)
	for _, name := range []string{"ask-first", "still-vouched", "re-appoint", "primary-released", "primary-silent", "wait-lease", "best-standby", "restart-in-place", "nobody-qualifies", "resume-unseen", "primary-sick", "sick-alone", "ask-unread", "appointment-unread"} {
		if fired[name] == 0 {
			t.Errorf("rule %s never fired", name)
		}
	}
}

// TestEveryViewWithAnAcceptedLoss: an operator accepted for n2, or for n3, just what is known. That one is appointed only where
// nobody can be, and only once the old lease has certainly ended; the state machine takes that, and takes it from nobody who
// accepted something else.
func TestEveryViewWithAnAcceptedLoss(t *testing.T) {
	appointed, void := 0, 0
	acceptedViews(5, func(before, v View, what string) {
		d := Decide(v)
		switch d.Rule {
		case "accepted-void":
			void++
		case "accepted-loss":
			appointed++
			if why := unsafeAcceptance(v, Decide(before), d); why != "" {
				t.Fatalf("%s\nfor %s: %v\n%s", why, v.State.Wish.To, d.Because, what)
			}
		}
	})
	if appointed == 0 || void == 0 {
		t.Fatalf("appointed %d times, void %d times: the views are too few", appointed, void)
	}
	t.Logf("appointed %d times, void %d times", appointed, void)
}

// acceptedViews puts one of each n replacement views into see, without and with an operator's word for each of the standbys.
func acceptedViews(n int, see func(before, v View, what string)) {
	replacementViews(n, func(v View, what string) {
		for _, to := range []fsm.NodeID{"n2", "n3"} {
			w := v
			w.State.Wish = &fsm.Wish{ID: "w", Kind: fsm.WishFailover, To: to, Epoch: 7, Loss: study(v).token(to)}
			see(v, w, what)
		}
	})
}

func unsafeAcceptance(w View, stuck, d Decision) string {
	to := w.State.Wish.To
	propose, is := d.Do.(Propose)
	if !is {
		return "proposes nothing"
	}
	a, is := propose.Command.(fsm.Appoint)
	if !is || a.Node != to {
		return fmt.Sprintf("proposes %v", propose.Command)
	}
	if stuck.Rule != ruleStuck || stuck.Verdict != Stuck {
		return "accepts a loss where " + stuck.Rule + " would lose nothing"
	}
	ended := 0
	for _, s := range w.Seals {
		if s.Age >= s.Left {
			ended++
		}
	}
	if w.Seen["n1"].Report.Released == nil && ended < 2 {
		return "appoints another node while the old lease may run"
	}
	e := fsm.Envelope{ID: "x", IfRev: propose.IfRev, By: "test", Change: a}
	after, err := w.State.Apply(e)
	if err != nil {
		return "proposes what the state machine refuses: " + err.Error()
	}
	if r := after.Sync; len(r.Members) > 0 && !r.Has(to) {
		return "the new primary is not in D"
	}
	if len(w.State.Sync.Members) == 0 {
		return "" // async promises nothing, and the machine asks for nothing
	}
	for _, other := range []*fsm.Wish{nil, {ID: "w", Kind: fsm.WishFailover, To: to, Epoch: 7}, {ID: "w", Kind: fsm.WishFailover, To: to, Epoch: 7, Loss: "other"}} {
		s := w.State
		s.Wish = other
		if _, err := s.Apply(e); err == nil {
			return "the state machine takes it from somebody who accepted nothing, or something else"
		}
	}
	return ""
}

// unsafe says what is wrong with a decision, empty if nothing is.
func unsafe(v View, d Decision) string {
	if d.Rule == "none" || d.Do == nil {
		return "no rule of the table matched"
	}
	p := v.Seen["n1"].Report
	if v.State.PauseRev > 0 && p.Rev < v.State.PauseRev && p.Released == nil {
		if _, idle := d.Do.(Nothing); !idle && d.Rule != "resume-unseen" && replacing(study(v)) {
			return "acts against a primary that has not shown the resume"
		}
	}
	switch do := d.Do.(type) {
	case Ask:
		return groundless(v)
	case SealNow:
		return unsafeSeal(v)
	case Stop:
		return unsafeStop(v, do)
	case Propose:
		if a, ok := do.Command.(fsm.Appoint); ok {
			return unsafeAppoint(v, a, do.IfRev)
		}
	}
	return ""
}

// groundless says that nothing speaks against the primary: two of three nodes have heard it, and it shows its epoch, or serves
// another one, or would learn of it.
func groundless(v View) string {
	deaf := 0
	for id, s := range v.Seen {
		for _, a := range s.Report.Sightings {
			if a.Node == "n1" && id != v.Self && time.Duration(a.MS)*time.Millisecond+s.Age > time.Second {
				deaf++
			}
		}
	}
	p := v.Seen["n1"]
	if v.Self != "n1" && p.Age > time.Second {
		deaf++
	}
	unread := p.Report.Epoch < 7 && p.Report.Serving == 0 && v.Unapplied["n1"] > 4*time.Second && v.EpochAge > 4*time.Second
	if p.Report.Released == nil && deaf < 2 && !unread {
		return "suspects a primary that is heard and shows its epoch"
	}
	return ""
}

func unsafeSeal(v View) string {
	if v.Seen["n1"].Report.Released != nil || len(v.Seals) > 0 {
		return ""
	}
	quiet := 0
	for _, a := range v.Answers {
		if a.VouchedAgo > time.Second {
			quiet++
		}
	}
	if why := groundless(v); why != "" {
		return why
	}
	if quiet < 2 {
		return "seals although no majority answered that it has not vouched for failover_after"
	}
	return ""
}

// unsafeStop: only a primary that says itself that it is sick, in the present epoch, is ever told to stop, and only while
// enough others that hold every acknowledged commit stream from it.
func unsafeStop(v View, s Stop) string {
	p := v.Seen["n1"]
	if s.Node != "n1" || s.Epoch != 7 || p.Report.Sick == "" || p.Age > 3*v.BeatEvery {
		return "stops a primary that is not known to be sick now"
	}
	streaming, fit := 0, 0
	for _, id := range []fsm.NodeID{"n2", "n3"} {
		x := v.Seen[id]
		if x.Age > 3*v.BeatEvery || x.Report.Upstream != "n1" {
			continue
		}
		fit++
		if member(v.State.Sync.Members, id) {
			streaming++
		}
	}
	if fit == 0 || streaming < fsm.PositionsNeeded(v.State.Sync) {
		return "stops a sick primary that nobody can replace"
	}
	return ""
}

func unsafeAppoint(v View, a fsm.Appoint, rev uint64) string {
	if a.Node == "n1" {
		return ""
	}
	if why := lostBy(v, a.Node); why != "" {
		return why
	}
	if v.Unapplied[a.Node] > 4*time.Second {
		if other := appointee(Decide(without(v, a.Node))); other != "" && other != "n1" && v.Unapplied[other] == 0 {
			return "appoints one that does not get the log, though another could be appointed"
		}
	}
	if p := v.Seen["n1"]; p.Age < time.Second && p.Report.Epoch < 7 && v.Unapplied[a.Node] > 4*time.Second {
		return "appoints one that does not get the log in place of another one"
	}
	ended := 0
	for _, s := range v.Seals {
		if s.Age >= s.Left {
			ended++
		}
	}
	if v.Seen["n1"].Report.Released == nil && ended < 2 {
		return "appoints another node while the old lease may run"
	}
	if _, err := v.State.Apply(fsm.Envelope{ID: "x", IfRev: rev, By: "test", Change: a}); err != nil {
		return "proposes what the state machine refuses: " + err.Error()
	}
	return ""
}

// without is v with a node that may not be appointed.
func without(v View, id fsm.NodeID) View {
	v.State.Members = maps.Clone(v.State.Members)
	m := v.State.Members[id]
	m.NoFailover = true
	v.State.Members[id] = m
	return v
}

// TestEveryRuleHasAName: names are unique, comments are sentences, and the last row matches everything.
func TestEveryRuleHasAName(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range Rules() {
		if r.Name == "" || seen[r.Name] || len(r.Comment) < 20 || r.Comment[len(r.Comment)-1] != '.' {
			t.Errorf("rule %q: its name must be unique and its comment a sentence", r.Name)
		}
		seen[r.Name] = true
	}
	if rules := Rules(); !rules[len(rules)-1].when(nil) {
		t.Error("the last rule must match every view")
	}
}
