package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/cluster/lead"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

const (
	// submitWithin bounds a Submit whose context has no deadline.
	submitWithin = 10 * time.Second
	// submitAgain is the pause before the leader is looked for again.
	submitAgain = 50 * time.Millisecond
	// submitAnswer bounds one attempt with one leader: a cut-off leader holds a command until it notices.
	submitAnswer = 2 * time.Second
	enqueueLimit = time.Second
)

// Submit puts change into the replicated log, through the leader, under ifRev (0: the command needs none), and returns
// the outcome of its Apply: nil, or an error that wraps one of fsm's. by is the rule or the person.
//
// It looks for a leader until ctx ends, 10 s at most, and repeats what may have been lost under the same request id, which
// the state remembers, so that nothing is applied twice. ErrNoLeader: no leader was found and nothing changed.
// ErrUnknownOutcome: a leader had it and nobody told what became of it.
func (c *Cluster) Submit(ctx context.Context, change fsm.Command, ifRev uint64, by string) error {
	id, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("draw request id: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, submitWithin)
	defer cancel()
	env := fsm.Envelope{ID: id.String(), IfRev: ifRev, By: by, Wall: time.Now().UnixMilli(), Change: change}
	handed := false // some leader may have it
	for {
		err := c.submitOnce(ctx, env)
		switch {
		case err == nil, handed && errors.Is(err, fsm.ErrDuplicate):
			return nil
		case errors.Is(err, ErrUnknownOutcome):
			handed = true
		case !errors.Is(err, errNotLeader) && !errors.Is(err, errNotRunning):
			return err
		}
		select {
		case <-ctx.Done():
			if handed {
				return fmt.Errorf("submit %s: %w: %w", change.Kind(), ErrUnknownOutcome, err)
			}
			return fmt.Errorf("submit %s: %w: %w", change.Kind(), ErrNoLeader, err)
		case <-time.After(submitAgain):
		}
	}
}

// submitOnce tries the leader that this node knows. Errors: those of Apply; errNotLeader or errNotRunning when nothing
// was done; ErrUnknownOutcome.
func (c *Cluster) submitOnce(ctx context.Context, env fsm.Envelope) error {
	r := c.raft.Load()
	if r == nil {
		return errNotRunning
	}
	_, leader := r.LeaderWithID()
	switch fsm.NodeID(leader) {
	case "":
		return fmt.Errorf("%w, and it knows no leader", errNotLeader)
	case c.Self():
		return c.applyHere(ctx, env)
	}
	raw, err := fsm.EncodeCommand(env)
	if err != nil {
		return fmt.Errorf("encode command: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, submitAnswer)
	defer cancel()
	_, err = c.rpc.Call(ctx, string(leader), callSubmit, raw)
	var remote *transport.RemoteError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &remote):
		return fromWire(err)
	case errors.Is(err, transport.ErrNoAnswer):
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	return fmt.Errorf("%w: the leader %s can't be reached: %w", errNotLeader, leader, err)
}

// applyHere puts env into the log if this node leads, and answers as submitOnce does.
func (c *Cluster) applyHere(ctx context.Context, env fsm.Envelope) error {
	r := c.raft.Load()
	if r == nil {
		return errNotRunning
	}
	raw, err := fsm.EncodeCommand(env)
	if err != nil {
		return fmt.Errorf("encode command: %w", err)
	}
	future := r.Apply(raw, enqueueLimit)
	err = wait(ctx, future)
	c.superviseTransfer(err)
	switch {
	case err == nil:
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: %w", errNotLeader, err)
	default: // leadership lost, shutdown, the caller's context: the entry may still be committed
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	// The followers learn that the entry is committed with the next message; a barrier is one (DETAILS 8).
	r.Barrier(enqueueLimit)
	if refused, ok := future.Response().(error); ok {
		return refused
	}
	return nil
}

// superviseTransfer ends the process when a leadership transfer has got stuck: this term would never accept a command.
func (c *Cluster) superviseTransfer(err error) {
	stuck := c.transfer.refused(c.deps.Boot(), errors.Is(err, raft.ErrLeadershipTransferInProgress))
	if limit := c.transferLimit(); stuck > limit {
		c.deps.Exit(fmt.Sprintf("raft has refused all commands for %s because of a leadership transfer that does not end", limit))
	}
}

var _ lead.Consensus = loopConsensus{}

// Submit is the loop's: only this node's own log will do, and once; the loop decides anew after a failure.
func (l loopConsensus) Submit(ctx context.Context, change fsm.Command, ifRev uint64, by string) error {
	id, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("draw request id: %w", err)
	}
	return l.applyHere(ctx, fsm.Envelope{ID: id.String(), IfRev: ifRev, By: by, Wall: time.Now().UnixMilli(), Change: change})
}
