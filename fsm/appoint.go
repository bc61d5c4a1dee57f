package fsm

import (
	"fmt"

	"github.com/quorate/quorate/internal/pg"
)

// Kind is "appoint".
func (Appoint) Kind() string { return "appoint" }

func (Appoint) nature() nature { return bound() }

// apply names the primary of the next epoch. It takes nobody out of R: without the new primary in D a member that lacks an
// acknowledged commit could be elected after it (lease.md rule 15). It takes the new primary in where an operator had one
// appointed that was not there.
func (c Appoint) apply(next *State) (string, error) {
	if c.IfEpoch != next.Epoch {
		return "", fmt.Errorf("%w: decided in epoch %d, now it is %d", ErrStaleEpoch, c.IfEpoch, next.Epoch)
	}
	if m, ok := next.Members[c.Node]; !ok || m.Role != RoleData {
		return "", next.Electable(c.Node)
	}
	entry, text := Lineage{}, ""
	switch {
	case next.Epoch > 0 && c.Node == next.Primary:
		entry = next.lastLineage()
		entry.Async = false // It has its own log still.
		text = fmt.Sprintf("%s appointed again, timeline unchanged", next.Name(c.Node))
	case next.Paused:
		return "", fmt.Errorf("%w: only the present primary can be appointed before a resume", ErrPaused)
	case next.Electable(c.Node) != nil:
		return "", next.Electable(c.Node)
	case next.Epoch == 0:
		var err error
		if entry, err = next.firstAssignment(c); err != nil {
			return "", err
		}
		next.Sync = firstSync(c.Node, next.Config.Settings.Durability)
		text = fmt.Sprintf("%s appointed the first primary", next.Name(c.Node))
	default:
		parent, lossy, err := next.checkHandover(c)
		if err != nil {
			return "", err
		}
		entry = Lineage{Timeline: c.Timeline, Parent: parent, SwitchLSN: c.SwitchLSN, Async: lossy || len(next.Sync.Members) == 0}
		text = fmt.Sprintf("%s appointed in place of %s, timeline %d from %s", next.Name(c.Node), next.Name(next.Primary), c.Timeline, c.SwitchLSN)
		if lossy {
			next.Sync = next.Sync.takeIn(c.Node)
			text += "; an operator accepted that acknowledged commits may be lost"
		}
	}
	if c.Node != next.Primary {
		next.PauseRev = 0 // whoever applies this has applied the resume: it needs not be shown by this primary
	}
	next.Epoch++
	next.Primary, next.Wish = c.Node, nil
	entry.Epoch, entry.Node = next.Epoch, c.Node
	next.Lineage = append(next.Lineage, entry)
	return text, nil
}

// checkHandover proves that the primary can be replaced by another node: nobody writes in its epoch any more, the
// candidate has every acknowledged commit, or lossy, an operator accepted that it has not, and its timeline will be told
// apart from all others. It returns the timeline that the candidate's will branch from.
func (s *State) checkHandover(c Appoint) (parent pg.Timeline, lossy bool, err error) {
	if s.Adopting(s.Primary) {
		return 0, false, fmt.Errorf("%w: only %s has the data that the cluster begins with, until it has opened them", ErrNotElectable, s.Name(s.Primary))
	}
	if err := s.checkStopped(c); err != nil {
		return 0, false, err
	}
	candidate, err := s.checkPositions(c)
	if err != nil {
		if candidate, lossy = s.acceptedLoss(c); !lossy {
			return 0, false, err
		}
	}
	for _, l := range s.Lineage {
		if c.Timeline <= l.Timeline {
			return 0, false, fmt.Errorf("%w: timeline %d is predicted, but %d belongs to epoch %d; predict a higher one", ErrLineage, c.Timeline, l.Timeline, l.Epoch)
		}
	}
	if candidate == nil { // durability async: nothing is known of its log
		return s.lastLineage().Timeline, false, nil
	}
	if c.SwitchLSN != candidate.LSN {
		return 0, false, fmt.Errorf("%w: the switch is predicted at %s, but the log of %s ends at %s", ErrLineage, c.SwitchLSN, s.Name(c.Node), candidate.LSN)
	}
	return candidate.Timeline, lossy, nil
}

// firstAssignment is where the history of the cluster begins: on timeline 1 of a new database, or with the data adopted.
func (s *State) firstAssignment(c Appoint) (Lineage, error) {
	a := s.Adopted
	switch {
	case a == nil:
		return Lineage{Timeline: 1}, nil
	case c.Node != a.Node:
		return Lineage{}, fmt.Errorf("%w: the cluster begins with the data of %s", ErrNotElectable, s.Name(a.Node))
	case c.Timeline != a.Timeline:
		return Lineage{}, fmt.Errorf("%w: timeline %d, the data adopted are for timeline %d", ErrLineage, c.Timeline, a.Timeline)
	case a.Parent == 0:
		return Lineage{Timeline: a.Timeline}, nil
	}
	return Lineage{Timeline: a.Timeline, Parent: a.Parent, SwitchLSN: a.End}, nil
}

// firstSync is R of the first primary, before there is anybody to copy to.
func firstSync(node NodeID, durability Durability) SyncRule {
	if durability == DurabilityAsync {
		return SyncRule{Members: []NodeID{}}
	}
	return SyncRule{Members: []NodeID{node}, Copies: 1}
}
