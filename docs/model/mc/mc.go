// Package mc is a small explicit-state model checker: breadth-first search over 64-bit fingerprints,
// and a random walker for what is too large to exhaust. It knows nothing of leases or Postgres.
//
// A run that was cut off must never be reported as complete: Result.Complete says which it was.
package mc

import (
	"fmt"
	"hash/maphash"
	"math/rand"
	"time"
	"unsafe"
)

// Sys is a transition system over states S. S must have no padding and no pointers: its bytes are its identity.
type Sys[S comparable] interface {
	Init() []S
	Succ(s *S, emit func(ns *S, code uint32))
	Check(s *S) string // "" ok
	Canon(s *S)        // symmetry reduction, in place
	Code(c uint32) string
	Show(s *S) string
}

type table struct {
	t []uint64
	n int
}

func (t *table) add(h uint64) bool {
	if h == 0 {
		h = 1
	}
	if t.n*10 >= len(t.t)*7 {
		o := t.t
		sz := 1 << 16
		if len(o) > 0 {
			sz = len(o) * 2
		}
		t.t = make([]uint64, sz)
		m := uint64(sz - 1)
		for _, v := range o {
			if v != 0 {
				i := v & m
				for t.t[i] != 0 {
					i = (i + 1) & m
				}
				t.t[i] = v
			}
		}
	}
	m := uint64(len(t.t) - 1)
	i := h & m
	for t.t[i] != 0 {
		if t.t[i] == h {
			return false
		}
		i = (i + 1) & m
	}
	t.t[i] = h
	t.n++
	return true
}

var seed = maphash.MakeSeed()

func fp[S comparable](s *S) uint64 {
	return maphash.Bytes(seed, unsafe.Slice((*byte)(unsafe.Pointer(s)), int(unsafe.Sizeof(*s))))
}

// Result is what one search or walk found.
type Result struct {
	States, Trans int
	Depth         int
	Complete      bool
	Violation     string
	Trace         []string
	Dur           time.Duration
}

// BFS explores until violation, exhaustion or max states / time.
func BFS[S comparable](sys Sys[S], maxStates int, maxDur time.Duration) Result {
	start := time.Now()
	var tb table
	var parent, code []uint32
	var cur, next []S
	var curI, nextI []uint32
	res := Result{}
	build := func(i uint32) []string {
		var cs []uint32
		for parent[i] != ^uint32(0) {
			cs = append(cs, code[i])
			i = parent[i]
		}
		var out []string
		for k := len(cs) - 1; k >= 0; k-- {
			out = append(out, sys.Code(cs[k]))
		}
		return out
	}
	for _, s := range sys.Init() {
		sys.Canon(&s)
		if tb.add(fp(&s)) {
			parent = append(parent, ^uint32(0))
			code = append(code, 0)
			cur = append(cur, s)
			curI = append(curI, uint32(len(parent)-1))
		}
	}
	stop := false
	for len(cur) > 0 && !stop {
		next, nextI = next[:0], nextI[:0]
		for k := range cur {
			if stop {
				break
			}
			pi := curI[k]
			sys.Succ(&cur[k], func(ns *S, c uint32) {
				if stop {
					return
				}
				res.Trans++
				sys.Canon(ns)
				if !tb.add(fp(ns)) {
					return
				}
				parent = append(parent, pi)
				code = append(code, c)
				id := uint32(len(parent) - 1)
				if v := sys.Check(ns); v != "" {
					res.Violation = v
					res.Trace = append(build(id), sys.Show(ns))
					stop = true
					return
				}
				next = append(next, *ns)
				nextI = append(nextI, id)
			})
			if k&1023 == 0 && (tb.n > maxStates || time.Since(start) > maxDur) {
				res.States, res.Dur = tb.n, time.Since(start)
				return res
			}
		}
		cur, next = next, cur
		curI, nextI = nextI, curI
		res.Depth++
	}
	res.Complete = !stop
	res.States, res.Dur = tb.n, time.Since(start)
	return res
}

// Walk: random walks of given length. Returns on the first violation.
func Walk[S comparable](sys Sys[S], rng *rand.Rand, walks, steps int, weight func(c uint32) float64, end func(s S) string) Result {
	start := time.Now()
	res := Result{Complete: true}
	for w := 0; w < walks; w++ {
		ini := sys.Init()
		s := ini[rng.Intn(len(ini))]
		var codes []uint32
		for k := 0; k < steps; k++ {
			var pick S
			var pc uint32
			tot := 0.0
			sys.Succ(&s, func(ns *S, c uint32) {
				wt := weight(c)
				tot += wt
				if rng.Float64()*tot < wt {
					pick, pc = *ns, c
				}
			})
			if tot == 0 {
				break
			}
			s = pick
			codes = append(codes, pc)
			res.Trans++
			if v := sys.Check(&s); v != "" {
				res.Violation = v
				for _, c := range codes {
					res.Trace = append(res.Trace, sys.Code(c))
				}
				res.Trace = append(res.Trace, sys.Show(&s))
				res.Complete = false
				res.Dur = time.Since(start)
				return res
			}
		}
		if end != nil {
			if v := end(s); v != "" {
				res.Violation = v
				for _, c := range codes {
					res.Trace = append(res.Trace, sys.Code(c))
				}
				res.Trace = append(res.Trace, sys.Show(&s))
				res.Complete = false
				res.Dur = time.Since(start)
				return res
			}
		}
	}
	res.Dur = time.Since(start)
	return res
}

func (r Result) String() string {
	st := "COMPLETE"
	if r.Violation != "" {
		st = "VIOLATION"
	} else if !r.Complete {
		st = "bounded(cut off)"
	}
	return fmt.Sprintf("%-16s states=%d trans=%d depth=%d %.1fs %s", st, r.States, r.Trans, r.Depth, r.Dur.Seconds(), r.Violation)
}
