package fsm

import (
	"slices"
	"time"
)

// syncMemberTimeout is how long a member of D may be away before elections and commits stop counting on it.
const syncMemberTimeout = 30 * time.Second

// SyncFacts are what one looker knows of the nodes that keep copies. Ages count from when it began to look, so a looker
// that has just begun leaves everybody as they are.
type SyncFacts struct {
	Primary  NodeID
	Settings Settings
	CaughtUp []NodeID                 // electable standbys that stream past the primary's flush position
	Lost     map[NodeID]time.Duration // for how long a standby has not kept up; absent: it does
	Unfit    []NodeID                 // those whose log is being rebuilt, and those that may not be elected any more
	Leaving  []NodeID                 // of D: those that an operator takes out; they are unfit as well
}

// present reports whether the node makes copies, as far as a commit can wait for it.
func (f SyncFacts) present(id NodeID) bool {
	return id == f.Primary || f.Lost[id] < time.Duration(f.Settings.FailoverAfterMS)*time.Millisecond
}

// SyncKind names a way in which the sync rule changes.
type SyncKind string

// The kinds of steps. The first three are committed first and applied to Postgres after; the others are enforced by
// Postgres first and need the primary's promise.
const (
	SyncDegrade SyncKind = "degrade" // K down to those who are there: commits go on, elections need more positions
	SyncFit     SyncKind = "fit"     // K down to what a D of this size shall have
	SyncGrow    SyncKind = "grow"    // a node enters D
	SyncRaise   SyncKind = "raise"   // one more copy of each commit
	SyncLeave   SyncKind = "leave"   // a node leaves D
	SyncReturn  SyncKind = "return"  // from async to a D of the primary alone
	SyncAsync   SyncKind = "async"   // to async, which is committed first although it makes elections looser
)

// SyncStep is one change of the sync rule.
type SyncStep struct {
	Kind SyncKind
	To   SyncRule
}

// NeedsPromise reports whether Postgres goes first.
func (s SyncStep) NeedsPromise() bool {
	return s.Kind == SyncRaise || s.Kind == SyncLeave || s.Kind == SyncReturn
}

// NextSync is the next single step from r towards what the settings ask for and the facts allow; not ok means that r is
// as good as it can be now. The order of the steps matters: first what lets commits go on, then what makes them safer,
// last whom elections count on.
func NextSync(r SyncRule, f SyncFacts) (SyncStep, bool) {
	members, _ := sortedSet(r.Members)
	r = SyncRule{Members: members, Copies: r.Copies}
	switch {
	case f.Settings.Durability == DurabilityAsync:
		return SyncStep{Kind: SyncAsync, To: SyncRule{Members: []NodeID{}}}, len(members) > 0
	case len(members) == 0:
		return SyncStep{Kind: SyncReturn, To: SyncRule{Members: []NodeID{f.Primary}, Copies: 1}}, f.Primary != ""
	case !r.Has(f.Primary):
		return SyncStep{}, false // no rule that the machine accepts looks like this
	}
	for _, next := range []func(SyncRule, SyncFacts) (SyncStep, bool){degradeSync, fitSync, raiseSync, leaveSync, growSync} {
		if step, ok := next(r, f); ok {
			return step, true
		}
	}
	return SyncStep{}, false
}

// degradeSync gives up copies that nobody has made for failover_after, never acknowledged ones (DETAILS 20).
func degradeSync(r SyncRule, f SyncFacts) (SyncStep, bool) {
	there := 0
	for _, id := range r.Members {
		if f.present(id) {
			there++
		}
	}
	return SyncStep{Kind: SyncDegrade, To: SyncRule{Members: r.Members, Copies: there}}, there < r.Copies && !f.Settings.Strict
}

// fitSync undoes a K that was right for a larger D, and asks for as many copies as there can be without those that an operator
// takes out: else the second of two could never be removed.
func fitSync(r SyncRule, f SyncFacts) (SyncStep, bool) {
	k := TargetCopies(len(without(r.Members, f.Leaving)))
	return SyncStep{Kind: SyncFit, To: SyncRule{Members: r.Members, Copies: k}}, k < r.Copies
}

// raiseSync waits until K+1 members have nearly everything, since otherwise the step itself would stop all writes.
func raiseSync(r SyncRule, f SyncFacts) (SyncStep, bool) {
	there := 0
	for _, id := range r.Members {
		if id == f.Primary || slices.Contains(f.CaughtUp, id) && f.present(id) {
			there++
		}
	}
	to := SyncRule{Members: r.Members, Copies: r.Copies + 1}
	return SyncStep{Kind: SyncRaise, To: to}, r.Copies < TargetCopies(len(without(r.Members, f.Leaving))) && there > r.Copies
}

// leaveSync takes out a member whose log is being rebuilt, or that was away for long, if the others can make K copies
// without it. Then an election no longer needs its position. The primary never leaves.
func leaveSync(r SyncRule, f SyncFacts) (SyncStep, bool) {
	for _, id := range r.Members {
		if id == f.Primary || !slices.Contains(f.Unfit, id) && f.Lost[id] < syncMemberTimeout {
			continue
		}
		rest, there := without(r.Members, []NodeID{id}), 0
		for _, other := range rest {
			if f.present(other) {
				there++
			}
		}
		if there >= r.Copies {
			return SyncStep{Kind: SyncLeave, To: SyncRule{Members: rest, Copies: r.Copies}}, true
		}
	}
	return SyncStep{}, false
}

func growSync(r SyncRule, f SyncFacts) (SyncStep, bool) {
	for _, id := range slices.Sorted(slices.Values(without(f.CaughtUp, r.Members))) {
		if f.present(id) && !slices.Contains(f.Unfit, id) {
			members, _ := sortedSet(append(slices.Clone(r.Members), id))
			return SyncStep{Kind: SyncGrow, To: SyncRule{Members: members, Copies: r.Copies}}, true
		}
	}
	return SyncStep{}, false
}

// Binds reports whether p still holds for a node that has applied rev: its Postgres enforces p.Rule and nothing else
// until it has applied a later one, after a restart too (lease.md rule 18d). A nil promise binds to nothing.
func (p *Promise) Binds(rev uint64) bool { return p != nil && rev <= p.Rev }

// Enforce is the rule that Postgres on x shall obey by EnforcedBy while x has applied s, and the rule that x is to promise
// once that is in force and its barrier passed. A promise that binds freezes what it promised. Otherwise s.Sync holds,
// unless step is one that Postgres must obey before it is agreed; what is enforced then is safe for both (rule 18a). A
// standby is told what it would enforce as primary, so that a promotion changes nothing.
func Enforce(s State, x NodeID, promise *Promise, step SyncStep) (SyncRule, *SyncRule) {
	switch {
	case promise.Binds(s.Rev):
		return promise.Rule, nil
	case s.Primary != x:
		return s.Sync, nil
	case !step.NeedsPromise():
		if keepsOrder || step.To.Copies == 0 { // nothing is to be done, or async is to come
			return s.Sync, nil
		}
		return step.To, nil
	}
	ids, k := EnforcedBy(step.To, x)
	p := SyncRule{Members: ids, Copies: k}
	if !SafeEnforcement(p, x, s.Sync) || !SafeEnforcement(p, x, step.To) {
		return s.Sync, nil
	}
	return step.To, &step.To
}
