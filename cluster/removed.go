package cluster

import (
	"context"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// askStandingEvery is how often a node that hears of no leader, or knows that it is on its way out, asks whether it is still a
// member. Nobody else tells it: whoever was removed gets no more log, and a node that was away never got that part.
const askStandingEvery = 2 * time.Second

// Removed says that this node is no member any more. It stays so: it comes back as a new member only.
func (c *Cluster) Removed() bool { return c.removed.Load() }

// watchStanding asks until ctx ends or this node is known to be removed.
func (c *Cluster) watchStanding(ctx context.Context) {
	tick := time.NewTicker(askStandingEvery)
	defer tick.Stop()
	for !c.Removed() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if _, s := c.newest(); s.ClusterID != "" && (c.Leader() == "" || s.Members[c.Self()].Leaving) && c.strickenOff(ctx) {
			c.removed.Store(true)
			c.log.Warn("this node was removed from the cluster; to use it again, empty cluster.data_dir and join it", "cluster", s.ClusterID)
			c.published.wakeAll()
		}
	}
}

// strickenOff asks the others, each of whom asks the leader, and believes the first answer.
func (c *Cluster) strickenOff(ctx context.Context) bool {
	for id := range c.members() {
		if id == c.Self() {
			continue
		}
		var member bool
		if err := c.callWithin(ctx, peerAnswersWithin, string(id), callStanding, standingRequest{Node: c.Self()}, &member); err == nil {
			return !member
		}
	}
	return false
}

type standingRequest struct {
	Node fsm.NodeID `json:"node"`
}

// onStanding answers whether a node is a member, as far as anything committed says.
func (c *Cluster) onStanding(ctx context.Context, peer transport.Peer, req standingRequest) (member bool, err error) {
	if peer.ClusterID != c.identity.clusterID() {
		return false, ErrOtherCluster
	}
	err = c.atLeader(ctx, callStanding, req, &member, func(ctx context.Context) error {
		if err := c.Barrier(ctx); err != nil {
			return err
		}
		_, s := c.newest()
		_, member = s.Members[req.Node]
		return nil
	})
	return member, err
}
