package judge

import (
	"fmt"
	"maps"
	"slices"

	"github.com/quorate/quorate/lab/history"
)

// Monotone says that what a primary showed is never taken back, neither in the end nor to a later read of a primary, and that
// every read of a primary that began after a write was acknowledged shows that write. Standbys lag and may go back: see
// docs/limits.md. Reads of nodes that nobody could fence may show what was true before.
func Monotone(sights []history.Sight, writes []history.Write, present map[int64]bool, unfenced Unfenced) []Violation {
	var judged []history.Sight
	for _, s := range sights {
		if s.Primary && !unfenced.at(s.Node, s.Start, s.End) {
			judged = append(judged, s)
		}
	}
	slices.SortFunc(judged, func(a, b history.Sight) int { return int(a.Start - b.Start) })
	acked := map[int64]int64{} // when, by id
	for _, w := range writes {
		if w.OfLoad() && w.Outcome == history.OK {
			acked[w.ID] = w.End
		}
	}
	first := map[int64]int64{} // when somebody had first seen it, by id
	for _, s := range judged {
		for _, id := range s.IDs {
			if at, ok := first[id]; !ok || s.End < at {
				first[id] = s.End
			}
		}
	}
	var taken, missed, unseen []string
	for _, id := range slices.Sorted(maps.Keys(first)) {
		if !present[id] {
			taken = append(taken, fmt.Sprint(id))
		}
	}
	ids := slices.Sorted(maps.Keys(acked))
	seen := slices.Sorted(maps.Keys(first))
	for _, s := range judged {
		missed = append(missed, hidden(s, ids, acked)...)
		unseen = append(unseen, hidden(s, seen, first)...)
	}
	same := func(s string) string { return s }
	found := of(Reads, taken, "rows that a primary showed are gone in the end", same)
	found = append(found, of(Reads, missed, "times a primary did not show what was acknowledged before", same)...)
	return append(found, of(Reads, unseen, "times a primary did not show what one had shown before", same)...)
}

// hidden are the ids, sorted, that were known before the read began and are not in it.
func hidden(s history.Sight, ids []int64, known map[int64]int64) (all []string) {
	from, _ := slices.BinarySearch(ids, s.From)
	for _, id := range ids[from:] {
		if _, there := slices.BinarySearch(s.IDs, id); !there && known[id] < s.Start {
			all = append(all, fmt.Sprintf("%d on %s", id, s.Node))
		}
	}
	return all
}
