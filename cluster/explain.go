package cluster

import (
	"context"
	"fmt"
	"time"

	"github.com/quorate/quorate/cluster/lead"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// Explanation is one node's view with what follows from it, in a form that crosses the wire.
type Explanation struct {
	Node     fsm.NodeID       `json:"node"`
	Leading  bool             `json:"leading"` // false: an observer, who does not know the leader's ledger
	Rule     string           `json:"rule"`
	Verdict  failover.Verdict `json:"verdict"`
	Do       string           `json:"do"` // what a leader does about it, for people
	Because  []string         `json:"because"`
	Again    time.Duration    `json:"again"`
	View     failover.View    `json:"view"`
	Timeline []lead.Phase     `json:"timeline"` // of the failovers that this node led
}

// Explain is what this node knows and what follows from it, without asking anybody.
func (c *Cluster) Explain(context.Context) (failover.View, failover.Decision, error) {
	if c.beat.Load() == nil {
		return failover.View{}, failover.Decision{}, ErrNotMember
	}
	v, d := c.loop.Explain()
	return v, d, nil
}

// LeaderExplain is the leader's own explanation, its ledger included. ErrNoLeader when there is none to ask.
func (c *Cluster) LeaderExplain(ctx context.Context) (Explanation, error) {
	leader := c.Leader()
	if leader == "" {
		return Explanation{}, ErrNoLeader
	}
	if leader == c.Self() {
		return c.explainHere(), nil
	}
	m, ok := c.members()[leader]
	if !ok {
		return Explanation{}, fmt.Errorf("%w that is a member", ErrNoLeader)
	}
	var e Explanation
	if err := c.call(ctx, string(leader), callExplain, struct{}{}, &e); err != nil {
		return Explanation{}, fmt.Errorf("ask the leader %s: %w", m.Name, err)
	}
	return e, nil
}

// ExplainHere is this node's own explanation, as an observer unless it leads.
func (c *Cluster) ExplainHere() (Explanation, error) {
	if c.beat.Load() == nil {
		return Explanation{}, ErrNotMember
	}
	return c.explainHere(), nil
}

func (c *Cluster) explainHere() Explanation {
	v, d := c.loop.Explain()
	return Explanation{
		Node: c.Self(), Leading: v.Leading, Rule: d.Rule, Verdict: d.Verdict, Do: describe(v.State, d.Do),
		Because: d.Because, Again: d.Again, View: v, Timeline: c.loop.Timeline(),
	}
}

// describe says in words what do asks for.
func describe(s fsm.State, do failover.Do) string {
	switch do := do.(type) {
	case failover.Ask:
		return fmt.Sprintf("ask %v for their last vouch of epoch %d", s.Names(do.Voters), do.Epoch)
	case failover.SealNow:
		return fmt.Sprintf("seal epoch %d on %v, detach %v", do.Epoch, s.Names(do.Seal), s.Names(do.Detach))
	case failover.Propose:
		if a, ok := do.Command.(fsm.Appoint); ok {
			return fmt.Sprintf("appoint %s to epoch %d", s.Name(a.Node), a.IfEpoch+1)
		}
		return "propose " + do.Command.Kind()
	case failover.HandOff:
		return "hand the leadership to " + s.Name(do.To)
	case failover.Reconfigure:
		return fmt.Sprintf("make %s a %s of Raft's configuration", s.Name(do.Node), do.To)
	default:
		return "nothing"
	}
}
