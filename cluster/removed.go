package cluster

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// askStandingEvery is how often a node that hears of no leader, or knows that it is on its way out, asks whether it is still a
// member, and who else is. Nobody else tells it: whoever was removed gets no more log, and a node that was away never got that part.
const askStandingEvery = 2 * time.Second

// Removed says that this node is no member any more. It stays so, over restarts too: it comes back as a new member only. Else each
// start would serve what the data were when it was removed, until somebody answers.
func (c *Cluster) Removed() bool { return c.identity.get().Removed }

// watchStanding asks until ctx ends or this node is known to be removed.
func (c *Cluster) watchStanding(ctx context.Context) {
	tick := time.NewTicker(askStandingEvery)
	defer tick.Stop()
	for {
		if c.Removed() {
			c.log.Warn("this node was removed from the cluster; to use it again, empty cluster.data_dir and join it", "cluster", c.ClusterID())
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, s := c.newest(); (c.Leader() == "" || s.Members[c.Self()].Leaving) && c.strickenOff(ctx) {
			if err := c.identity.strike(); err != nil {
				c.log.Error("this node will not know after a restart that it was removed from the cluster", "error", err)
			}
			c.published.wakeAll()
		}
	}
}

// strickenOff asks the others, and believes who knows at least as much as this node: a state in which a node is no member that was
// one in an earlier state is final, for an id comes back never. Who is behind may not have heard yet that it came. A founding
// node has nothing to compare with before its first state; one that joined has the state that it came with. Whoever says that it is
// still a member says with whom.
func (c *Cluster) strickenOff(ctx context.Context) bool {
	_, s := c.newest()
	known := s.Version
	if j := c.identity.get().Joined; j != nil {
		known = max(known, j.Version)
	}
	for id := range c.members() {
		if id == c.Self() {
			continue
		}
		var said standingAnswer
		err := c.callWithin(ctx, peerAnswersWithin, string(id), callStanding, standingRequest{Node: c.Self()}, &said)
		switch {
		case err != nil:
		case said.Member:
			c.hear(said.Version, said.Members)
		case known > 0 && said.Version >= known:
			return true
		}
	}
	return false
}

type standingRequest struct {
	Node fsm.NodeID `json:"node"`
}

// standingAnswer says whether a node is a member in the state with that Version, and tells it, if it is one, who the others are.
type standingAnswer struct {
	Member  bool         `json:"member"`
	Version uint64       `json:"version"`
	Members []fsm.Member `json:"members,omitempty"`
}

// onStanding answers from what is applied here. The one that asks may be anybody, so that costs no write and no leader, and a stranger
// is told nothing of others.
func (c *Cluster) onStanding(peer transport.Peer, req standingRequest) (standingAnswer, error) {
	if peer.ClusterID != c.identity.clusterID() {
		return standingAnswer{}, ErrOtherCluster
	}
	_, s := c.newest()
	_, member := s.Members[req.Node]
	answer := standingAnswer{Member: member, Version: s.Version}
	if member && peer.NodeID == string(req.Node) && c.isMember(peer) {
		answer.Members = slices.Collect(maps.Values(s.Members))
	}
	return answer, nil
}
