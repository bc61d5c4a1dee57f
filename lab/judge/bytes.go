package judge

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/lab/history"
)

// Stretch is log of one timeline, from the first byte to the one before To.
type Stretch struct {
	Timeline uint32
	From, To pg.LSN
}

// Past is how the present log came to be: the primary's timeline with its history file, and the branches that the cluster
// remembers, some of which were given up.
type Past struct {
	Timeline uint32
	History  string
	Agreed   []Branch
}

// Sound says that evidence is what it says it is: what is wrong with a piece of it was found when it was read.
func Sound(kept []Kept) (found []Violation) {
	for _, k := range kept {
		for _, why := range k.Broken {
			found = append(found, Violation{Evidence, fmt.Sprintf("%s of %s: %s", k.ID, k.Node, why)})
		}
	}
	return found
}

// Bytes says that every byte of log that a node is known to have had, and that is no part of the present log, stands in evidence
// of that node. What a node had is known from what it acknowledged, to whom ever: its log went up to there, without a hole, since it
// left the present one. What nobody got an answer for may have been there or not, and is not asked for.
func Bytes(writes []history.Write, past Past, kept []Kept) (found []Violation) {
	branches, err := parseHistory(past.Timeline, past.History)
	if err != nil {
		return []Violation{{Evidence, fmt.Sprintf("the history of timeline %d: %v", past.Timeline, err)}}
	}
	type place struct {
		node     string
		timeline uint32
	}
	ends := map[place]pg.LSN{}
	for _, w := range writes {
		if w.Outcome != history.OK || w.LSN == 0 || w.Client != "" || keptWhole(kept, w) {
			continue
		}
		at := place{w.Node, w.Timeline}
		ends[at] = max(ends[at], w.LSN)
	}
	for at, end := range ends {
		for _, gone := range discarded(Stretch{at.timeline, 0, end}, past, branches) {
			if missing := uncovered(gone, at.node, kept); len(missing) > 0 {
				found = append(found, Violation{Evidence, fmt.Sprintf("%s discarded its log of timeline %d from %s to %s, and %d bytes of it stand in no evidence, "+
					"from %s to %s first", at.node, gone.Timeline, gone.From, gone.To, sizeOf(missing), missing[0].From, missing[0].To)})
			}
		}
	}
	slices.SortFunc(found, func(a, b Violation) int { return cmp.Compare(a.What, b.What) })
	return found
}

// discarded are the parts of a log that goes from the beginning to s.To on s.Timeline which the present log has not got.
func discarded(s Stretch, past Past, branches []Branch) (all []Stretch) {
	for s.Timeline != 0 {
		left, ok := leftAt(s.Timeline, past.Timeline, branches)
		if ok {
			if s.To > left {
				all = append(all, Stretch{s.Timeline, left, s.To})
			}
			return all
		}
		// It was given up. Where nobody remembers where it began, only its last byte is known not to be in the present log.
		i := slices.IndexFunc(past.Agreed, func(b Branch) bool { return b.Timeline == s.Timeline && b.Parent < b.Timeline })
		begin, err := s.To-1, error(nil)
		if i >= 0 && past.Agreed[i].Parent != 0 {
			begin, err = pg.ParseLSN(past.Agreed[i].Switch)
		}
		if i < 0 || err != nil {
			return append(all, Stretch{s.Timeline, s.To - 1, s.To})
		}
		if s.To > begin {
			all = append(all, Stretch{s.Timeline, begin, s.To})
		}
		s = Stretch{past.Agreed[i].Parent, 0, min(s.To, begin)}
	}
	return all
}

// leftAt is up to where the present log is on that timeline, which is not known of one that it never was on.
func leftAt(timeline, present uint32, branches []Branch) (pg.LSN, bool) {
	if timeline == present {
		return math.MaxUint64, true
	}
	for _, b := range branches {
		if b.Parent == timeline {
			at, err := pg.ParseLSN(b.Switch)
			return at, err == nil
		}
	}
	return 0, false
}

// uncovered are the parts of s that no evidence of the node has.
func uncovered(s Stretch, node string, kept []Kept) (missing []Stretch) {
	var have []Stretch
	for _, k := range kept {
		for _, l := range k.Log {
			if k.Node == node && l.Timeline == s.Timeline && l.From < s.To && l.To > s.From {
				have = append(have, l)
			}
		}
	}
	slices.SortFunc(have, func(a, b Stretch) int { return cmp.Compare(a.From, b.From) })
	for _, l := range have {
		if l.From > s.From {
			missing = append(missing, Stretch{s.Timeline, s.From, l.From})
		}
		s.From = max(s.From, l.To)
	}
	if s.From < s.To {
		missing = append(missing, s)
	}
	return missing
}

func sizeOf(all []Stretch) (bytes uint64) {
	for _, s := range all {
		bytes += uint64(s.To - s.From)
	}
	return bytes
}
