package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl/guard"
	"github.com/quorate/quorate/transport"
)

// handoverBox bounds how long an orderly end waits for another node to take over (DETAILS 15).
const handoverBox = 10 * time.Second

// serve runs everything until ctx ends, the orderly end is over, or a part of the node fails for good.
func (n *Node) serve(ctx context.Context, secrets []transport.Secret) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	closeAPI, err := n.openAPI(secrets)
	if err != nil {
		return err
	}
	defer closeAPI()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if n.postgres == nil {
			n.witness(ctx)
			return
		}
		go n.forwardGuard(ctx)
		(&agent{Node: n}).run(ctx)
	}()
	go n.stopWhenAsked(ctx, cancel)
	err = n.cluster.Run(ctx)
	cancel(err)
	<-done
	if cause := context.Cause(ctx); errors.Is(cause, errStopped) {
		return n.shutDown()
	}
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

var errStopped = errors.New("an orderly end was asked for")

// stopWhenAsked hands the primary over and then ends Run.
func (n *Node) stopWhenAsked(ctx context.Context, cancel context.CancelCauseFunc) {
	select {
	case <-ctx.Done():
		return
	case <-n.opts.Stop:
	case <-n.stop:
	}
	n.log.Info("stopping in order: hand over if primary, then shut down")
	if err := n.handOver(ctx); err != nil {
		n.log.Warn("nobody took over; shutting down all the same", "error", err)
	}
	cancel(errStopped)
}

// handOver asks for a switchover if this node is primary and waits until another one is.
func (n *Node) handOver(ctx context.Context) error {
	state := n.cluster.State()
	if state.Epoch == 0 || state.Primary != n.cluster.Self() {
		return nil
	}
	if len(replicas(state, n.cluster.Self())) == 0 {
		return errors.New("there is no other data node")
	}
	ctx, stop := context.WithTimeout(ctx, handoverBox)
	defer stop()
	id := fmt.Sprintf("stop-%s-%d", n.cfg.Name, guard.Now())
	if err := n.cluster.Submit(ctx, fsm.AskSwitchover{ID: id}, 0, "stop"); err != nil {
		return fmt.Errorf("ask for a switchover: %w", err)
	}
	for {
		changed := n.cluster.Changed()
		if n.cluster.State().Primary != n.cluster.Self() {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for another primary: %w", ctx.Err())
		case <-changed:
		}
	}
}

// shutDown ends Postgres and the guard after the agent's loop has ended.
func (n *Node) shutDown() error {
	if n.postgres == nil {
		return nil
	}
	ctx, stop := context.WithTimeout(context.Background(), 2*fastStopBox)
	defer stop()
	if err := n.postgres.StopFast(ctx, fastStopBox); err != nil {
		n.log.Warn("fast shutdown did not end, killing", "error", err)
		if err := n.postgres.Kill(ctx); err != nil {
			return err
		}
	}
	return n.guard.Quit()
}

// forwardGuard wakes the agent at every change that the guard tells of: an exit, a freeze, an empty cgroup.
func (n *Node) forwardGuard(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-n.guard.Changes():
			if !ok {
				n.exit("the guard is gone")
				return
			}
			n.poke()
		}
	}
}

// witness reports what there is to say of a node without Postgres.
func (n *Node) witness(ctx context.Context) {
	for {
		changed := n.cluster.Changed()
		s := n.cluster.State()
		r := report(witnessStatus(), own{self: n.cluster.Self(), state: s})
		r.Healthy = true
		n.last.set(witnessStatus(), r, guard.Now())
		n.cluster.SetReport(r)
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}
