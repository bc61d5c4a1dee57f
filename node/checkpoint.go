package node

import (
	"context"
	"sync"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/guard"
)

const (
	// checkpointAfter is how long after a promotion its checkpoint is hurried: clients and standbys come first.
	checkpointAfter = 2 * time.Second
	hurryBox        = 10 * time.Minute
	checkpointAgain = 10 * time.Second
)

// hurrying sees to it that a promotion's checkpoint is written soon. Postgres takes minutes for it, and until it is there pg_control
// names the timeline before: pg_rewind, up to PostgreSQL 15, can then take this node back nowhere if it is lost, and all of its
// data have to be copied (seen in 7 of 147 rounds of a soak).
type hurrying struct {
	timeline pg.Timeline   // that the primary here is on
	since    time.Duration // when that was first seen

	mu   sync.Mutex
	busy bool
	done pg.Timeline   // the newest of which there is known to be a checkpoint
	next time.Duration // not before this is one asked for
}

// due says that the checkpoint of timeline is to be hurried at now.
func (h *hurrying) due(timeline pg.Timeline, now time.Duration) bool {
	if h.timeline != timeline {
		h.timeline, h.since = timeline, now
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return timeline > 1 && h.done != timeline && !h.busy && now >= max(h.since+checkpointAfter, h.next)
}

// hurryCheckpoint has one written beside the loop.
func (a *agent) hurryCheckpoint(ctx context.Context) {
	h := &a.hurrying
	timeline := a.have.Timeline
	if !h.due(timeline, guard.Now()) {
		return
	}
	h.mu.Lock()
	h.busy = true
	h.mu.Unlock()
	go func() {
		ctx, cancel := context.WithTimeout(ctx, hurryBox)
		defer cancel()
		began := time.Now()
		err := a.postgres.CheckpointOf(ctx, timeline)
		h.mu.Lock()
		defer h.mu.Unlock()
		h.busy, h.next = false, guard.Now()+checkpointAgain
		if err != nil {
			a.log.Warn("the checkpoint of the new timeline is asked for again", "timeline", uint32(timeline), "error", err)
			return
		}
		h.done = timeline
		a.log.Info("the new timeline has a checkpoint", "timeline", uint32(timeline), "took", time.Since(began).Round(time.Millisecond).String())
	}()
}
