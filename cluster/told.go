package cluster

import (
	"slices"

	"github.com/quorate/quorate/fsm"
)

// told is who the members are as a member says that this node knows, in a state that this node has not applied yet. Others may have
// come while it was away, and one of them may lead: by its own state the node would turn the leader away that has to send it the log.
type told struct {
	version uint64
	members []fsm.Member
}

// hear takes what a member said. Whoever said before, on a connection that stands, that he is somebody who is a member only now was not
// asked for that member's name: with certificates of an own PKI such a connection ends.
func (c *Cluster) hear(version uint64, members []fsm.Member) {
	if c.learn(version, members) {
		c.log.Info("members came while this node was away", "told", version, "members", len(members))
		c.mux.Reauthorize()
	}
}

// learn keeps what was said of a newer state than any before, if somebody is among them of whom this node did not know.
func (c *Cluster) learn(version uint64, members []fsm.Member) bool {
	_, s := c.newest()
	if t := c.told.Load(); version <= s.Version || t != nil && version <= t.version {
		return false
	}
	known := c.members()
	came := func(m fsm.Member) bool { _, member := known[m.ID]; return !member }
	if !slices.ContainsFunc(members, came) {
		return false
	}
	c.told.Store(&told{version: version, members: members})
	return true
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
