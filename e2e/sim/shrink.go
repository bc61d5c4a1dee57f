package sim

import (
	"fmt"
	"strconv"
	"strings"
)

// Shrink leaves faults out, half of them at a time and then one by one, as long as the seed still fails, and returns the
// numbers of those that are left, with the outcome. What fails at the end need not be what failed at first.
func Shrink(o Options, failed Outcome) ([]int, Outcome) {
	keep := o.Keep
	if keep == nil {
		for i := range failed.Plan {
			keep = append(keep, i)
		}
	}
	try := func(some []int) bool {
		o.Keep = append([]int{}, some...)
		out := Run(o)
		if out.Violation == nil {
			return false
		}
		keep, failed = o.Keep, out
		return true
	}
	// What comes after the violation has no part in it.
	var before []int
	for _, i := range keep {
		if failed.Plan[i].At <= failed.Violation.At {
			before = append(before, i)
		}
	}
	if len(before) < len(keep) {
		try(before)
	}
	for size := max(1, len(keep)/2); ; {
		cut := false
		for at := 0; at < len(keep); {
			end := min(len(keep), at+size)
			if rest := append(append([]int{}, keep[:at]...), keep[end:]...); try(rest) {
				cut = true
				continue
			}
			at = end
		}
		switch {
		case size > 1:
			size /= 2
		case !cut:
			return keep, failed
		}
	}
}

// Replay is the command that plays a seed again, with its events.
func Replay(o Options) string {
	out := fmt.Sprintf("go test -tags hashicorpmetrics -count 1 -v -run TestReplay ./e2e/sim -sim.seed %d", o.Seed)
	if o.Without != MutNone {
		out += " -sim.without " + string(o.Without)
	}
	if o.Keep != nil {
		numbers := make([]string, len(o.Keep))
		for i, n := range o.Keep {
			numbers[i] = strconv.Itoa(n)
		}
		if len(numbers) == 0 {
			numbers = []string{"none"}
		}
		out += " -sim.keep " + strings.Join(numbers, ",")
	}
	return out
}
