package fsm

import (
	"fmt"
	"slices"
	"strings"
)

// Has reports whether the node is in D.
func (r SyncRule) Has(id NodeID) bool { return slices.Contains(r.Members, id) }

// Equal reports whether both are the same rule, whatever the order of their members.
func (r SyncRule) Equal(other SyncRule) bool {
	return r.Copies == other.Copies && len(without(r.Members, other.Members)) == 0 && len(without(other.Members, r.Members)) == 0
}

// PositionsNeeded is how many members of D have to show the end of their log in an election, |D|-K+1: then every set of
// K members, and so every acknowledged commit, is among them. With D empty nothing was promised and none is needed.
func PositionsNeeded(r SyncRule) int {
	if len(r.Members) == 0 {
		return 0
	}
	return len(r.Members) - r.Copies + 1
}

// EnforcedBy is what Postgres on primary x waits for so that commits obey r: standbys of ids, k of them. A primary in D
// counts its own copy, so that is K-1 of D without x. With k = 0 it waits for nobody and ids is empty
// (synchronous_standby_names = ”).
func EnforcedBy(r SyncRule, x NodeID) (ids []NodeID, k int) {
	k = r.Copies
	if r.Has(x) {
		k--
	}
	if k <= 0 {
		return []NodeID{}, 0
	}
	ids, _ = sortedSet(without(r.Members, []NodeID{x}))
	return ids, k
}

// SafeEnforcement reports whether every commit that primary x acknowledges while its Postgres waits for p.Copies of
// p.Members has the copies that r counts on: k_p >= K - [x in D] + |D_p \ D| (lease.md rule 16). With D empty r counts
// on nothing.
func SafeEnforcement(p SyncRule, x NodeID, r SyncRule) bool {
	if len(r.Members) == 0 {
		return true
	}
	need := r.Copies + len(without(p.Members, r.Members))
	if r.Has(x) {
		need--
	}
	return p.Copies >= need
}

// Stricter reports whether to may replace from before Postgres hears of it: every set of positions that elects under
// to also elects under from, |D'|-K'+1 - |D'\D| >= |D|-K+1 (lease.md rule 17). Any other change needs Postgres first,
// and so does leaving async: nothing was promised there, so there is nothing to be stricter than.
func Stricter(from, to SyncRule) bool {
	if len(from.Members) == 0 || len(to.Members) == 0 {
		return from.Equal(to)
	}
	return PositionsNeeded(to)-len(without(to.Members, from.Members)) >= PositionsNeeded(from)
}

// TargetCopies is the K that a D of n members should have: max(2, n/2 rounded up), and 1 for a primary alone. Any two
// members then elect out of three, and a commit survives the loss of any one node.
func TargetCopies(n int) int {
	if n < 2 {
		return n
	}
	return max(2, (n+1)/2)
}

// Kind is "set-sync".
func (SetSync) Kind() string { return "set-sync" }

func (SetSync) nature() nature { return bound() }

func (c SetSync) apply(next *State) (string, error) {
	to, err := next.checkRule(c.Rule)
	if err != nil {
		return "", err
	}
	// An operator who chose async gave up what acknowledged commits are worth: that is agreed before Postgres hears of it
	// (lease.md rule 19), so that no election counts on copies that nobody makes any more.
	if !Stricter(next.Sync, to) && len(to.Members) > 0 {
		if err := next.checkPromise(c.Promise, to); err != nil {
			return "", err
		}
	}
	next.Sync = to
	return "commits are acknowledged by " + next.describe(to), nil
}

// checkRule returns the rule with its members sorted if it could be in force here at all.
func (s *State) checkRule(r SyncRule) (SyncRule, error) {
	members, distinct := sortedSet(r.Members)
	rule := SyncRule{Members: members, Copies: r.Copies}
	switch {
	case s.Epoch == 0:
		return rule, fmt.Errorf("%w: there is no primary yet", ErrUnsafeSync)
	case !distinct:
		return rule, fmt.Errorf("%w: a member is listed twice", ErrUnsafeSync)
	case len(members) == 0 && (r.Copies != 0 || s.Config.Settings.Durability != DurabilityAsync):
		return rule, fmt.Errorf("%w: %d copies on nobody; no member at all is for durability async with 0 copies", ErrUnsafeSync, r.Copies)
	case len(members) == 0:
		return rule, nil
	case r.Copies < 1 || r.Copies > len(members):
		return rule, fmt.Errorf("%w: %d copies on %d members, 1 to %d are possible", ErrUnsafeSync, r.Copies, len(members), len(members))
	case !rule.Has(s.Primary):
		return rule, fmt.Errorf("%w: the primary %s is not among the members", ErrUnsafeSync, s.Name(s.Primary))
	}
	// What is in D already may stay although it became unelectable: that only makes elections stricter, and a rule that
	// could not be changed because of it would be worse.
	for _, id := range without(members, slices.Concat(s.Sync.Members, []NodeID{s.Primary})) {
		if err := s.Electable(id); err != nil {
			return rule, err
		}
	}
	return rule, nil
}

// checkPromise demands that the present primary enforces rule already and is bound to it under exactly this Rev: any
// other promise is about another past, and the rule may have been loosened since (lease.md rule 18).
func (s *State) checkPromise(p *Promise, rule SyncRule) error {
	switch {
	case p == nil:
		return fmt.Errorf("%w: fewer positions would elect under %s than under %s, so the promise of %s is needed first", ErrUnsafeSync,
			s.describe(rule), s.describe(s.Sync), s.Name(s.Primary))
	case p.Node != s.Primary:
		return fmt.Errorf("%w: the promise is by %s, the primary is %s", ErrUnsafeSync, s.Name(p.Node), s.Name(s.Primary))
	case p.Rev != s.Rev:
		return fmt.Errorf("%w: the promise was made under revision %d, now it is %d", ErrUnsafeSync, p.Rev, s.Rev)
	case !p.Rule.Equal(rule):
		return fmt.Errorf("%w: the promise is for %s, not for %s", ErrUnsafeSync, s.describe(p.Rule), s.describe(rule))
	}
	return nil
}

// describe renders a rule for people: "2 of (n1, n2, n3)".
func (s *State) describe(r SyncRule) string {
	if len(r.Members) == 0 {
		return "the primary alone (async)"
	}
	return fmt.Sprintf("%d of (%s)", r.Copies, strings.Join(s.Names(r.Members), ", "))
}
