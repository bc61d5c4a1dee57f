package sim

import (
	"testing"

	"github.com/quorate/quorate/internal/pg"
)

// An accepted loss excuses what its node lacked of the timelines before, and nothing else: neither what it had nor what came later.
func TestAnAcceptedLossExcusesNoOther(t *testing.T) {
	old := &branch{tli: 1, end: 100, promised: 100, acked: 100, commits: []pg.LSN{40, 60, 80, 100}}
	next := &branch{tli: 2, parent: old, start: 60, end: 90, promised: 90, acked: 90, commits: []pg.LSN{90}}
	for _, c := range []struct {
		name  string
		log   place
		lost  bool
		lossy int
	}{
		{"what was beyond is given up", place{next, 90}, false, 2},
		{"what it had is owed", place{old, 50}, true, 0},
		{"what came later is owed", place{next, 80}, true, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, b := *old, *next
			b.parent = &a
			log := c.log
			if log.b = &a; c.log.b == next {
				log.b = &b
			}
			check := checker{w: &World{}, branches: []*branch{&a, &b}, givenUp: []givenUp{{place{&a, 60}, 2}}}
			check.keeps(nil, log, "opened")
			if lost := check.failed != nil; lost != c.lost || check.lossy != c.lossy {
				t.Errorf("lost %t with %d given up, want %t with %d: %v", lost, check.lossy, c.lost, c.lossy, check.failed)
			}
		})
	}
}

// Who has more than an appointment that came to nothing, and is opened in its place, brings back what that had given up.
func TestWhatComesBackIsOwedAgain(t *testing.T) {
	old := &branch{tli: 1, end: 100}
	next := &branch{tli: 3, parent: old, start: 90, end: 95}
	check := checker{givenUp: []givenUp{{place{old, 60}, 2}}}
	if got := check.owed(old, 100); got != 60 {
		t.Fatalf("%d is owed after the loss, want 60", got)
	}
	check.open = place{next, 90}
	check.comesBack()
	if got := check.owed(old, 100); got != 90 {
		t.Errorf("%d is owed, want the 90 that are there again", got)
	}
}
