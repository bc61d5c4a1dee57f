package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/quorate/quorate/fsm"
)

// What the cluster asks of this node. The functions run on the cluster's goroutines and do not block, but for detach.

var errNoPostgres = errors.New("a witness has no Postgres")

// mayHold keeps a node from asking for vouches of an epoch that it released or is about to.
func (n *Node) mayHold(epoch fsm.Epoch) bool {
	return n.postgres != nil && n.stopping.Load() < uint64(epoch) && n.records.ReleasedEpoch() < epoch
}

func (n *Node) onLease(epoch fsm.Epoch, until time.Duration) {
	n.fence.Lease(epoch, until)
	if n.last.report().Serving != epoch {
		n.poke() // The agent may be waiting for this lease.
	}
}

func (n *Node) onHigher(epoch fsm.Epoch) {
	if n.fence != nil {
		n.fence.Higher(epoch)
	}
}

// poke wakes the agent.
func (n *Node) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// detach is the second half of a seal on this node.
func (n *Node) detach(ctx context.Context, epoch fsm.Epoch) (fsm.Position, error) {
	if n.postgres == nil {
		return fsm.Position{}, errNoPostgres
	}
	state := n.cluster.State()
	if state.Epoch > epoch {
		return fsm.Position{}, fmt.Errorf("epoch %d is over, now is epoch %d", epoch, state.Epoch)
	}
	if state.Primary == n.cluster.Self() && state.Epoch == epoch {
		return fsm.Position{}, fmt.Errorf("this node is primary of epoch %d: it gives a position only with its release", epoch)
	}
	start := time.Now()
	p, err := n.postgres.Detach(ctx, uint64(epoch))
	if err != nil {
		return fsm.Position{}, err
	}
	n.log.Info("detached", "epoch", epoch, "timeline", p.Timeline, "lsn", p.LSN.String(), "took", time.Since(start).Round(time.Millisecond).String())
	n.poke()
	return fsm.Position{Node: n.cluster.Self(), Detached: epoch, Timeline: p.Timeline, LSN: p.LSN}, nil
}

// exit ends the process because it can no longer keep its promises. Postgres stays under the guard, whose deadline runs.
func (n *Node) exit(reason string) {
	n.log.Error("this process can't go on; the guard keeps the deadline", "reason", reason)
	os.Exit(1)
}
