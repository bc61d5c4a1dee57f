package history_test

import (
	"testing"

	"github.com/quorate/quorate/lab/history"
)

const fault = int64(100_000_000_000)

// at makes a write that was sent 2 ms before it was answered, so many milliseconds after the fault.
func at(id int64, node string, tli uint32, msAfter int64, o history.Outcome) history.Write {
	end := fault + msAfter*1_000_000
	return history.Write{ID: id, Node: node, Timeline: tli, Start: end - 2_000_000, End: end, Outcome: o}
}

// steady writes every 100 ms from one time to another, first to last id.
func steady(id int64, node string, tli uint32, from, to int64) (all []history.Write) {
	for t := from; t <= to; t += 100 {
		all = append(all, at(id, node, tli, t, history.OK))
		id++
	}
	return all
}

func probe(w history.Write) history.Write {
	w.Prober = true
	return w
}

func TestCompute(t *testing.T) {
	// A usual failover: n1 until the fault, n2 from 500 ms on.
	usual := func() []history.Write {
		return append(steady(1, "n1", 1, -1500, 0), steady(100, "n2", 2, 500, 10_000)...)
	}
	num := func(f float64) *float64 { return &f }
	for _, c := range []struct {
		name   string
		writes []history.Write
		lose   []int64
		want   history.Figures
	}{
		{"usual", usual(), nil, history.Figures{WriteGap: 500, FirstAckNew: num(500), OldAck: num(0), Acks: 112}},
		{"an acknowledgement that is lost ends no gap", append(usual(), at(50, "n1", 1, 30, history.OK)), []int64{50},
			history.Figures{WriteGap: 500, FirstAckNew: num(500), OldAck: num(30), Lost: 1, Acks: 113}},
		{"lost before the fault makes the gap longer", usual(), []int64{16},
			history.Figures{WriteGap: 600, FirstAckNew: num(500), OldAck: num(0), Lost: 1, Acks: 112}},
		{"unknown is neither lost nor acknowledged", append(usual(), at(50, "n1", 1, 30, history.Unknown), at(51, "n1", 1, 40, history.Failed)), []int64{50, 51},
			history.Figures{WriteGap: 500, FirstAckNew: num(500), OldAck: num(0), Unknown: 1, Acks: 112}},
		{"the prober's writes are not the load's", append(usual(), probe(at(50, "n1", 1, 300, history.OK))), []int64{50},
			history.Figures{WriteGap: 500, FirstAckNew: num(500), OldAck: num(0), Acks: 112}},
		{"two writers, seen by the prober", append(usual(), probe(at(50, "n1", 1, 530, history.OK))), []int64{50},
			history.Figures{WriteGap: 500, FirstAckNew: num(500), OldAck: num(0), Overlap: 32, Acks: 112}},
		{"the new one counts from when its first was sent, also the prober's", append(usual(), probe(at(51, "n3", 2, 490, history.OK)), at(50, "n1", 1, 489, history.OK)), []int64{51},
			history.Figures{WriteGap: 489, FirstAckNew: num(500), OldAck: num(489), Overlap: 1, Acks: 113}},
		{"a refused write on the old one is none", append(usual(), probe(at(50, "n1", 1, 530, history.Failed))), nil,
			history.Figures{WriteGap: 500, FirstAckNew: num(500), OldAck: num(0), Acks: 112}},
		{"the old one comes back on a timeline of its own", append(usual(), at(50, "n1", 3, 9000, history.OK)), nil,
			history.Figures{WriteGap: 500, FirstAckNew: num(500), OldAck: num(9000), Acks: 113}},
		{"nobody takes over", steady(1, "n1", 1, -1500, 0), nil,
			history.Figures{WriteGap: 10_000, OldAck: num(0), Acks: 16}},
		{"the same node goes on", append(steady(1, "n1", 1, -1500, 0), steady(100, "n1", 1, 200, 10_000)...), nil,
			history.Figures{WriteGap: 200, OldAck: num(10_000), Acks: 115}},
		{"a gap before the window does not count", append(steady(1, "n1", 1, -9000, -5000), usual()[6:]...), nil,
			history.Figures{WriteGap: 500, FirstAckNew: num(500), OldAck: num(0), Acks: 41 + 106}},
		{"nothing at all", nil, nil, history.Figures{WriteGap: 11_000}},
	} {
		t.Run(c.name, func(t *testing.T) {
			survived := map[int64]bool{}
			for _, w := range c.writes {
				survived[w.ID] = !w.Prober
			}
			for _, id := range c.lose {
				survived[id] = false
			}
			got := history.Compute(history.Run{Fault: fault, Old: "n1", Writes: c.writes, Survived: survived})
			same := func(what string, got, want *float64) {
				if (got == nil) != (want == nil) || got != nil && *got != *want {
					t.Errorf("%s: %v, want %v", what, show(got), show(want))
				}
			}
			same("first ack on the new one", got.FirstAckNew, c.want.FirstAckNew)
			if c.want.FirstAckNew != nil {
				same("first try on the new one", got.FirstTryNew, num(*c.want.FirstAckNew-2))
			}
			got.FirstTryNew = nil
			same("last ack on the old one", got.OldAck, c.want.OldAck)
			got.FirstAckNew, got.OldAck, c.want.FirstAckNew, c.want.OldAck = nil, nil, nil, nil
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestGapEndsWhereTheClientsStop(t *testing.T) {
	r := history.Run{Fault: fault, Old: "n1", Writes: steady(1, "n1", 1, -1500, 700), Survived: map[int64]bool{}}
	for _, w := range r.Writes {
		r.Survived[w.ID] = true
	}
	for _, c := range []struct {
		until int64
		want  float64
	}{{0, 9300}, {fault + 750_000_000, 100}, {fault + 1_000_000_000, 300}, {fault + 60_000_000_000, 9300}} {
		r.Until = c.until
		if got := history.Compute(r).WriteGap; got != c.want {
			t.Errorf("until %d: gap %v, want %v", c.until-fault, got, c.want)
		}
	}
}

func show(f *float64) any {
	if f == nil {
		return "none"
	}
	return *f
}

func TestSpreadOf(t *testing.T) {
	twenty := make([]float64, 20)
	for i := range twenty {
		twenty[i] = float64(20 - i)
	}
	for _, c := range []struct {
		name string
		in   []float64
		want history.Spread
	}{
		{"none", nil, history.Spread{}},
		{"one", []float64{7}, history.Spread{Min: 7, Median: 7, P95: 7, Max: 7}},
		{"two", []float64{9, 5}, history.Spread{Min: 5, Median: 7, P95: 9, Max: 9}},
		{"three", []float64{3, 1, 2}, history.Spread{Min: 1, Median: 2, P95: 3, Max: 3}},
		{"twenty", twenty, history.Spread{Min: 1, Median: 10.5, P95: 19, Max: 20}},
	} {
		if got := history.SpreadOf(c.in); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestOverlapOfAWholeHistory(t *testing.T) {
	ok := history.OK
	for _, c := range []struct {
		name   string
		writes []history.Write
		want   float64
	}{
		{"nothing", nil, 0},
		{"one after the other, and back", []history.Write{at(1, "n1", 1, 0, ok), at(2, "n2", 2, 100, ok), at(3, "n1", 3, 200, ok)}, 0},
		{"the old one goes on", []history.Write{at(1, "n1", 1, 0, ok), at(2, "n2", 2, 100, ok), at(3, "n1", 1, 150, ok)}, 52},
		{"seen by the prober only", []history.Write{at(1, "n1", 1, 0, ok), at(2, "n2", 2, 100, ok), probe(at(3, "n1", 1, 130, ok))}, 32},
		{"the old one refuses", []history.Write{at(1, "n1", 1, 0, ok), at(2, "n2", 2, 100, ok), at(3, "n1", 1, 150, history.Failed)}, 0},
		{"an answer without a timeline", []history.Write{at(1, "n1", 0, 0, ok), at(2, "n2", 2, 100, ok), at(3, "n1", 0, 150, ok)}, 0},
		{"two on the same timeline", []history.Write{at(1, "n1", 2, 0, ok), at(2, "n2", 2, 50, ok), at(3, "n1", 2, 70, ok), at(4, "n2", 2, 90, ok)}, 22},
		{"the third fault of a history", []history.Write{at(1, "n1", 1, 0, ok), at(2, "n2", 2, 100, ok), at(3, "n3", 3, 200, ok), at(4, "n1", 4, 300, ok), at(5, "n3", 3, 310, ok)}, 12},
		{"the same node on two timelines", []history.Write{at(1, "n1", 1, 0, ok), at(2, "n1", 2, 100, ok), at(3, "n1", 1, 150, ok)}, 0},
	} {
		if got := history.Overlap(c.writes); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestAnotherClientIsMeasuredAndNotJudged(t *testing.T) {
	r := history.Run{Fault: fault, Old: "n1", Survived: map[int64]bool{}}
	r.Writes = append(steady(1, "n1", 1, -1500, 0), steady(100, "n2", 2, 500, 10_000)...)
	for _, w := range r.Writes {
		r.Survived[w.ID] = true
	}
	if f := history.Compute(r); f.LibpqGap != nil {
		t.Errorf("a gap of %v without that client", *f.LibpqGap)
	}
	for _, w := range append(steady(1000, "n1", 1, -1500, 0), steady(2000, "n2", 2, 4000, 10_000)...) {
		w.Client = history.Libpq
		r.Writes = append(r.Writes, w)
	}
	f := history.Compute(r)
	if f.WriteGap != 500 || f.Lost != 0 || f.Acks != 112 || *f.FirstAckNew != 500 || f.LibpqGap == nil || *f.LibpqGap != 4000 {
		t.Errorf("figures %+v, libpq %v", f, show(f.LibpqGap))
	}
}
