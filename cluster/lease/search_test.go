package lease

import (
	"hash/maphash"
	"slices"
	"testing"
)

// search visits every state that steps lead to, depth first.
type search struct {
	seed  maphash.Seed
	seen  map[uint64]struct{}
	buf   []byte
	trace []step
	limit int
	found string
}

func (s *search) visit(w *world) {
	s.buf = w.key(s.buf[:0], [nodes]int{0, 1, 2})
	h := maphash.Bytes(s.seed, s.buf)
	s.buf = w.key(s.buf[:0], [nodes]int{0, 2, 1})
	h = min(h, maphash.Bytes(s.seed, s.buf))
	if _, ok := s.seen[h]; ok {
		return
	}
	s.seen[h] = struct{}{}
	if v := w.violation(); v != "" {
		s.found = v + ":"
		for _, st := range s.trace {
			s.found += "\n  " + st.String()
		}
		return
	}
	for _, st := range w.steps() {
		c := w.clone()
		st.do(c)
		s.trace = append(s.trace, st)
		s.visit(c)
		s.trace = s.trace[:len(s.trace)-1]
		if s.found != "" || len(s.seen) > s.limit {
			return
		}
	}
}

// run searches from the state that the steps named first lead to, which spares a search whose violation lies deep.
func run(b bounds, m mutation, limit int, first ...string) *search {
	s := &search{seed: maphash.MakeSeed(), seen: map[uint64]struct{}{}, limit: limit}
	w := newWorld(b, m)
	for _, what := range first {
		steps := w.steps()
		st := steps[slices.IndexFunc(steps, func(st step) bool { return st.String() == what })]
		s.trace = append(s.trace, st)
		st.do(w)
	}
	s.visit(w)
	return s
}

// TestEveryInterleaving searches the whole space of each bound: the vouched lease as implemented never lets a node be
// inside its lease once another was appointed.
func TestEveryInterleaving(t *testing.T) {
	for what, b := range map[string]bounds{
		"restart":              {ticks: 3, beats: 1, epochs: 2, restarts: 1},
		"two beats":            {ticks: 2, beats: 2, epochs: 2},
		"first Lmax":           {ticks: 2, beats: 1, epochs: 2, restarts: 1, freshLmax: true},
		"double delivery":      {ticks: 2, beats: 1, epochs: 2, restarts: 1, double: true},
		"release":              {ticks: 1, beats: 1, epochs: 2, restarts: 1, releases: 1},
		"L lowered":            {ticks: 2, beats: 1, epochs: 2, restarts: 1, shorten: true},
		"re-appointed":         {ticks: 2, beats: 1, epochs: 3},
		"released, re-appoint": {ticks: 0, beats: 1, epochs: 3, releases: 1},
		"electorate":           {ticks: 2, beats: 1, epochs: 2, electorates: 2},
		"electorate, restart":  {ticks: 1, beats: 1, epochs: 2, electorates: 1, restarts: 1},
	} {
		t.Run(what, func(t *testing.T) {
			holds(t, b)
		})
	}
}

// TestElectorateChangesUnderALease searches on from where a voter has vouched and the electorate then loses a voter: the one
// that vouched, the other one, or the primary's own. It may change once more, and the primary beats once more.
func TestElectorateChangesUnderALease(t *testing.T) {
	for _, without := range []string{"110", "101", "011"} {
		t.Run(without, func(t *testing.T) {
			holds(t, bounds{ticks: 2, beats: 2, epochs: 2, electorates: 2}, "n0 beats", "n1 gets beat 0", "the voters become "+without)
		})
	}
}

// holds searches the whole space beyond the first steps.
func holds(t *testing.T, b bounds, first ...string) {
	t.Helper()
	s := run(b, none, 2_000_000, first...)
	if s.found != "" {
		t.Fatal(s.found)
	}
	if len(s.seen) > s.limit {
		t.Fatalf("more than %d states: the bounds are too wide to be searched whole", s.limit)
	}
	t.Logf("%d states, all visited", len(s.seen))
}

// TestEveryMutationIsFound switches off one mechanism at a time: the same search must see two writers.
func TestEveryMutationIsFound(t *testing.T) {
	restart := bounds{ticks: 1, beats: 1, epochs: 2, restarts: 1}
	wait := bounds{ticks: 2, beats: 1, epochs: 2}
	lowered := bounds{ticks: 2, beats: 1, epochs: 2, restarts: 1, shorten: true}
	for m, b := range map[mutation]bounds{
		sealNotDurable:     restart,
		lmaxNotDurable:     {ticks: 1, beats: 1, epochs: 2, restarts: 1, freshLmax: true},
		vouchForgotten:     restart,
		waitFromSend:       wait,
		waitTooShort:       wait,
		appointWithoutSeal: wait,
		releaseNotDurable:  {ticks: 0, beats: 1, epochs: 2, restarts: 1, releases: 1},
		releaseGoesOn:      {ticks: 0, beats: 1, epochs: 2, releases: 1},
		seqReuse:           {ticks: 2, beats: 2, epochs: 2, restarts: 1},
		waitByConfig:       lowered,
		busyByConfig:       lowered,
		minorityLease:      wait,
		electorateUnshown:  {ticks: 1, beats: 1, epochs: 2, electorates: 2},
		electorateEarly:    {ticks: 2, beats: 2, epochs: 2, electorates: 2},
		electorateByTwo:    {ticks: 2, beats: 1, epochs: 2, electorates: 1},
		electorateStale:    {ticks: 2, beats: 2, epochs: 2, electorates: 2},
	} {
		t.Run(string(m), func(t *testing.T) {
			first := map[mutation][]string{
				seqReuse:        {"n0 beats", "n1 gets beat 0", "tick", "n0 restarts"},
				electorateEarly: {"n0 beats", "n1 gets beat 0", "the voters become 101"},
				electorateStale: {"n0 is to seal 1", "n1 is to seal 1", "the voters become 101", "n0 applies electorate 1", "n0 beats", "n2 gets beat 0"},
			}[m]
			if first != nil {
				holds(t, b, first...)
			}
			s := run(b, m, 2_000_000, first...)
			if s.found == "" {
				t.Fatalf("not found in %d states", len(s.seen))
			}
			t.Logf("found after %d states: %s", len(s.seen), s.found)
		})
	}
}
