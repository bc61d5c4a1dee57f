package main

// The ways of R = (D, K) and of what Postgres enforces.

// enforced is what Postgres on primary x waits for under (D, K): K-1 of the others.
func enforced(d, k uint8, x int) (pd, pk uint8) {
	if k <= 1 {
		return 0, 0
	}
	return d &^ (1 << x), k - 1
}

// agreedFirst is a change that is committed before Postgres hears of it: fewer copies, or one member more.
func agreedFirst(from, to entry) bool {
	return from.k > 0 && has(to.d, int(from.p)) &&
		(to.d == from.d && to.k > 0 && to.k < from.k || to.k == from.k && to.d&from.d == from.d && count(to.d) == count(from.d)+1)
}

// enforcedFirst is one that the primary enforces and promises before: one copy more, or one other member less.
func enforcedFirst(from, to entry) bool {
	return from.k > 0 && has(to.d, int(from.p)) && int(to.k) <= count(to.d) &&
		(to.d == from.d && to.k == from.k+1 || to.k == from.k && to.d&from.d == to.d && count(to.d)+1 == count(from.d))
}

// meets: every commit that x acknowledges under P is on enough members for R (rule 16).
func meets(pd, pk uint8, x int, r entry) bool {
	need := int(r.k) + count(pd&^r.d)
	if has(r.d, x) {
		need--
	}
	return int(pk) >= need
}

// rules are all (D, K) that there may be while p is primary.
func rules(from entry) []entry {
	var out []entry
	for d := uint8(1); d <= allMask; d++ {
		for k := uint8(1); int(k) <= count(d); k++ {
			to := from
			to.d, to.k = d, k
			if has(d, int(from.p)) && (d != from.d || k != from.k) {
				out = append(out, to)
			}
		}
	}
	return out
}

// rule: what the agent of primary x does about its Postgres' rule and promises.
func (m *M) rule(s *St, x int, emit emitter) {
	n, now := &s.nodes[x], *s.seen(x)
	if int(now.p) != x || n.serving != now.e {
		return
	}
	if n.promise == n.applied+1 && !m.c.PromiseMelts {
		return
	}
	set := func(pd, pk uint8) {
		if n.pd == pd && n.pk == pk {
			return
		}
		t := *s
		t.nodes[x].pd, t.nodes[x].pk, t.nodes[x].barrier = pd, pk, n.len
		emit(&t, code(aEnforce, x, int(pd), int(pk)))
	}
	set(enforced(now.d, now.k, x))
	if int(s.changes) >= m.c.MaxChanges {
		return
	}
	for _, to := range rules(now) {
		pd, pk := enforced(to.d, to.k, x)
		if m.c.ReturnPgFirst && agreedFirst(now, to) && count(to.d) > count(now.d) {
			set(pd, pk)
		}
		if !enforcedFirst(now, to) || !meets(pd, pk, x, now) || !meets(pd, pk, x, to) {
			continue
		}
		set(pd, pk)
		if n.pd != pd || n.pk != pk {
			continue
		}
		copies := 0
		for y := range nodes {
			if has(to.d, y) && (y == x || n.view[y] >= n.barrier) {
				copies++
			}
		}
		if copies < int(to.k) && !m.c.NoBarrier {
			continue
		}
		t := *s
		t.nodes[x].promise = n.applied + 1
		t.offerRev, t.offerD, t.offerK = n.applied+1, to.d, to.k
		emit(&t, code(aPromise, x, int(to.d), int(to.k)))
	}
}

// machine: the entries that change R.
func (m *M) machine(s *St, emit emitter) {
	if int(s.n) >= m.c.MaxLog || int(s.changes) >= m.c.MaxChanges {
		return
	}
	last := *s.last()
	commit := func(d, k uint8, kind int) {
		t := *s
		e := last
		e.d, e.k = d, k
		t.log[t.n] = e
		t.n++
		t.changes++
		t.offerRev, t.offerD, t.offerK = 0, 0, 0
		emit(&t, code(kind, int(d), int(k), 0))
	}
	if s.offerRev != 0 && (s.offerRev == s.n || m.c.EpochCAS && s.log[s.offerRev-1].e == last.e) {
		commit(s.offerD, s.offerK, aSyncPromise)
	}
	for _, to := range rules(last) {
		if agreedFirst(last, to) || m.c.LeaveFirst && enforcedFirst(last, to) {
			commit(to.d, to.k, aSync)
		}
	}
}
