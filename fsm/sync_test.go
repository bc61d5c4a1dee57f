package fsm

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestPositionsNeeded(t *testing.T) {
	for _, c := range []struct {
		name string
		rule SyncRule
		want int
	}{
		{"nothing was promised, so nobody is needed", rule(0), 0},
		{"a primary alone needs itself", rule(1, "n1"), 1},
		{"one copy may be on either of two", rule(1, "n1", "n2"), 2},
		{"two copies of two are on any one", rule(2, "n1", "n2"), 1},
		{"two copies of three are among any two", rule(2, "n1", "n2", "n3"), 2},
		{"three copies of five are among any three", rule(3, "n1", "n2", "n3", "n4", "n5"), 3},
	} {
		if got := PositionsNeeded(c.rule); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestTargetCopies(t *testing.T) {
	for n, want := range []int{0, 1, 2, 2, 2, 3, 3, 4} {
		if got := TargetCopies(n); got != want {
			t.Errorf("%d members: %d copies, want %d", n, got, want)
		}
	}
}

func TestEnforcedBy(t *testing.T) {
	for _, c := range []struct {
		name string
		rule SyncRule
		x    NodeID
		ids  []NodeID
		k    int
	}{
		{"the primary's own copy counts", rule(2, "n3", "n1", "n2"), "n1", []NodeID{"n2", "n3"}, 1},
		{"a primary outside waits for all copies", rule(2, "n1", "n2"), "n3", []NodeID{"n1", "n2"}, 2},
		{"one copy is the primary's, it waits for nobody", rule(1, "n1", "n2"), "n1", []NodeID{}, 0},
		{"async waits for nobody", rule(0), "n1", []NodeID{}, 0},
	} {
		ids, k := EnforcedBy(c.rule, c.x)
		if !reflect.DeepEqual(ids, c.ids) || k != c.k {
			t.Errorf("%s: %d of %v", c.name, k, ids)
		}
	}
}

// everyRule lists all rules over the nodes, D = ∅ included.
func everyRule(nodes ...NodeID) []SyncRule {
	rules := []SyncRule{rule(0)}
	for _, members := range subsets(nodes) {
		for k := 1; k <= len(members); k++ {
			rules = append(rules, SyncRule{Members: members, Copies: k})
		}
	}
	return rules
}

func subsets(nodes []NodeID) [][]NodeID {
	sets := [][]NodeID{{}}
	for _, n := range nodes {
		for _, set := range sets {
			sets = append(sets, append(append([]NodeID{}, set...), n))
		}
	}
	return sets
}

func overlap(a, b []NodeID) int { return len(a) - len(without(a, b)) }

// Every set of members that may elect holds every commit that could have been acknowledged.
func TestEveryElectionMeetsEveryCommit(t *testing.T) {
	for _, r := range everyRule("n1", "n2", "n3", "n4", "n5") {
		for _, voters := range subsets(r.Members) {
			if len(r.Members) == 0 || len(voters) < PositionsNeeded(r) {
				continue
			}
			for _, copies := range subsets(r.Members) {
				if len(copies) == r.Copies && overlap(copies, voters) == 0 {
					t.Fatalf("rule %v: a commit on %v is unknown to the electing %v", r, copies, voters)
				}
			}
		}
	}
}

// A change may skip Postgres exactly if whoever elects under the new rule could have elected under the old one.
func TestStricterMeansElectionsStayElections(t *testing.T) {
	nodes := []NodeID{"n1", "n2", "n3", "n4"}
	for _, from := range everyRule(nodes...) {
		for _, to := range everyRule(nodes...) {
			really := true
			for _, set := range subsets(nodes) {
				if overlap(to.Members, set) >= PositionsNeeded(to) && overlap(from.Members, set) < PositionsNeeded(from) {
					really = false
				}
			}
			got := Stricter(from, to)
			if got && !really || len(from.Members) > 0 && got != really {
				t.Fatalf("%v to %v: %t, but it is %t", from, to, got, really)
			}
		}
	}
}

func TestStricter(t *testing.T) {
	for _, c := range []struct {
		name     string
		from, to SyncRule
		want     bool
	}{
		{"a member more, the same copies", rule(1, "n1"), rule(1, "n1", "n2"), true},
		{"a copy fewer", rule(2, "n1", "n2"), rule(1, "n1", "n2"), true},
		{"a copy more", rule(1, "n1", "n2"), rule(2, "n1", "n2"), false},
		{"a member fewer", rule(2, "n1", "n2", "n3"), rule(2, "n1", "n2"), false},
		{"a member swapped for another", rule(2, "n1", "n2"), rule(2, "n1", "n3"), false},
		{"a member and a copy more at once", rule(1, "n1"), rule(2, "n1", "n2"), false},
		{"to async", rule(1, "n1"), rule(0), false},
		{"from async to the primary alone", rule(0), rule(1, "n1"), false},
		{"async stays async", rule(0), rule(0), true},
		{"from async to two copies", rule(0), rule(2, "n1", "n2"), false},
		{"no change", rule(2, "n1", "n2"), rule(2, "n2", "n1"), true},
	} {
		if got := Stricter(c.from, c.to); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}

// Postgres that waits for p gives every acknowledged commit the copies that r counts on.
func TestSafeEnforcementMeansEnoughCopies(t *testing.T) {
	nodes := []NodeID{"n1", "n2", "n3", "n4"}
	const x = NodeID("n1")
	for _, r := range everyRule(nodes...) {
		ids, k := EnforcedBy(r, x)
		if !SafeEnforcement(SyncRule{Members: ids, Copies: k}, x, r) {
			t.Fatalf("what n1 enforces for %v is not safe for it", r)
		}
		for _, p := range everyRule("n2", "n3", "n4") {
			if !SafeEnforcement(p, x, r) {
				continue
			}
			for _, standbys := range subsets(nodes[1:]) {
				if overlap(standbys, p.Members) >= p.Copies && overlap(append(standbys, x), r.Members) < r.Copies {
					t.Fatalf("Postgres waits for %v; a commit on n1 and %v has too few copies for %v", p, standbys, r)
				}
			}
		}
	}
}

func TestSetSync(t *testing.T) {
	shrunk := rule(2, "n1", "n2")
	promised := func(p Promise) *Promise { return &p }
	for _, c := range []struct {
		name   string
		change func(s State) SetSync
		want   error
		text   string
	}{
		{"growing needs only the revision", func(State) SetSync { return SetSync{Rule: rule(2, "n4", "n3", "n2", "n1")} }, nil, ""},
		{"a copy fewer needs only the revision", func(State) SetSync { return SetSync{Rule: rule(1, "n1", "n2", "n3")} }, nil, ""},
		{"shrinking without a promise forgets where commits are", func(State) SetSync { return SetSync{Rule: shrunk} }, ErrUnsafeSync,
			"fewer positions would elect under 2 of (n1, n2) than under 2 of (n1, n2, n3), so the promise of n1 is needed first"},
		{"shrinking with the primary's promise", func(s State) SetSync {
			return SetSync{Rule: shrunk, Promise: promised(Promise{"n1", s.Rev, rule(2, "n2", "n1")})}
		}, nil, ""},
		{"a promise of an older revision may be broken already", func(s State) SetSync {
			return SetSync{Rule: shrunk, Promise: promised(Promise{"n1", s.Rev - 1, shrunk})}
		}, ErrUnsafeSync, "made under revision 4, now it is 5"},
		{"a promise of another node binds nobody", func(s State) SetSync {
			return SetSync{Rule: shrunk, Promise: promised(Promise{"n2", s.Rev, shrunk})}
		}, ErrUnsafeSync, "the promise is by n2, the primary is n1"},
		{"a promise of another rule", func(s State) SetSync {
			return SetSync{Rule: shrunk, Promise: promised(Promise{"n1", s.Rev, rule(2, "n1", "n3")})}
		}, ErrUnsafeSync, "the promise is for 2 of (n1, n3)"},
		{"a promise of fewer copies", func(s State) SetSync {
			return SetSync{Rule: shrunk, Promise: promised(Promise{"n1", s.Rev, rule(1, "n1", "n2")})}
		}, ErrUnsafeSync, "the promise is for 1 of (n1, n2)"},
		{"no copies", func(State) SetSync { return SetSync{Rule: rule(0, "n1", "n2", "n3")} }, ErrUnsafeSync, "0 copies on 3 members"},
		{"more copies than members", func(State) SetSync { return SetSync{Rule: rule(4, "n1", "n2", "n3")} }, ErrUnsafeSync, "4 copies on 3 members"},
		{"a member twice", func(State) SetSync { return SetSync{Rule: rule(2, "n1", "n2", "n2")} }, ErrUnsafeSync, "listed twice"},
		{"without the primary", func(State) SetSync { return SetSync{Rule: rule(1, "n2", "n3", "n4")} }, ErrUnsafeSync, "the primary n1 is not among"},
		{"nobody, though durability is not async", func(State) SetSync { return SetSync{Rule: rule(0)} }, ErrUnsafeSync, "durability async"},
		{"a stranger", func(State) SetSync { return SetSync{Rule: rule(2, "n1", "n2", "n3", "n9")} }, ErrNotMember, "n9"},
		{"a witness", func(State) SetSync { return SetSync{Rule: rule(2, "n1", "n2", "n3", "w1")} }, ErrNotElectable, "w1 is a witness"},
		{"a node with nofailover", func(State) SetSync { return SetSync{Rule: rule(2, "n1", "n2", "n3", "n5")} }, ErrNotElectable, "n5 has nofailover"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := three(t)
			excluded := dataMember("n5")
			excluded.NoFailover = true
			s = must(t, s, SetMember{dataMember("n4")}, SetMember{excluded}, SetMember{Member{ID: "w1", Name: "w1", Role: RoleWitness}})
			change := c.change(s)
			next, err := try(s, change)
			if !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.text) {
				t.Fatalf("got %v, want %v with %q", err, c.want, c.text)
			}
			if err == nil && !next.Sync.Equal(change.Rule) {
				t.Fatalf("rule %v", next.Sync)
			}
		})
	}
}

func TestSetSyncBeforeThePrimary(t *testing.T) {
	s := must(t, State{}, initOf(DurabilityAsync, dataMember("n1")))
	if _, err := try(s, SetSync{Rule: rule(0)}); !errors.Is(err, ErrUnsafeSync) {
		t.Fatal(err)
	}
	s = must(t, s, Appoint{Node: "n1"})
	alone := SetSync{Rule: rule(1, "n1")}
	if _, err := try(s, alone); !errors.Is(err, ErrUnsafeSync) {
		t.Fatalf("from async to the primary alone without its promise: %v", err)
	}
	alone.Promise = &Promise{Node: "n1", Rev: s.Rev, Rule: alone.Rule}
	// Back to async is agreed first: an election must not count on copies that nobody makes any more.
	must(t, s, alone, SetSync{Rule: rule(0)})
}

func TestUnelectableMemberMayStayInD(t *testing.T) {
	tagged := dataMember("n2")
	tagged.NoFailover = true
	must(t, three(t), SetMember{tagged}, SetSync{Rule: rule(1, "n1", "n2", "n3")})
}
