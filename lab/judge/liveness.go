package judge

import (
	"fmt"
	"time"
)

// Healing is what became of a cluster after all faults were undone. Whole and Writable are how long that took; 0: it did not
// happen. Held is how much of it the leader held still on purpose, after several failovers within a minute.
type Healing struct {
	Round    int           `json:"round"`
	Whole    time.Duration `json:"whole"`
	Writable time.Duration `json:"writable"`
	Held     time.Duration `json:"held"`
}

// Alive says that after every healing the cluster was whole and took writes again within limit, beside what the leader held still.
func Alive(healings []Healing, limit time.Duration) (found []Violation) {
	for _, h := range healings {
		for _, w := range []struct {
			what string
			took time.Duration
		}{{"whole", h.Whole}, {"writable", h.Writable}} {
			switch {
			case w.took == 0:
				found = append(found, Violation{Liveness, fmt.Sprintf("round %d: not %s within %s after healing", h.Round, w.what, limit)})
			case w.took-h.Held > limit:
				found = append(found, Violation{Liveness, fmt.Sprintf("round %d: %s %s after healing, of which the leader held still for %s, and not within %s",
					h.Round, w.what, w.took.Round(time.Millisecond), h.Held.Round(time.Millisecond), limit)})
			}
		}
	}
	return found
}
