package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
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
		go n.tendGuard(ctx)
		go n.watchHealth(ctx)
		go n.watchWarnings(ctx)
		go n.recordEvidence(ctx)
		(&agent{Node: n}).run(ctx)
	}()
	go n.stopWhenAsked(ctx, cancel)
	go n.reloadWhenAsked(ctx)
	n.followFiles(ctx, secrets)
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

// stopWhenAsked hands the primary over, has the agent shut Postgres down while the cluster still hears this node, and then
// ends Run.
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
	n.ending.Store(true)
	n.poke()
	n.awaitDown(ctx)
	cancel(errStopped)
}

// awaitDown waits until the agent has shut Postgres down and, if this node is primary, released the epoch.
func (n *Node) awaitDown(ctx context.Context) {
	if n.postgres == nil {
		return
	}
	ctx, stop := context.WithTimeout(ctx, 2*orderlyEndBox)
	defer stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		have, _, _ := n.last.get()
		state := n.cluster.State()
		down := have.Run == pg.RunStopped || have.Run == pg.RunAbsent
		if have.Rewind != nil && have.Rewind.Running {
			down = false // ending with it would cost the data directory
		}
		if down && (state.Primary != n.cluster.Self() || n.records.ReleasedEpoch() >= state.Epoch) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
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
	ctx, stop := context.WithTimeout(context.Background(), 2*orderlyEndBox)
	defer stop()
	if err := n.postgres.StopFast(ctx, orderlyEndBox); err != nil {
		n.log.Warn("fast shutdown did not end, killing", "error", err)
		if err := n.postgres.Kill(ctx); err != nil {
			return err
		}
	}
	return n.guard.Quit()
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
