package node

import (
	"context"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// handover is how far a planned switchover away from this node has come.
type handover struct {
	wish string     // the approved wish it is for
	done chan error // of the checkpoint that makes the shutdown short
	shut bool       // the checkpoint is over
	gone bool       // the shutdown was begun; there is no way back
}

// checkpointBox bounds the checkpoint before a shutdown; when it is over the switchover goes on without it.
const checkpointBox = 30 * time.Second

// checkpointWithin is how long it may take: a failover by hand does not wait for a slow disk.
func checkpointWithin(kind string) time.Duration {
	if kind == fsm.WishFailover {
		return failoverBox
	}
	return checkpointBox
}

// readyToHandOver is true from the moment when the shutdown for an approved switchover may begin: the checkpoint is over,
// while clients still write, and the candidate is seen to stream close behind. A candidate that was lost meanwhile leaves
// this node serving, and the leader drops the wish in the end.
func (a *agent) readyToHandOver(ctx context.Context, state fsm.State) bool {
	if !handingOver(state, a.cluster.Self()) {
		a.handover = handover{}
		return false
	}
	h := &a.handover
	if h.wish != state.Wish.ID {
		*h = handover{wish: state.Wish.ID, done: make(chan error, 1)}
		box := checkpointWithin(state.Wish.Kind)
		go func(done chan<- error) {
			ctx, cancel := context.WithTimeout(ctx, box)
			defer cancel()
			done <- a.postgres.Checkpoint(ctx)
			a.poke()
		}(h.done)
	}
	if !h.shut {
		select {
		case err := <-h.done:
			h.shut = true
			if err != nil {
				a.log.Warn("checkpoint before the switchover did not end; shutting down without", "error", err)
			}
		default:
			return false
		}
	}
	if !h.gone && a.have.Run == pg.RunPrimary {
		h.gone = closeBehind(state, a.have)
	}
	// One look without an answer, or a freeze that may be thawed, is no shutdown that was begun.
	down := a.have.Run == pg.RunStopping || a.have.Run == pg.RunStopped || a.have.Run == pg.RunAbsent
	return h.gone || down
}

// closeBehind says that the wished candidate, or somebody if none was named, streams with next to nothing missing.
func closeBehind(state fsm.State, have pgctl.Status) bool {
	const near = 1 << 20 // bytes; sent within milliseconds
	for _, s := range have.Senders {
		wished := state.Wish.To == "" || bySlot(state)[s.Slot] == state.Wish.To
		if wished && s.Streaming && s.Flush+near >= have.Flush {
			return true
		}
	}
	return false
}
