package lead

import (
	"context"
	"sync"

	"github.com/quorate/quorate/fsm"
)

// stop tells the sick primary of epoch to kill its Postgres and release. It is repeated until its release, or its silence,
// shows that it was heard; the node takes the first and ignores the rest.
func (l *Loop) stop(ctx context.Context, calls *sync.WaitGroup, id fsm.NodeID, epoch fsm.Epoch) {
	l.start(ctx, calls, call{"stop", id, epoch}, answerWithin, func(ctx context.Context) error {
		return l.voters.Stop(ctx, id, epoch)
	})
}
