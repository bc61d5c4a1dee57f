// Package history computes from what clients saw during a fault how long nobody could write, what was lost, and whether
// two primaries took writes at once.
//
// It must never read a clock, a file or a database: equal histories give equal figures, so a figure can be computed again
// from the events that are kept.
package history

import (
	"cmp"
	"math"
	"slices"

	"github.com/quorate/quorate/internal/pg"
)

// Outcome is what a client knows of one write.
type Outcome string

// The outcomes. A write is failed only if the server said so and took nothing; unknown is all between.
const (
	OK      Outcome = "ok"
	Unknown Outcome = "unknown"
	Failed  Outcome = "fail"
)

// Write is one attempt. Times are nanoseconds of one clock for all nodes and clients.
type Write struct {
	ID       int64   `json:"id"`
	Node     string  `json:"node"`             // who answered
	Prober   bool    `json:"prober,omitempty"` // through the node's own socket, without waiting for standbys
	Client   string  `json:"client,omitempty"` // another client than the load
	XID      uint64  `json:"xid,omitempty"`    // of the transaction, if it was acknowledged
	Timeline uint32  `json:"tli,omitempty"`    // of the server that acknowledged it
	LSN      pg.LSN  `json:"lsn,omitempty"`    // up to which that server's log certainly went, the commit not counted
	Start    int64   `json:"start"`
	End      int64   `json:"end"`
	Outcome  Outcome `json:"outcome"`
	Why      string  `json:"why,omitempty"`
}

// OfLoad says whether the load made the write: only its writes are judged.
func (w Write) OfLoad() bool { return !w.Prober && w.Client == "" }

// Libpq is the Client that tries its hosts one after another.
const Libpq = "libpq"

// Run is one fault: what was written, and what the final primary has.
type Run struct {
	Fault    int64          // when it was made
	Until    int64          // when the clients stopped, if that was before the window's end; 0: it was not
	Old      string         // the primary then
	Writes   []Write        // in any order
	Survived map[int64]bool // ids of the load's writes that the final primary has
}

// Figures are what Run comes to. Times are milliseconds relative to the fault; nil: it did not happen.
type Figures struct {
	WriteGap    float64
	FirstTryNew *float64 // when a client first sent a write to another node than the old primary
	FirstAckNew *float64
	OldAck      *float64
	Lost        int
	Unknown     int
	Overlap     float64
	Acks        int      // of the load
	LibpqGap    *float64 // as WriteGap, of that client alone and whether its writes survived or not
}

// The window in which the write gap is looked for, in nanoseconds around the fault.
const (
	windowBefore = 1_000_000_000
	windowAfter  = 10_000_000_000
)

// Compute computes the figures.
func Compute(r Run) Figures {
	f := Figures{WriteGap: gap(r, func(w Write) bool { return w.OfLoad() && r.Survived[w.ID] })}
	libpq := func(w Write) bool { return w.Client == Libpq }
	if slices.ContainsFunc(r.Writes, libpq) {
		g := gap(r, libpq)
		f.LibpqGap = &g
	}
	for _, w := range r.Writes {
		if !w.OfLoad() {
			continue
		}
		switch {
		case w.Outcome == Unknown:
			f.Unknown++
		case w.Outcome == OK:
			f.Acks++
			if !r.Survived[w.ID] {
				f.Lost++
			}
		}
	}
	if w, ok := newest(r, func(w Write) bool { return w.OfLoad() && w.Node == r.Old }); ok {
		at := ms(w.End - r.Fault)
		f.OldAck = &at
	}
	if w, ok := oldest(r, func(w Write) bool { return w.OfLoad() && w.Node != r.Old && w.End > r.Fault }); ok {
		at := ms(w.End - r.Fault)
		f.FirstAckNew = &at
	}
	for _, w := range r.Writes {
		if at := ms(w.Start - r.Fault); w.OfLoad() && w.Node != r.Old && at > 0 && (f.FirstTryNew == nil || at < *f.FirstTryNew) {
			f.FirstTryNew = &at
		}
	}
	f.Overlap = overlap(r)
	return f
}

// gap is the longest time between two acknowledgements that follow each other, over all connections, counting only what
// survived: an acknowledgement of something that is lost later ended nobody's wait. The ends of the window count as
// acknowledgements, so that a cluster that never comes back shows the whole window.
func gap(r Run, counts func(Write) bool) float64 {
	from, to := r.Fault-windowBefore, r.Fault+windowAfter
	if r.Until != 0 {
		to = min(to, r.Until)
	}
	ends := []int64{to}
	last := int64(math.MinInt64)
	for _, w := range r.Writes {
		if w.Outcome != OK || w.End > to || !counts(w) {
			continue
		}
		if w.End >= from {
			ends = append(ends, w.End)
		} else {
			last = max(last, w.End)
		}
	}
	// What the last one before the window began belongs to the window from its beginning.
	ends = append(ends, max(from, last))
	slices.Sort(ends)
	longest := int64(0)
	for i := 1; i < len(ends); i++ {
		longest = max(longest, ends[i]-ends[i-1])
	}
	return ms(longest)
}

// overlap is how long the old primary went on taking writes on its timeline after another node had begun to, each taken
// at its worst: a write counts for the old one until it was acknowledged, for the new one since it was sent.
//
// The timeline tells the old primary's reign from a later one of the same node.
func overlap(r Run) float64 {
	before, ok := newest(r, func(w Write) bool { return w.Node == r.Old && w.End <= r.Fault })
	if !ok {
		return 0
	}
	first := int64(math.MaxInt64)
	for _, w := range r.Writes {
		if w.Outcome == OK && w.Node != r.Old && w.Timeline > before.Timeline {
			first = min(first, w.Start)
		}
	}
	last, ok := newest(r, func(w Write) bool { return w.Node == r.Old && w.Timeline <= before.Timeline })
	if !ok || last.End <= first {
		return 0
	}
	return ms(last.End - first)
}

// Overlap is for how long, in milliseconds, two nodes took writes at once anywhere in a history of many faults: on two
// timelines after the newer one began, or on the same one. Each write is taken at its worst, as in Figures.
func Overlap(writes []Write) float64 {
	type reign struct {
		node     string
		timeline uint32
	}
	type span struct{ first, last int64 }
	reigns := map[reign]span{}
	for _, w := range writes {
		if w.Outcome != OK || w.Timeline == 0 {
			continue
		}
		k := reign{w.Node, w.Timeline}
		s, ok := reigns[k]
		if !ok {
			s = span{w.Start, w.End}
		}
		reigns[k] = span{min(s.first, w.Start), max(s.last, w.End)}
	}
	longest := int64(0)
	for a, old := range reigns {
		for b, fresh := range reigns {
			switch {
			case a.node == b.node || a.timeline > b.timeline:
			case a.timeline < b.timeline:
				longest = max(longest, old.last-fresh.first)
			default:
				longest = max(longest, min(old.last, fresh.last)-max(old.first, fresh.first))
			}
		}
	}
	return ms(longest)
}

// newest and oldest return the acknowledged write that was acknowledged last or first, of those that match.
func newest(r Run, match func(Write) bool) (best Write, ok bool) {
	for _, w := range r.Writes {
		if w.Outcome == OK && match(w) && (!ok || w.End > best.End) {
			best, ok = w, true
		}
	}
	return best, ok
}

func oldest(r Run, match func(Write) bool) (best Write, ok bool) {
	for _, w := range r.Writes {
		if w.Outcome == OK && match(w) && (!ok || w.End < best.End) {
			best, ok = w, true
		}
	}
	return best, ok
}

func ms(nanoseconds int64) float64 { return math.Round(float64(nanoseconds)/1e4) / 100 }

// Spread is a distribution in a few numbers.
type Spread struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	P95    float64 `json:"p95"`
	Max    float64 `json:"max"`
}

// SpreadOf describes values; the zero Spread if there are none. The percentile is the least value that at least so many
// of all do not exceed, so it is always one that was measured; the median of an even number lies between two.
func SpreadOf(values []float64) Spread {
	if len(values) == 0 {
		return Spread{}
	}
	v := slices.Clone(values)
	slices.SortFunc(v, cmp.Compare)
	n := len(v)
	return Spread{
		Min: v[0], Max: v[n-1],
		Median: math.Round((v[(n-1)/2]+v[n/2])*50) / 100,
		P95:    v[int(math.Ceil(0.95*float64(n)))-1],
	}
}
