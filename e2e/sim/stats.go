package sim

import (
	"slices"
	"time"

	"github.com/quorate/quorate/pgctl"
)

// Stats are what one seed, or many, came to.
type Stats struct {
	Events    int
	Faults    map[string]int
	Rules     map[string]int // decisions by each rule
	Steps     map[string]int
	Gaps      map[string][]gap // the longest without an acknowledgement around each fault of a kind
	Appointed int              // epochs that began with another node
	Again     int              // with the same
	Issued    int
	Acked     int
	Unknown   int
	Refused   int
	Discards  int
	Excused   int // two writers while neither guard nor agent of one could run
	Lossy     int // acknowledged commits that async, an operator or a recovery gave up
	Accepted  int // appointments at a loss that an operator accepted
	Installed int // snapshots that a follower took in
	Replaced  int // hosts that were wiped and let in again
	Recovered int // clusters that an operator made of the one node that was left
	Restarts  int // planned ones that were begun, and new copies
	Outgrown  int // standbys whose replay stood still for want of settings
	Stillborn int // servers that ended at their start for the same
	Adopted   int // data directories that a cluster began with
	Upgraded  int // daemons that were restarted with a later release
	Halted    int // that met a command which they did not know
	Virtual   time.Duration
}

// gap is a time without an acknowledgement, and the seed that shows it again.
type gap struct {
	span time.Duration
	seed uint64
}

func newStats() Stats {
	return Stats{
		Faults: map[string]int{}, Rules: map[string]int{}, Steps: map[string]int{},
		Gaps: map[string][]gap{},
	}
}

func (s *Stats) fired(rule string)        { s.Rules[rule]++ }
func (s *Stats) step(kind pgctl.StepKind) { s.Steps[string(kind)]++ }
func (s *Stats) fault(kind string)        { s.Faults[kind]++ }

// finish completes the statistics of a run.
func (w *World) finish(plan []Fault) {
	s, l := &w.stats, &w.load
	s.Appointed, s.Again, s.Excused, s.Lossy = len(w.check.appointed), len(w.check.again), w.check.excused, w.check.lossy
	s.Recovered, s.Accepted = w.recovered, w.check.accepted
	s.Issued, s.Acked, s.Unknown, s.Refused, s.Virtual = l.issued, l.acked, l.unknown, l.refused, w.now
	for i, f := range plan {
		if w.opts.Keep == nil && w.now >= f.At+10*time.Second && apart(plan, i) {
			s.Gaps[f.Kind] = append(s.Gaps[f.Kind], gap{l.gap(f.At-time.Second, f.At+10*time.Second), w.opts.Seed})
		}
	}
}

// apart says that a fault came alone: no other was under way a second before it, nor began until it had shown its effect.
func apart(plan []Fault, i int) bool {
	f := plan[i]
	for n, o := range plan {
		if n != i && o.At < f.At+6*time.Second && o.At+o.For+2*time.Second > f.At {
			return false
		}
	}
	return true
}

// gap is the longest time without an acknowledgement between two instants.
func (l *load) gap(from, to time.Duration) (longest time.Duration) {
	i, _ := slices.BinarySearch(l.acks, from)
	last := from
	for ; i < len(l.acks) && l.acks[i] < to; i++ {
		longest = max(longest, l.acks[i]-last)
		last = l.acks[i]
	}
	return max(longest, to-last)
}

// Add adds the statistics of another run.
func (s *Stats) Add(o Stats) {
	s.Events += o.Events
	for _, pair := range [][2]map[string]int{{s.Faults, o.Faults}, {s.Rules, o.Rules}, {s.Steps, o.Steps}} {
		for name, n := range pair[1] {
			pair[0][name] += n
		}
	}
	for name, gaps := range o.Gaps {
		s.Gaps[name] = append(s.Gaps[name], gaps...)
	}
	s.Appointed += o.Appointed
	s.Again += o.Again
	s.Issued += o.Issued
	s.Acked += o.Acked
	s.Unknown += o.Unknown
	s.Refused += o.Refused
	s.Discards += o.Discards
	s.Excused += o.Excused
	s.Lossy += o.Lossy
	s.Accepted += o.Accepted
	s.Installed += o.Installed
	s.Replaced += o.Replaced
	s.Recovered += o.Recovered
	s.Restarts += o.Restarts
	s.Outgrown += o.Outgrown
	s.Stillborn += o.Stillborn
	s.Adopted += o.Adopted
	s.Upgraded += o.Upgraded
	s.Halted += o.Halted
	s.Virtual += o.Virtual
}
