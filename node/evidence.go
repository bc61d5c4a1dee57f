package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl"
)

// evidenceEvery is how often this node looks whether it kept something that the cluster does not know of.
const evidenceEvery = time.Second

// recordEvidence tells the cluster what this node discarded, until it is recorded. It has a loop of its own, because it
// waits for a leader and the agent must not.
func (n *Node) recordEvidence(ctx context.Context) {
	tick := time.NewTicker(evidenceEvery)
	defer tick.Stop()
	failing := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		have, _, _ := n.last.get()
		for _, e := range have.Evidence {
			err := n.recordOne(ctx, e)
			if err == nil {
				n.log.Info("the cluster knows what was discarded", "id", e.ID, "path", e.Path)
			} else if err.Error() != failing && ctx.Err() == nil {
				failing = err.Error()
				n.log.Warn("what was discarded is not recorded yet and is tried again", "id", e.ID, "path", e.Path, "error", err)
			}
		}
	}
}

func (n *Node) recordOne(ctx context.Context, e pgctl.Evidence) error {
	err := n.cluster.Submit(ctx, fsm.RecordDiscard{Discard: discardOf(n.cluster.State(), n.cluster.Self(), e)}, 0, "evidence")
	if err != nil && !errors.Is(err, fsm.ErrExists) && !errors.Is(err, fsm.ErrDuplicate) {
		return err
	}
	if err := n.postgres.EvidenceRecorded(e.ID); err != nil {
		return err
	}
	n.poke()
	return nil
}

// discardOf words the evidence for the cluster. Where a node was appointed with nothing promised, some of what it lacked
// may have been acknowledged.
func discardOf(s fsm.State, self fsm.NodeID, e pgctl.Evidence) fsm.Discard {
	lossy := mayBeLost(s, e)
	if e.To == 0 { // Of a directory that was set aside nobody knows where its log ends.
		lossy = mayBeAlone(s.Lineage, self, fsm.Epoch(e.Epoch))
	}
	return fsm.Discard{
		ID: e.ID, Node: self, Epoch: fsm.Epoch(e.Epoch), Timeline: e.Timeline, From: e.From, To: e.To, Commits: e.Commits, Way: e.Way,
		Path: e.Path, SHA256: e.SHA256, Lossy: lossy,
	}
}

// mayBeLost says that log which was discarded may hold what was given up at an appointment with nothing promised. All that had been
// acknowledged before is in the history of who was primary then, so that this is what is given up, from wherever the new one's
// history left it: at its own switch, or long before, if it was an old primary with a tail. A log on a timeline that the cluster does
// not know may be anybody's.
func mayBeLost(s fsm.State, e pgctl.Evidence) bool {
	for at, l := range s.Lineage {
		if !l.Async || e.To == 0 {
			continue
		}
		if l.SwitchLSN == e.From {
			return true
		}
		if at == 0 {
			continue
		}
		has, known := s.Shared(e.Timeline, e.To, s.Lineage[at-1].Timeline)
		if !known || has > e.From {
			return true
		}
	}
	return false
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

// rewinding says in the report what a rewind does or why it does not get on.
func rewinding(r *failover.Report, w *pgctl.RewindState) {
	switch {
	case w == nil || w.Over != "":
	case w.Note != "":
		r.Problem = fmt.Sprintf("rewinding to %s failed and is tried again: %s", w.Source.Name, w.Note)
	case w.Running:
		r.Progress = "rewinding to " + w.Source.Name
	}
}
