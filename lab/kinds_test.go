package lab

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestTheTableOfFaults(t *testing.T) {
	seen := map[string]bool{}
	help := FaultHelp()
	for _, k := range kinds() {
		if seen[k.name] || k.does == "" || k.mend == "" || k.due == "" || k.act == nil {
			t.Errorf("line %+v", k)
		}
		seen[k.name] = true
		if !strings.Contains(help, k.name+" ") || !strings.Contains(help, k.does) {
			t.Errorf("the help does not explain %s", k.name)
		}
	}
	if !seen[agentGuardStop] || !NeedsDisks("disk-hang") || !NeedsDisks("disk-full") || NeedsDisks(HostKill) || NeedsDisks("flood") {
		t.Error("names have changed")
	}
}

func TestFaultsThatCantBeMade(t *testing.T) {
	three := []*Node{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}}
	pair := []*Node{{Name: "n1"}, {Name: "n2"}, {Name: "w1", Witness: true}}
	for _, c := range []struct {
		name string
		lab  *Lab
		want map[string]error
	}{
		{"loopback", &Lab{Nodes: three}, map[string]error{HostKill: ErrCannot, Partition: ErrCannot, "isolate": ErrCannot, StandbyKill: ErrCannot,
			"disk-full": ErrCannot, Switchover: nil, PostgresKill: nil, "agent-kill": nil, agentGuardStop: nil, "flood": ErrUnknown}},
		{"namespaces", &Lab{Nodes: three, Namespaces: true}, map[string]error{HostKill: nil, StandbyKill: nil, LeaderKill: nil, "disk-hang": ErrCannot, WitnessKill: ErrCannot}},
		{"disks", &Lab{Nodes: three, Namespaces: true, Disks: true}, map[string]error{"disk-hang": nil, "disk-full": nil}},
		{"a witness", &Lab{Nodes: pair, Namespaces: true}, map[string]error{WitnessKill: nil, StandbyKill: nil}},
		{"alone", &Lab{Nodes: three[:1], Namespaces: true}, map[string]error{StandbyKill: ErrCannot, HostKill: nil}},
	} {
		for kind, want := range c.want {
			if err := c.lab.CanMake(kind); !errors.Is(err, want) {
				t.Errorf("%s, %s: %v, want %v", c.name, kind, err, want)
			}
		}
		if all := slices.Sorted(slices.Values(append(c.lab.faults(), c.lab.impossible()...))); !slices.Equal(all, slices.Sorted(slices.Values(Faults()))) {
			t.Errorf("%s: together there are %v", c.name, all)
		}
	}
}

func TestWhoIsHit(t *testing.T) {
	l := &Lab{Namespaces: true, Nodes: []*Node{{Name: "n1"}, {Name: "n2"}, {Name: "n3"}, {Name: "w1", Witness: true}}}
	for _, c := range []struct{ fault, primary, leader, want string }{
		{HostKill, "n1", "n2", "n1"},
		{"agent-stop", "n2", "n2", "n2"},
		{StandbyKill, "n1", "n2", "n3"}, // not the leader's node where there is another
		{StandbyKill, "n3", "w1", "n1"},
		{WitnessKill, "n1", "w1", "w1"},
		{LeaderKill, "n1", "w1", "w1"},
		{LeaderKill, "n1", "n3", "n3"},
		{LeaderKill, "n1", "n1", ""},
		{LeaderKill, "n1", "", ""},
		{HostKill, "", "n2", ""},
	} {
		k, err := kindOf(c.fault)
		if err != nil {
			t.Fatal(err)
		}
		n, err := l.victimOf(k, State{Primary: c.primary, Leader: c.leader})
		switch {
		case c.want == "" && !errors.Is(err, ErrCannot):
			t.Errorf("%+v: hits %v, %v", c, n, err)
		case c.want != "" && (err != nil || n.Name != c.want):
			t.Errorf("%+v: hits %v, %v", c, n, err)
		}
	}
}

func TestBroken(t *testing.T) {
	for _, c := range []struct {
		durability string
		lost       int
		overlap    float64
		fault      string
		want       bool
	}{
		{"quorum", 0, 0, HostKill, false},
		{"quorum", 1, 0, HostKill, true},
		{"async", 1, 0, HostKill, false},
		{"async", 0, 1, HostKill, true},
		{"quorum", 0, 1, agentGuardStop, false},
		{"quorum", 1, 0, agentGuardStop, true},
	} {
		if got := broken(c.durability, c.lost, c.overlap, c.fault); got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestADeckDealsEveryKindAndOrderAndTheSameForASeed(t *testing.T) {
	kinds := []string{"a", "b", "c", "d"}
	one, same, other := newDeck(7, kinds, 3), newDeck(7, kinds, 3), newDeck(8, kinds, 3)
	differs, doubled := false, 0
	for pass := range 20 {
		first, orders := map[string]int{}, map[string]bool{}
		for range len(kinds) + 6 {
			r := one.deal()
			if !reflect.DeepEqual(r, same.deal()) {
				t.Fatal("two decks of the same seed differ")
			}
			differs = differs || !reflect.DeepEqual(r, other.deal())
			first[r.Blows[0].Kind]++
			if r.Order != nil {
				orders[fmt.Sprint(r.Order)] = true
			}
			if len(r.Blows) > 1 {
				doubled++
				if r.Order != nil || r.Blows[1].Kind == AllKill || r.Blows[1].After > secondWithin {
					t.Fatalf("round %+v", r)
				}
			}
			if r.Calm < calmAtLeast || r.Calm > calmAtMost || r.Hold < holdAtLeast || r.Hold > holdAtMost {
				t.Fatalf("round %+v", r)
			}
		}
		if first[AllKill] != 6 || len(orders) != 6 || len(first) != len(kinds)+1 {
			t.Fatalf("pass %d: %v, orders %v", pass, first, orders)
		}
	}
	if !differs || doubled == 0 {
		t.Errorf("another seed differs: %v; rounds with two faults: %d", differs, doubled)
	}
	for range 50 {
		if r := newDeck(1, kinds, 0).deal(); r.Order != nil {
			t.Fatal("all-kill where it can't be made")
		}
	}
}
