package cluster

import (
	"context"
	"fmt"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// Servers is Raft's newest configuration, committed or not; nil while it is not known.
func (c *Cluster) Servers() map[fsm.NodeID]failover.Standing {
	r := c.raft.Load()
	if r == nil {
		return nil
	}
	conf := r.GetConfiguration()
	if conf.Error() != nil {
		return nil
	}
	out := map[fsm.NodeID]failover.Standing{}
	for _, s := range conf.Configuration().Servers {
		standing := failover.NonVoter
		if s.Suffrage == raft.Voter {
			standing = failover.Voter
		}
		out[fsm.NodeID(s.ID)] = standing
	}
	return out
}

// Reconfigure changes one server of Raft's configuration. Only the leader can, and its loop makes one change at a time.
func (c *Cluster) Reconfigure(ctx context.Context, change failover.Reconfigure) error {
	r := c.raft.Load()
	if r == nil {
		return errNotRunning
	}
	id, addr, present := raft.ServerID(change.Node), raftAddress(change.Node), c.Servers()[change.Node]
	var f raft.IndexFuture
	switch {
	case change.To == failover.Voter:
		f = r.AddVoter(id, addr, 0, enqueueLimit)
	case change.To == failover.NonVoter && present == failover.Voter:
		f = r.DemoteVoter(id, 0, enqueueLimit)
	case change.To == failover.NonVoter:
		f = r.AddNonvoter(id, addr, 0, enqueueLimit)
	default:
		f = r.RemoveServer(id, 0, enqueueLimit)
	}
	if err := wait(ctx, f); err != nil {
		return fmt.Errorf("make %s a %s of raft's configuration: %w", change.Node, change.To, err)
	}
	c.log.Info("raft's configuration changed", "node", change.Node, "to", string(change.To))
	return nil
}
