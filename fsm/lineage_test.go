package fsm

import (
	"errors"
	"fmt"
	"testing"

	"github.com/quorate/quorate/internal/pg"
)

// handover replaces the primary of s by to, whose log ends at lsn of timeline from, predicting timeline tli.
func handover(s State, to NodeID, from, tli pg.Timeline, lsn pg.LSN) Appoint {
	others := without([]NodeID{"n1", "n2", "n3"}, []NodeID{s.Primary, to})
	return Appoint{IfEpoch: s.Epoch, Node: to, Timeline: tli, SwitchLSN: lsn, Evidence: Evidence{
		Seals:     []Seal{seal(to, s.Epoch, 0, 0), seal(others[0], s.Epoch, 0, 0)},
		Positions: []Position{at(to, s.Epoch, from, lsn), at(others[0], s.Epoch, 1, 1)},
	}}
}

func TestPromoted(t *testing.T) {
	again := func(s State) Command { return Appoint{IfEpoch: s.Epoch, Node: s.Primary} }
	to := func(node NodeID, from, tli pg.Timeline, lsn pg.LSN) func(State) Command {
		return func(s State) Command { return handover(s, node, from, tli, lsn) }
	}
	says := func(p Promoted) func(State) Command { return func(State) Command { return p } }
	for _, c := range []struct {
		name  string
		steps []func(State) Command // from n1 at epoch 1 on timeline 1
		last  Promoted
		want  error
		tail  string // of the lineage: epoch node timeline<parent@switch, ! when reported
	}{
		{"the prediction was right", []func(State) Command{to("n2", 1, 2, 20)}, Promoted{Epoch: 2, Node: "n2", Timeline: 2, SwitchLSN: 20}, nil, "2 n2 2<1@0/14!"},
		{"the timeline was another one", []func(State) Command{to("n2", 1, 2, 20)}, Promoted{Epoch: 2, Node: "n2", Timeline: 5, SwitchLSN: 21}, nil, "2 n2 5<1@0/15!"},
		{"said twice", []func(State) Command{to("n2", 1, 2, 20), says(Promoted{Epoch: 2, Node: "n2", Timeline: 2, SwitchLSN: 20})}, Promoted{Epoch: 2, Node: "n2", Timeline: 2, SwitchLSN: 20}, nil, "2 n2 2<1@0/14!"},
		{"said differently", []func(State) Command{to("n2", 1, 2, 20), says(Promoted{Epoch: 2, Node: "n2", Timeline: 2, SwitchLSN: 20})}, Promoted{Epoch: 2, Node: "n2", Timeline: 3, SwitchLSN: 20}, ErrLineage, ""},
		{"a timeline that was taken", []func(State) Command{to("n2", 1, 2, 20), to("n3", 1, 3, 20)}, Promoted{Epoch: 3, Node: "n3", Timeline: 2, SwitchLSN: 20}, ErrLineage, ""},
		{"no timeline", []func(State) Command{to("n2", 1, 2, 20)}, Promoted{Epoch: 2, Node: "n2"}, ErrLineage, ""},
		{"a parent that is no older", []func(State) Command{to("n2", 1, 2, 20)}, Promoted{Epoch: 2, Node: "n2", Timeline: 2, Parent: 2}, ErrLineage, ""},
		{"appointed again before the report: one promotion, two assignments", []func(State) Command{to("n2", 1, 2, 20), again}, Promoted{Epoch: 3, Node: "n2", Timeline: 4, Parent: 1, SwitchLSN: 22}, nil, "2 n2 4<1@0/16! 3 n2 4<1@0/16!"},
		{"appointed again before the report: two promotions", []func(State) Command{to("n2", 1, 2, 20), again}, Promoted{Epoch: 3, Node: "n2", Timeline: 3, Parent: 2, SwitchLSN: 30}, nil, "2 n2 2<1@0/14 3 n2 3<2@0/1E!"},
		{"appointed again and promoted in place after a crash", []func(State) Command{again}, Promoted{Epoch: 2, Node: "n1", Timeline: 2, SwitchLSN: 40}, nil, "1 n1 1<0@0/0! 2 n1 2<1@0/28!"},
		{"appointed again and not promoted", []func(State) Command{again}, Promoted{Epoch: 2, Node: "n1", Timeline: 1}, nil, "1 n1 1<0@0/0! 2 n1 1<0@0/0!"},
		{"its parent was fast-forwarded from another node", []func(State) Command{to("n2", 1, 2, 20), to("n3", 1, 3, 10)}, Promoted{Epoch: 3, Node: "n3", Timeline: 3, Parent: 2, SwitchLSN: 25}, nil, "2 n2 2<1@0/14 3 n3 3<2@0/19!"},
		{"another epoch", nil, Promoted{Epoch: 2, Node: "n1", Timeline: 1}, ErrStaleEpoch, ""},
		{"another node", nil, Promoted{Epoch: 1, Node: "n2", Timeline: 1}, ErrStaleEpoch, ""},
		{"another initdb", nil, Promoted{Epoch: 1, Node: "n1", Timeline: 1, SystemID: 78}, ErrSystemID, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := three(t)
			for _, step := range c.steps {
				s = must(t, s, step(s))
			}
			next, err := try(s, c.last)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if got := lineageText(next); err == nil && (len(got) < len(c.tail) || got[len(got)-len(c.tail):] != c.tail) {
				t.Fatalf("lineage %s, want it to end %s", got, c.tail)
			}
			if err == nil && next.SystemID != 77 {
				t.Fatalf("system id %s", next.SystemID)
			}
		})
	}
}

// lineageText marks an epoch whose timeline is real by !, and one before which commits may have been lost by ?.
func lineageText(s State) string {
	text := ""
	for i, l := range s.Lineage {
		mark := ""
		if l.Promoted {
			mark = "!"
		}
		if l.Async {
			mark += "?"
		}
		if i > 0 {
			text += " "
		}
		text += fmt.Sprintf("%d %s %d<%d@%s%s", l.Epoch, s.Name(l.Node), l.Timeline, l.Parent, l.SwitchLSN, mark)
	}
	return text
}

// branched is a history with an appointment that came to nothing: 1 to 2 at 20, 2 predicted to go to 3 at 30, where n3
// died; then 2 to 4 at 28, then appointed again.
func branched(t testing.TB) State {
	s := three(t)
	s = must(t, s, handover(s, "n2", 1, 2, 20), Promoted{Epoch: 2, Node: "n2", Timeline: 2, SwitchLSN: 20})
	s = must(t, s, handover(s, "n3", 2, 3, 30))
	s = must(t, s, handover(s, "n1", 2, 4, 28))
	return must(t, s, Appoint{IfEpoch: 4, Node: "n1"})
}

func TestRankOf(t *testing.T) {
	s := branched(t)
	for tli, want := range map[pg.Timeline]int{1: 0, 2: 1, 3: 2, 4: 3} {
		if got, ok := s.RankOf(tli); !ok || got != want {
			t.Errorf("timeline %d: %d %t, want %d", tli, got, ok, want)
		}
	}
	for _, tli := range []pg.Timeline{0, 5} {
		if _, ok := s.RankOf(tli); ok {
			t.Errorf("timeline %d has a rank", tli)
		}
	}
}

func TestLineageHistory(t *testing.T) {
	s := branched(t)
	for tli, want := range map[pg.Timeline]string{1: "", 2: "1\t0/14\t\n", 3: "1\t0/14\t\n2\t0/1E\t\n", 4: "1\t0/14\t\n2\t0/1C\t\n"} {
		history, ok := s.LineageHistory(tli)
		if !ok || string(history.Format()) != want || history.Check(tli) != nil {
			t.Errorf("timeline %d: %t %q", tli, ok, history.Format())
		}
	}
	if _, ok := s.LineageHistory(9); ok {
		t.Error("timeline 9 has a history")
	}
}

// TestShared: what is in the history of another one ends where the two parted.
func TestShared(t *testing.T) {
	s := branched(t)
	for _, c := range []struct {
		tli, other pg.Timeline
		end, want  pg.LSN
	}{
		{1, 4, 100, 20}, {1, 4, 15, 15}, {2, 4, 100, 28}, {2, 4, 28, 28}, {2, 4, 10, 10}, {4, 4, 100, 100},
		{3, 4, 100, 28}, {3, 4, 25, 25}, {4, 3, 100, 28}, {4, 1, 100, 20}, {4, 2, 100, 28}, {3, 2, 100, 30},
	} {
		if got, ok := s.Shared(c.tli, c.end, c.other); !ok || got != c.want {
			t.Errorf("of %s on timeline %d timeline %d has %d %t, want %d", c.end, c.tli, c.other, got, ok, c.want)
		}
	}
	for _, c := range [][2]pg.Timeline{{9, 4}, {4, 9}} {
		if got, ok := s.Shared(c[0], 100, c[1]); ok {
			t.Errorf("timelines %v share %s", c, got)
		}
	}
	apart := State{Lineage: []Lineage{{Timeline: 2}, {Timeline: 3}}}
	if got, ok := apart.Shared(2, 100, 3); !ok || got != 0 {
		t.Errorf("two that have nothing in common share %s %t", got, ok)
	}
}

func TestSwitchAfter(t *testing.T) {
	s := branched(t)
	check := func(tli pg.Timeline, want pg.LSN, wantOK bool) {
		t.Helper()
		if got, ok := s.SwitchAfter(tli); ok != wantOK || ok && got != want {
			t.Errorf("timeline %d left at %s %t, want %s %t", tli, got, ok, want, wantOK)
		}
	}
	check(1, 20, true)
	check(2, 0, false) // only predicted so far
	check(3, 0, false) // never an ancestor
	check(4, 0, false) // the present one
	check(9, 0, false)
	s = must(t, s, Promoted{Epoch: 5, Node: "n1", Timeline: 4, SwitchLSN: 29})
	check(2, 29, true)
	if got := lineageText(s); got != "1 n1 1<0@0/0! 2 n2 2<1@0/14! 3 n3 3<2@0/1E 4 n1 4<2@0/1D! 5 n1 4<2@0/1D!" {
		t.Error(got)
	}
}

func TestLineageWithoutEnd(t *testing.T) {
	// No log makes such a state, but damaged bytes could.
	s := State{Lineage: []Lineage{{Timeline: 2, Parent: 3, Promoted: true}, {Timeline: 3, Parent: 2, Promoted: true}, {Timeline: 4, Parent: 9}}}
	for tli := range pg.Timeline(10) {
		s.LineageHistory(tli)
		s.SwitchAfter(tli)
		s.Shared(tli, 100, 4)
	}
}
