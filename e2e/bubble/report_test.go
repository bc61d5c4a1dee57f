package bubble

import (
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/cluster/lead"
	"github.com/quorate/quorate/fsm"
)

// reportsOf waits until all running nodes have reports of all epochs, and fails unless they are the same and each was
// filed once.
func (w *world) reportsOf() []fsm.Failover {
	w.t.Helper()
	w.wait("a report of every epoch on every node", func() bool {
		for _, n := range w.nodes {
			if c := n.running(); c != nil && len(c.State().Failovers) != int(w.epoch()) {
				return false
			}
		}
		return true
	})
	var first []fsm.Failover
	for _, n := range w.nodes {
		c := n.running()
		if c == nil {
			continue
		}
		s := c.State()
		if first == nil {
			first = s.Failovers
		}
		for i, f := range s.Failovers {
			if f.Epoch != fsm.Epoch(i+1) || f.Rule != first[i].Rule || !slices.Equal(f.Phases, first[i].Phases) {
				w.t.Errorf("report %d on %s is %+v, on another node %+v", i, n.name, f, first[i])
			}
		}
		seen := map[string]bool{}
		for _, e := range s.Events {
			if strings.HasPrefix(e.Text, "report of epoch ") && seen[e.Text] {
				w.t.Errorf("%s was filed twice", e.Text)
			} else if strings.HasPrefix(e.Text, "report of epoch ") {
				seen[e.Text] = true
			}
		}
	}
	return first
}

func names(phases []fsm.Phase) []string {
	var out []string
	for _, p := range phases {
		out = append(out, p.Name)
	}
	return out
}

func TestAFailoverIsReported(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		old, _ := w.settle()
		w.isolate(old)
		w.wait("the next epoch", func() bool { return w.epoch() == 2 })
		w.wait("another primary serves", func() bool { p := w.primary(); return p != nil && p != old })
		w.rejoin(old)
		next, _ := w.settle()
		all := w.reportsOf()
		t.Logf("%+v", all[1])
		first, f := all[0], all[1]
		if first.From != "" || first.To != old.id() || first.Rule != "first-primary" {
			t.Errorf("first report %+v", first)
		}
		if f.From != old.id() || f.To != next.id() || f.Rule != "best-standby" || f.Async || !strings.Contains(f.Cause, " heard "+old.name+" ") {
			t.Errorf("report %+v", f)
		}
		for _, name := range []string{lead.PhaseSilent, lead.PhaseAsked, lead.PhaseSealed, lead.PhasePositions, lead.PhaseAppointed, lead.PhasePromoted, lead.PhaseServing, lead.PhaseStreaming} {
			if !slices.Contains(names(f.Phases), name) {
				t.Errorf("no phase %q in %+v", name, f.Phases)
			}
		}
		for i, p := range f.Phases {
			if p.MS < failoverAfter.Milliseconds() || i > 0 && p.MS < f.Phases[i-1].MS {
				t.Errorf("phases %+v: nothing can be done before the primary was silent for %s", f.Phases, failoverAfter)
			}
		}
	})
}

// The leader that appointed is lost before anything was reported: the next one files what the state tells.
func TestAReportSurvivesItsLeader(t *testing.T) {
	inBubble(t, 5, func(w *world) {
		old, leader := w.settle()
		w.reportsOf()
		w.isolate(old)
		w.wait("the next epoch", func() bool { return leader.running().State().Epoch == 2 })
		w.isolate(leader)
		if n := len(leader.running().State().Failovers); n != 1 {
			t.Fatalf("%d reports the moment after the Appoint: the story tests nothing", n)
		}
		there := w.other(old, leader).running()
		took := w.wait("another leader has reported it", func() bool { return len(there.State().Failovers) == 2 })
		t.Logf("reported after %s", took)
		w.rejoin(old)
		w.rejoin(leader)
		w.settle()
		all := w.reportsOf()
		t.Logf("%+v", all[1])
		if f := all[1]; f.Rule != "best-standby" || f.From != old.id() || f.Cause != "" || len(f.Phases) > 0 {
			t.Errorf("report %+v, want the rule and nothing of what only the lost leader saw", f)
		}
	})
}

func TestASwitchoverIsReported(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		old, leader := w.settle()
		to := w.other(old, leader)
		if err := old.running().Submit(w.t.Context(), fsm.AskSwitchover{ID: "w1", To: to.id()}, 0, "w1"); err != nil {
			t.Fatal(err)
		}
		w.wait("the candidate serves", func() bool { return to.serving() == 2 })
		w.settle()
		f := w.reportsOf()[1]
		t.Logf("%+v", f)
		if f.Wish != "w1" || f.To != to.id() || !strings.HasPrefix(f.Cause, "primary-released: ") {
			t.Errorf("report %+v", f)
		}
	})
}
