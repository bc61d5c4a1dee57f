package fsm

import (
	"fmt"
	"slices"
)

// MaxVoters bounds the electorate: every beat goes to every voter, and more voters tolerate no more losses that matter.
const MaxVoters = 7

// Has reports whether the node is a voter.
func (e Electorate) Has(id NodeID) bool { return slices.Contains(e.Voters, id) }

// Majority is how many voters it takes to vouch or to seal. It is never 0.
func (e Electorate) Majority() int { return len(e.Voters)/2 + 1 }

func (e Electorate) check() error {
	if len(e.Voters) == 0 {
		return fmt.Errorf("%w: there would be no voter", ErrElectorate)
	}
	if len(e.Voters) > MaxVoters {
		return fmt.Errorf("%w: %d voters, at most %d are allowed; set no_vote on the others", ErrElectorate, len(e.Voters), MaxVoters)
	}
	return nil
}

// Kind is "set-electorate".
func (SetElectorate) Kind() string { return "set-electorate" }

func (SetElectorate) nature() nature { return bound() }

// apply moves the electorate by one voter. A swap is two changes: the majorities of {1,2,3} and {2,3,4} need not meet
// (lease.md rule 3, V3).
func (c SetElectorate) apply(next *State) (string, error) {
	voters, distinct := sortedSet(c.Voters)
	if !distinct {
		return "", fmt.Errorf("%w: a voter is listed twice", ErrElectorate)
	}
	for _, id := range voters {
		if _, ok := next.Members[id]; !ok {
			return "", fmt.Errorf("%w: voter %s", ErrNotMember, id)
		}
	}
	added, removed := without(voters, next.Electorate.Voters), without(next.Electorate.Voters, voters)
	if len(added)+len(removed) != 1 {
		return "", fmt.Errorf("%w: adds %v and removes %v; each change adds one voter or removes one",
			ErrElectorate, next.Names(added), next.Names(removed))
	}
	for _, id := range added {
		if m := next.Members[id]; m.NoVote || m.Leaving {
			return "", fmt.Errorf("%w: %s has no_vote set or is being removed", ErrElectorate, m.Name)
		}
	}
	next.Electorate = Electorate{Voters: voters, Version: next.Electorate.Version + 1}
	if err := next.Electorate.check(); err != nil {
		return "", err
	}
	if len(added) == 1 {
		return fmt.Sprintf("%s votes now, %d voters", next.Name(added[0]), len(voters)), nil
	}
	return fmt.Sprintf("%s no longer votes, %d voters", next.Name(removed[0]), len(voters)), nil
}

// without returns the elements of set that are not in other, in their order.
func without(set, other []NodeID) []NodeID {
	var rest []NodeID
	for _, id := range set {
		if !slices.Contains(other, id) {
			rest = append(rest, id)
		}
	}
	return rest
}
