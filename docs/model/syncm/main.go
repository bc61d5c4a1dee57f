// Command syncm is the model of synchronous replication and the election: no acknowledged commit is missing
// from a later primary (S3), with no clock, lease or guard assumed.
//
// A safety rule of the product must never change without this model changing with it.
//
//	go run ./docs/model/syncm short                  # what make model runs: seconds
//	go run ./docs/model/syncm long                   # what make model-long runs
//	go run ./docs/model/syncm dur-,fix-,maj-,own- 30s # every variant with these prefixes, at most 30 s each
package main

import (
	"fmt"
	"github.com/quorate/quorate/docs/model/mc"
	"math/bits"
	"os"
	"strings"
	"time"
)

const MN, ML, WL = 4, 6, 3

type FS struct{ e, p, D, k, lossy uint8 }
type St struct {
	n                                    uint8
	log                                  [ML]FS
	wal                                  [MN][WL]uint8
	len                                  [MN]uint8
	ap, sealed, floor, srv, rb           [MN]uint8
	pD, pk, bar, prom, pe                [MN]uint8
	view                                 [MN][MN]uint8
	pmRev, pmD, pmK                      uint8 // promise message, rev+1
	lAp, repSet                          uint8
	repTag, repLen                       [MN]uint8
	relMsg, restarts, reclones, setsyncs uint8
	ack                                  [WL]uint8
	acklen                               uint8
	bad                                  uint8
}
type Cfg struct {
	Name                                                                                                                     string
	M, WLim                                                                                                                  int
	D0, K0                                                                                                                   uint8
	MaxEpoch, MaxLog, MaxRestart, MaxReclone, MaxSync                                                                        int
	Async, Release, Reapp                                                                                                    bool
	CasRev, Floor, FollowSeal                                                                                                bool
	NoCut, CutVolatile, NoBarrier, NoFreeze, DropQ, PgFirstStrict, DegradePgFirst, RecloneReports, NoRelPos, FewPos, LenOnly bool
	ShrinkFsmFirst, TightP                                                                                                   bool
	PromVolatile, DurableS, NoKeepP, NoFloorDepose                                                                           bool
	DMask                                                                                                                    uint8
	// Own: D holds the primary, R changes by the product's steps alone (one member in or out, one copy more, any number
	// fewer), P is always what R or the next R asks of its primary, and only members of D are appointed.
	Own, LeftCounts bool
}
type M struct{ c Cfg }

const (
	aApply = iota
	aWrite
	aStream
	aRewind
	aReclone
	aUnflag
	aAck
	aSetP
	aPromise
	aCommitProm
	aStrict
	aAsync
	aSeal
	aReport
	aAppoint
	aReapp
	aRelease
	aRestart
	aLApply
	aFsmFirst
)

func cd(k, a, b, c int) uint32 { return uint32(k)<<24 | uint32(a)<<16 | uint32(b)<<8 | uint32(c) }
func (m *M) Code(x uint32) string {
	k, a, b, c := int(x>>24), int(x>>16&255), int(x>>8&255), int(x&255)
	f := []string{"n%[1]d applies log up to %[2]d", "n%[1]d (epoch %[2]d) writes a WAL record", "n%[1]d streams+flushes+acks from n%[2]d up to %[3]d", "n%[1]d rewinds to n%[2]d", "n%[1]d wiped for re-clone from n%[2]d", "n%[1]d re-clone caught up with n%[2]d", "n%[1]d ACKs client up to %[2]d", "n%[1]d Postgres: ANY %[3]d of D=%04[2]b", "n%[1]d promises R'=(D=%04[2]b,k=%[3]d): P in force + barrier", "COMMIT SetSync R=(D=%04[1]b,k=%[2]d) (by promise)", "COMMIT SetSync R=(D=%04[1]b,k=%[2]d) (stricter: FSM first)", "COMMIT SetSync async", "n%[1]d sealed e=%[2]d, cuts, reports len %[3]d", "n%[1]d reports (after release) len %[3]d", "COMMIT Appoint(n%[1]d, e=%[2]d) by leader at applied=%[3]d", "COMMIT Re-Appoint(n%[1]d, e=%[2]d)", "n%[1]d stops+releases e=%[2]d", "n%[1]d restarts, applied regresses to %[2]d", "leader applies log up to %[1]d", "COMMIT SetSync R=(D=%04[1]b,k=%[2]d) (WRONG: FSM first)"}
	return strings.Split(fmt.Sprintf(f[k], a, b, c), "%!")[0]
}
func (m *M) Show(s *St) string {
	r := "STATE log:"
	for i := 0; i < int(s.n); i++ {
		x := s.log[i]
		r += fmt.Sprintf(" [%d e%d p%d D%04b k%d]", i, x.e, x.p, x.D, x.k)
	}
	for i := 0; i < m.c.M; i++ {
		r += fmt.Sprintf(" | n%d wal%v ap%d seal%d srv%d P=(%04b,%d) rb%d", i, s.wal[i][:s.len[i]], s.ap[i], s.sealed[i], s.srv[i], s.pD[i], s.pk[i], s.rb[i])
	}
	return r + fmt.Sprintf(" | acked %v", s.ack[:s.acklen])
}
func pc(x uint8) int { return bits.OnesCount8(x) }

// safe: every ack set under Postgres rule (pD,pk) on primary x meets every election set of R=(D,k)
func safe(pD, pk, D, k uint8, x int) bool {
	if k == 0 {
		return true
	}
	kk := int(k)
	if D>>x&1 == 1 {
		kk--
	}
	return int(pk) >= kk+pc(pD&^D)
}

// free is a step of the product that is committed before Postgres hears of it, by the leader: fewer copies, or one more
// member. bound is one that the primary promises first: one copy more, or one member fewer, never the primary p.
func free(D2, k2, D, k, p uint8) bool {
	return k > 0 && D2>>p&1 == 1 && (D2 == D && k2 < k && k2 > 0 || k2 == k && D2&D == D && pc(D2) == pc(D)+1)
}

func bound(D2, k2, D, k, p uint8) bool {
	return k > 0 && D2>>p&1 == 1 && (D2 == D && k2 == k+1 || k2 == k && D2&D == D2 && pc(D2)+1 == pc(D) && int(k2) <= pc(D2))
}

// enforced is what Postgres on primary x waits for under R: k-1 others of D when x is in it.
func (m *M) enforced(S FS, x int) (D, k uint8) {
	D, k = S.D&^(1<<x), S.k
	if m.c.TightP && k > 0 && S.D>>x&1 == 1 {
		k--
	}
	if m.c.Own && k == 0 {
		D = 0
	}
	return D, k
}

// mayEnforce: x, which has applied S, may put P = (D2, k2) in force as the next thing.
func (m *M) mayEnforce(S FS, x int, D2, k2 uint8) bool {
	if !m.c.Own {
		return true
	}
	if D, k := m.enforced(S, x); D == D2 && k == k2 {
		return true
	}
	for D := uint8(0); D < 1<<m.c.M; D++ {
		for k := uint8(1); int(k) <= pc(D); k++ {
			eD, ek := m.enforced(FS{D: D, k: k}, x)
			step := bound(D, k, S.D, S.k, uint8(x)) || m.c.PgFirstStrict && free(D, k, S.D, S.k, uint8(x))
			if step && eD == D2 && ek == k2 {
				return true
			}
		}
	}
	return false
}

// mayPromise: x, which has applied S, may promise R' = (D2, k2) while it enforces its P.
func (m *M) mayPromise(s *St, S FS, x int, D2, k2 uint8) bool {
	if !m.c.Own {
		return true
	}
	D, k := m.enforced(FS{D: D2, k: k2}, x)
	return bound(D2, k2, S.D, S.k, uint8(x)) && s.pD[x] == D && s.pk[x] == k
}

// stricter: every election set of R' contains an election set of R
func stricter(D2, k2, D, k uint8) bool {
	if k == 0 || k2 == 0 {
		return false
	}
	return pc(D2)-int(k2)+1-pc(D2&^D) >= pc(D)-int(k)+1
}
func (m *M) Init() []St {
	var s St
	s.n = 1
	s.log[0] = FS{e: 1, p: 0, D: m.c.D0, k: m.c.K0}
	s.srv[0] = 1
	s.pD[0], s.pk[0], s.pe[0] = m.c.D0&^1, m.c.K0-m.c.D0&1, 1
	return []St{s}
}
func (m *M) Canon(s *St) {}
func (m *M) Check(s *St) string {
	switch s.bad {
	case 1:
		return "S3: acked commit missing from the appointed primary"
	case 2:
		return "S3: zombie/other primary acks a commit missing from the current primary"
	}
	return ""
}
func isPre(a *[WL]uint8, al uint8, b *[WL]uint8, bl uint8) bool {
	if al > bl {
		return false
	}
	for i := 0; i < int(al); i++ {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
func common(a *[WL]uint8, al uint8, b *[WL]uint8, bl uint8) uint8 {
	i := uint8(0)
	for i < al && i < bl && a[i] == b[i] {
		i++
	}
	return i
}
func trunc(w *[WL]uint8, l *uint8, to uint8) {
	for i := to; i < WL; i++ {
		w[i] = 0
	}
	*l = to
}
func lastTag(s *St, x int) uint8 {
	if s.len[x] == 0 {
		return 0
	}
	return s.wal[x][s.len[x]-1]
}
func (m *M) checkLatest(t *St) {
	q := t.log[t.n-1].p
	if !isPre(&t.ack, t.acklen, &t.wal[q], t.len[q]) {
		t.bad = 1
	}
}
func (m *M) Succ(s *St, emit func(*St, uint32)) {
	c := &m.c
	last := s.log[s.n-1]
	capLog := int(s.n) < c.MaxLog
	for x := 0; x < c.M; x++ {
		S := s.log[s.ap[x]]
		fl := !c.Floor || s.ap[x] >= s.floor[x]
		// apply next
		if s.ap[x]+1 < s.n {
			t := *s
			t.ap[x]++
			S2 := t.log[t.ap[x]]
			if int(S2.p) == x && (!c.Floor || t.ap[x] >= t.floor[x]) && t.sealed[x] < S2.e && t.rb[x] == 0 {
				if t.srv[x] == 0 || t.srv[x] != S2.e {
					was := t.srv[x] != 0
					if !was && (t.pe[x] != S2.e || c.NoKeepP) {
						t.pD[x], t.pk[x] = m.enforced(S2, x)
						t.bar[x] = t.len[x]
						t.view[x] = [MN]uint8{}
						t.prom[x] = 0
					}
					t.pe[x] = S2.e
					t.srv[x] = S2.e
					if t.floor[x] < t.ap[x] {
						t.floor[x] = t.ap[x]
					}
					if c.FollowSeal && t.sealed[x] < S2.e-1 {
						t.sealed[x] = S2.e - 1
					}
				}
			} else if int(S2.p) != x {
				if t.srv[x] != 0 && c.Floor && !c.NoFloorDepose {
					t.floor[x] = t.ap[x] // persist what deposed it
				}
				t.srv[x] = 0
			}
			emit(&t, cd(aApply, x, int(t.ap[x]), 0))
		}
		if s.srv[x] > 0 {
			if int(s.len[x]) < c.WLim {
				t := *s
				t.wal[x][t.len[x]] = s.srv[x]
				t.len[x]++
				emit(&t, cd(aWrite, x, int(s.srv[x]), 0))
			}
			// client acks: the longest prefix satisfied
			best := uint8(0)
			for i := s.len[x]; i > 0; i-- {
				n := 0
				for y := 0; y < c.M; y++ {
					if s.pD[x]>>y&1 == 1 && y != x && s.view[x][y] >= i {
						n++
					}
				}
				if n >= int(s.pk[x]) {
					best = i
					break
				}
			}
			if best > 0 && !isPre(&s.wal[x], best, &s.ack, s.acklen) {
				skip := false
				for i := 0; i < int(s.n); i++ {
					if s.log[i].lossy == 1 && s.log[i].e > s.srv[x] {
						skip = true
					}
				}
				if s.pk[x] == 0 && S.k == 0 && last.e > s.srv[x] {
					skip = true // async zombie: no promise made
				}
				if !skip {
					t := *s
					if !isPre(&s.ack, s.acklen, &s.wal[x], best) {
						t.bad = 2
					} else {
						t.ack, t.acklen = s.wal[x], best
						trunc(&t.ack, &t.acklen, best)
						if q := last.p; !isPre(&t.ack, t.acklen, &t.wal[q], t.len[q]) {
							t.bad = 2
						}
					}
					emit(&t, cd(aAck, x, int(best), 0))
				}
			}
			// Postgres rule changes + promises
			if int(S.p) == x && S.e == s.srv[x] && fl && c.MaxSync > 0 {
				frozen := s.prom[x] == s.ap[x]+1 && !c.NoFreeze
				for D2 := uint8(0); D2 < 1<<c.M; D2++ {
					if D2>>x&1 == 1 || c.DMask != 0 && D2&^c.DMask != 0 {
						continue
					}
					for k2 := uint8(0); int(k2) <= pc(D2); k2++ {
						if (k2 == 0) != (D2 == 0) || !m.mayEnforce(S, x, D2, k2) {
							continue
						}
						if k2 == 0 && !c.Async && !c.Own {
							continue
						}
						ok := safe(D2, k2, S.D, S.k, x)
						if c.DegradePgFirst && k2 == 0 {
							ok = true
						}
						if c.PgFirstStrict && k2 > 0 {
							ok = true
						}
						if ok && !frozen && (s.pD[x] != D2 || s.pk[x] != k2) {
							t := *s
							t.pD[x], t.pk[x] = D2, k2
							t.bar[x] = t.len[x]
							if t.floor[x] < t.ap[x] {
								t.floor[x] = t.ap[x]
							}
							emit(&t, cd(aSetP, x, int(D2), int(k2)))
						}
					}
				}
				if int(s.setsyncs) < c.MaxSync && (!frozen) {
					for D2 := uint8(1); D2 < 1<<c.M; D2++ {
						for k2 := uint8(1); int(k2) <= pc(D2); k2++ {
							if c.DMask != 0 && D2&^c.DMask != 0 || D2 == S.D && k2 == S.k || stricter(D2, k2, S.D, S.k) || !m.mayPromise(s, S, x, D2, k2) || !safe(s.pD[x], s.pk[x], D2, k2, x) {
								continue
							}
							n := 0
							for y := 0; y < c.M; y++ {
								if D2>>y&1 == 1 && (y == x || s.view[x][y] >= s.bar[x]) {
									n++
								}
							}
							if n < int(k2) && !c.NoBarrier {
								continue
							}
							t := *s
							t.prom[x] = s.ap[x] + 1
							t.pmRev, t.pmD, t.pmK = s.ap[x]+1, D2, k2
							if t.floor[x] < t.ap[x] {
								t.floor[x] = t.ap[x]
							}
							emit(&t, cd(aPromise, x, int(D2), int(k2)))
						}
					}
				}
			}
			if c.Release && int(S.p) == x && S.e == s.srv[x] {
				t := *s
				t.srv[x] = 0
				if t.sealed[x] < S.e {
					t.sealed[x] = S.e
				}
				t.relMsg |= 1 << S.e
				emit(&t, cd(aRelease, x, int(S.e), 0))
			}
		} else if int(S.p) != x && fl {
			p := int(S.p)
			if s.srv[p] > 0 && (s.sealed[x] < S.e || c.NoCut) {
				fs := func(t *St) {
					if c.FollowSeal && t.sealed[x] < S.e-1 {
						t.sealed[x] = S.e - 1
					}
				}
				if isPre(&s.wal[x], s.len[x], &s.wal[p], s.len[p]) {
					t := *s
					if t.len[x] < t.len[p] {
						t.wal[x][t.len[x]] = t.wal[p][t.len[x]]
						t.len[x]++
					}
					t.view[p][x] = t.len[x]
					fs(&t)
					if t != *s {
						emit(&t, cd(aStream, x, p, int(t.len[x])))
					}
					if s.rb[x] == 1 && s.len[x] == s.len[p] {
						t := *s
						t.rb[x] = 0
						fs(&t)
						emit(&t, cd(aUnflag, x, p, 0))
					}
				} else {
					t := *s
					trunc(&t.wal[x], &t.len[x], common(&s.wal[x], s.len[x], &s.wal[p], s.len[p]))
					fs(&t)
					emit(&t, cd(aRewind, x, p, 0))
				}
				if int(s.reclones) < c.MaxReclone && s.len[x] > 0 {
					t := *s
					trunc(&t.wal[x], &t.len[x], 0)
					t.reclones++
					if !c.RecloneReports {
						t.rb[x] = 1
					}
					fs(&t)
					emit(&t, cd(aReclone, x, p, 0))
				}
			}
		}
		if int(s.restarts) < c.MaxRestart {
			for j := 0; j <= int(s.ap[x]); j++ {
				if c.DurableS && j != int(s.ap[x]) {
					continue
				}
				t := *s
				t.restarts++
				t.ap[x] = uint8(j)
				if c.CutVolatile {
					t.sealed[x] = 0
				}
				Sj := t.log[j]
				t.view[x] = [MN]uint8{}
				if int(Sj.p) == x && t.sealed[x] < Sj.e && t.rb[x] == 0 && (!c.Floor || uint8(j) >= t.floor[x]) {
					if t.pe[x] != Sj.e || c.NoKeepP {
						t.pD[x], t.pk[x] = m.enforced(Sj, x)
						t.bar[x] = t.len[x]
						t.prom[x] = 0
					}
					t.pe[x] = Sj.e
					t.srv[x] = Sj.e
				} else {
					t.srv[x] = 0
				}
				if c.PromVolatile || !c.Floor && !c.DurableS {
					t.prom[x] = 0
				}
				emit(&t, cd(aRestart, x, j, 0))
			}
		}
	}
	// FSM
	if capLog && int(s.setsyncs) < c.MaxSync {
		if s.pmRev != 0 && (s.pmRev == s.n || !c.CasRev) && (s.pmD != last.D || s.pmK != last.k) {
			t := *s
			S := last
			S.D, S.k = s.pmD, s.pmK
			t.log[t.n] = S
			t.n++
			t.setsyncs++
			if c.CasRev {
				t.pmRev, t.pmD, t.pmK = 0, 0, 0
			}
			emit(&t, cd(aCommitProm, int(S.D), int(S.k), 0))
		}
		for D2 := uint8(1); D2 < 1<<c.M; D2++ {
			for k2 := uint8(1); int(k2) <= pc(D2); k2++ {
				if c.DMask != 0 && D2&^c.DMask != 0 || D2 == last.D && k2 == last.k {
					continue
				}
				if c.Own && !free(D2, k2, last.D, last.k, last.p) && !(c.ShrinkFsmFirst && bound(D2, k2, last.D, last.k, last.p)) {
					continue
				}
				if stricter(D2, k2, last.D, last.k) || c.ShrinkFsmFirst {
					t := *s
					S := last
					S.D, S.k = D2, k2
					t.log[t.n] = S
					t.n++
					t.setsyncs++
					k := aStrict
					if !stricter(D2, k2, last.D, last.k) {
						k = aFsmFirst
					}
					emit(&t, cd(k, int(D2), int(k2), 0))
				}
			}
		}
		if c.Async && last.k > 0 && !c.DegradePgFirst {
			t := *s
			S := last
			S.D, S.k = 0, 0
			t.log[t.n] = S
			t.n++
			t.setsyncs++
			emit(&t, cd(aAsync, 0, 0, 0))
		}
	}
	// leader
	if int(last.e) >= c.MaxEpoch {
		return
	}
	if s.lAp+1 < s.n {
		t := *s
		t.lAp++
		if t.log[t.lAp].e != s.log[s.lAp].e {
			t.repSet, t.repTag, t.repLen = 0, [MN]uint8{}, [MN]uint8{}
		}
		emit(&t, cd(aLApply, int(t.lAp), 0, 0))
	}
	Sl := s.log[s.lAp]
	rel := s.relMsg>>Sl.e&1 == 1
	for x := 0; x < c.M; x++ {
		if s.repSet>>x&1 == 1 {
			continue
		}
		t := *s
		t.repTag[x], t.repLen[x] = lastTag(s, x), s.len[x]
		t.repSet |= 1 << x
		u := t
		if t.sealed[x] < Sl.e {
			t.sealed[x] = Sl.e
		}
		if t.srv[x] != 0 && t.srv[x] <= Sl.e {
			t.srv[x] = 0
		}
		if s.rb[x] == 1 {
			t.repSet = s.repSet
			t.repTag, t.repLen = s.repTag, s.repLen
		}
		if t != *s {
			emit(&t, cd(aSeal, x, int(Sl.e), int(s.len[x])))
		}
		if rel && s.rb[x] == 0 && x != int(Sl.p) {
			emit(&u, cd(aReport, x, int(Sl.e), int(s.len[x])))
		}
	}
	cas := last.e == Sl.e
	if c.CasRev {
		cas = s.lAp+1 == s.n
	}
	if cas && capLog {
		n := pc(s.repSet & Sl.D)
		if c.LeftCounts {
			n = pc(s.repSet)
		}
		need := pc(Sl.D) - int(Sl.k) + 1
		if Sl.k == 0 {
			need = 0
		}
		if c.FewPos {
			need--
		}
		if n >= need {
			for q := 0; q < c.M; q++ {
				if q == int(Sl.p) || s.repSet>>q&1 == 0 || c.Own && !c.LeftCounts && Sl.k > 0 && Sl.D>>q&1 == 0 {
					continue
				}
				hi := true
				for y := 0; y < c.M; y++ {
					if s.repSet&Sl.D>>y&1 == 1 {
						if c.LenOnly {
							if s.repLen[y] > s.repLen[q] {
								hi = false
							}
						} else if s.repTag[y] > s.repTag[q] || s.repTag[y] == s.repTag[q] && s.repLen[y] > s.repLen[q] {
							hi = false
						}
					}
				}
				if !hi {
					continue
				}
				t := *s
				S := last
				S.e++
				S.p = uint8(q)
				S.lossy = 0
				if Sl.k == 0 {
					S.lossy = 1
					cl := common(&t.ack, t.acklen, &t.wal[q], t.len[q])
					trunc(&t.ack, &t.acklen, cl)
				}
				if c.DropQ && pc(S.D&^(1<<q)) >= int(S.k) {
					S.D &^= 1 << q
				}
				t.log[t.n] = S
				t.n++
				m.checkLatest(&t)
				emit(&t, cd(aAppoint, q, int(S.e), int(s.lAp)))
			}
		}
		if c.Reapp {
			t := *s
			S := last
			S.e++
			S.lossy = 0
			t.log[t.n] = S
			t.n++
			emit(&t, cd(aReapp, int(S.p), int(S.e), 0))
		}
	}
}

func configs() (out []Cfg) {
	base := Cfg{M: 3, WLim: 2, D0: 0b110, K0: 1, MaxEpoch: 3, MaxLog: 4, MaxRestart: 1}
	fix := base
	fix.CasRev, fix.Floor, fix.FollowSeal = true, true, true
	add := func(n string, c Cfg, f func(*Cfg)) {
		c.Name = n
		if f != nil {
			f(&c)
		}
		out = append(out, c)
	}
	sy := func(c *Cfg) { c.MaxSync, c.MaxEpoch, c.MaxLog = 2, 2, 4 }
	add("base-elect", base, nil)
	add("base-sync", base, sy)
	add("base-sync-norestart", base, func(c *Cfg) { sy(c); c.MaxRestart = 0 })
	add("base+cas-sync", base, func(c *Cfg) { sy(c); c.CasRev = true })
	add("base+cas+floor-elect", base, func(c *Cfg) { c.CasRev, c.Floor = true, true })
	add("fix-elect", fix, func(c *Cfg) { c.Release, c.Reapp = true, true })
	dm := func(c *Cfg) { sy(c); c.DMask = 0b110 }
	add("fix-dm-sync", fix, dm)
	add("fix-dm-sync-D1", fix, func(c *Cfg) { dm(c); c.D0 = 0b010 })
	add("fix-dm-sync-k2", fix, func(c *Cfg) { dm(c); c.K0 = 2 })
	add("fix-dm-async", fix, func(c *Cfg) { dm(c); c.Async = true })
	add("fix-dm-3ep", fix, func(c *Cfg) { dm(c); c.MaxSync = 1; c.MaxEpoch = 3; c.MaxLog = 4 })
	add("fix-dm-3ep-s2", fix, func(c *Cfg) { dm(c); c.MaxSync = 2; c.MaxEpoch = 3; c.MaxLog = 5; c.MaxRestart = 0 })
	ds := base
	ds.CasRev, ds.DurableS = true, true
	add("dur-sync", ds, func(c *Cfg) { dm(c); c.MaxRestart = 1; c.WLim = 1; c.MaxLog = 4 })
	add("dur-sync-w2", ds, func(c *Cfg) { dm(c); c.MaxRestart = 0; c.MaxSync = 1; c.MaxLog = 3 })
	add("dur-sync-D1", ds, func(c *Cfg) { dm(c); c.D0 = 0b010; c.MaxRestart = 1; c.WLim = 1 })
	add("dur-sync-D3", ds, func(c *Cfg) { dm(c); c.DMask = 0b111; c.MaxRestart = 0; c.MaxSync = 1; c.MaxLog = 3 })
	add("dur-async", ds, func(c *Cfg) { dm(c); c.Async = true; c.WLim = 1 })
	add("durx-D3-selfD", ds, func(c *Cfg) {
		dm(c)
		c.DMask = 0b111
		c.MaxRestart = 0
		c.MaxSync = 2
		c.MaxLog = 4
		c.Async = true
		c.WLim = 1
	})
	add("dur-3ep", ds, func(c *Cfg) {
		dm(c)
		c.MaxSync = 1
		c.MaxEpoch = 3
		c.MaxLog = 4
		c.MaxRestart = 0
		c.WLim = 1
	})
	add("dur-M4k2", ds, func(c *Cfg) { c.M, c.D0, c.K0, c.MaxLog, c.WLim, c.TightP = 4, 0b1110, 2, 3, 2, true })
	add("mut-promise-volatile", ds, func(c *Cfg) { dm(c); c.PromVolatile = true; c.WLim = 1 })
	add("mut-P-rederived-on-restart", ds, func(c *Cfg) { dm(c); c.NoKeepP = true; c.WLim = 1; c.MaxLog = 3 })
	add("mut-dm-promise-not-frozen", ds, func(c *Cfg) { dm(c); c.NoFreeze = true; c.WLim = 1; c.MaxRestart = 0 })
	add("mut-dm-no-floor-on-depose", fix, func(c *Cfg) { dm(c); c.NoFloorDepose = true; c.NoKeepP = true })
	add("fix-tight-M4k2", fix, func(c *Cfg) { c.TightP = true; c.M, c.D0, c.K0, c.MaxLog, c.WLim = 4, 0b1110, 2, 3, 2 })
	add("mut-no-follow-seal-M4k2", fix, func(c *Cfg) {
		c.FollowSeal = false
		c.Floor = true
		c.TightP = true
		c.M, c.D0, c.K0, c.MaxLog, c.WLim = 4, 0b1110, 2, 3, 2
	})
	add("z-no-follow-seal-M4k2-literal-k", fix, func(c *Cfg) {
		c.FollowSeal = false
		c.M, c.D0, c.K0, c.MaxLog, c.WLim, c.MaxRestart = 4, 0b1110, 2, 3, 1, 2
	})
	add("z-no-floor-on-depose-only", fix, func(c *Cfg) { dm(c); c.NoFloorDepose = true; c.WLim = 1; c.MaxLog = 3; c.MaxSync = 1 })
	add("mut-dm-no-rev-cas", fix, func(c *Cfg) { dm(c); c.D0 = 0b010; c.CasRev = false; c.MaxRestart = 0 })
	add("mut-dm-no-floor", fix, func(c *Cfg) { dm(c); c.Floor = false; c.WLim = 1; c.MaxSync = 1; c.MaxLog = 3 })
	add("base-dm-sync", base, func(c *Cfg) { dm(c); c.D0 = 0b010; c.MaxRestart = 0 })
	add("fix-elect-reclone", fix, func(c *Cfg) { c.MaxReclone = 1 })
	add("fix-sync", fix, sy)
	add("fix-sync-D1", fix, func(c *Cfg) { sy(c); c.D0 = 0b010 })
	add("fix-sync-3ep", fix, func(c *Cfg) { c.MaxSync, c.MaxEpoch, c.MaxLog, c.MaxRestart = 1, 3, 4, 1 })
	add("fix-async", fix, func(c *Cfg) { sy(c); c.Async = true })
	add("fix-M4-k2", fix, func(c *Cfg) { c.M, c.D0, c.K0, c.MaxEpoch, c.MaxLog, c.MaxRestart = 4, 0b1110, 2, 3, 3, 1 })
	add("fix-M4-sync", fix, func(c *Cfg) { sy(c); c.M, c.D0, c.K0, c.MaxRestart, c.MaxSync, c.MaxLog = 4, 0b1110, 2, 0, 1, 3 })
	mu := func(n string, f func(*Cfg)) { add("mut-"+n, fix, f) }
	mu("no-cut", func(c *Cfg) { c.NoCut = true; c.MaxRestart = 0 })
	mu("cut-volatile", func(c *Cfg) { c.CutVolatile = true })
	mu("too-few-positions", func(c *Cfg) { c.FewPos = true })
	mu("len-only-compare", func(c *Cfg) { c.LenOnly = true; c.WLim = 3; c.MaxLog = 3 })
	mu("degrade-before-fsm", func(c *Cfg) { sy(c); c.Async, c.DegradePgFirst = true, true })
	mu("shrink-fsm-first", func(c *Cfg) { sy(c); c.ShrinkFsmFirst = true })
	mu("grow-pg-first", func(c *Cfg) { sy(c); c.D0 = 0b010; c.PgFirstStrict = true })
	mu("shrink-no-barrier", func(c *Cfg) { sy(c); c.NoBarrier = true })
	mu("promise-not-frozen", func(c *Cfg) { sy(c); c.NoFreeze = true })
	mu("no-rev-cas", func(c *Cfg) { sy(c); c.CasRev = false })
	mu("no-floor", func(c *Cfg) { sy(c); c.Floor = false })
	mu("no-follow-seal", func(c *Cfg) { c.FollowSeal = false; c.Floor = true })
	mu("appoint-drops-q-from-D", func(c *Cfg) { c.DropQ = true; c.MaxRestart = 0 })
	mu("reclone-reports-early", func(c *Cfg) { c.MaxReclone, c.RecloneReports = 1, true })
	mj := func(c *Cfg) { c.D0, c.K0, c.TightP = 0b111, 2, true }
	add("maj-2ep", fix, func(c *Cfg) { mj(c); c.MaxEpoch, c.MaxLog, c.MaxRestart = 2, 2, 1 })
	add("maj-3ep-r0", fix, func(c *Cfg) { mj(c); c.MaxRestart = 0; c.Release, c.Reapp = true, true })
	add("maj-3ep-r1-w1", fix, func(c *Cfg) { mj(c); c.WLim = 1; c.MaxEpoch, c.MaxLog = 3, 3 })
	add("maj-dur-3ep", fix, func(c *Cfg) { mj(c); c.DurableS = true; c.MaxEpoch, c.MaxLog, c.Reapp, c.Release = 3, 4, true, true })
	add("maj-mutfollow", fix, func(c *Cfg) { mj(c); c.FollowSeal = false; c.MaxEpoch, c.MaxLog = 3, 3; c.MaxRestart = 1 })
	add("maj-mutnocut", fix, func(c *Cfg) { mj(c); c.NoCut = true; c.MaxRestart = 0 })
	add("maj-restart-3ep-log4", fix, func(c *Cfg) { mj(c); c.MaxEpoch, c.MaxLog, c.MaxRestart = 3, 3, 2; c.WLim = 2 })
	add("maj-nodurablefloor", fix, func(c *Cfg) {
		mj(c)
		c.FollowSeal, c.Floor = false, false
		c.MaxEpoch, c.MaxLog, c.MaxRestart = 3, 3, 2
	})
	add("maj-mutfew", fix, func(c *Cfg) { mj(c); c.FewPos = true; c.MaxRestart = 0 })
	// leaving and re-entering D, with failovers before, between and after: the steps and the P of the product
	own := func(c *Cfg) {
		c.Own, c.TightP, c.D0, c.K0 = true, true, 0b111, 2
		c.MaxSync, c.MaxEpoch, c.MaxLog, c.MaxRestart = 2, 2, 4, 0
	}
	own1 := func(c *Cfg) { own(c); c.WLim = 1 }
	add("own-leave-return", fix, own1)
	add("own-leave-return-w2", fix, own)
	add("own-leave-return-r1", fix, func(c *Cfg) { own1(c); c.MaxRestart = 1 })
	add("own-leave-return-dur-r1", ds, func(c *Cfg) { own1(c); c.MaxRestart = 1 })
	add("own-leave-return-3ep", fix, func(c *Cfg) { own1(c); c.MaxEpoch, c.MaxLog = 3, 5 })
	add("own-leave-return-reclone", fix, func(c *Cfg) { own1(c); c.MaxReclone = 1 })
	add("own-leave-return-release", fix, func(c *Cfg) { own1(c); c.Release, c.Reapp, c.MaxEpoch, c.MaxLog = true, true, 3, 4 })
	add("own-from-two", fix, func(c *Cfg) { own1(c); c.D0 = 0b011; c.MaxSync, c.MaxLog = 3, 5 })
	add("own-from-alone", fix, func(c *Cfg) { own1(c); c.D0, c.K0 = 0b001, 1; c.MaxSync, c.MaxLog = 3, 5 })
	add("own-degrade-and-back", fix, func(c *Cfg) { own1(c); c.D0 = 0b011; c.MaxSync, c.MaxEpoch, c.MaxLog = 3, 3, 6 })
	add("own-four", fix, func(c *Cfg) { own1(c); c.M, c.D0 = 4, 0b1111 })
	mo := func(n string, f func(*Cfg)) { add("mut-own-"+n, fix, func(c *Cfg) { own1(c); f(c) }) }
	mo("leave-fsm-first", func(c *Cfg) { c.ShrinkFsmFirst = true })
	mo("leave-no-barrier", func(c *Cfg) { c.NoBarrier = true })
	mo("leave-not-frozen", func(c *Cfg) { c.NoFreeze = true })
	mo("return-pg-first", func(c *Cfg) { c.D0, c.PgFirstStrict = 0b011, true })
	mo("left-counts", func(c *Cfg) { c.D0, c.LeftCounts = 0b011, true })
	mo("no-rev-cas", func(c *Cfg) { c.CasRev = false })
	mo("few-positions", func(c *Cfg) { c.FewPos = true })
	mo("no-cut", func(c *Cfg) { c.NoCut = true })
	mo("reclone-reports", func(c *Cfg) { c.MaxReclone, c.RecloneReports = 1, true })
	mo("promise-volatile", func(c *Cfg) { c.DurableS, c.PromVolatile, c.MaxRestart = true, true, 1 })
	return
}
func main() {
	if err := run(mc.Arguments(os.Args, 60*time.Second)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(what string, each time.Duration) error {
	switch what {
	case "short":
		return runShort(os.Stdout)
	case "long":
		return runLong(os.Stdout)
	}
	for _, c := range configs() {
		if !mc.Named(c.Name, what) {
			continue
		}
		r := mc.BFS[St](&M{c}, 50_000_000, each)
		fmt.Printf("%-32s %s\n", c.Name, r)
		for i, l := range r.Trace {
			fmt.Printf("      %2d %s\n", i+1, l)
		}
	}
	return nil
}
