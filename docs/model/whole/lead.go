package main

// lead: one leader, however far behind, that keeps its facts. Everything else that is committed comes from other leaders.
func (m *M) lead(s *St, emit emitter) {
	if s.leader+1 < s.n {
		t := *s
		t.leader++
		if t.log[t.leader].e != s.log[s.leader].e {
			if !m.c.StaleSeals {
				t.sealed, t.left = 0, [nodes]uint8{}
			}
			if !m.c.StalePositions {
				t.shown, t.pos = 0, [nodes]position{}
			}
		}
		emit(&t, code(aLead, int(t.leader), 0, 0))
	}
	now := s.log[s.leader]
	for x := range nodes {
		m.seal(s, x, now.e, emit)
		if x != int(now.p) || m.c.UnreleasedCounts {
			m.detach(s, x, now.e, emit)
		}
	}
	same := s.leader == s.n-1 || m.c.EpochCAS && now.e == s.last().e
	if !same || int(s.n) >= m.c.MaxLog {
		return
	}
	for q := range nodes {
		if q != int(now.p) && m.over(s, now) && m.holds(s, now, q) {
			m.appoint(s, q, emit)
		}
		m.accept(s, now, q, emit)
	}
	if m.c.Reapp {
		t := *s
		e := *s.last()
		e.e++
		t.log[t.n] = e
		t.n++
		emit(&t, code(aReappoint, int(e.p), int(e.e), 0))
	}
}

func (m *M) seal(s *St, x int, e uint8, emit emitter) {
	if has(s.sealed, x) {
		return
	}
	t := *s
	n := &t.nodes[x]
	if !m.c.NoSeal {
		n.sealed = max(n.sealed, e)
	}
	t.sealed |= 1 << x
	t.left[x] = n.busy
	if m.c.NoWait {
		t.left[x] = 0
	}
	emit(&t, code(aSeal, x, int(e), int(t.left[x])))
}

// detach needs the seal on disk. The position is read when nothing can come any more.
func (m *M) detach(s *St, x int, e uint8, emit emitter) {
	n := &s.nodes[x]
	if has(s.shown, x) || n.sealed < e && !m.c.NoSeal || n.rebuild == 1 {
		return
	}
	t := *s
	t.shown |= 1 << x
	t.pos[x] = n.end()
	if !m.c.PositionBeforeCut {
		t.nodes[x].cut = max(n.cut, e)
	}
	emit(&t, code(aDetach, x, int(e), int(n.len)))
}

// gone: the leader knows that the primary of now released its epoch.
func (m *M) gone(s *St, now entry) bool {
	if m.c.StaleRelease {
		for e := range now.e + 1 {
			if s.goneFor(int(e)) && s.tenure(int(now.p), e) == now.tl {
				return true
			}
		}
	}
	return s.goneFor(int(now.e))
}

// over: no lease of the present epoch can be running.
func (m *M) over(s *St, now entry) bool {
	ripe := uint8(0)
	for x := range nodes {
		if has(s.sealed, x) && s.left[x] == 0 {
			ripe |= 1 << x
		}
	}
	return majority(ripe) || m.gone(s, now)
}

// holds: as many members of D as an election needs show nothing beyond q's log.
func (m *M) holds(s *St, now entry, q int) bool {
	if !has(s.shown, q) {
		return false
	}
	if now.k == 0 {
		return true
	}
	have := 0
	for x := range nodes {
		pos, known := s.pos[x], has(s.shown, x)
		if x == int(now.p) && m.gone(s, now) {
			pos, known = s.final[now.e], true
		}
		if has(now.d, x) && known && !pos.beyond(s.pos[q]) {
			have++
		}
	}
	need := count(now.d) - int(now.k) + 1
	if m.c.FewPos {
		need--
	}
	return has(now.d, q) && have >= need
}

// appoint commits the Appoint of q. With durability async what q lacks is lost, and known to be.
func (m *M) appoint(s *St, q int, emit emitter) {
	t := *s
	e := *s.last()
	e.e++
	e.p, e.tl = uint8(q), e.e
	t.log[t.n] = e
	t.n++
	if e.k == 0 {
		t.giveUp(q)
	}
	emit(&t, code(aAppoint, q, int(e.e), 0))
}

// giveUp: what q lacks of all that was acknowledged is lost, and known to be.
func (s *St) giveUp(q int) {
	for s.acked > 0 && !begins(&s.ack, s.acked, &s.nodes[q].wal, s.nodes[q].len) {
		s.acked--
		s.ack[s.acked] = 0
	}
}

// accept commits the Appoint of q, whose log is known, though it may lack acknowledged commits: an operator said so. Nobody says
// that the old primary does not write, so no lease may be running. D takes q in.
func (m *M) accept(s *St, now entry, q int, emit emitter) {
	if int(s.accepts) >= m.c.MaxAccept || q == int(now.p) || !has(s.shown, q) || m.holds(s, now, q) ||
		!m.over(s, now) && !m.c.AcceptNoWait {
		return
	}
	t := *s
	t.accepts++
	e := *s.last()
	e.e++
	e.p, e.tl = uint8(q), e.e
	if !m.c.AcceptLeavesOut {
		e.d |= 1 << q
	}
	t.log[t.n] = e
	t.n++
	t.giveUp(q)
	emit(&t, code(aAccept, q, int(e.e), 0))
}
