package main

import (
	"bytes"
	"fmt"
	"github.com/quorate/quorate/docs/model/mc"
	"math/bits"
	"unsafe"
)

const MN, ML, NOP = 5, 7, 7

// SS is the replicated state; l is the length of the lease that it asks for, 0 long, 1 short (Cfg.Len).
type SS struct{ e, p, ev, E, paused, res, l uint8 }

// Beat asks for a lease of length l. used: 0 none, 1 live, 2 orphan of an earlier incarnation.
type Beat struct{ used, e, age, vouch, E, l uint8 }

// St: busy is for how long yet a voter's vouches bind it, on its own clock; lmax is the longest length it ever vouched for
// (0 is the longest); since is the age of its last vouch, kept only where a mutation reads it.
type St struct {
	n                                          uint8
	log                                        [ML]SS
	ap, sealed, rel, busy, lease, floor, shown [MN]uint8
	lmax, since                                [MN]uint8
	lease_e                                    [MN]uint8
	beat                                       [MN]Beat
	lAp, lmask, lsend, lsent                   uint8
	lrem                                       [MN]uint8
	relMsg, restarts, shownAge                 uint8
	shut                                       uint8 // whose Postgres does not run: a lease opens it, a pause alone does not
	kept                                       uint8 // who is down by an operator's word, until the next appointment
}

type Cfg struct {
	Name                                string
	N                                   int
	E0                                  uint8
	L, W, Margin, TwoL                  int
	LShort, WShort                      int  // the other length, and its wait; 0: there is only one
	StartShort                          bool // the cluster begins with the short one
	MaxSetL                             int  // how often the length changes
	TimingFree                          bool // a change of the length is no revision
	Rate                                [MN]int
	RateL                               int
	MaxEpoch, MaxLog, MaxRestart, MaxEv int
	Pause, Release, Reapp, SetE         bool
	Shown, Down                         bool // ResumeShown; Resume with the word of an operator that the primary is down
	Perms                               [][MN]uint8
	VChk                                bool // voters use applied-epoch refusal (superset when off)
	// fixes
	CasRev, Floor, SepRel bool
	FsmPauseRej           bool
	// mutations
	SealVolatile, NoAgeReset, CountFromSend, NoSeal, RelVolatile, SeqReuse, SwapE, NoShowWait, NoResumeRule, EPausedEnf, ReleaseNoStop, NoReappSeal bool
	LmaxVolatile, BusyByConfig, BusyOverwritten, WaitByConfig, ShowByConfig                                                                         bool
	FloorVolatile, TwoWriters                                                                                                                       bool
	ShownEarly, ShownAny, DownUntrue, DownComesBack, DownOpensByPause                                                                               bool
}

type M struct{ c Cfg }

const (
	aTick = iota
	aApply
	aLApply
	aBeat
	aVouch
	aLSend
	aSeal
	aAppoint
	aReapp
	aRelAppoint
	aRelease
	aRestart
	aSetE
	aPause
	aResume
	aShown
	aResumeDown
	aSetL
)

func cd(k, a, b, c int) uint32 { return uint32(k)<<24 | uint32(a)<<16 | uint32(b)<<8 | uint32(c) }
func (m *M) Code(x uint32) string {
	k, a, b, c := int(x>>24), int(x>>16&255), int(x>>8&255), int(x&255)
	switch k {
	case aTick:
		return "tick"
	case aApply:
		return fmt.Sprintf("n%d applies log up to %d", a, b)
	case aLApply:
		return fmt.Sprintf("leader applies log up to %d", a)
	case aBeat:
		return fmt.Sprintf("n%d sends beat(e=%d, ev=%d)", a, b, c)
	case aVouch:
		return fmt.Sprintf("n%d vouches for n%d's beat(e=%d)", a, b, c)
	case aLSend:
		return "leader sends seal requests"
	case aSeal:
		return fmt.Sprintf("n%d seals e=%d, reply: wait-rem=%d", a, b, c)
	case aAppoint:
		return fmt.Sprintf("COMMIT Appoint(e=%d, p=n%d) by leader at applied=%d", b, a, c)
	case aReapp:
		return fmt.Sprintf("COMMIT Re-Appoint(e=%d, p=n%d)", b, a)
	case aRelAppoint:
		return fmt.Sprintf("COMMIT Appoint-after-release(e=%d, p=n%d)", b, a)
	case aRelease:
		return fmt.Sprintf("n%d stops, releases e=%d", a, b)
	case aRestart:
		return fmt.Sprintf("n%d restarts, applied regresses to %d", a, b)
	case aSetE:
		return fmt.Sprintf("COMMIT SetElectorate(ev=%d, E=%05b)", b, a)
	case aPause:
		return "COMMIT Pause"
	case aResume:
		return "COMMIT Resume"
	case aShown:
		return fmt.Sprintf("COMMIT ResumeShown(rev %d)", a)
	case aResumeDown:
		return fmt.Sprintf("COMMIT Resume, an operator says that n%d is down", a)
	case aSetL:
		return fmt.Sprintf("COMMIT SetTiming(L=%d)", a)
	}
	return "?"
}
func (m *M) Show(s *St) string {
	r := "STATE log:"
	for i := 0; i < int(s.n); i++ {
		x := s.log[i]
		r += fmt.Sprintf(" [%d e%d p%d ev%d E%05b pz%d L%d]", i, x.e, x.p, x.ev, x.E, x.paused, m.length(x.l))
	}
	for i := 0; i < m.c.N; i++ {
		r += fmt.Sprintf(" | n%d ap%d seal%d rel%d busy%d lease%d(e%d) beat%v", i, s.ap[i], s.sealed[i], s.rel[i], s.busy[i], s.lease[i], s.lease_e[i], s.beat[i])
	}
	r += fmt.Sprintf(" | leader ap%d facts%05b rem%v", s.lAp, s.lmask, s.lrem)
	return r
}
func maj(v, E uint8) bool { return bits.OnesCount8(v&E)*2 > bits.OnesCount8(E) }

func (m *M) Init() []St {
	var s St
	s.n = 1
	s.log[0] = SS{e: 1, p: 0, ev: 0, E: m.c.E0}
	if m.c.StartShort {
		s.log[0].l = 1
		s.lmax = [MN]uint8{1, 1, 1, 1, 1}
	}
	if m.c.WaitByConfig {
		for i := range s.since {
			s.since[i] = uint8(m.c.W) // last vouch long ago
		}
	}
	s.shownAge = 255
	return []St{s}
}

// length is the lease that a beat of length l asks for, on the holder's clock; wait is what a vouch for it costs the voter.
func (m *M) length(l uint8) int {
	if l == 1 {
		return m.c.LShort
	}
	return m.c.L
}

func (m *M) wait(l uint8) int {
	if l == 1 {
		return m.c.WShort
	}
	return m.c.W
}

// showWait is for how long beats have to have shown an electorate: twice the longest lease that could be running, which is
// the longest that the log ever asked for. TwoL is that of L; the variants that wait less scale with it.
func (m *M) showWait(s *St) int {
	longest := s.log[s.n-1].l
	for i := 0; i < int(s.n) && !m.c.ShowByConfig; i++ {
		longest = min(longest, s.log[i].l)
	}
	return m.c.TwoL * m.length(longest) / m.c.L
}

func (m *M) seesPrimary(s *St, x int) (SS, bool) {
	S := s.log[s.ap[x]]
	if int(S.p) != x {
		return S, false
	}
	if m.c.Floor && s.ap[x] < s.floor[x] {
		return S, false
	}
	return S, true
}

func (m *M) mayHold(s *St, x int, e uint8) bool {
	if s.rel[x] >= e {
		return false
	}
	if !m.c.SepRel && s.sealed[x] >= e {
		return false
	}
	return true
}

func (m *M) writes(s *St, x int) bool {
	if int(s.lease[x]) > m.c.Margin {
		return true
	}
	S, ok := m.seesPrimary(s, x)
	return ok && S.paused == 1 && m.mayHold(s, x, S.e) && s.shut>>x&1 == 0
}

func (m *M) Check(s *St) string {
	w := -1
	if !m.c.TwoWriters {
		// stronger: as soon as Appoint(q) is committed q may write at once
		w = int(s.log[s.n-1].p)
		if w == NOP {
			w = -1
		}
	}
	for x := 0; x < m.c.N; x++ {
		if x != w && m.writes(s, x) {
			if w >= 0 {
				return fmt.Sprintf("S1: n%d and n%d both accept writes", w, x)
			}
			w = x
		}
	}
	// S2: a granted lease (e) must belong to the unique appointee of e
	for x := 0; x < m.c.N; x++ {
		if s.lease[x] > 0 {
			for i := 0; i < int(s.n); i++ {
				if s.log[i].e == s.lease_e[x] && int(s.log[i].p) != x {
					return "S2"
				}
			}
		}
	}
	return ""
}

func (m *M) grant(s *St, x int) {
	b := &s.beat[x]
	if b.used != 1 {
		return
	}
	S := s.log[s.ap[x]]
	if int(S.p) != x || s.rel[x] >= b.e {
		return
	}
	// counted under E at send or under the currently applied E (superset of both implementations)
	if l := m.length(b.l); (maj(b.vouch, b.E) || maj(b.vouch, S.E)) && l-int(b.age) > int(s.lease[x]) {
		s.lease[x] = uint8(l - int(b.age))
		s.lease_e[x] = b.e
		s.shut &^= 1 << x
	}
}

func satAdd(a uint8, d, mx int) uint8 {
	v := int(a) + d
	if v > mx {
		v = mx
	}
	return uint8(v)
}
func sub0(a uint8, d int) uint8 {
	if int(a) <= d {
		return 0
	}
	return a - uint8(d)
}

// vouch binds voter v for what a lease of length l lasts. The longest length is on disk before the first vouch for it.
func (m *M) vouch(s *St, v int, l uint8) {
	if b := uint8(m.wait(l)); m.c.BusyOverwritten || b > s.busy[v] {
		s.busy[v] = b
	}
	if m.c.WaitByConfig {
		s.since[v] = 0
	}
	if l < s.lmax[v] && !m.c.LmaxVolatile {
		s.lmax[v] = l
	}
}

// restartVoter: it may have vouched a moment before, for as much as it ever did.
func (m *M) restartVoter(s *St, x int) {
	switch {
	case m.c.NoAgeReset:
		s.busy[x] = 0
	case m.c.BusyByConfig:
		s.busy[x] = uint8(m.wait(s.log[s.n-1].l))
	default:
		s.busy[x] = uint8(m.wait(s.lmax[x]))
	}
	if m.c.WaitByConfig {
		s.since[x] = 0
	}
}

// sameRev says that nothing that safety depends on was committed since the leader's copy of S.
func (m *M) sameRev(s *St) bool {
	a, b := s.log[s.lAp], s.log[s.n-1]
	if m.c.TimingFree {
		a.l = b.l // whatever else was committed left its mark: e, ev, paused or res
	}
	return s.lAp == s.n-1 || m.c.TimingFree && a == b
}

// setLs counts the changes of the length.
func (m *M) setLs(s *St) int {
	n := 0
	for i := 1; i < int(s.n); i++ {
		if s.log[i].l != s.log[i-1].l {
			n++
		}
	}
	return n
}

func (m *M) leaderMaySeal(s *St) bool {
	S := s.log[s.lAp]
	if S.p == NOP || S.paused == 1 {
		return false
	}
	if !m.c.NoResumeRule && S.res > 0 {
		// need the holder's beat to have shown the resume, or its release
		if s.shown[S.p] < S.res && s.relMsg>>S.e&1 == 0 {
			return false
		}
	}
	return true
}

func (m *M) appendS(s *St, S SS) bool {
	if int(s.n) >= m.c.MaxLog || int(s.n) >= ML {
		return false
	}
	old := s.log[s.n-1]
	s.log[s.n] = S
	s.n++
	if S.ev != old.ev || S.p != old.p {
		s.shownAge = 255
	}
	if S.e != old.e {
		s.kept = 0
	}
	return true
}

func (m *M) Succ(s *St, emit func(*St, uint32)) {
	c := &m.c
	last := s.log[s.n-1]
	// tick
	{
		t := *s
		for x := 0; x < c.N; x++ {
			t.busy[x] = sub0(t.busy[x], c.Rate[x])
			if c.WaitByConfig {
				t.since[x] = satAdd(t.since[x], c.Rate[x], c.W)
			}
			if !(c.EPausedEnf && x == 0) {
				t.lease[x] = sub0(t.lease[x], c.Rate[x])
			}
			if t.lease[x] == 0 {
				t.lease_e[x] = 0
			}
			if t.beat[x].used != 0 {
				if t.beat[x].used == 1 {
					t.beat[x].age = satAdd(t.beat[x].age, c.Rate[x], c.L)
				}
				if int(t.beat[x].age) >= m.length(t.beat[x].l) && t.beat[x].used == 1 {
					t.beat[x] = Beat{}
				}
			}
			if t.lmask>>x&1 == 1 {
				t.lrem[x] = sub0(t.lrem[x], c.RateL)
				if !c.CountFromSend && !c.WaitByConfig {
					t.lrem[x] = min(t.lrem[x], t.busy[x])
				}
			}
		}
		if t.lsent == 1 {
			t.lsend = satAdd(t.lsend, c.RateL, c.W)
		}
		if t.shownAge != 255 {
			t.shownAge = satAdd(t.shownAge, c.RateL, c.TwoL)
		}
		emit(&t, cd(aTick, 0, 0, 0))
	}
	for x := 0; x < c.N; x++ {
		// apply: jump
		for j := int(s.ap[x]) + 1; j < int(s.n); j++ {
			if !c.VChk && int(s.log[j].p) != x && !(int(s.log[s.ap[x]].p) == x && j == int(s.n)-1) {
				continue // inert prefixes need not be distinguished in the superset model
			}
			t := *s
			t.ap[x] = uint8(j)
			m.grant(&t, x)
			emit(&t, cd(aApply, x, j, 0))
		}
		S, ok := m.seesPrimary(s, x)
		ok = ok && s.kept>>x&1 == 0
		if ok && (int(S.e) < c.MaxEpoch || c.TwoWriters) && m.mayHold(s, x, S.e) && (s.beat[x].used != 1 || s.beat[x].age > 0 || s.beat[x].e != S.e || s.beat[x].E != S.E || s.beat[x].l != S.l) {
			t := *s
			b := Beat{used: 1, e: S.e, E: S.E, l: S.l}
			if c.SeqReuse && s.beat[x].used == 2 && s.beat[x].e == S.e {
				b.vouch = s.beat[x].vouch
			}
			t.beat[x] = b
			if c.Floor && !c.FloorVolatile && t.floor[x] < t.ap[x] {
				t.floor[x] = t.ap[x]
			}
			if t.shown[x] < t.ap[x] {
				t.shown[x] = t.ap[x]
			}
			if t.shownAge == 255 && int(last.p) == x && S.ev == last.ev {
				t.shownAge = 0
			}
			m.grant(&t, x)
			emit(&t, cd(aBeat, x, int(S.e), int(S.ev)))
		}
		// vouches for x's beat
		b := s.beat[x]
		if b.used != 0 && b.used != 2 {
			for v := 0; v < c.N; v++ {
				if b.E>>v&1 == 0 || s.sealed[v] >= b.e {
					continue
				}
				if b.vouch>>v&1 == 1 {
					continue // re-vouching for the same seq only raises lastVouch (conservative)
				}
				if c.VChk {
					A := s.log[s.ap[v]]
					if A.e > b.e || (A.e == b.e && int(A.p) != x) {
						continue
					}
				}
				t := *s
				m.vouch(&t, v, b.l)
				t.beat[x].vouch |= 1 << v
				m.grant(&t, x)
				emit(&t, cd(aVouch, v, x, int(b.e)))
			}
		}
		// release
		if c.Release && ok && (int(S.e) < c.MaxEpoch || c.TwoWriters) && m.mayHold(s, x, S.e) && S.e >= 1 {
			t := *s
			if !c.ReleaseNoStop {
				t.lease[x], t.lease_e[x] = 0, 0
				t.beat[x] = Beat{}
			}
			t.rel[x] = S.e
			if !c.SepRel && t.sealed[x] < S.e {
				t.sealed[x] = S.e
			}
			t.relMsg |= 1 << S.e
			emit(&t, cd(aRelease, x, int(S.e), 0))
		}
		// restart
		if int(s.restarts) < c.MaxRestart {
			for j := 0; j <= int(s.ap[x]); j++ {
				if j != int(s.ap[x]) && !c.VChk && int(s.log[j].p) != x {
					continue
				}
				t := *s
				t.restarts++
				t.ap[x] = uint8(j)
				m.restartVoter(&t, x)
				if c.SeqReuse && t.beat[x].used == 1 {
					t.beat[x].used = 2
					t.beat[x].age = 0
				} else {
					t.beat[x] = Beat{}
				}
				if c.SealVolatile {
					t.sealed[x] = 0
				}
				if c.RelVolatile {
					t.rel[x] = 0
					if !c.SepRel {
						t.sealed[x] = 0
					}
				}
				// lease deadline survives the restart (external enforcer) = superset
				emit(&t, cd(aRestart, x, j, 0))
			}
		}
	}
	// leader
	if int(last.e) >= c.MaxEpoch && !c.TwoWriters {
		return
	}
	if j := int(s.lAp) + 1; j < int(s.n) {
		t := *s
		t.lAp = uint8(j)
		if t.log[j].e != s.log[s.lAp].e {
			t.lmask, t.lsend, t.lsent = 0, 0, 0
			t.lrem = [MN]uint8{}
		}
		emit(&t, cd(aLApply, j, 0, 0))
	}
	Sl := s.log[s.lAp]
	if m.leaderMaySeal(s) {
		if c.CountFromSend && s.lsent == 0 {
			t := *s
			t.lsent, t.lsend = 1, 0
			emit(&t, cd(aLSend, 0, 0, 0))
		}
		for x := 0; x < c.N; x++ {
			if Sl.E>>x&1 == 1 && s.lmask>>x&1 == 0 && (!c.CountFromSend || s.lsent == 1) {
				t := *s
				if t.sealed[x] < Sl.e && !c.NoSeal {
					t.sealed[x] = Sl.e
				}
				t.lmask |= 1 << x
				r := int(t.busy[x])
				if c.WaitByConfig {
					r = max(0, m.wait(Sl.l)-int(t.since[x]))
				}
				if c.CountFromSend {
					r = max(0, r-int(t.lsend))
				}
				t.lrem[x] = uint8(r)
				emit(&t, cd(aSeal, x, int(Sl.e), r))
			}
		}
		ready := uint8(0)
		for x := 0; x < c.N; x++ {
			if s.lmask>>x&1 == 1 && s.lrem[x] == 0 {
				ready |= 1 << x
			}
		}
		cas := last.e == Sl.e
		if c.CasRev {
			cas = m.sameRev(s)
		}
		if c.FsmPauseRej && last.paused == 1 {
			cas = false
		}
		byRel := c.Release && s.relMsg>>Sl.e&1 == 1
		if cas && int(last.e) < c.MaxEpoch && (maj(ready, Sl.E) || byRel) {
			for q := 0; q < c.N; q++ {
				if q == int(Sl.p) {
					continue
				}
				t := *s
				S := last
				S.e++
				S.p = uint8(q)
				S.res = 0
				if m.appendS(&t, S) {
					k := aAppoint
					if !maj(ready, Sl.E) {
						k = aRelAppoint
					}
					emit(&t, cd(k, q, int(S.e), int(s.lAp)))
				}
			}
		}
	}
	if c.Reapp && last.p != NOP && int(last.e) < c.MaxEpoch && last.paused == 0 {
		cas := last.e == Sl.e
		if c.CasRev {
			cas = m.sameRev(s)
		}
		if cas && (maj(s.lmask, Sl.E) || c.NoReappSeal) {
			t := *s
			S := last
			S.e++
			if m.appendS(&t, S) {
				emit(&t, cd(aReapp, int(S.p), int(S.e), 0))
			}
		}
	}
	if c.SetE && int(last.ev) < c.MaxEv && (last.p == NOP || (s.shownAge != 255 && (int(s.shownAge) >= m.showWait(s) || c.NoShowWait))) {
		for x := 0; x < c.N; x++ {
			S := last
			S.E ^= 1 << x
			S.ev++
			if bits.OnesCount8(S.E) < 2 {
				continue
			}
			t := *s
			if m.appendS(&t, S) {
				emit(&t, cd(aSetE, int(S.E), int(S.ev), 0))
			}
			if c.SwapE {
				for y := x + 1; y < c.N; y++ {
					S2 := S
					S2.E ^= 1 << y
					if bits.OnesCount8(S2.E) != bits.OnesCount8(last.E) {
						continue
					}
					t := *s
					if m.appendS(&t, S2) {
						emit(&t, cd(aSetE, int(S2.E), int(S2.ev), 0))
					}
				}
			}
		}
	}
	if c.LShort > 0 && m.setLs(s) < c.MaxSetL {
		S := last
		S.l ^= 1
		t := *s
		if m.appendS(&t, S) {
			emit(&t, cd(aSetL, m.length(S.l), 0, 0))
		}
	}
	if c.Pause {
		m.pauses(s, emit)
	}
}

// pauses are the commands of the pause. Pause and Resume are unconditional; the leader decides on ResumeShown by the S that it
// has applied.
func (m *M) pauses(s *St, emit func(*St, uint32)) {
	c, last := &m.c, s.log[s.n-1]
	add := func(k, a int, f func(*St, *SS)) {
		t, S := *s, last
		f(&t, &S)
		if m.appendS(&t, S) {
			emit(&t, cd(k, a, 0, 0))
		}
	}
	if last.paused == 0 {
		add(aPause, 0, func(_ *St, S *SS) { S.paused, S.res = 1, s.n })
	} else {
		add(aResume, 0, func(_ *St, S *SS) { S.paused, S.res = 0, s.n })
	}
	if Sl := s.log[s.lAp]; c.Shown && Sl.paused == 0 && Sl.res > 0 && (s.shown[Sl.p] >= Sl.res || c.ShownEarly) &&
		last.paused == 0 && last.res > 0 && (last.res == Sl.res || c.ShownAny) {
		add(aShown, int(Sl.res), func(_ *St, S *SS) { S.res = 0 })
	}
	// The operator's word is a fact of the world, not of the protocol: Postgres of the primary does not run, and nobody starts it
	// before somebody is appointed. Later it comes back with whatever it had applied.
	if c.Down && last.p != NOP && (last.paused == 1 || last.res > 0) {
		add(aResumeDown, int(last.p), func(t *St, S *SS) {
			S.paused, S.res = 0, 0
			if c.DownUntrue {
				return
			}
			x := last.p
			t.lease[x], t.lease_e[x], t.beat[x] = 0, 0, Beat{}
			if !c.DownOpensByPause {
				t.shut |= 1 << x
			}
			if !c.DownComesBack {
				t.kept |= 1 << x
			}
		})
	}
}

func permMask(v uint8, p *[MN]uint8) uint8 {
	var r uint8
	for i := 0; i < MN; i++ {
		if v>>i&1 == 1 {
			r |= 1 << p[i]
		}
	}
	return r
}
func (m *M) Canon(s *St) {
	if int(s.log[s.n-1].e) >= m.c.MaxEpoch && !m.c.TwoWriters { // leader and vouch ages are dead variables now
		s.lAp, s.lmask, s.lsend, s.lsent, s.shownAge = 0, 0, 0, 0, 255
		s.lrem, s.busy, s.shown = [MN]uint8{}, [MN]uint8{}, [MN]uint8{}
		s.lmax, s.since = [MN]uint8{}, [MN]uint8{}
	}
	if len(m.c.Perms) == 0 {
		return
	}
	best := *s
	for k := range m.c.Perms {
		p := &m.c.Perms[k]
		t := *s
		for i := 0; i < int(s.n); i++ {
			if s.log[i].p < MN {
				t.log[i].p = p[s.log[i].p]
			}
			t.log[i].E = permMask(s.log[i].E, p)
		}
		for i := 0; i < MN; i++ {
			j := p[i]
			t.ap[j], t.sealed[j], t.rel[j], t.busy[j], t.lease[j], t.floor[j], t.shown[j], t.lease_e[j], t.lrem[j] = s.ap[i], s.sealed[i], s.rel[i], s.busy[i], s.lease[i], s.floor[i], s.shown[i], s.lease_e[i], s.lrem[i]
			t.lmax[j], t.since[j] = s.lmax[i], s.since[i]
			b := s.beat[i]
			b.vouch = permMask(b.vouch, p)
			b.E = permMask(b.E, p)
			t.beat[j] = b
		}
		t.lmask, t.shut, t.kept = permMask(s.lmask, p), permMask(s.shut, p), permMask(s.kept, p)
		A := unsafe.Slice((*byte)(unsafe.Pointer(&t)), int(unsafe.Sizeof(t)))
		B := unsafe.Slice((*byte)(unsafe.Pointer(&best)), int(unsafe.Sizeof(best)))
		if bytes.Compare(A, B) < 0 {
			best = t
		}
	}
	*s = best
}

var _ mc.Sys[St] = (*M)(nil)
