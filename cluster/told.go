package cluster

import "github.com/quorate/quorate/fsm"

// told is who the members are as a member says that this node knows, in a state that this node has not applied yet. Others may have
// come while it was away, and one of them may lead: by its own state the node would turn the leader away that has to send it the log.
type told struct {
	version uint64
	members []fsm.Member
}

// hear keeps what a member said, if it says more than what was known.
func (c *Cluster) hear(version uint64, members []fsm.Member) {
	_, s := c.newest()
	if before := c.told.Load(); version <= s.Version || before != nil && version <= before.version {
		return
	}
	c.told.Store(&told{version: version, members: members})
	c.log.Info("members came while this node was away", "version", s.Version, "told", version, "members", len(members))
}

// withTold adds who came since the state of that Version. Nobody is struck off by it, as only a state says that.
func (c *Cluster) withTold(version uint64, members map[fsm.NodeID]fsm.Member) map[fsm.NodeID]fsm.Member {
	t := c.told.Load()
	if t == nil || version >= t.version {
		return members
	}
	out := make(map[fsm.NodeID]fsm.Member, len(t.members))
	for _, m := range t.members {
		out[m.ID] = m
	}
	for id, m := range members {
		out[id] = m
	}
	return out
}
