package main

import "fmt"

const (
	aTick = iota
	aApply
	aBeat
	aVouch
	aRelease
	aRestart
	aWrite
	aAck
	aStream
	aRewind
	aReclone
	aRebuilt
	aEnforce
	aPromise
	aRelax
	aLead
	aSeal
	aDetach
	aAppoint
	aReappoint
	aSync
	aSyncPromise
	aAccept
)

func words() []string {
	return []string{aTick: "tick", aApply: "n%d applies entry %d", aBeat: "n%d beats in epoch %d", aVouch: "n%d vouches for n%d",
		aRelease: "n%d stops and releases epoch %d", aRestart: "n%d restarts", aWrite: "n%d writes a record", aAck: "n%d acknowledges up to %d",
		aStream: "n%d has the log of n%d up to %d", aRewind: "n%d rewinds to n%d", aReclone: "n%d begins to clone n%d", aRebuilt: "n%d has cloned n%d",
		aEnforce: "n%d: Postgres waits for %[3]d of D=%03[2]b", aPromise: "n%d promises D=%03b K=%d", aRelax: "n%d: Postgres waits for nobody, to fence it",
		aLead: "the leader applies entry %d", aSeal: "n%d seals epoch %d, %d left", aDetach: "n%d detaches from epoch %d, its log has %d",
		aAppoint: "COMMIT Appoint(n%d, epoch %d)", aReappoint: "COMMIT Appoint(n%d again, epoch %d)", aSync: "COMMIT SetSync(D=%03b, K=%d)",
		aSyncPromise: "COMMIT SetSync(D=%03b, K=%d), promised", aAccept: "COMMIT Appoint(n%d, epoch %d), its loss accepted"}
}

func code(k, a, b, c int) uint32 { return uint32(k)<<24 | uint32(a)<<16 | uint32(b)<<8 | uint32(c) }

// Code says what a step was.
func (m *M) Code(x uint32) string {
	w := words()[x>>24]
	args := []any{int(x >> 16 & 255), int(x >> 8 & 255), int(x & 255)}
	s := fmt.Sprintf(w, args...)
	for i := range len(s) {
		if s[i:min(len(s), i+2)] == "%!" {
			return s[:i]
		}
	}
	return s
}

type emitter func(*St, uint32)

// Succ emits everything that may happen next.
func (m *M) Succ(s *St, emit func(*St, uint32)) {
	m.tick(s, emit)
	for x := range nodes {
		m.agent(s, x, emit)
		m.holder(s, x, emit)
		if s.nodes[x].serving > 0 {
			m.primary(s, x, emit)
			m.rule(s, x, emit)
		} else {
			m.standby(s, x, emit)
		}
	}
	m.machine(s, emit)
	if int(s.last().e) < m.c.MaxEpoch {
		m.lead(s, emit)
	}
}

func less(a uint8) uint8 { return max(a, 1) - 1 }

func (m *M) tick(s *St, emit emitter) {
	t := *s
	for x := range t.nodes {
		n := &t.nodes[x]
		n.busy, n.lease = less(n.busy), less(n.lease)
		if n.beatE > 0 {
			if n.beatAge++; int(n.beatAge) >= m.c.L {
				n.beatE, n.beatAge, n.vouches = 0, 0, 0
			}
		}
		if has(t.sealed, x) {
			t.left[x] = min(less(t.left[x]), n.busy)
		}
	}
	emit(&t, code(aTick, 0, 0, 0))
}

// agent: apply and restart. S is durable before anything depends on it, so a restart takes nothing of it back.
func (m *M) agent(s *St, x int, emit emitter) {
	if s.nodes[x].applied+1 < s.n {
		t := *s
		n := &t.nodes[x]
		n.applied++
		now, before := t.log[n.applied], t.log[n.applied-1]
		if now.e != before.e {
			n.beatE, n.beatAge, n.vouches = 0, 0, 0
			if int(now.p) != x {
				n.serving, n.lease = 0, 0
			} else {
				if int(before.p) != x {
					n.lease = 0
				}
				m.open(&t, x)
			}
		}
		emit(&t, code(aApply, x, int(n.applied), 0))
	}
	if int(s.restarts) < m.c.MaxRestart {
		t := *s
		t.restarts++
		n := &t.nodes[x]
		n.beatE, n.beatAge, n.vouches = 0, 0, 0
		n.busy = uint8(m.c.L)
		if m.c.BusyNotReset {
			n.busy = 0
		}
		if m.c.SealVolatile {
			n.sealed = 0
		}
		if m.c.CutVolatile {
			n.cut = 0
		}
		if m.c.ReleaseVolatile {
			n.rel = 0
		}
		n.view = [nodes]uint8{}
		n.serving = 0
		if int(s.seen(x).p) == x {
			m.open(&t, x)
		}
		emit(&t, code(aRestart, x, 0, 0))
	}
}

// open starts Postgres as the primary of the epoch that x has applied. What it enforces is kept within an assignment.
func (m *M) open(s *St, x int) {
	n, now := &s.nodes[x], s.seen(x)
	if n.rel >= now.e || n.rebuild == 1 {
		return
	}
	if n.pe == 0 || s.tenure(x, n.pe) != now.tl {
		n.pd, n.pk = enforced(now.d, now.k, x)
		n.barrier, n.promise, n.view = n.len, 0, [nodes]uint8{}
	}
	n.pe, n.serving = now.e, now.e
}

// tenure is the epoch in which x became primary without interruption up to epoch e; 0 if it was not primary in e.
func (s *St) tenure(x int, e uint8) uint8 {
	for i := range s.n {
		if s.log[i].e == e {
			if int(s.log[i].p) == x {
				return s.log[i].tl
			}
			return 0
		}
	}
	return 0
}

// holder: beats, vouches, release.
func (m *M) holder(s *St, x int, emit emitter) {
	now, n := s.seen(x), &s.nodes[x]
	if int(now.p) != x || n.rel >= now.e {
		return
	}
	if n.beatE == 0 || n.beatAge > 0 {
		t := *s
		b := &t.nodes[x]
		b.beatE, b.beatAge, b.vouches = now.e, 0, 0
		emit(&t, code(aBeat, x, int(now.e), 0))
	}
	for v := range nodes {
		if n.beatE == 0 || has(n.vouches, v) || s.nodes[v].sealed >= n.beatE {
			continue
		}
		t := *s
		b := &t.nodes[x]
		b.vouches |= 1 << v
		t.nodes[v].busy = uint8(m.c.L)
		if majority(b.vouches) {
			b.lease = max(b.lease, uint8(m.c.L)-b.beatAge)
		}
		emit(&t, code(aVouch, v, x, 0))
	}
	if m.c.Release && n.serving > 0 {
		t := *s
		r := &t.nodes[x]
		t.released |= 1 << now.e
		t.final[now.e] = r.end()
		r.rel = now.e
		if !m.c.ReleaseGoesOn {
			r.serving, r.lease, r.beatE, r.beatAge, r.vouches = 0, 0, 0, 0, 0
		}
		emit(&t, code(aRelease, x, int(now.e), 0))
	}
}

// primary: what Postgres on x does while nothing stops it.
func (m *M) primary(s *St, x int, emit emitter) {
	n := &s.nodes[x]
	if m.c.RelaxToFence && n.lease == 0 && n.pk > 0 {
		t := *s
		t.nodes[x].pd, t.nodes[x].pk = 0, 0
		emit(&t, code(aRelax, x, 0, 0))
	}
	if !m.accepts(s, x) {
		return
	}
	if int(n.len) < m.c.WAL {
		t := *s
		w := &t.nodes[x]
		w.wal[w.len] = s.tenure(x, n.serving)
		w.len++
		emit(&t, code(aWrite, x, 0, 0))
	}
	for at := n.len; at > 0; at-- {
		copies := 0
		for y := range nodes {
			if has(n.pd, y) && n.view[y] >= at {
				copies++
			}
		}
		if copies < int(n.pk) {
			continue
		}
		if begins(&n.wal, at, &s.ack, s.acked) {
			return
		}
		t := *s
		w := &s.nodes[s.last().p]
		switch {
		case !begins(&s.ack, s.acked, &n.wal, at), !begins(&n.wal, at, &w.wal, w.len) && s.last().k > 0:
			t.bad = 1
		case int(s.last().p) != x && s.last().k == 0:
			t.bad = 2
		default:
			t.ack, t.acked = n.wal, at
			for i := at; i < maxWAL; i++ {
				t.ack[i] = 0
			}
		}
		emit(&t, code(aAck, x, int(at), 0))
		return
	}
}

// standby: x follows the primary that it has applied, unless it is cut from that epoch. A frozen server is followed too: what
// it had sent may arrive any time.
func (m *M) standby(s *St, x int, emit emitter) {
	n, now := &s.nodes[x], s.seen(x)
	up := int(now.p)
	p := &s.nodes[up]
	if up == x || n.cut >= now.e || p.serving == 0 {
		return
	}
	if !begins(&n.wal, n.len, &p.wal, p.len) {
		t := *s
		same := uint8(0)
		for same < min(n.len, p.len) && n.wal[same] == p.wal[same] {
			same++
		}
		t.nodes[x].cutTo(same)
		emit(&t, code(aRewind, x, up, 0))
	} else {
		t := *s
		f := &t.nodes[x]
		if f.len < p.len {
			f.wal[f.len] = p.wal[f.len]
			f.len++
		}
		t.nodes[up].view[x] = f.len
		emit(&t, code(aStream, x, up, int(f.len)))
		if n.rebuild == 1 && n.len == p.len {
			t := *s
			t.nodes[x].rebuild = 0
			emit(&t, code(aRebuilt, x, up, 0))
		}
	}
	if int(s.reclones) < m.c.MaxReclone && n.len > 0 {
		t := *s
		t.reclones++
		t.nodes[x].cutTo(0)
		if !m.c.RebuildReports {
			t.nodes[x].rebuild = 1
		}
		emit(&t, code(aReclone, x, up, 0))
	}
}
