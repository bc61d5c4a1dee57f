package node

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// copies is what self, as primary to be, knows of the other members' logs: what they said of themselves within fresh, and
// the log of the primary before it. What another node has of that one's timeline, the primary itself had flushed before it
// sent it (docs/decisions/0006); its disk counts although it is down, because it is a member of D and elections count on
// it. Only the direct predecessor: whoever was primary earlier may have been rebuilt since.
//
// For a survivor that shall serve reads fresh is without limit: what K members of D had on disk is as safe as what was
// acknowledged, and no later change of D or of the primary loses it (docs/decisions/0008).
func copies(s fsm.State, self fsm.NodeID, seen map[fsm.NodeID]failover.Sighting, fresh time.Duration) []pgctl.Copy {
	var out []pgctl.Copy
	for id, sight := range seen {
		m, member := s.Members[id]
		r := sight.Report
		if id == self || !member || sight.Age > fresh || r.Run != failover.RunRunning && r.Run != failover.RunStopped || r.Flush == 0 {
			continue
		}
		out = append(out, pgctl.Copy{Name: m.Name, Timeline: r.Timeline, LSN: r.Flush})
	}
	if p, ok := predecessor(s, self); ok {
		out = append(out, pgctl.Copy{Name: s.Members[p.Node].Name, Timeline: p.Timeline, LSN: math.MaxUint64})
	}
	slices.SortFunc(out, func(a, b pgctl.Copy) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// predecessor is the last assignment of another node, if that is still a member.
func predecessor(s fsm.State, self fsm.NodeID) (fsm.Lineage, bool) {
	for _, l := range slices.Backward(s.Lineage) {
		if l.Node != self {
			_, member := s.Members[l.Node]
			return l, member
		}
	}
	return fsm.Lineage{}, false
}

// reading is what people should know of an old primary that nobody replaced.
func reading(have pgctl.Status) string {
	if have.Gated {
		return "it has lost its lease and runs read-only; clients are kept out: others are not known to hold all that they could read here"
	}
	return "it has lost its lease and serves reads only"
}

// notice is what people should know of a Postgres that runs.
func notice(have pgctl.Status) string {
	switch {
	case have.Run == pg.RunPrimary && have.Gated:
		return "clients are kept out until enough other members hold what they could read here"
	default:
		return have.Corrected
	}
}
