package fsm

import (
	"cmp"
	"fmt"
	"slices"
)

const (
	maxPhases = 16
	maxPath   = 4096 // bytes of a path or another text that a node chose
)

// MaxFailovers is how many reports a State keeps: those of the newest epochs.
const MaxFailovers = 64

// PhaseStreaming is the phase at which as many nodes stream from the new primary as a commit waits for: from then on commits
// are acknowledged again.
const PhaseStreaming = "streaming"

// Phase is one step of a failover, in ms since it began.
type Phase struct {
	Name string `json:"name"`
	MS   int64  `json:"ms"`
}

// Failover is the report of how an epoch came to be. What it discarded is in Discards, under the same epoch.
type Failover struct {
	Epoch  Epoch   `json:"epoch"`
	From   NodeID  `json:"from"`           // primary of the epoch before, empty for the first
	To     NodeID  `json:"to"`             // the same as From when it was appointed again
	Rule   string  `json:"rule"`           // of the decision that appointed it
	Cause  string  `json:"cause"`          // "RULE: why" of the decision that began it; empty if nobody is left who knows
	Wish   string  `json:"wish,omitempty"` // the switchover that it was, if it was one
	Async  bool    `json:"async"`          // nothing was promised: acknowledged commits may be among what was discarded
	Phases []Phase `json:"phases"`
	Wall   int64   `json:"wall"` // unix milliseconds of its Appoint, for display only
}

// Appointment finds the event of the Appoint that began epoch, with the rule that decided in By; false if it is too old to
// be remembered.
func (s State) Appointment(epoch Epoch) (Event, bool) {
	i := slices.IndexFunc(s.Events, func(e Event) bool { return e.Epoch == epoch })
	if epoch == 0 || i < 1 { // The first one remembered may be a later one of the same epoch.
		return Event{}, false
	}
	return s.Events[i], true
}

// RecordFailover files the report of an epoch (Version only). The first one about an epoch stays.
type RecordFailover struct {
	Failover Failover `json:"failover"`
}

// Kind is "record-failover".
func (RecordFailover) Kind() string { return "record-failover" }

func (RecordFailover) nature() nature { return footnote() }

func (c RecordFailover) apply(next *State) (string, error) {
	f := c.Failover
	at := slices.IndexFunc(next.Lineage, func(l Lineage) bool { return l.Epoch == f.Epoch })
	switch {
	case at < 0:
		return "", fmt.Errorf("%w: there is no epoch %d", ErrStaleEpoch, f.Epoch)
	case slices.ContainsFunc(next.Failovers, func(known Failover) bool { return known.Epoch == f.Epoch }):
		return "", fmt.Errorf("%w: the report of epoch %d", ErrExists, f.Epoch)
	case len(f.Phases) > maxPhases || len(f.Rule) > maxText || len(f.Cause) > maxPath || len(f.Wish) > maxText:
		return "", fmt.Errorf("%w: a report has at most %d phases and bounded texts", ErrInvalid, maxPhases)
	}
	for _, p := range f.Phases {
		if p.Name == "" || len(p.Name) > maxText || p.MS < 0 {
			return "", fmt.Errorf("%w: phase %q at %d ms", ErrInvalid, p.Name, p.MS)
		}
	}
	f.To, f.From, f.Async = next.Lineage[at].Node, "", next.Lineage[at].Async
	if at > 0 {
		f.From = next.Lineage[at-1].Node
	}
	f.Phases = slices.Clone(f.Phases)
	next.Failovers = append(next.Failovers, f)
	slices.SortFunc(next.Failovers, func(a, b Failover) int { return cmp.Compare(a.Epoch, b.Epoch) }) // a late one goes to its place
	next.Failovers = keepLast(next.Failovers, MaxFailovers)
	return fmt.Sprintf("report of epoch %d: %s", f.Epoch, next.Name(f.To)), nil
}
