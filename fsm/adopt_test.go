package fsm

import (
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/quorate/quorate/internal/pg"
)

// adopted is the founding of n1, n2 and n3 with the data of n2: timeline 3 of system 77, or if it was a standby timeline 4.
func adopted(standby bool) Init {
	c := initOf(DurabilityQuorum, dataMember("n1"), dataMember("n2"), dataMember("n3"))
	c.Adopted = &Adoption{Node: "n2", SystemID: 77, Timeline: 3, End: 900,
		History: pg.History{{Timeline: 1, End: 100}, {Timeline: 2, End: 500}}, Keep: []NodeID{"n3"}}
	if standby {
		c.Adopted.Parent, c.Adopted.Timeline = 3, 4
	}
	return c
}

func TestTheHistoryGoesOnFromAdoptedData(t *testing.T) {
	for _, c := range []struct {
		name    string
		standby bool
		opened  Promoted
		first   Lineage
		history string // of the first primary's timeline
		later   string // of the next primary's
	}{
		{"a primary", false, Promoted{Epoch: 1, Node: "n2", Timeline: 3, SwitchLSN: 500, SystemID: 77},
			Lineage{Epoch: 1, Node: "n2", Timeline: 3}, "[{1 0/64 } {2 0/1F4 }]", "[{1 0/64 } {2 0/1F4 } {3 0/3E8 }]"},
		{"a standby", true, Promoted{Epoch: 1, Node: "n2", Timeline: 4, SwitchLSN: 920, SystemID: 77},
			Lineage{Epoch: 1, Node: "n2", Timeline: 4, Parent: 3, SwitchLSN: 900},
			"[{1 0/64 } {2 0/1F4 } {3 0/384 }]", "[{1 0/64 } {2 0/1F4 } {3 0/398 } {4 0/3E8 }]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tli := c.first.Timeline
			s := must(t, State{}, adopted(c.standby), Appoint{Node: "n2", Timeline: tli})
			if s.lastLineage() != c.first || s.SystemID != 0 || !s.Adopting("n2") || s.Adopting("n1") {
				t.Errorf("the first assignment is %+v, system %s", s.lastLineage(), s.SystemID)
			}
			if h, _ := s.LineageHistory(tli); fmt.Sprint(h) != c.history {
				t.Errorf("history %v, want %s", h, c.history)
			}
			back, err := DecodeState(encoded(t, s))
			if err != nil || !reflect.DeepEqual(back, s) {
				t.Errorf("the state came back as %+v, %v", back, err)
			}
			s = must(t, s, c.opened, SetSync{Rule: rule(1, "n1", "n2")})
			if s.SystemID != 77 || s.Adopting("n2") {
				t.Errorf("after it opened: system %s, still adopting %v", s.SystemID, s.Adopting("n2"))
			}
			s = must(t, s, Appoint{IfEpoch: 1, Node: "n1", Timeline: tli + 1, SwitchLSN: 1000, Evidence: Evidence{
				Release:   &Release{Epoch: 1, Node: "n2", Timeline: tli, FinalLSN: 1000},
				Positions: []Position{at("n1", 1, tli, 1000), at("n2", 1, tli, 1000)}}})
			if h, _ := s.LineageHistory(tli + 1); fmt.Sprint(h) != c.later {
				t.Errorf("later history %v, want %s", h, c.later)
			}
		})
	}
}

func TestAdoptionRefusals(t *testing.T) {
	edit := func(change func(*Adoption)) Command {
		c := adopted(false)
		change(c.Adopted)
		return c
	}
	for name, c := range map[string]struct {
		change Command
		want   error
	}{
		"no system":                 {edit(func(a *Adoption) { a.SystemID = 0 }), ErrInvalid},
		"no timeline":               {edit(func(a *Adoption) { a.Timeline = 0 }), ErrInvalid},
		"a parent that is no older": {edit(func(a *Adoption) { a.Parent = 3 }), ErrInvalid},
		"a history of another": {edit(func(a *Adoption) { a.History = append(a.History, pg.HistoryEntry{Timeline: 3, End: 600}) }),
			ErrInvalid},
		"a stranger":         {edit(func(a *Adoption) { a.Node = "n9" }), ErrNotMember},
		"a stranger's copy":  {edit(func(a *Adoption) { a.Keep = []NodeID{"n9"} }), ErrInvalid},
		"its own copy":       {edit(func(a *Adoption) { a.Aside = []NodeID{"n2"} }), ErrInvalid},
		"kept and set aside": {edit(func(a *Adoption) { a.Aside = []NodeID{"n3"} }), ErrInvalid},
	} {
		if _, err := try(State{}, c.change); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	s := must(t, State{}, adopted(false))
	for name, c := range map[string]struct {
		change Command
		want   error
	}{
		"another first primary": {Appoint{Node: "n1", Timeline: 3}, ErrNotElectable},
		"another timeline":      {Appoint{Node: "n2", Timeline: 1}, ErrLineage},
	} {
		if _, err := try(s, c.change); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	s = must(t, s, Appoint{Node: "n2", Timeline: 3})
	if _, err := try(s, Promoted{Epoch: 1, Node: "n2", Timeline: 3, SystemID: 78}); !errors.Is(err, ErrSystemID) {
		t.Errorf("another system was opened: %v", err)
	}
	gone := Appoint{IfEpoch: 1, Node: "n1", Timeline: 4, Evidence: Evidence{Release: &Release{Epoch: 1, Node: "n2"},
		Positions: []Position{at("n1", 1, 3, 0), at("n2", 1, 3, 0)}}}
	if _, err := try(s, gone); !errors.Is(err, ErrNotElectable) {
		t.Errorf("another node was appointed before the data were opened: %v", err)
	}
	must(t, s, Appoint{IfEpoch: 1, Node: "n2"})
}

// TestWhoCrashedBeforeItToldHasOpenedTheData: promoted in epoch 1, it crashes before anybody hears of that, is appointed again and
// promoted again. Only epoch 2 is on record as promoted.
func TestWhoCrashedBeforeItToldHasOpenedTheData(t *testing.T) {
	s := must(t, State{}, adopted(true), Appoint{Node: "n2", Timeline: 4}, Appoint{IfEpoch: 1, Node: "n2"},
		Promoted{Epoch: 2, Node: "n2", Timeline: 5, Parent: 4, SwitchLSN: 950, SystemID: 77})
	if s.Lineage[0].Promoted {
		t.Fatalf("epoch 1 counts as promoted: %+v", s.Lineage)
	}
	if s.Adopting("n2") {
		t.Error("it is still to open the data that it has promoted")
	}
}
