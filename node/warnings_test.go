package node

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/pgctl/guard"
)

// TestWarningsAreDue: once a minute, and at once in a new epoch, whose primary is asked for more.
func TestWarningsAreDue(t *testing.T) {
	asked := warnings{asked: true, at: time.Hour, epoch: 3}
	for _, c := range []struct {
		name string
		w    warnings
		now  time.Duration
		want bool
	}{
		{"never asked", warnings{}, 0, true},
		{"just asked", asked, time.Hour + time.Second, false},
		{"a minute ago", asked, time.Hour + warnEvery, true},
		{"in another epoch", warnings{asked: true, at: time.Hour, epoch: 2}, time.Hour + time.Second, true},
	} {
		if got := c.w.due(3, c.now); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// TestALateFenceIsSaid, with both times; one in time is no matter.
func TestALateFenceIsSaid(t *testing.T) {
	if text := fenceWarning(guard.View{WorstLateness: 20 * time.Millisecond}, 50*time.Millisecond); text != "" {
		t.Errorf("in time: %q", text)
	}
	for count, times := range map[uint64]string{1: "once", 3: "3 times"} {
		text := fenceWarning(guard.View{FenceLate: count, WorstLateness: 81 * time.Millisecond}, 50*time.Millisecond)
		for _, part := range []string{"fence_late", times, "81ms", "50ms"} {
			if !strings.Contains(text, part) {
				t.Errorf("%q lacks %q", text, part)
			}
		}
	}
}
