package fsm

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// The search walks every order in which a primary n1, its agent, two standbys and leaders of any staleness can change the
// sync rule, with the real NextSync, Enforce, EnforcedBy and Apply, and with anybody stopping for ever at any step. After
// each step, whoever may elect must know every acknowledged commit. Facts are whatever anybody may believe at any instant,
// also wrongly: nothing about safety may depend on them.

const (
	searchNodes = 3
	searchWAL   = 2
	searchLog   = 3 // rules that somebody may still have to apply, the newest that all have applied included
	searchRev   = 9 // Rev of the first of these
)

// packed is a rule: a set of nodes by bit, and K.
type packed struct{ d, k uint8 }

func pack(r SyncRule) packed {
	p := packed{k: uint8(r.Copies)}
	for _, id := range r.Members {
		p.d |= 1 << (id[1] - '1')
	}
	return p
}

func (p packed) rule() SyncRule {
	r := SyncRule{Members: []NodeID{}, Copies: int(p.k)}
	for n := range searchNodes {
		if p.d>>n&1 == 1 {
			r.Members = append(r.Members, NodeID(fmt.Sprintf("n%d", n+1)))
		}
	}
	return r
}

// world is everything that matters: the last rules of the log, what n1 and the leader have applied, what n1's Postgres enforces, how
// far its log was when that came into force, n1's durable promise, and every node's log.
type world struct {
	log       [searchLog]packed
	n         uint8
	applied   uint8 // by n1
	leader    uint8 // by the leader
	pg        packed
	barrier   uint8
	bound     bool
	promiseAt int8 // -1: before all that are in log
	promise   packed
	wal       [searchNodes]uint8
	rebuild   [searchNodes]bool
	recloned  bool
	acked     uint8
}

type search struct {
	t     *testing.T
	base  State
	steps map[packed][]SyncStep
	seen  map[world]world // to the one before
	queue []world
	kinds map[SyncKind]int
}

// state is the replicated state in which rule number i of w's log was the last.
func (s *search) state(w *world, i uint8) State {
	st := s.base
	st.Sync, st.Rev = w.log[i].rule(), searchRev+uint64(i)
	return st
}

// possible lists every step that some facts and settings lead to.
func (s *search) possible(r packed) []SyncStep {
	if known, ok := s.steps[r]; ok {
		return known
	}
	var out []SyncStep
	for _, settings := range []Settings{{FailoverAfterMS: 1000, Durability: DurabilityQuorum}, {FailoverAfterMS: 1000, Durability: DurabilityQuorum, Strict: true}, {FailoverAfterMS: 1000, Durability: DurabilityAsync}} {
		for a := range 5 {
			for b := range 5 {
				f := SyncFacts{Primary: "n1", Settings: settings, Lost: map[NodeID]time.Duration{}}
				for id, what := range map[NodeID]int{"n2": a, "n3": b} {
					believe(&f, id, what)
				}
				step, ok := NextSync(r.rule(), f)
				same := func(o SyncStep) bool { return o.Kind == step.Kind && o.To.Equal(step.To) }
				if ok && !slices.ContainsFunc(out, same) {
					out = append(out, step)
				}
			}
		}
	}
	s.steps[r] = out
	return out
}

// believe puts one of the things that can be thought of a standby into f.
func believe(f *SyncFacts, id NodeID, what int) {
	switch what {
	case 0:
		f.CaughtUp = append(f.CaughtUp, id)
	case 1: // streams, far behind
	case 2:
		f.Lost[id] = time.Second
	case 3:
		f.Lost[id] = time.Minute
	case 4:
		f.Unfit, f.Lost[id] = append(f.Unfit, id), time.Second
	}
}

func (s *search) submit(w world, c SetSync, rev uint8) {
	last := s.state(&w, w.n-1)
	if len(c.Rule.Members) == 0 {
		last.Config.Settings.Durability = DurabilityAsync
	}
	next, err := last.Apply(Envelope{ID: "x", IfRev: searchRev + uint64(rev), Change: c})
	if err != nil || int(w.n) == searchLog {
		return
	}
	w.log[w.n] = pack(next.Sync)
	w.n++
	s.add(w)
}

func (s *search) lead(w world) {
	if w.leader+1 < w.n {
		o := w
		o.leader++
		s.add(o)
	}
	for _, step := range s.possible(w.log[w.leader]) {
		if !step.NeedsPromise() {
			s.kinds[step.Kind]++
			s.submit(w, SetSync{Rule: step.To}, w.leader)
		}
	}
	if w.bound {
		s.submit(w, SetSync{Rule: w.promise.rule(), Promise: w.promised()}, w.leader)
	}
}

func (s *search) agent(w world) {
	if w.applied+1 < w.n {
		o := w
		o.applied++
		s.add(o)
	}
	promise, state := w.promised(), s.state(&w, w.applied)
	for _, step := range append(s.possible(w.log[w.applied]), SyncStep{}) {
		goal, raise := Enforce(state, "n1", promise, step)
		ids, k := EnforcedBy(goal, "n1")
		o := w
		if pg := pack(SyncRule{Members: ids, Copies: k}); pg != w.pg {
			o.pg, o.barrier = pg, w.wal[0]
			s.add(o)
			continue // the promise is another step: anything may happen in between
		}
		if raise == nil {
			continue
		}
		have := 0
		for n := range searchNodes {
			if pack(*raise).d>>n&1 == 1 && w.wal[n] >= w.barrier {
				have++
			}
		}
		if have >= raise.Copies {
			s.kinds[step.Kind]++
			o.bound, o.promiseAt, o.promise = true, int8(w.applied), pack(*raise)
			s.add(o)
		}
	}
}

func (s *search) postgres(w world) {
	if w.wal[0] < searchWAL {
		o := w
		o.wal[0]++
		s.add(o)
	}
	for n := 1; n < searchNodes; n++ {
		o := w
		if o.wal[n] < o.wal[0] {
			o.wal[n]++
		}
		o.rebuild[n] = o.rebuild[n] && o.wal[n] < o.wal[0]
		s.add(o)
		if !w.recloned {
			o = w
			o.wal[n], o.rebuild[n], o.recloned = 0, true, true
			s.add(o)
		}
	}
	for at := w.wal[0]; at > w.acked; at-- {
		have := uint8(0)
		for n := range searchNodes {
			if w.pg.d>>n&1 == 1 && w.wal[n] >= at {
				have++
			}
		}
		if have >= w.pg.k {
			o := w
			o.acked = at
			s.add(o)
			return
		}
	}
}

// lost says which election would miss an acknowledged commit, empty if none would.
func (w *world) lost() string {
	r := w.log[w.n-1].rule()
	if len(r.Members) == 0 {
		return ""
	}
	for set := uint8(0); set < 1<<searchNodes; set++ {
		n, best := 0, uint8(0)
		for i := range searchNodes {
			if set>>i&1 == 1 && w.log[w.n-1].d>>i&1 == 1 && !w.rebuild[i] {
				n, best = n+1, max(best, w.wal[i])
			}
		}
		if n >= PositionsNeeded(r) && best < w.acked {
			return fmt.Sprintf("the nodes %03b elect under %v and know %d of %d acknowledged commits", set, r, best, w.acked)
		}
	}
	return ""
}

// promised is n1's durable promise.
func (w *world) promised() *Promise {
	if !w.bound {
		return nil
	}
	return &Promise{Node: "n1", Rev: uint64(searchRev + int(w.promiseAt)), Rule: w.promise.rule()}
}

// forget drops from the log what everybody has applied.
func (w *world) forget() {
	for w.applied > 0 && w.leader > 0 {
		copy(w.log[:], w.log[1:])
		w.log[searchLog-1] = packed{}
		w.n, w.applied, w.leader, w.promiseAt = w.n-1, w.applied-1, w.leader-1, max(-1, w.promiseAt-1)
	}
}

func (s *search) add(w world) {
	w.forget()
	if _, known := s.seen[w]; known {
		return
	}
	s.seen[w] = s.queue[0]
	if why := w.lost(); why != "" {
		for at, last := w, (world{}); at != last; at, last = s.seen[at], at {
			s.t.Logf("%+v", at)
		}
		s.t.Fatal(why)
	}
	s.queue = append(s.queue, w)
}

func TestNoOrderOfStepsLosesACommit(t *testing.T) {
	base := three(t)
	base.Seen, base.Events = []string{}, []Event{}
	s := &search{t: t, base: base, steps: map[packed][]SyncStep{}, seen: map[world]world{}, kinds: map[SyncKind]int{}}
	for _, r := range everyRule("n1", "n2", "n3") {
		if len(r.Members) > 0 && !r.Has("n1") {
			continue
		}
		ids, k := EnforcedBy(r, "n1")
		w := world{n: 1, pg: pack(SyncRule{Members: ids, Copies: k})}
		w.log[0] = pack(r)
		s.seen[w] = w
		s.queue = append(s.queue, w)
	}
	for ; len(s.queue) > 0; s.queue = s.queue[1:] {
		s.lead(s.queue[0])
		s.agent(s.queue[0])
		s.postgres(s.queue[0])
	}
	t.Logf("%d states, steps %v", len(s.seen), s.kinds)
	for _, kind := range []SyncKind{SyncDegrade, SyncGrow, SyncRaise, SyncLeave, SyncReturn, SyncAsync} {
		if s.kinds[kind] == 0 {
			t.Errorf("no step %q was ever taken", kind)
		}
	}
}
