package failover

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/fsm"
)

// Loss is what losing one node would mean now.
type Loss struct {
	Node     fsm.NodeID
	Survives bool   // writes go on, after a failover if Node is the primary
	Because  string // if not
}

// Survivable asks Decide, for each member in turn, what would follow if that node were lost this instant. It answers the
// question an operator has first: may I lose any one node?
func Survivable(v View) []Loss {
	f := study(v)
	var out []Loss
	for _, id := range f.memberIDs() {
		out = append(out, f.without(id))
	}
	return out
}

func (f *facts) without(x fsm.NodeID) Loss {
	if f.State.Epoch == 0 || notServing(f) || !f.primaryFresh {
		return Loss{Node: x, Because: "there is no serving primary now"}
	}
	if left := f.freshVoters(x); left < f.majority {
		return Loss{Node: x, Because: fmt.Sprintf("%d voters would be left, a majority is %d%s", left, f.majority, f.uncounted(x))}
	}
	if x == f.State.Primary {
		return f.withoutPrimary()
	}
	if m := f.State.Members[x]; m.Role != fsm.RoleData || len(f.State.Sync.Members) == 0 {
		return Loss{Node: x, Survives: true}
	}
	if !f.State.Config.Settings.Strict {
		return Loss{Node: x, Survives: true} // if need be with fewer copies, after failover_after
	}
	copies := 1
	for _, s := range f.Seen[f.State.Primary].Report.Streaming {
		if s.Node != x && member(f.State.Sync.Members, s.Node) {
			copies++
		}
	}
	if copies < f.State.Sync.Copies {
		return Loss{Node: x, Because: fmt.Sprintf("%d copies of a commit would be possible, %d are needed and strict is set", copies, f.State.Sync.Copies)}
	}
	return Loss{Node: x, Survives: true}
}

// freshVoters counts those that could agree on something: who does not get Raft's log makes no majority.
func (f *facts) freshVoters(without fsm.NodeID) int {
	n := 0
	for _, id := range f.State.Electorate.Voters {
		if s, ok := f.Seen[id]; ok && id != without && f.fresh(s) && !f.logless(id) {
			n++
		}
	}
	return n
}

// uncounted says of the voters that are heard which are none of the freshVoters, and why.
func (f *facts) uncounted(without fsm.NodeID) (out string) {
	for _, id := range f.State.Electorate.Voters {
		if s, ok := f.Seen[id]; ok && id != without && f.fresh(s) && f.logless(id) {
			out += "; " + f.name(id) + " " + f.noLog(id)
		}
	}
	return out
}

// withoutPrimary plays the failover through: every other node silent about the primary, sealed, with the position that it
// reports now.
func (f *facts) withoutPrimary() Loss {
	p := f.State.Primary
	long := 10*f.failoverAfter + time.Second
	w := f.View
	w.Leading, w.LeadingFor, w.Appointed, w.SealingFor = true, long, nil, 2*positionsBox
	w.Seen, w.Answers = map[fsm.NodeID]Sighting{}, map[fsm.NodeID]Answer{}
	w.Seals, w.Positions, w.Failed = map[fsm.NodeID]Sealed{}, map[fsm.NodeID]fsm.Position{}, nil
	for id, s := range f.Seen {
		if id == p {
			s.Age = long
			s.Report.Released = nil
		} else if f.fresh(s) {
			s.Report.Sightings = []Age{{Node: p, MS: long.Milliseconds()}}
			w.Seals[id] = Sealed{Epoch: f.State.Epoch, Age: long}
			if f.State.Members[id].Role == fsm.RoleData {
				w.Positions[id] = fsm.Position{Node: id, Detached: f.State.Epoch, Timeline: s.Report.Timeline, LSN: s.Report.Flush}
			}
			if w.Self == p || w.Self == "" {
				w.Self = id
			}
		}
		w.Seen[id] = s
	}
	after := study(w)
	after.supposed = true
	d := after.decide()
	if do, ok := d.Do.(Propose); ok {
		if a, ok := do.Command.(fsm.Appoint); ok && a.Node != p {
			if f.logless(a.Node) {
				return Loss{Node: p, Because: fmt.Sprintf("%s: %s would be appointed, and %s", d.Rule, f.name(a.Node), f.noLog(a.Node))}
			}
			return Loss{Node: p, Survives: true}
		}
	}
	if degraded(f) {
		return Loss{Node: p, Because: fmt.Sprintf("degraded: the last commits are on %s alone; %s", f.name(p), joined(d.Because))}
	}
	return Loss{Node: p, Because: fmt.Sprintf("%s: %s", d.Rule, joined(d.Because))}
}
