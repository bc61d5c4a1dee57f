package lead

import (
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// history is a cluster in epoch 4: a was first, was appointed again, gave way to b, and b lost it to c.
func history() fsm.State {
	return fsm.State{
		ClusterID: "x", Epoch: 4, Primary: "c",
		Lineage: []fsm.Lineage{{Epoch: 1, Node: "a"}, {Epoch: 2, Node: "a"}, {Epoch: 3, Node: "b"}, {Epoch: 4, Node: "c", Async: true}},
		Events: []fsm.Event{
			{Text: "cluster initialised"},
			{Epoch: 1, Wall: 100, By: "first-primary", Text: "na appointed the first primary"},
			{Epoch: 2, Wall: 200, By: "re-appoint", Text: "na appointed again, timeline unchanged"},
			{Epoch: 2, By: "w1", Text: "switchover to nb asked for"},
			{Epoch: 2, By: "switchover-begin", Text: "switchover to nb begins"},
			{Epoch: 3, Wall: 300, By: "best-standby", Text: "nb appointed in place of na"},
			{Epoch: 4, Wall: 400, By: "best-standby", Text: "nc appointed in place of nb"},
			{Epoch: 4, By: "nc", Text: "nc is primary on timeline 3"},
		},
	}
}

func nothingTold(fsm.Epoch) (string, []fsm.Phase) { return "", nil }

func TestDueReports(t *testing.T) {
	s := history()
	phases := []fsm.Phase{{Name: "silent", MS: 1003}, {Name: "streaming", MS: 1100}}
	told := func(ended fsm.Epoch) (string, []fsm.Phase) {
		if ended == 3 {
			return "nb was silent", phases
		}
		return "", nil
	}
	want := []fsm.Failover{
		{Epoch: 1, To: "a", Rule: "first-primary", Wall: 100},
		{Epoch: 2, From: "a", To: "a", Rule: "re-appoint", Wall: 200},
		{Epoch: 3, From: "a", To: "b", Rule: "best-standby", Wish: "w1", Wall: 300},
		{Epoch: 4, From: "b", To: "c", Rule: "best-standby", Cause: "nb was silent", Async: true, Phases: phases, Wall: 400},
	}
	for _, w := range want {
		got, ok := dueReport(s, true, told)
		if !ok || !reflect.DeepEqual(got, w) {
			t.Fatalf("due %+v, %t\nwant %+v", got, ok, w)
		}
		if unsettled, ok := dueReport(s, false, told); ok != (w.Epoch < 4) || ok && unsettled.Epoch != w.Epoch {
			t.Errorf("epoch %d is not settled yet, due is that of %d, %t", s.Epoch, unsettled.Epoch, ok)
		}
		s.Failovers = append(s.Failovers, got)
	}
	if got, ok := dueReport(s, true, told); ok {
		t.Errorf("all are filed, and due is %+v", got)
	}
}

func TestNoReportOfWhatNobodyRemembers(t *testing.T) {
	s := history()
	s.Events = s.Events[5:] // the Appoint of epoch 3 is the first that is left, and whether it is the Appoint can't be told
	if got, ok := dueReport(s, true, nothingTold); !ok || got.Epoch != 4 {
		t.Errorf("due %+v, %t, want that of epoch 4", got, ok)
	}
	if got, ok := dueReport(fsm.State{}, true, nothingTold); ok {
		t.Errorf("no epoch was ever, and due is %+v", got)
	}
}

// However many epochs there were, the reports that a state keeps are complete after so many.
func TestReportsEnd(t *testing.T) {
	s := fsm.State{Events: []fsm.Event{{Text: "before"}}}
	for e := fsm.Epoch(1); e <= 3*fsm.MaxFailovers; e++ {
		s.Epoch = e
		s.Lineage = append(s.Lineage, fsm.Lineage{Epoch: e, Node: "a"})
		s.Events = append(s.Events, fsm.Event{Epoch: e, By: "re-appoint"})
	}
	for n := 0; ; n++ {
		f, ok := dueReport(s, true, nothingTold)
		if !ok {
			if n != fsm.MaxFailovers {
				t.Errorf("%d reports were due, want %d", n, fsm.MaxFailovers)
			}
			return
		}
		s.Failovers = append(s.Failovers, f)
	}
}

func TestHandedOver(t *testing.T) {
	ask := fsm.Event{Epoch: 2, By: "w1", Text: "switchover to the best standby asked for"}
	begin := fsm.Event{Epoch: 2, By: "switchover-begin", Text: "switchover to nb begins"}
	void := fsm.Event{Epoch: 2, By: "switchover-void", Text: "switchover to nb dropped: late"}
	again := fsm.Event{Epoch: 2, By: "w2", Text: "switchover to nc asked for"}
	for _, c := range []struct {
		name   string
		events []fsm.Event
		want   string
	}{
		{"none", nil, ""},
		{"asked for, not begun", []fsm.Event{ask}, ""},
		{"begun", []fsm.Event{ask, begin}, "w1"},
		{"dropped", []fsm.Event{ask, begin, void}, ""},
		{"another after it", []fsm.Event{ask, begin, void, again, begin}, "w2"},
		{"the primary was lost meanwhile, and an operator accepted a loss", []fsm.Event{ask, begin,
			{Epoch: 2, By: "w3", Text: "failover to nc asked for; that acknowledged commits may be lost is accepted"}}, ""},
		{"who asked is forgotten", []fsm.Event{begin}, "switchover"},
		{"in another epoch", []fsm.Event{{Epoch: 1, By: "switchover-begin"}}, ""},
	} {
		if got := handedOver(c.events, 2); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestAcknowledging(t *testing.T) {
	three, alone := fsm.SyncRule{Members: []fsm.NodeID{"a", "b", "c"}, Copies: 2}, fsm.SyncRule{Members: []fsm.NodeID{"a"}, Copies: 1}
	for _, c := range []struct {
		name          string
		serving       fsm.Epoch
		rule          fsm.SyncRule
		streams       []fsm.NodeID
		serves, again bool
	}{
		{"another epoch", 3, three, []fsm.NodeID{"b"}, false, false},
		{"nobody streams", 4, three, nil, true, false},
		{"a stranger streams", 4, three, []fsm.NodeID{"d"}, true, false},
		{"one is enough for two copies", 4, three, []fsm.NodeID{"c"}, true, true},
		{"alone", 4, alone, nil, true, true},
		{"async", 4, fsm.SyncRule{}, nil, true, true},
	} {
		r := failover.Report{Serving: c.serving}
		for _, id := range c.streams {
			r.Streaming = append(r.Streaming, failover.StreamingMember{Node: id})
		}
		v := failover.View{State: fsm.State{Epoch: 4, Primary: "a", Sync: c.rule}, Seen: map[fsm.NodeID]failover.Sighting{"a": {Report: r}}}
		if serves, again := acknowledging(v); serves != c.serves || again != c.again {
			t.Errorf("%s: serves %t, acknowledges %t", c.name, serves, again)
		}
	}
}

func TestCauseIsBounded(t *testing.T) {
	l := newLedger(0)
	d := failover.Decision{Because: []string{strings.Repeat("é", maxCause)}}
	for epoch := range fsm.Epoch(3 * keepCauses) {
		v := failover.View{State: at(epoch, "a"), Seen: map[fsm.NodeID]failover.Sighting{"a": {Report: failover.Report{Problem: "disk full"}}}}
		l.noteCause(v, d)
	}
	if len(l.causes) != keepCauses+1 {
		t.Errorf("%d causes are kept", len(l.causes))
	}
	for _, cause := range l.causes {
		if len(cause) > maxCause+4 || strings.ContainsRune(cause, '\uFFFD') {
			t.Errorf("a cause of %d bytes, or a broken character in it", len(cause))
		}
	}
	l.noteCause(failover.View{State: at(99, "a"), Seen: map[fsm.NodeID]failover.Sighting{"a": {Report: failover.Report{Problem: "disk full"}}}}, failover.Decision{Rule: "r", Because: []string{"x", "y"}})
	if got := l.causes[99]; got != "r: x; y; a said: disk full" {
		t.Errorf("cause %q", got)
	}
}

// filed are the reports that were submitted.
func (st *stage) filed() []fsm.Failover {
	st.mu.Lock()
	defer st.mu.Unlock()
	var out []fsm.Failover
	for _, c := range st.submitted {
		if r, ok := c.(fsm.RecordFailover); ok {
			out = append(out, r.Failover)
		}
	}
	return out
}

func TestAFailoverIsReportedOnce(t *testing.T) {
	play(t, func(t *testing.T, st *stage, _ *Loop) {
		st.mu.Lock()
		st.state.Events = []fsm.Event{{Epoch: 7, By: "n1", Text: "promoted"}}
		st.mu.Unlock()
		time.Sleep(time.Second)
		st.kill("a")
		time.Sleep(40 * time.Second)
		synctest.Wait()
		all := st.filed()
		if len(all) != 1 {
			t.Fatalf("filed %+v, want one report", all)
		}
		f := all[0]
		if f.Epoch != 8 || f.From != "a" || f.To != "c" || f.Rule != "best-standby" || !strings.HasPrefix(f.Cause, "ask-first: nb heard na ") {
			t.Errorf("filed %+v", f)
		}
		var names []string
		for i, p := range f.Phases {
			names = append(names, p.Name)
			if p.MS < 1000 || p.MS > 1200 || i > 0 && p.MS < f.Phases[i-1].MS {
				t.Errorf("phase %+v", p)
			}
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != "appointed asked positions sealed serving silent streaming" {
			t.Errorf("phases %s", got)
		}
	})
}

// A primary that never serves is reported too, and a report that finds no way is filed later.
func TestAReportIsFiledAtLast(t *testing.T) {
	play(t, func(t *testing.T, st *stage, _ *Loop) {
		st.mu.Lock()
		st.state.Events = []fsm.Event{{Epoch: 6}, {Epoch: 7, By: "best-standby", Wall: 5}}
		st.reportErr, st.idle = errors.New("no quorum"), true
		st.mu.Unlock()
		time.Sleep(reportAfter - time.Second)
		if n := len(st.filed()); n > 0 {
			t.Fatalf("%d reports of an epoch that does not serve yet", n)
		}
		time.Sleep(4500 * ms)
		if n := len(st.filed()); n < 3 || n > 4 {
			t.Errorf("%d tries in 3.5 s, want one a second", n)
		}
		st.mu.Lock()
		st.reportErr = nil
		st.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(st.filed()); n > 5 {
			t.Errorf("filed %d times", n)
		}
		st.locked(func() {
			if len(st.state.Failovers) != 1 || st.state.Failovers[0].Epoch != 7 || st.state.Failovers[0].Phases != nil {
				t.Errorf("reports %+v, want one of epoch 7 without phases", st.state.Failovers)
			}
		})
	})
}

// What an earlier term saw of the present epoch's end is worth nothing in the next, and what it didn't see stays unknown.
func TestPhasesEndWithTheTerm(t *testing.T) {
	l := newLedger(0)
	l.observe(0, at(7, "a"))
	l.begin(5*time.Second, time.Second, 7)
	l.lead()
	if l.begun(7) {
		t.Error("the silence of an earlier term counts")
	}
	l.begin(9*time.Second, time.Second, 7)
	l.observe(10*time.Second, at(8, "b"))
	l.lead() // another led for a while
	l.follow(20*time.Second, failover.View{State: at(8, "b"), Seen: map[fsm.NodeID]failover.Sighting{"b": {Report: failover.Report{Serving: 8}}}})
	if _, phases := l.told(7); len(phases) != 1 || phases[0] != (fsm.Phase{Name: PhaseSilent, MS: 1000}) {
		t.Errorf("phases %+v, want only what was seen while this node led", phases)
	}
}

// A leader that finds itself on the new primary's node stays to file the report, but not for long.
func TestTheReportGoesBeforeTheHandOff(t *testing.T) {
	play(t, func(t *testing.T, st *stage, _ *Loop) {
		st.mu.Lock()
		st.state.Members = maps.Clone(st.state.Members) // the loop may be reading the one that it was given
		st.state.Members["c"] = fsm.Member{ID: "c", Name: "nc", Role: fsm.RoleData, NoFailover: true}
		st.state.Events = []fsm.Event{{Epoch: 7}}
		st.reportErr = errors.New("no way")
		st.mu.Unlock()
		st.kill("a")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		st.locked(func() {
			if st.state.Primary != "b" || len(st.transfers) > 0 {
				t.Fatalf("primary %s, handed over at %v", st.state.Primary, st.transfers)
			}
			st.reportErr = nil
		})
		time.Sleep(handOffWaits)
		synctest.Wait()
		st.locked(func() {
			if len(st.transfers) == 0 || len(st.state.Failovers) != 1 || len(st.state.Failovers[0].Phases) == 0 {
				t.Errorf("handed over at %v, reports %+v", st.transfers, st.state.Failovers)
			}
		})
	})
}
