package failover

import (
	"fmt"

	"github.com/quorate/quorate/fsm"
)

// A primary that is lost together with commits that nobody else is known to have: only a person can say that it goes on
// without them. He names the node and, by a token, everything that is known of the logs at that moment; the state machine
// compares both with what is appointed.

// accepted is the pending wish that accepts a loss, nil for none.
func (f *facts) accepted() *fsm.Wish {
	if w := f.State.Wish; w != nil && w.Kind == fsm.WishFailover && w.Loss != "" {
		return w
	}
	return nil
}

// stopped says that nobody can be writing in the present epoch any more.
func (f *facts) stopped() bool { return f.released != nil || f.condemned && f.sealsDone }

// allLogs are the positions at hand, by node, also those on a timeline that the cluster does not know: such a log may be of a primary
// that opened another timeline than was predicted, and have everything. Whoever gives it up has to be shown it.
func (f *facts) allLogs() []fsm.Position {
	var out []fsm.Position
	for _, id := range f.sortedPositions() {
		out = append(out, f.positions[id])
	}
	return out
}

// lossFault is what speaks against the appointment of a node that may lack acknowledged commits, besides the loss.
func (f *facts) lossFault(to fsm.NodeID) string {
	s, heard := f.Seen[to]
	p, known := f.positions[to]
	_, ours := f.State.RankOf(p.Timeline)
	switch {
	case f.State.Adopting(f.State.Primary):
		return "only " + f.name(f.State.Primary) + " has the data that the cluster begins with, until it has opened them"
	case to == f.State.Primary:
		return f.name(to) + " is the primary that was appointed"
	case f.State.Electable(to) != nil:
		return f.name(to) + " is not electable"
	case !heard || !f.fresh(s):
		return f.name(to) + " is not heard" + f.whyMissing(to)
	case !electableRun(s.Report.Run):
		return fmt.Sprintf("the Postgres of %s is %s", f.name(to), s.Report.Run)
	case f.logless(to):
		return f.name(to) + " would not learn of its appointment: it " + f.noLog(to)
	case !known:
		return "the end of the log of " + f.name(to) + " is not known"
	case !ours:
		return fmt.Sprintf("the log of %s is on timeline %d, which is not of this cluster", f.name(to), p.Timeline)
	}
	return ""
}

// token is what an operator accepts who wants to, made of what is known now.
func (f *facts) token(to fsm.NodeID) string {
	return fsm.LossToken(f.State.ClusterID, f.State.Epoch, to, f.allLogs())
}

// AcceptLoss returns the token by which an operator can have the node appointed in the view of a leader that is stuck, or what
// speaks against that.
func AcceptLoss(v View, to fsm.NodeID) (token, against string) {
	f := study(v)
	switch d := f.decide(); {
	case f.losesNothing(d):
		return "", "nothing has to be lost now: " + joined(d.Because)
	case d.Rule != ruleStuck || d.Verdict != Stuck:
		return "", "it is not known yet what would be lost: " + joined(d.Because)
	}
	if fault := f.lossFault(to); fault != "" {
		return "", fault
	}
	return f.token(to), ""
}

// losesNothing says that d keeps all that was acknowledged: somebody who has it is appointed, or the primary is in place.
func (f *facts) losesNothing(d Decision) bool {
	switch d.Rule {
	case ruleBest, ruleRestartSoon, ruleRestart:
		return true
	}
	return f.primaryFresh && !replacing(f)
}

func lossAccepted(f *facts) bool {
	w := f.accepted()
	return w != nil && f.stopped() && f.lossFault(w.To) == "" && w.Loss == f.token(w.To)
}

// thenAppointAccepted gives the state machine all positions, not only those that count for the node: it has to find in them
// what was accepted.
func thenAppointAccepted(f *facts) Decision {
	w := f.accepted()
	at := f.positions[w.To]
	return f.propose(fsm.Appoint{
		IfEpoch: f.State.Epoch, Node: w.To, Evidence: f.evidence(f.allLogs()), Timeline: f.predictedTimeline(), SwitchLSN: at.LSN,
	}, append(f.collected(), fmt.Sprintf("an operator accepts what %s lacks; it has WAL to %s", f.name(w.To), at.LSN))...)
}

// lossVoid: what was accepted is not what is known now, or the primary is back. Nothing is given up that nobody has seen.
func lossVoid(f *facts) bool {
	w := f.accepted()
	return w != nil && (f.stopped() || !replacing(f)) && !lossAccepted(f)
}

func thenEndAccepted(f *facts) Decision {
	w := f.accepted()
	why := f.lossFault(w.To)
	switch {
	case !f.stopped() && f.primaryFresh:
		why = f.name(f.State.Primary) + " is heard again: nothing has to be lost"
	case !f.stopped():
		why = f.name(f.State.Primary) + " is not known to be gone; ask again"
	case why == "":
		why = "what is known of the logs has changed since the loss was accepted; ask again to see it"
	}
	return f.propose(fsm.EndWish{ID: w.ID, Because: why}, why)
}

// offers lists the nodes that somebody who accepts the loss could have appointed.
func (f *facts) offers() []fsm.NodeID {
	var out []fsm.NodeID
	for _, id := range f.memberIDs() {
		if f.State.Members[id].Role == fsm.RoleData && f.stopped() && f.lossFault(id) == "" {
			out = append(out, id)
		}
	}
	return out
}
