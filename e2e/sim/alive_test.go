package sim

import (
	"testing"
	"time"
)

// cutOff plays a seed in which the clients reach no server for a while after everything healed.
func cutOff(from, span time.Duration) *Violation {
	w, plan := prepare(Options{Seed: 1})
	w.at(healed+from, func() {
		var links [][2]int
		for _, h := range w.hosts {
			links = append(links, [2]int{clients, h.index})
		}
		w.at(span, w.block(links))
	})
	w.play(plan)
	return w.check.failed
}

// Clients that had a server after the healing, and have one at the end, may not be without one for long in between.
func TestASilenceAfterTheHealingIsSeen(t *testing.T) {
	for name, from := range map[string]time.Duration{"at once": 0, "in the middle": 15 * time.Second, "at the end": ended - healed - bound - 2*time.Second} {
		if v := cutOff(from, bound+time.Second); v == nil || v.What != "liveness" {
			t.Errorf("%s, clients had no server for %s: %v", name, bound+time.Second, v)
		}
		if v := cutOff(from, bound/2); v != nil {
			t.Errorf("%s, clients had no server for %s, which is not too long: %v", name, bound/2, v)
		}
	}
}

// A back-off that is due at the healing is waited for, and no other.
func TestWhatTheHealingBacksOffFrom(t *testing.T) {
	const s = time.Second
	for _, c := range []struct {
		what      string
		appointed []time.Duration
		calm      time.Duration
	}{
		{"nobody was appointed", nil, 0},
		{"the first failover is followed by none", []time.Duration{70 * s}, 70 * s},
		{"the second has the third wait for a second", []time.Duration{69 * s, 70 * s}, 71 * s},
		{"the fifth has the sixth wait for eight", []time.Duration{20 * s, 30 * s, 40 * s, 50 * s, 70 * s}, 78 * s},
		{"nothing waits for more than half a minute", []time.Duration{20 * s, 21 * s, 22 * s, 23 * s, 24 * s, 25 * s, 26 * s, 27 * s, 70 * s}, 100 * s},
		{"what is older than a minute does not count", []time.Duration{5 * s, 9 * s, 70 * s}, 70 * s},
		{"nor what comes after the healing", []time.Duration{70 * s, healed + s, healed + 2*s}, 70 * s},
	} {
		if got := backedOff(c.appointed); got != c.calm {
			t.Errorf("%s: the next may come at %s, want %s", c.what, got, c.calm)
		}
	}
}
