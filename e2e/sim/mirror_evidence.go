package sim

// Copied word for word from package node, where it is not exported; TestMirrorsAreFaithful compares.

import (
	"slices"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl"
)

// discardOf words the evidence for the cluster. Where a node was appointed with nothing promised, some of what it lacked
// may have been acknowledged.
func discardOf(s fsm.State, self fsm.NodeID, e pgctl.Evidence) fsm.Discard {
	lossy := slices.ContainsFunc(s.Lineage, func(l fsm.Lineage) bool { return l.Async && e.To > 0 && l.SwitchLSN == e.From })
	if e.To == 0 { // Of a directory that was set aside nobody knows where its log ends.
		lossy = mayBeAlone(s.Lineage, self, fsm.Epoch(e.Epoch))
	}
	return fsm.Discard{
		ID: e.ID, Node: self, Epoch: fsm.Epoch(e.Epoch), Timeline: e.Timeline, From: e.From, To: e.To, Commits: e.Commits, Way: e.Way,
		Path: e.Path, SHA256: e.SHA256, Lossy: lossy,
	}
}

// mayBeAlone says that a log which self had in epoch may go beyond a switch at which nothing was promised: it may hold what the new
// primary lacked, whoever was primary before. Whoever was appointed at that switch or after it had the cluster's history.
func mayBeAlone(history []fsm.Lineage, self fsm.NodeID, epoch fsm.Epoch) bool {
	alone := false
	for at, l := range history {
		if l.Epoch <= epoch {
			alone = l.Node != self && (alone || l.Async && at > 0)
		}
	}
	return alone
}
