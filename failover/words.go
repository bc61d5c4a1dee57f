package failover

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
)

// How facts are said to people.

func (f *facts) propose(c fsm.Command, because ...string) Decision {
	return Decision{Verdict: Acting, Do: Propose{Command: c, IfRev: f.State.Rev}, Because: because}
}

func (f *facts) name(id fsm.NodeID) string {
	if m, ok := f.State.Members[id]; ok && m.Name != "" {
		return m.Name
	}
	if id == "" {
		return "nobody"
	}
	return string(id)
}

func (f *facts) names(ids []fsm.NodeID) string {
	if len(ids) == 0 {
		return "nobody"
	}
	out := make([]string, len(ids))
	for i, id := range ids {
		out[i] = f.name(id)
	}
	sort.Strings(out)
	return strings.Join(out, ", ")
}

func (f *facts) rule(r fsm.SyncRule) string {
	if len(r.Members) == 0 {
		return "async"
	}
	if len(r.Members) == 1 {
		return f.names(r.Members) + " alone"
	}
	if r.Copies == 1 {
		return "1 copy among " + f.names(r.Members)
	}
	return fmt.Sprintf("%d copies among %s", r.Copies, f.names(r.Members))
}

// whyGone says why the primary is as good as lost.
func (f *facts) whyGone() []string {
	if f.unread && !f.silent {
		p := f.State.Primary
		return []string{
			fmt.Sprintf("%s was appointed for epoch %d %s ago and shows epoch %d", f.name(p), f.State.Epoch, f.EpochAge.Round(time.Millisecond), f.Seen[p].Report.Epoch),
			f.name(p) + " " + f.noLog(p),
		}
	}
	var out []string
	for _, id := range f.deafVoters {
		age, _ := f.ageAt(id)
		out = append(out, fmt.Sprintf("%s heard %s %s ago (limit %s)", f.name(id), f.name(f.State.Primary), age.Round(time.Millisecond), f.failoverAfter))
	}
	return out
}

// noLog says of a node that lacks something of Raft's log for how long it has got none of it.
func (f *facts) noLog(id fsm.NodeID) string {
	return fmt.Sprintf("has shown nothing newer of Raft's log for %s (limit %s): it does not arrive, or its agent hangs or can't act on it (%s)",
		f.Unapplied[id].Round(time.Millisecond), f.logLimit(), notActedOn)
}

// notActedOn is why an agent shows an earlier state than the one that Raft brought it: it could not store it, or its guard does not
// take the deadline back (lease.md rule 10: a resume is shown only when the lease holds again). It is short: with the
// longest name and all that is said before it, it has to fit into the reason of an EndWish.
const notActedOn = "disk full, guard deaf"

// mendTheWay is the remedy for a primary that does not learn that it is.
const mendTheWay = "look for what keeps large messages from arriving there (MTU, a filter), whether its agent hangs, and whether its disk is full"

// passedOver says of whom another one was not considered because they don't get Raft's log.
func (f *facts) passedOver(chosen fsm.NodeID) (out []string) {
	for _, id := range f.memberIDs() {
		if id != chosen && f.logless(id) && f.qualify(id) != nil {
			out = append(out, f.name(id)+" is passed over: it "+f.noLog(id))
		}
	}
	return out
}

// collected lists the seals and positions at hand, in the order of names.
func (f *facts) collected() []string {
	var out []string
	for _, id := range f.memberIDs() {
		if s, ok := f.Seals[id]; ok {
			out = append(out, fmt.Sprintf("%s sealed epoch %d with %s left, %s ago", f.name(id), s.Epoch, s.Left.Round(time.Millisecond), s.Age.Round(time.Millisecond)))
		}
		if p, ok := f.positions[id]; ok {
			out = append(out, fmt.Sprintf("%s has WAL to %d/%s", f.name(id), p.Timeline, p.LSN))
		}
		if why, ok := f.Failed[id]; ok {
			out = append(out, fmt.Sprintf("%s gave no position: %s", f.name(id), why))
		}
	}
	return out
}

func (f *facts) whyMissing(id fsm.NodeID) string {
	s, heard := f.Seen[id]
	switch {
	case !heard:
		return ", never heard since this leader started"
	case !f.fresh(s):
		return fmt.Sprintf(", last heard %s ago", s.Age.Round(time.Millisecond))
	case f.Failed[id] != "":
		return ", " + f.Failed[id]
	}
	return fmt.Sprintf(", alive (%s)", s.Report.Run)
}

func (f *facts) memberIDs() []fsm.NodeID {
	ids := make([]fsm.NodeID, 0, len(f.State.Members))
	for id := range f.State.Members {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return f.name(ids[i]) < f.name(ids[j]) })
	return ids
}

func sortIDs(ids []fsm.NodeID) { sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] }) }

func joined(because []string) string { return strings.Join(because, "; ") }
