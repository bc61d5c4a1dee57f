package fsm

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/internal/pg"
)

// Kind is "promoted".
func (Promoted) Kind() string { return "promoted" }

func (Promoted) nature() nature { return footnote() }

func (c Promoted) apply(next *State) (string, error) {
	if c.Epoch == 0 || c.Epoch != next.Epoch || c.Node != next.Primary {
		return "", fmt.Errorf("%w: %s reports epoch %d, but %s is primary in epoch %d", ErrStaleEpoch,
			next.Name(c.Node), c.Epoch, next.Name(next.Primary), next.Epoch)
	}
	if c.SystemID != 0 && next.SystemID != 0 && c.SystemID != next.SystemID {
		return "", fmt.Errorf("%w: %s has %s, the cluster %s", ErrSystemID, next.Name(c.Node), c.SystemID, next.SystemID)
	}
	if a := next.Adopted; a != nil && next.SystemID == 0 && c.SystemID != a.SystemID {
		return "", fmt.Errorf("%w: %s has %s, the data adopted are of %s", ErrSystemID, next.Name(c.Node), c.SystemID, a.SystemID)
	}
	if err := next.correctLineage(c); err != nil {
		return "", err
	}
	if next.SystemID == 0 {
		next.SystemID = c.SystemID
	}
	return fmt.Sprintf("%s is primary on timeline %d from %s", next.Name(c.Node), c.Timeline, c.SwitchLSN), nil
}

// correctLineage replaces what the Appoint predicted. Timelines keep growing along the lineage, because their order is
// what decides which log is ahead.
func (s *State) correctLineage(c Promoted) error {
	last := len(s.Lineage) - 1
	if last < 0 || c.Timeline == 0 || c.Parent >= c.Timeline {
		return fmt.Errorf("%w: timeline %d from %d, and %d known assignments", ErrLineage, c.Timeline, c.Parent, last+1)
	}
	now, first := s.Lineage[last], s.sameTimeline(last)
	parent := now.Parent
	switch {
	case now.Promoted && c.Timeline == now.Timeline:
		return nil // said before, or kept over a re-appointment
	case now.Promoted && first == last:
		return fmt.Errorf("%w: %s reported timeline %d for epoch %d before, now %d", ErrLineage, s.Name(c.Node), now.Timeline, c.Epoch, c.Timeline)
	case now.Promoted, c.Parent == now.Timeline && first < last:
		// Appointed again and promoted again, after a crash: only this assignment is on the new timeline.
		first, parent = last, now.Timeline
	}
	if c.Parent != 0 {
		parent = c.Parent
	}
	if first > 0 && c.Timeline <= s.Lineage[first-1].Timeline {
		return fmt.Errorf("%w: timeline %d of epoch %d, but epoch %d has timeline %d already", ErrLineage,
			c.Timeline, c.Epoch, s.Lineage[first-1].Epoch, s.Lineage[first-1].Timeline)
	}
	for i := first; i <= last; i++ {
		l := &s.Lineage[i]
		l.Timeline, l.Parent, l.SwitchLSN, l.Promoted = c.Timeline, parent, c.SwitchLSN, true
	}
	return nil
}

// sameTimeline returns the first of the assignments that end with the one at index and share its timeline: an
// appointment of another node and the re-appointments after it.
func (s *State) sameTimeline(index int) int {
	for index > 0 && s.Lineage[index-1].Timeline == s.Lineage[index].Timeline {
		index--
	}
	return index
}

// lastLineage returns the present assignment; the zero Lineage before the first.
func (s State) lastLineage() Lineage {
	if len(s.Lineage) == 0 {
		return Lineage{}
	}
	return s.Lineage[len(s.Lineage)-1]
}

// branch finds the assignment that timeline tli began with.
func (s State) branch(tli pg.Timeline) (Lineage, bool) {
	for _, l := range s.Lineage {
		if l.Timeline == tli {
			return l, true
		}
	}
	return Lineage{}, false
}

// RankOf returns the place of a timeline in the history of the cluster: of two logs the one whose last record is on the
// timeline of higher rank is ahead, whatever their lengths. False: the cluster never knew the timeline, so a log that
// ends on it cannot be compared with others.
func (s State) RankOf(tli pg.Timeline) (int, bool) {
	rank := 0
	for i, l := range s.Lineage {
		if i > 0 && l.Timeline != s.Lineage[i-1].Timeline {
			rank++
		}
		if l.Timeline == tli {
			return rank, true
		}
	}
	return 0, false
}

// LineageHistory returns the ancestors of a timeline, oldest first, as far as the cluster knows them; false if it does
// not know tli. Switch points are predictions until their primaries reported (Lineage.Promoted).
func (s State) LineageHistory(tli pg.Timeline) (pg.History, bool) {
	l, ok := s.branch(tli)
	if !ok {
		return nil, false
	}
	history := pg.History{}
	for l.Parent != 0 && l.Parent < l.Timeline { // strictly falling, so it ends for any bytes that were decoded
		history = append(history, pg.HistoryEntry{Timeline: l.Parent, End: l.SwitchLSN})
		if l, ok = s.branch(l.Parent); !ok {
			break
		}
	}
	slices.Reverse(history)
	return append(s.before(tli, history), history...), true
}

// Shared returns how far a log that ends at end on timeline tli goes in the history of the timeline other, too: to where their ways
// part, however much longer it is. False: the cluster does not know one of the two.
func (s State) Shared(tli pg.Timeline, end pg.LSN, other pg.Timeline) (pg.LSN, bool) {
	mine, ours := s.LineageHistory(tli)
	theirs, known := s.LineageHistory(other)
	if !ours || !known {
		return 0, false
	}
	mine = append(mine, pg.HistoryEntry{Timeline: tli, End: end})
	theirs = append(theirs, pg.HistoryEntry{Timeline: other, End: ^pg.LSN(0)})
	both := pg.LSN(0)
	for i := range min(len(mine), len(theirs)) {
		if mine[i].Timeline != theirs[i].Timeline {
			break
		}
		both = min(mine[i].End, theirs[i].End, end)
		if mine[i].End != theirs[i].End {
			break
		}
	}
	return both, true
}

// before is what the data adopted had behind them when the cluster began, as far as it is older than known, the history of
// tli within the cluster.
func (s State) before(tli pg.Timeline, known pg.History) pg.History {
	if s.Adopted == nil {
		return pg.History{}
	}
	if len(known) > 0 {
		tli = known[0].Timeline
	}
	older := slices.IndexFunc(s.Adopted.History, func(e pg.HistoryEntry) bool { return e.Timeline >= tli })
	if older < 0 {
		older = len(s.Adopted.History)
	}
	return append(pg.History{}, s.Adopted.History[:older]...)
}

// SwitchAfter returns where the present timeline's ancestry left tli: log beyond it belongs to no history any more. False
// if tli is the present timeline, was never an ancestor of it, or was left at a point that is only predicted so far.
func (s State) SwitchAfter(tli pg.Timeline) (pg.LSN, bool) {
	l := s.lastLineage()
	for l.Parent != 0 && l.Parent < l.Timeline {
		if l.Parent == tli {
			return l.SwitchLSN, l.Promoted
		}
		parent, ok := s.branch(l.Parent)
		if !ok {
			break
		}
		l = parent
	}
	return 0, false
}
