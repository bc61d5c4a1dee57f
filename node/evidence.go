package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// discardOf words the evidence for the cluster. Where another node was appointed with nothing promised, some of what the
// old primary had alone may have been acknowledged.
func discardOf(s fsm.State, self fsm.NodeID, e pgctl.Evidence) fsm.Discard {
	lossy := slices.ContainsFunc(s.Lineage, func(l fsm.Lineage) bool { return l.Async && e.To > 0 && l.SwitchLSN == e.From })
	for at, l := range s.Lineage {
		// Of a directory that was set aside nobody knows where its log ends.
		lossy = lossy || e.To == 0 && l.Async && l.Epoch <= fsm.Epoch(e.Epoch) && at > 0 && s.Lineage[at-1].Node == self
	}
	return fsm.Discard{
		ID: e.ID, Node: self, Epoch: fsm.Epoch(e.Epoch), Timeline: e.Timeline, From: e.From, To: e.To, Commits: e.Commits, Way: e.Way,
		Path: e.Path, SHA256: e.SHA256, Lossy: lossy,
	}
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
