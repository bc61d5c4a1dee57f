package lab

import (
	"testing"
	"time"
)

// TestSoakAgain: the command that a soak prints makes the same lab, or the same seed would make other faults.
func TestSoakAgain(t *testing.T) {
	for _, c := range []struct {
		o    SoakOptions
		want string
	}{
		{SoakOptions{For: 30 * time.Minute, Seed: 7}, "quorate lab soak --minutes 30 --seed 7"},
		{SoakOptions{For: 90 * time.Second, Seed: 7, ID: "abcd"}, "quorate lab soak --minutes 1.5 --seed 7 --id abcd"},
		{SoakOptions{For: time.Minute, Seed: 7, Nodes: 2, Witnesses: 1, Durability: "async", Failover: 2 * time.Second},
			"quorate lab soak --minutes 1 --seed 7 --data 2 --witness 1 --durability async --failover-after 2s"},
	} {
		if got := c.o.again(); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}
