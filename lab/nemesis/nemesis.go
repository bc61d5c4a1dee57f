// Package nemesis composes from a seed what a chaos run breaks, and when: rounds of faults that overlap.
//
// It must never read a clock, touch a process or know a running cluster: equal seeds give equal plans, so what broke a
// cluster can be made again. Whom a step hits it says by seat, which is filled when the step is made.
package nemesis

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Part is a process of a node.
type Part string

// The parts. A backend is one session of the load, a receiver is what a standby gets its log by.
const (
	Agent      Part = "agent"
	Guard      Part = "guard"
	Postmaster Part = "postmaster"
	Backend    Part = "backend"
	Receiver   Part = "walreceiver"
)

// Do is what a step does.
type Do string

// What a step does. The second of each pair undoes the first, as far as a round does that before it is healed.
const (
	Kill   Do = "kill"     // SIGKILL to Parts
	Stop   Do = "stop"     // SIGSTOP to Parts
	Resume Do = "continue" // SIGCONT to whom this fault stopped

	Cut  Do = "cut"  // the network, in Shape; with N only that many packets of a hundred are lost
	Mend Do = "mend" // what this fault cut

	Vanish Do = "vanish" // the host: its link, then all that runs on it
	Return Do = "return" // the host, and its agent is started

	PowerOff Do = "power off" // all that runs on all nodes, at once
	PowerOn  Do = "power on"  // one node's agent is started

	Hang     Do = "hang"      // every write to the disk
	Thaw     Do = "thaw"      // the disk
	Fill     Do = "fill"      // the disk
	Free     Do = "free"      // the disk
	ReadOnly Do = "read-only" // the disk; healing repairs it

	Jump  Do = "clock jump" // the wall clock that Postgres sees, by N seconds
	Right Do = "set right"  // that clock

	Ambush Do = "ambush" // SIGKILL to Parts on the first node that logs Word, After later

	Switchover  Do = "switchover" // to the node of the seat, asked of any
	Pause       Do = "pause"
	Unpause     Do = "resume"
	Remove      Do = "remove"       // a member; it joins again, wiped, when the round is healed
	Reinit      Do = "reinit"       // a standby's copy is replaced
	Configure   Do = "configure"    // a setting becomes N
	SlowRestore Do = "slow restore" // a standby gets a restore_command that takes After and finds nothing, and loses its stream

	Hold  Do = "hold replay" // a standby receives and does not replay
	Play  Do = "go on replaying"
	Begin Do = "start by hand" // the Postgres of a host whose agent is away, as its last start was
	End   Do = "end by hand"   // what was started so
	Busy  Do = "busy session"  // one that commits without a pause, until it ends or is ended
)

// Step is one thing that is done at an instant of a round.
type Step struct {
	At    time.Duration `json:"at"`    // since the first fault of the round
	Fault int           `json:"fault"` // which of the round's faults it belongs to
	Do    Do            `json:"do"`
	// Seat 0 is the primary when the fault's first step is made, and the others follow by name; who is primary meanwhile
	// changes nothing for the later steps of the same fault.
	Seat  int           `json:"seat"`
	Parts []Part        `json:"parts,omitempty"`
	Away  bool          `json:"away,omitempty"` // whose agent was killed gets it back by healing only
	Shape Shape         `json:"shape,omitempty"`
	Word  string        `json:"word,omitempty"`
	After time.Duration `json:"after,omitempty"`
	N     int           `json:"n,omitempty"`
}

// String says it on one line.
func (s Step) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "+%.2fs %s", s.At.Seconds(), s.Do)
	for _, p := range s.Parts {
		fmt.Fprintf(&b, " %s", p)
	}
	switch {
	case s.Do == Cut:
		fmt.Fprintf(&b, " %s, turned by %d", s.Shape, s.Seat)
		if s.N > 0 {
			fmt.Fprintf(&b, ", %d packets of 100", s.N)
		}
	case s.Do == Ambush:
		fmt.Fprintf(&b, " %d ms after somebody logs %q", s.After.Milliseconds(), s.Word)
	case s.Do == Configure:
		fmt.Fprintf(&b, " %d", s.N)
	case s.Do == PowerOff || s.Do == Pause || s.Do == Unpause || s.Do == Mend:
	case s.Seat == 0:
		b.WriteString(" of the primary")
	default:
		fmt.Fprintf(&b, " of seat %d", s.Seat)
	}
	switch {
	case s.Away:
		b.WriteString(", to stay away")
	case s.Do == Jump:
		fmt.Fprintf(&b, " by %d s", s.N)
	case s.Do == SlowRestore:
		fmt.Fprintf(&b, " by a command of %d ms", s.After.Milliseconds())
	}
	return b.String()
}

// HitsPrimary says whether the primary is hit whoever sits in the seat.
func (s Step) HitsPrimary() bool {
	switch s.Do {
	case PowerOff, Switchover:
		return true
	case Cut:
		return s.Shape == Ring || s.Shape == Alone || s.Shape == Everywhere
	}
	return false
}

// Round is what happens between two states in which the cluster is whole.
type Round struct {
	Faults []string      `json:"faults"` // by the number that steps have
	Steps  []Step        `json:"steps"`  // by time
	Calm   time.Duration `json:"calm"`   // before the first
	Hold   time.Duration `json:"hold"`   // after the last, until all is healed
	Prober bool          `json:"prober"` // whether every node is probed, which makes old primaries diverge
}

// Removes says whether a member leaves in this round.
func (r Round) Removes() bool {
	return slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Do == Remove })
}

// Sets returns every non-empty set of the parts.
func Sets() [][]Part {
	all := []Part{Agent, Guard, Postmaster, Backend, Receiver}
	var sets [][]Part
	for bits := 1; bits < 1<<len(all); bits++ {
		var set []Part
		for i, p := range all {
			if bits&(1<<i) != 0 {
				set = append(set, p)
			}
		}
		sets = append(sets, set)
	}
	return sets
}

func join(parts []Part) string {
	var words []string
	for _, p := range parts {
		words = append(words, string(p))
	}
	return strings.Join(words, "+")
}
