package failover

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// The whole table over three nodes, n1 being primary of epoch 7: every looker, every way in which the primary may stand,
// every pair of standbys, every sync rule, and what an operator or the recent past may add. TestEveryView goes deeper into
// the replacement of a primary, TestEverySyncView and TestEveryElectorateStep into the steps of theirs.

// primaryStands are the ways in which the primary may look to the leader.
func primaryStands() []primaryCase {
	return append(primaryCases()[:6],
		primaryCase{age: 50 * time.Millisecond, run: RunStarting, rev: 9},
		primaryCase{age: 50 * time.Millisecond, run: RunRunning, rev: 8, unread: true},
		primaryCase{age: 50 * time.Millisecond, run: RunRunning, rev: 9, sick: "nobody can connect"})
}

// standbyStand is one way in which a standby may stand: what it is, how far it streams, and what is known of its log.
type standbyStand struct {
	member    fsm.Member
	age       time.Duration
	run       Run
	lag       pg.LSN // behind the primary's flush position, as the primary says; absent: it does not stream
	absent    bool
	hears     time.Duration // age of the primary's last beat there
	lost      time.Duration
	vouched   time.Duration // its fresh answer; negative: none
	seal      *Sealed
	at        *fsm.Position
	noCatchUp bool // Raft's log is behind
	logless   bool // and nothing of it arrives
}

func standbyStands() []standbyStand {
	data := fsm.Member{Role: fsm.RoleData, Addr: "a"}
	silent := standbyStand{member: data, run: RunRunning, absent: true, hears: 1100 * time.Millisecond, vouched: 1100 * time.Millisecond}
	vouches, waits, sealed := silent, silent, silent
	vouches.vouched = 10 * time.Millisecond
	hears := silent
	hears.hears = 10 * time.Millisecond
	waits.seal = &Sealed{Epoch: 7, Left: 100 * time.Millisecond, Age: 50 * time.Millisecond}
	sealed.seal = &Sealed{Epoch: 7, Left: 100 * time.Millisecond, Age: 100 * time.Millisecond}
	list := []standbyStand{
		{member: data, run: RunRunning, hears: 10 * time.Millisecond, vouched: never},
		{member: data, run: RunRunning, hears: 10 * time.Millisecond, vouched: never, lag: 2 * switchoverLag, noCatchUp: true},
		{member: data, run: RunRunning, hears: 10 * time.Millisecond, vouched: never, noCatchUp: true, logless: true},
		{member: data, run: RunRunning, hears: 10 * time.Millisecond, vouched: never, absent: true, lost: 1100 * time.Millisecond},
		{member: data, run: RunCloning, hears: 10 * time.Millisecond, vouched: never, absent: true, lost: time.Second},
		{member: data, run: RunRunning, age: time.Minute, absent: true, lost: time.Minute, vouched: never, noCatchUp: true},
		{member: fsm.Member{Role: fsm.RoleData, Addr: "a", NoFailover: true}, run: RunRunning, hears: 10 * time.Millisecond, vouched: never},
		{member: fsm.Member{Role: fsm.RoleWitness, Addr: "a"}, run: RunNone, hears: 1100 * time.Millisecond, vouched: 1100 * time.Millisecond, absent: true},
		silent, vouches, waits, sealed, hears,
	}
	for _, p := range []fsm.Position{{Timeline: 3, LSN: 0x5000}, {Timeline: 3, LSN: 0x6000}, {Timeline: 2, LSN: 0x9000}} {
		known := sealed
		p.Detached = 7
		known.at = &p
		list = append(list, known)
	}
	return list
}

// circumstance is what else there may be, and what it does to a view.
type circumstance struct {
	name string
	make func(*View)
}

func circumstances() []circumstance {
	wish := func(w fsm.Wish, age time.Duration) func(*View) {
		w.ID, w.Kind = "w", fsm.WishSwitchover
		return func(v *View) { v.State.Wish, v.WishAge = &w, age }
	}
	minute := []time.Duration{time.Second / 2, time.Second, 2 * time.Second}
	return []circumstance{
		{"nothing", func(*View) {}},
		{"paused", func(v *View) { v.State.Paused, v.State.PauseRev = true, 9 }},
		{"resumed", func(v *View) { v.State.PauseRev = 9 }},
		{"resume unseen", func(v *View) { v.State.PauseRev, v.State.Rev = 10, 10 }},
		{"three failovers", func(v *View) { v.Appointed = minute }},
		{"three restarts", func(v *View) { v.Reappointed = minute }},
		{"strict", func(v *View) { v.State.Config.Settings.Strict = true }},
		{"async", func(v *View) { v.State.Config.Settings.Durability = fsm.DurabilityAsync }},
		{"a switchover", wish(fsm.Wish{Epoch: 7}, 0)},
		{"a switchover to n2", wish(fsm.Wish{Epoch: 7, To: "n2"}, time.Minute)},
		{"a running switchover", wish(fsm.Wish{Epoch: 7, To: "n2", Approved: true}, 0)},
		{"an old switchover", wish(fsm.Wish{Epoch: 6}, 0)},
		{"one link cut", func(v *View) { v.Seen["n1"] = Sighting{Age: 2 * time.Second, Report: v.Seen["n1"].Report} }},
	}
}

// tableViews puts one of each n views of the table into see, with what it is made of. With nothing beside, each node looks;
// else the lookers take turns.
func tableViews(n int, see func(v View, what string)) {
	count := 0
	stands := standbyStands()
	for _, rule := range everySyncRule() {
		for p, primary := range primaryStands() {
			for a := range stands {
				for b := range stands {
					for i, self := range []fsm.NodeID{"n1", "n2", "n3"} {
						for j, c := range circumstances() {
							if j > 0 && (a+b+p+j)%3 != i {
								continue
							}
							if count++; count%n != 0 {
								continue
							}
							v := standing(rule, primary, map[fsm.NodeID]standbyStand{"n2": stands[a], "n3": stands[b]})
							v.Self = self
							c.make(&v)
							see(v, fmt.Sprintf("D=%v K=%d, primary %d, n2 %d, n3 %d, %s looks, %s", rule.Members, rule.Copies, p, a, b, self, c.name))
						}
					}
				}
			}
		}
	}
}

// everySyncRule are the rules that three nodes with primary n1 can have.
func everySyncRule() []fsm.SyncRule {
	return append(syncCases(), fsm.SyncRule{Members: []fsm.NodeID{"n1", "n2", "n3"}, Copies: 3}, fsm.SyncRule{Members: []fsm.NodeID{"n1", "n2", "n3"}, Copies: 1})
}

func standing(rule fsm.SyncRule, p primaryCase, standbys map[fsm.NodeID]standbyStand) View {
	cases := map[fsm.NodeID]standbyCase{}
	for id, s := range standbys {
		c := standbyCase{age: s.age, heard: s.hears, answer: s.vouched, seal: s.seal, run: s.run, logless: s.logless}
		if s.at != nil {
			at := *s.at
			at.Node = id
			c.position = &at
		}
		cases[id] = c
	}
	state := exhaustiveState()
	state.Sync = rule
	v := compose(state, p, cases)
	r := v.Seen["n1"]
	r.Report.Healthy, r.Report.Flush = p.run == RunRunning, 0x9000000
	v.CaughtUp["n1"] = true
	for _, id := range []fsm.NodeID{"n2", "n3"} {
		s := standbys[id]
		m := s.member
		m.ID, m.Name = id, string(id)
		v.State.Members[id] = m
		v.CaughtUp[id] = !s.noCatchUp
		if s.lost > 0 {
			v.Lost[id] = s.lost
		}
		if !s.absent {
			r.Report.Streaming = append(r.Report.Streaming, StreamingMember{Node: id, Flush: r.Report.Flush - s.lag})
		}
	}
	if r.Report.Released != nil {
		r.Report.Flush = r.Report.Released.FinalLSN
	}
	v.Seen["n1"] = r
	return v
}

// TestTheWholeTable holds, for every view of the table: some rule decides. Nothing is done while an operator paused. Another
// node is appointed only if no lease of the old primary can run and the appointee has every commit that the sync rule may
// have acknowledged. A changed sync rule elects nobody whom the old one would not, unless the primary promised it. What is
// proposed is what the state machine accepts. Only a sick primary is told to stop. Leadership goes to a voter that can take it.
func TestTheWholeTable(t *testing.T) {
	fired, views := map[string]int{}, 0
	tableViews(1, func(v View, what string) {
		d := Decide(v)
		views++
		fired[d.Rule]++
		if why := wrong(v, d); why != "" {
			t.Fatalf("%s\nrule %s: %s %v\n%s", why, d.Rule, renderDo(v, d.Do), d.Because, what)
		}
	})
	t.Logf("%d views, rules fired: %v", views, fired)
	for _, v := range beginnings() {
		fired[Decide(v).Rule]++
	}
	syncViews(func(v View) { fired[Decide(v).Rule]++ })
	stepViews(func(v View) { fired[Decide(v).Rule]++ })
	acceptedViews(7, func(_, v View, _ string) { fired[Decide(v).Rule]++ })
	for _, r := range Rules() {
		if fired[r.Name] == 0 {
			t.Errorf("no view reaches rule %s", r.Name)
		}
	}
}

// beginnings are the views before there was a primary.
func beginnings() []View {
	empty := baseView()
	empty.State = fsm.State{}
	first := baseView()
	first.State.Epoch, first.State.Primary = 0, ""
	return []View{empty, first}
}

// stepViews are those of TestEveryElectorateStep in which one node is on its way, seen by each node.
func stepViews(see func(View)) {
	voter := electorateCase{member: "voter", standing: Voter, elects: true, caughtUp: true}
	for _, c := range electorateCases() {
		for _, other := range []electorateCase{voter, {member: "voter", standing: NonVoter, caughtUp: true}} {
			for _, self := range []fsm.NodeID{"n1", "n2", "n4"} {
				for _, shown := range []time.Duration{0, 2 * time.Second} {
					v := electorateView(map[fsm.NodeID]electorateCase{"n2": voter, "n3": other, "n4": c}, shown, true)
					v.Self = self
					see(v)
				}
			}
		}
	}
}

// wrong says what is wrong with a decision, empty if nothing is. It knows nothing of how the table comes to it.
func wrong(v View, d Decision) string {
	if d.Rule == "none" || d.Do == nil || d.Verdict == "" || len(d.Because) == 0 {
		return "no rule of the table matched, or it says nothing"
	}
	if _, idle := d.Do.(Nothing); v.State.Paused && !idle {
		return "acts while paused"
	}
	switch do := d.Do.(type) {
	case Ask:
		return groundless(v)
	case SealNow:
		return unsafeSeal(v)
	case Stop:
		return unsafeStop(v, do)
	case HandOff:
		if s := v.Seen[do.To]; do.To == v.Self || !v.CaughtUp[do.To] || !v.State.Electorate.Has(do.To) || s.Age > 3*v.BeatEvery {
			return "moves the leadership to who can't take it"
		}
	case Propose:
		return wrongProposal(v, do)
	}
	return ""
}

func wrongProposal(v View, do Propose) string {
	switch c := do.Command.(type) {
	case fsm.Appoint:
		if c.Node == "n1" {
			break
		}
		if v.State.PauseRev > v.Seen["n1"].Report.Rev && v.Seen["n1"].Report.Released == nil {
			return "appoints another node though the primary may still write because of a pause"
		}
		return unsafeAppoint(v, c, do.IfRev)
	case fsm.SetSync:
		if why := looser(v.State.Sync, c.Rule); why != "" && c.Promise == nil && len(c.Rule.Members) > 0 {
			return why
		}
	}
	if _, err := v.State.Apply(fsm.Envelope{ID: "x", IfRev: do.IfRev, By: "test", Change: do.Command}); err != nil {
		return "proposes what the state machine refuses: " + err.Error()
	}
	return ""
}

// lostBy names a commit that the sync rule may have acknowledged and that the appointee lacks. A member of D whose log is not
// known to be at its end may hold any commit.
func lostBy(v View, q fsm.NodeID) string {
	rank := map[pg.Timeline]int{2: 1, 3: 2}
	ends := map[fsm.NodeID]fsm.Position{}
	for id, p := range v.Positions {
		if id != "n1" && p.Detached >= 7 {
			ends[id] = p
		}
	}
	if r := v.Seen["n1"].Report.Released; r != nil {
		ends["n1"] = fsm.Position{Timeline: r.Timeline, LSN: r.FinalLSN}
	}
	holds := func(id fsm.NodeID, tli int, lsn pg.LSN) bool {
		p, known := ends[id]
		r, ours := rank[p.Timeline]
		return !known || !ours || r > tli || r == tli && p.LSN >= lsn
	}
	if _, known := ends[q]; !known {
		return "appoints a node of which no position is known"
	}
	for tli := 1; tli <= 2; tli++ {
		for _, lsn := range []pg.LSN{0x4000, 0x5000, 0x5001, 0x6000, 0x6001, 0x7001, 0x9000, 0x9001} {
			copies := 0
			for _, id := range v.State.Sync.Members {
				if holds(id, tli, lsn) {
					copies++
				}
			}
			if k := v.State.Sync.Copies; k > 0 && copies >= k && !holds(q, tli, lsn) {
				return fmt.Sprintf("appoints %s, which may lack the acknowledged commit at %s of history %d", q, lsn, tli)
			}
		}
	}
	return ""
}

// looser says that some nodes elect under to and do not elect under from.
func looser(from, to fsm.SyncRule) string {
	all := []fsm.NodeID{"n1", "n2", "n3"}
	elects := func(r fsm.SyncRule, set int) bool {
		in, others := 0, 0
		for i, id := range all {
			if r.Has(id) && set>>i&1 == 1 {
				in++
			} else if r.Has(id) {
				others++
			}
		}
		return in > 0 && others < r.Copies // no commit can be on the others alone
	}
	for set := range 1 << len(all) {
		if elects(to, set) && !elects(from, set) {
			return fmt.Sprintf("without a promise the nodes %03b come to elect: %v becomes %v", set, from, to)
		}
	}
	return ""
}

// someViews are one of each n of all views, n being prime to the numbers of cases.
func someViews(n int, see func(v View, what string)) {
	tableViews(n, see)
	replacementViews(n, see)
}

// TestEqualViewsDecideAlike: nothing depends on the order of a map, and nothing in the view is changed by looking.
func TestEqualViewsDecideAlike(t *testing.T) {
	someViews(41, func(v View, what string) {
		d := Decide(v)
		for range 3 {
			if e := Decide(v); !reflect.DeepEqual(d, e) {
				t.Fatalf("%s\n%+v\n%+v", what, d, e)
			}
		}
	})
}

// TestRenamingPermutes: with the nodes' names exchanged in any way the same rule concludes the same about the nodes under
// their new names. Where two nodes are alike in all that the table looks at, the name decides, and only there.
func TestRenamingPermutes(t *testing.T) {
	views, ties := 0, 0
	someViews(101, func(v View, what string) {
		d := Decide(v)
		views++
		for _, names := range [][3]fsm.NodeID{{"n1", "n3", "n2"}, {"n2", "n1", "n3"}, {"n2", "n3", "n1"}, {"n3", "n1", "n2"}, {"n3", "n2", "n1"}} {
			to := map[fsm.NodeID]fsm.NodeID{"n1": names[0], "n2": names[1], "n3": names[2]}
			e := Decide(renamed(v, to))
			if d.Rule != e.Rule || d.Verdict != e.Verdict || reflect.TypeOf(d.Do) != reflect.TypeOf(e.Do) {
				t.Fatalf("%s: %s becomes %s as %v\n%s", d.Rule, d.Verdict, e.Rule, names, what)
			}
			if reflect.DeepEqual(renamed(wordless(d.Do), to), renamed(wordless(e.Do), nil)) {
				continue
			}
			if !tied(v, d.Do) {
				t.Fatalf("%s: %+v becomes %+v as %v\n%s", d.Rule, d.Do, e.Do, names, what)
			}
			ties++
		}
	})
	t.Logf("%d views, %d ties broken by name", views, ties)
}

// wordless is do without what it says to people.
func wordless(do Do) Do {
	if p, ok := do.(Propose); ok {
		if c, ok := p.Command.(fsm.EndWish); ok {
			c.Because = ""
			return Propose{Command: c, IfRev: p.IfRev}
		}
	}
	return do
}

// tied says that the name is what chose in do: another node would do as well.
func tied(v View, do Do) bool {
	switch do := do.(type) {
	case HandOff: // to the first voter that can lead
		return true
	case Propose:
		switch c := do.Command.(type) {
		case fsm.Appoint:
			a, b := v.Positions["n2"], v.Positions["n3"]
			return v.Self == "n1" && a.Timeline == b.Timeline && a.LSN == b.LSN
		case fsm.SetSync: // the first that has caught up enters
			return len(c.Rule.Members) == len(v.State.Sync.Members)+1
		}
	}
	return false
}

// renamed is a copy of x with the nodes called by other names, and every list of nodes in the order of those.
func renamed[T any](x T, to map[fsm.NodeID]fsm.NodeID) T {
	v := reflect.ValueOf(&x).Elem()
	out := reflect.New(v.Type()).Elem()
	out.Set(rename(v, to))
	return out.Interface().(T)
}

func rename(v reflect.Value, to map[fsm.NodeID]fsm.NodeID) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	switch v.Kind() {
	case reflect.String:
		out.Set(v)
		if id, ok := v.Interface().(fsm.NodeID); ok && to[id] != "" {
			out.SetString(string(to[id]))
		}
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return out
		}
		in := rename(v.Elem(), to)
		if v.Kind() == reflect.Interface {
			out.Set(in)
			return out
		}
		out.Set(reflect.New(v.Type().Elem()))
		out.Elem().Set(in)
	case reflect.Struct:
		for i := range v.NumField() {
			out.Field(i).Set(rename(v.Field(i), to))
		}
		if m, ok := out.Addr().Interface().(*fsm.Member); ok {
			m.Name = string(m.ID)
		}
	case reflect.Slice:
		if v.IsNil() {
			return out
		}
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(rename(v.Index(i), to))
		}
		inOrder(out.Interface())
	case reflect.Map:
		if v.IsNil() {
			return out
		}
		out.Set(reflect.MakeMap(v.Type()))
		for it := v.MapRange(); it.Next(); {
			out.SetMapIndex(rename(it.Key(), to), rename(it.Value(), to))
		}
	default:
		out.Set(v)
	}
	return out
}

func inOrder(list any) {
	switch l := list.(type) {
	case []fsm.NodeID:
		slices.Sort(l)
	case []fsm.Seal:
		slices.SortFunc(l, func(a, b fsm.Seal) int { return compare(a.Node, b.Node) })
	case []fsm.Position:
		slices.SortFunc(l, func(a, b fsm.Position) int { return compare(a.Node, b.Node) })
	}
}

func compare(a, b fsm.NodeID) int {
	if a < b {
		return -1
	}
	return 1
}
