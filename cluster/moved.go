package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

const (
	callMoved = "moved"
	// moveAgain is the pause before a node asks again to have its new addresses written down.
	moveAgain = time.Second
)

// movedRequest is what a member says of where it is now, and of what else its node file says of it.
type movedRequest struct {
	Addr       string `json:"addr"`
	Postgres   string `json:"postgres"`
	API        string `json:"api"`
	Priority   int    `json:"priority,omitempty"`
	NoVote     bool   `json:"no_vote,omitempty"`
	NoFailover bool   `json:"no_failover,omitempty"`
	Major      int    `json:"major,omitempty"`
}

// announce has the leader write down where this node is, and its tags, whenever the replicated state has it otherwise: its node
// file was edited and it was restarted. Until then the others find it by gossip.
func (c *Cluster) announce(ctx context.Context) {
	own := c.cfg.Member
	me := movedRequest{
		Addr: own.Addr, Postgres: own.Postgres, API: own.API,
		Priority: own.Priority, NoVote: own.NoVote, NoFailover: own.NoFailover, Major: own.Major,
	}
	said := ""
	for {
		changed := c.Changed()
		var again <-chan time.Time
		if m, ok := c.State().Members[c.Self()]; ok && m != me.of(m) {
			if err := c.askToMove(ctx, me); err != nil && ctx.Err() == nil && err.Error() != said {
				said = err.Error()
				c.log.Info("this node's new addresses and tags are not written down yet", "cluster", me.Addr, "postgres", me.Postgres, "error", err)
			}
			again = time.After(moveAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-again:
		}
	}
}

// of is m as it is now.
func (r movedRequest) of(m fsm.Member) fsm.Member {
	m.Addr, m.Postgres, m.API = r.Addr, r.Postgres, r.API
	m.Priority, m.NoVote, m.NoFailover, m.Major = r.Priority, r.NoVote, r.NoFailover, r.Major
	return m
}

func (c *Cluster) askToMove(ctx context.Context, me movedRequest) error {
	ctx, cancel := context.WithTimeout(ctx, submitAnswer)
	defer cancel()
	switch leader := c.Leader(); leader {
	case "":
		return ErrNoLeader
	case c.Self():
		return c.move(ctx, leader, me)
	default:
		return c.call(ctx, string(leader), callMoved, me, nil)
	}
}

// onMoved is the handler of the leader. Everybody moves himself only.
func (c *Cluster) onMoved(ctx context.Context, peer transport.Peer, req []byte) ([]byte, error) {
	var to movedRequest
	if err := json.Unmarshal(req, &to); err != nil {
		return nil, fmt.Errorf("decode new addresses: %w", err)
	}
	if peer.ClusterID != c.identity.clusterID() {
		return nil, toWire(fmt.Errorf("%w: node %s of cluster %s", ErrOtherCluster, peer.NodeID, peer.ClusterID))
	}
	return nil, toWire(c.move(ctx, fsm.NodeID(peer.NodeID), to))
}

// move writes the addresses of a member into the log if this node leads. SetMember would add whom the state does not have:
// so it is bound to the revision at which the member was seen there.
func (c *Cluster) move(ctx context.Context, id fsm.NodeID, to movedRequest) error {
	_, s := c.newest()
	m, ok := s.Members[id]
	if !ok {
		return fmt.Errorf("move %s: %w", id, fsm.ErrNotMember)
	}
	if m == to.of(m) {
		return nil
	}
	random, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("draw request id: %w", err)
	}
	err = c.applyHere(ctx, fsm.Envelope{
		ID: random.String(), IfRev: s.Rev, By: m.Name, Wall: time.Now().UnixMilli(), Change: fsm.SetMember{Member: to.of(m)},
	})
	if err == nil {
		c.log.Info("a member has changed", "node", m.Name, "address_before", m.Addr, "address", to.Addr, "postgres", to.Postgres,
			"nofailover", to.NoFailover, "priority", to.Priority, "no_vote", to.NoVote)
	}
	return err
}
