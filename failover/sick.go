package failover

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/fsm"
)

// A primary that is alive and holds its lease, but whose Postgres can't work: nobody can connect, or its disk hangs, is full
// or is read-only. Only its own prober can know; nobody else's silence shows it.

// sickness is what the primary's own fresh report says is wrong in the present epoch, empty for nothing.
func (f *facts) sickness() string {
	s := f.Seen[f.State.Primary]
	if !f.primaryFresh || s.Report.Epoch != f.State.Epoch {
		return ""
	}
	return s.Report.Sick
}

// successors lists the electable standbys that could take over from a sick primary, and why that is not enough, empty if
// it is. The sick node's own log is not counted on: its disk may be what is sick. So as many members of D as an election
// needs have to stream from it now, without it; where D is empty one electable standby does.
func (f *facts) successors() (fit []fsm.NodeID, lack string) {
	inD := 0
	for _, id := range f.memberIDs() {
		m := f.State.Members[id]
		if id == f.State.Primary || m.Role != fsm.RoleData || !f.follows(id) {
			continue
		}
		in := member(f.State.Sync.Members, id)
		if in {
			inD++
		}
		if f.State.Electable(id) == nil && !f.logless(id) && (in || len(f.State.Sync.Members) == 0) {
			fit = append(fit, id)
		}
	}
	need := fsm.PositionsNeeded(f.State.Sync)
	switch {
	case len(fit) == 0:
		return nil, "no electable standby streams from it"
	case inD < need:
		return fit, fmt.Sprintf("%d of those that hold every acknowledged commit stream from it, an election without it needs %d", inD, need)
	}
	return fit, ""
}

// follows says that a node is heard, well, and streams from the primary by its own account. The primary's account of its
// walsenders is no help: a hung server gives none.
func (f *facts) follows(id fsm.NodeID) bool {
	s, heard := f.Seen[id]
	r := s.Report
	return heard && f.fresh(s) && r.Healthy && r.Sick == "" && r.Run == RunRunning && r.Upstream == f.State.Primary
}

// primarySick: the rows above have dealt with a release, with silence and with seals. A back-off holds it too, because
// after the kill the failover itself would wait, with nobody serving.
func primarySick(f *facts) bool {
	if f.sickness() == "" || backoffLeft(f.Appointed) > 0 {
		return false
	}
	_, lack := f.successors()
	return lack == ""
}

func thenStopSick(f *facts) Decision {
	fit, _ := f.successors()
	return Decision{Verdict: Acting, Do: Stop{Epoch: f.State.Epoch, Node: f.State.Primary}, Because: []string{
		fmt.Sprintf("%s says of its Postgres: %s", f.name(f.State.Primary), f.sickness()),
		fmt.Sprintf("%s can take over", f.names(fit)),
	}}
}

// sickAlone: killing it would only take away what still works.
func sickAlone(f *facts) bool { return f.sickness() != "" }

func thenSickAlone(f *facts) Decision {
	d := Decision{Verdict: AtRisk, Do: Nothing{}, Because: []string{fmt.Sprintf("%s says of its Postgres: %s", f.name(f.State.Primary), f.sickness())}}
	if notServing(f) {
		d.Verdict = Stuck
	}
	if left := backoffLeft(f.Appointed); left > 0 {
		d.Again = left
		d.Because = append(d.Because, fmt.Sprintf("%d failovers within the last minute; the next one in %s", len(f.Appointed), left.Round(time.Millisecond)))
	}
	if _, lack := f.successors(); lack != "" {
		d.Because = append(d.Because, lack)
	}
	return d
}
