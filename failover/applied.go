package failover

import (
	"time"

	"github.com/quorate/quorate/fsm"
)

// logLimit is after how many failover_after, of a second at least, a node that lacks something of Raft's log and gets none of it
// counts as one that won't get it. Raft gives a failed attempt up after half of failover_after, a second at most, and whoever was
// cut off has all of it within a second after; so there were several attempts, each on a connection of its own.
const logLimit = 4

// Applied remembers how far each node has got in the replicated state, as its reports show it. A node that small messages reach and
// large ones don't beats and answers like any other, and would never learn that it was appointed. The zero value has just begun to
// look. It has no lock.
type Applied struct{ nodes map[fsm.NodeID]applied }

// applied is how far a node was and since when it has been no further.
type applied struct {
	shown progress
	since time.Duration
}

// progress is what a report shows of the state.
type progress struct {
	epoch        fsm.Epoch
	rev, version uint64
}

func (r Report) progress() progress { return progress{r.Epoch, r.Rev, r.Version} }

// lacks says that s has something that the report does not show. A node of an earlier release shows no version, and so no lack of
// what changes neither epoch nor revision.
func (p progress) lacks(s fsm.State) bool {
	return p.rev < s.Rev || p.version > 0 && p.version < s.Version // Every epoch has a revision of its own.
}

// Look takes note of v at now, any clock that never goes back, and returns for how long each node that lacks something of v.State
// has got nothing of it, for View.Unapplied. A node that is not heard can show nothing, and begins anew when it is back.
func (a *Applied) Look(now time.Duration, v View) map[fsm.NodeID]time.Duration {
	last, silence := a.nodes, time.Duration(v.State.Config.Settings.FailoverAfterMS)*time.Millisecond
	a.nodes = make(map[fsm.NodeID]applied)
	lag := make(map[fsm.NodeID]time.Duration)
	for id := range v.State.Members {
		s, heard := v.Seen[id]
		if !heard || s.Age > silence || !s.Report.progress().lacks(v.State) {
			continue
		}
		n, known := last[id]
		if !known || n.shown != s.Report.progress() {
			n = applied{s.Report.progress(), now}
		}
		a.nodes[id] = n
		lag[id] = now - n.since
	}
	return lag
}

// NoLog says of a node that is heard why it counts as one that does not get Raft's log, empty if it gets it, as far as is known.
func NoLog(v View, id fsm.NodeID) string {
	f := study(v)
	if s, heard := f.Seen[id]; !heard || !f.fresh(s) || !f.logless(id) {
		return ""
	}
	return f.noLog(id)
}

func (f *facts) logLimit() time.Duration { return logLimit * max(f.failoverAfter, time.Second) }

// logless says that a node does not get Raft's log.
func (f *facts) logless(id fsm.NodeID) bool { return f.Unapplied[id] > f.logLimit() }

// studyAppointment finds whether the primary is to be replaced because it will not learn of its appointment: it beats, shows an
// earlier epoch, does not get the log, and somebody else could be appointed. One that has applied it is never meant, however long
// it takes to serve. Once sealed it can't serve this epoch any more, so that nothing is gained by waiting for who could.
//
// What protects against the one that applies it after all is what always does: the seals, the waits, the positions. It is the
// successor's lack that ends a chain of such appointments: whoever was passed over or replaced for it is none until it has applied
// what it lacked.
func (f *facts) studyAppointment() {
	p := f.State.Primary
	r := f.Seen[p].Report
	f.unread = f.primaryFresh && r.Epoch < f.State.Epoch && r.Serving == 0 && f.EpochAge > f.logLimit() && f.logless(p) &&
		(len(f.Seals) > 0 || f.replaceable())
	f.condemned = f.silent || f.unread
}

// replaceable says that somebody else could be appointed without the log of the present primary, as far as reports tell.
func (f *facts) replaceable() bool {
	if f.State.Adopting(f.State.Primary) {
		return false // Nobody else may be.
	}
	inD, fit := 0, false
	for id, m := range f.State.Members {
		s, heard := f.Seen[id]
		if id == f.State.Primary || m.Role != fsm.RoleData || !heard || !f.fresh(s) || !electableRun(s.Report.Run) {
			continue
		}
		in := member(f.State.Sync.Members, id)
		if in {
			inD++
		}
		if f.State.Electable(id) == nil && (in || len(f.State.Sync.Members) == 0) && s.Report.Sick == "" && !f.logless(id) {
			fit = true
		}
	}
	return fit && inD >= fsm.PositionsNeeded(f.State.Sync)
}
