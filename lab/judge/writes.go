package judge

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/lab/history"
)

// Lost are the load's writes that were acknowledged and are not in present.
func Lost(writes []history.Write, present map[int64]bool) (lost []history.Write) {
	for _, w := range writes {
		if w.OfLoad() && w.Outcome == history.OK && !present[w.ID] {
			lost = append(lost, w)
		}
	}
	return lost
}

// AppendSet says that everything acknowledged is there and nothing refused; what is unknown may be either. With async what is
// missing is no violation here: it has to stand in evidence.
func AppendSet(writes []history.Write, present map[int64]bool, async bool) []Violation {
	var found []Violation
	if !async {
		found = of(Appends, Lost(writes, present), "acknowledged writes are missing", showWrite)
	}
	var refused, ghosts []history.Write
	attempted := map[int64]bool{}
	for _, w := range writes {
		if !w.OfLoad() {
			continue
		}
		attempted[w.ID] = true
		if w.Outcome == history.Failed && present[w.ID] {
			refused = append(refused, w)
		}
	}
	for id := range present {
		if !attempted[id] {
			ghosts = append(ghosts, history.Write{ID: id, Node: "nobody"})
		}
	}
	slices.SortFunc(ghosts, func(a, b history.Write) int { return int(a.ID - b.ID) })
	found = append(found, of(Appends, refused, "writes were refused and are there", showWrite)...)
	return append(found, of(Appends, ghosts, "rows are there that nobody wrote", showWrite)...)
}

// OneWriter says that no two nodes took writes at once, but where nobody could fence.
func OneWriter(writes []history.Write, unfenced Unfenced) []Violation {
	judged := slices.DeleteFunc(slices.Clone(writes), func(w history.Write) bool { return unfenced.at(w.Node, w.Start, w.End) })
	if ms := history.Overlap(judged); ms > 0 {
		return []Violation{{Writers, fmt.Sprintf("two nodes took writes at once, for %.2f ms", ms)}}
	}
	return nil
}

// Kept is evidence of discarded log: of which node, which transactions it lists, and which log it has byte for byte. Broken is what
// it says of itself and is not so. Whole says that it is a directory that was set aside, or that a member left with, and that has
// all that was acknowledged in that time: in that of a member since it was told to leave.
type Kept struct {
	ID     string
	Node   string
	XIDs   map[uint64]bool
	Log    []Stretch
	Broken []string
	Whole  Span
}

// keptWhole says whether a directory was kept that has the write.
func keptWhole(kept []Kept, w history.Write) bool {
	return slices.ContainsFunc(kept, func(k Kept) bool { return k.Node == w.Node && k.Whole.From <= w.End && w.End <= k.Whole.To })
}

// Discarded says that every acknowledged write that is not in present, be it the load's or a prober's, stands in evidence. Writes
// without the number of their transaction can't be looked up and are not judged.
func Discarded(writes []history.Write, present map[int64]bool, kept []Kept) []Violation {
	var bare []history.Write
	for _, w := range writes {
		if w.Outcome != history.OK || w.XID == 0 || w.Client != "" || present[w.ID] || keptWhole(kept, w) {
			continue
		}
		// Commit lists have the number without its epoch.
		listed := func(k Kept) bool {
			return k.Node == w.Node && (k.XIDs[w.XID] || k.XIDs[w.XID&(1<<32-1)])
		}
		if !slices.ContainsFunc(kept, listed) {
			bare = append(bare, w)
		}
	}
	return of(Evidence, bare, "acknowledged writes were discarded and stand in no evidence", showWrite)
}
