package cluster

import (
	"context"
	"fmt"

	"github.com/quorate/quorate/cluster/lead"
	"github.com/quorate/quorate/fsm"
)

const callStop = "stop"

// stop hands the leader's order to a sick primary to the node. It kills only what serves that very epoch: an order that
// comes late finds another.
func (c *Cluster) stop(e fsm.Epoch) error {
	s := c.State()
	if s.Epoch != e || s.Primary != c.Self() || s.Paused {
		return fmt.Errorf("stop serving epoch %d: %w: this node is at epoch %d with %s as primary", e, lead.ErrRefused, s.Epoch, s.Name(s.Primary))
	}
	if err := c.deps.StopSick(e); err != nil {
		return fmt.Errorf("%w: %w", lead.ErrRefused, err)
	}
	return nil
}

// Stop tells the primary of epoch e to kill its Postgres and release.
func (v remoteVoters) Stop(ctx context.Context, to fsm.NodeID, e fsm.Epoch) error {
	if to == v.Self() {
		return v.stop(e)
	}
	return v.callNode(ctx, to, callStop, e, nil)
}
