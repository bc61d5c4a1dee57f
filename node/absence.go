package node

import (
	"maps"
	"slices"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl"
)

const (
	// slotsKept is how long a member may be away before no log is kept for it any more (DETAILS 28). It gets its slot back when it
	// is, and a new copy if the log that it needs is gone.
	slotsKept = 30 * time.Minute
	// presentWithin is how old a beat may be by which a member counts as there: a bad minute of the network is no absence.
	presentWithin = 10 * time.Second
)

// absences remembers since when each other data node has been away, as seen from this process: neither heard nor streaming. The
// zero value has seen nobody. While the cluster is paused nobody counts as away, since that is how nodes are taken down for
// maintenance, and the time begins anew after it. So it does after a time in which this process did not look: with the machine suspended
// it heard nobody, and the others may have been suspended, too.
type absences struct {
	since  map[fsm.NodeID]time.Duration
	looked time.Duration
}

// look takes a look at now and returns who has been away for slotsKept.
func (a *absences) look(s fsm.State, self fsm.NodeID, seen map[fsm.NodeID]failover.Sighting, senders []pgctl.Sender,
	now time.Duration) map[fsm.NodeID]bool {
	away, since := map[fsm.NodeID]bool{}, map[fsm.NodeID]time.Duration{}
	asleep := now-a.looked > presentWithin
	for id, m := range s.Members {
		if id == self || m.Role != fsm.RoleData {
			continue
		}
		before, known := a.since[id]
		sighting, heard := seen[id]
		streams := slices.ContainsFunc(senders, func(p pgctl.Sender) bool { return p.Slot == slot(m) })
		if !known || asleep || s.Paused || streams || heard && sighting.Age <= presentWithin {
			before = now
		}
		since[id] = before
		if now-before >= slotsKept {
			away[id] = true
		}
	}
	a.since, a.looked = since, now
	return away
}

// noteAway says once whose slot is given up, and whose is made again.
func (a *agent) noteAway(state fsm.State, away map[fsm.NodeID]bool) {
	if maps.Equal(a.away, away) {
		return
	}
	for id := range away {
		if !a.away[id] {
			a.log.Warn("no log is kept any more for a member that is away", "node", state.Name(id), "away_for", slotsKept.String())
		}
	}
	for id := range a.away {
		if _, member := state.Members[id]; !away[id] && member {
			a.log.Info("log is kept again for a member that was away", "node", state.Name(id))
		}
	}
	a.away = away
}
