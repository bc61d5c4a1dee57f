package node

import (
	"testing"
	"time"

	"github.com/quorate/quorate/internal/pg"
)

// TestCheckpointIsHurried once for each timeline, a while after its promotion.
func TestCheckpointIsHurried(t *testing.T) {
	h := hurrying{}
	for _, c := range []struct {
		name     string
		timeline pg.Timeline
		now      time.Duration
		busy     bool
		done     pg.Timeline
		next     time.Duration
		want     bool
	}{
		{name: "a new database has its own", timeline: 1, now: time.Hour},
		{name: "just promoted", timeline: 2, now: time.Hour},
		{name: "clients come first", timeline: 2, now: time.Hour + checkpointAfter - 1},
		{name: "a while later", timeline: 2, now: time.Hour + checkpointAfter, want: true},
		{name: "while it is written", timeline: 2, now: time.Hour + time.Minute, busy: true},
		{name: "after a failure", timeline: 2, now: time.Hour + time.Minute, next: time.Hour + 2*time.Minute},
		{name: "again after a failure", timeline: 2, now: time.Hour + 2*time.Minute, next: time.Hour + 2*time.Minute, want: true},
		{name: "when it is there", timeline: 2, now: 2 * time.Hour, done: 2},
		{name: "after the next promotion", timeline: 4, now: 3 * time.Hour, done: 2},
		{name: "a while after that", timeline: 4, now: 3*time.Hour + checkpointAfter, done: 2, want: true},
	} {
		h.busy, h.next, h.done = c.busy, c.next, c.done
		if got := h.due(c.timeline, c.now); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
