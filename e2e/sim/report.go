package sim

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/quorate/quorate/failover"
)

// Print writes what many seeds came to: how often each fault came, how long nobody's commit was acknowledged around it and in which
// seed for longest, how often each rule decided and each step was made.
func (s *Stats) Print(out io.Writer, seeds int) {
	fmt.Fprintf(out, "%d seeds, %.0f virtual minutes, %d events; %d operations, %d acknowledged, %d unknown, %d found no server\n",
		seeds, s.Virtual.Minutes(), s.Events, s.Issued, s.Acked, s.Unknown, s.Refused)
	fmt.Fprintf(out, "%d appointments of another node (%.1f a seed), %d of the same; %d logs discarded, with evidence\n",
		s.Appointed, float64(s.Appointed)/float64(max(seeds, 1)), s.Again, s.Discards)
	fmt.Fprintf(out, "%d snapshots of the replicated state taken in, %d hosts wiped and let in again, %d clusters recovered from one node\n",
		s.Installed, s.Replaced, s.Recovered)
	fmt.Fprintf(out, "%d planned restarts and new copies begun; replay stood still %d times for want of settings, %d servers ended for that\n",
		s.Restarts, s.Outgrown, s.Stillborn)
	fmt.Fprintf(out, "%d clusters began with data that were there; %d daemons were upgraded, %d times one halted at a later release's command\n",
		s.Adopted, s.Upgraded, s.Halted)
	fmt.Fprintf(out, "%d acknowledged commits given up: under async, by %d appointments at an accepted loss, and by recoveries\n",
		s.Lossy, s.Accepted)
	fmt.Fprintf(out, "%d times two servers took writes while nothing on the host of one could run that ends it\n\n", s.Excused)
	fmt.Fprintf(out, "longest time without an acknowledgement (ms), from 1 s before a fault to 10 s after, of those that came alone\n")
	fmt.Fprintf(out, "%-14s %7s %7s %7s %7s %7s %7s %9s\n", "fault", "times", "alone", "p50", "p90", "p99", "max", "its seed")
	for _, name := range slices.Sorted(maps.Keys(s.Faults)) {
		g := inOrder(s.Gaps[name])
		if len(g) == 0 {
			fmt.Fprintf(out, "%-14s %7d %7d\n", name, s.Faults[name], 0)
			continue
		}
		at := func(p float64) int64 { return g[min(len(g)-1, int(p*float64(len(g))))].span.Milliseconds() }
		fmt.Fprintf(out, "%-14s %7d %7d %7d %7d %7d %7d %9d\n", name, s.Faults[name], len(g), at(0.5), at(0.9), at(0.99), at(1), g[len(g)-1].seed)
	}
	fmt.Fprintf(out, "\n%-20s %9s\n", "rule", "decisions")
	for _, r := range failover.Rules() {
		fmt.Fprintf(out, "%-20s %9d\n", r.Name, s.Rules[r.Name])
	}
	fmt.Fprintf(out, "\n%-20s %9s\n", "step", "times")
	for _, name := range slices.Sorted(maps.Keys(s.Steps)) {
		fmt.Fprintf(out, "%-20s %9d\n", name, s.Steps[name])
	}
}

// inOrder sorts gaps by length. Which worker played a seed makes no difference: of those that are as long the lowest seed is last.
func inOrder(gaps []gap) []gap {
	return slices.SortedFunc(slices.Values(gaps), func(a, b gap) int {
		return cmp.Or(cmp.Compare(a.span, b.span), cmp.Compare(b.seed, a.seed))
	})
}

// What a seed must have at least.
const (
	minVirtual    = 120 * time.Second
	minOperations = 8 // a second
)

// Short says what a seed has too little of to count, empty for nothing. One that was violated ends before its time.
func (o Outcome) Short() string {
	s := o.Stats
	switch {
	case o.Violation != nil:
	case s.Virtual < minVirtual:
		return fmt.Sprintf("it has %s of virtual time, %s are the least", s.Virtual, minVirtual)
	case float64(s.Issued) < minOperations*s.Virtual.Seconds():
		return fmt.Sprintf("it has %d operations in %s, %d a second are the least", s.Issued, s.Virtual, minOperations)
	case len(o.Plan) < minFaults:
		return fmt.Sprintf("it has %d faults, %d are the least", len(o.Plan), minFaults)
	}
	return ""
}

// Unfired lists the rules that never decided.
func (s *Stats) Unfired() []string {
	var out []string
	for _, r := range failover.Rules() {
		if s.Rules[r.Name] == 0 {
			out = append(out, r.Name)
		}
	}
	return out
}

// perMinute is how many seeds a minute takes.
func perMinute(seeds int, took time.Duration) float64 { return float64(seeds) / took.Minutes() }
