package main

import (
	"errors"
	"fmt"
	"github.com/quorate/quorate/docs/model/mc"
	"math/bits"
	"math/rand"
	"strings"
	"time"
)

func wt(c uint32) float64 {
	switch c >> 24 {
	case aTick:
		return 3
	case aRestart:
		return 0.15
	case aVouch:
		return 1.2
	case aSeal:
		return 0.5
	case aBeat:
		return 1.5
	case aSetE:
		return 0.4
	case aPause, aResume:
		return 0.3
	case aRelease:
		return 0.1
	case aAppoint, aReapp:
		return 0.6
	}
	return 1
}

type liveStat struct{ ok, blockedResume, paused, fail int }

// recover: faults stop; majority of E up, clocks run. pDead: the current primary is down for good.
func (m *M) recoverRun(s St, rng *rand.Rand, pDead bool, st *liveStat) string {
	c := m.c
	last := s.log[s.n-1]
	if last.paused == 1 {
		st.paused++
		return ""
	}
	if pDead && last.res > 0 && s.shown[last.p] < last.res && s.relMsg>>last.e&1 == 0 {
		st.blockedResume++ // by design: operator must assert the fence
		return ""
	}
	dead := uint8(0)
	p := int(last.p)
	if pDead {
		dead |= 1 << p
	}
	// kill a random minority of E
	for _, x := range rng.Perm(c.N) {
		if last.E>>x&1 == 1 && x != p && bits.OnesCount8(last.E&^(dead|1<<x))*2 > bits.OnesCount8(last.E) {
			if rng.Intn(2) == 0 {
				dead |= 1 << x
			}
		}
	}
	if !maj(^dead, last.E) {
		st.ok++ // p's death alone breaks the majority (|E|=2): not required
		return ""
	}
	s.lAp = s.n - 1
	s.lmask, s.lrem = 0, [MN]uint8{}
	for x := 0; x < c.N; x++ {
		if dead>>x&1 == 0 {
			s.ap[x] = s.n - 1
		}
		s.beat[x] = Beat{}
	}
	for t := 0; t < 40; t++ {
		last = s.log[s.n-1]
		p = int(last.p)
		if dead>>p&1 == 0 && s.rel[p] < last.e {
			if s.shown[p] < s.ap[p] {
				s.shown[p] = s.ap[p]
			}
			v := uint8(0)
			for x := 0; x < c.N; x++ {
				if dead>>x&1 == 0 && last.E>>x&1 == 1 && s.sealed[x] < last.e {
					v |= 1 << x
				}
			}
			if maj(v, last.E) {
				st.ok++
				return ""
			}
			// refused: leader learns that e is sealed -> seal majority (idempotent) + Re-Appoint
			S := last
			S.e++
			if int(s.n) < ML {
				s.log[s.n] = S
				s.n++
			} else {
				s.log[ML-1] = S
			}
			for x := 0; x < c.N; x++ {
				if dead>>x&1 == 0 {
					if last.E>>x&1 == 1 && s.sealed[x] < last.e {
						s.sealed[x] = last.e
					}
					s.ap[x] = s.n - 1
				}
			}
			continue
		}
		// p dead or released: seal, wait, appoint
		for x := 0; x < c.N; x++ {
			if dead>>x&1 == 0 && last.E>>x&1 == 1 && s.sealed[x] < last.e {
				s.sealed[x] = last.e
			}
		}
		if t*1 >= c.W { // enough ticks for every replier
			q := -1
			for x := 0; x < c.N; x++ {
				if dead>>x&1 == 0 && x != p {
					q = x
				}
			}
			S := last
			S.e++
			S.p = uint8(q)
			S.res = 0
			if int(s.n) < ML {
				s.log[s.n] = S
				s.n++
			} else {
				s.log[ML-1] = S
			}
			for x := 0; x < c.N; x++ {
				if dead>>x&1 == 0 {
					s.ap[x] = s.n - 1
				}
			}
		}
	}
	st.fail++
	return "LIVENESS: no lease after recovery"
}

// sim walks at random for dur in each of its variants. Those called MUT must be broken; the others must hold, and recover at
// the end of every walk.
func sim(dur time.Duration) error {
	var failed []error
	mk := func(n string, f func(*Cfg)) Cfg {
		c := fixed(base())
		c.Name = n
		c.N, c.E0, c.L, c.W, c.TwoL = 5, 0b11111, 3, 3, 6
		c.MaxEpoch, c.MaxLog, c.MaxRestart, c.MaxEv = 4, 7, 4, 3
		c.Release, c.Reapp, c.SetE, c.Pause, c.VChk = true, true, true, true, true
		c.Perms = nil
		f(&c)
		return c
	}
	cfgs := []Cfg{
		mk("sim5-fixed", func(c *Cfg) {}),
		mk("sim5-fixed-from3", func(c *Cfg) { c.E0 = 0b00111 }),
		mk("sim5-fixed-nopause", func(c *Cfg) { c.Pause = false; c.Release = false }),
		mk("sim5-fixed-drift", func(c *Cfg) {
			c.L, c.W, c.TwoL, c.RateL = 6, 12, 12, 4
			c.Rate = [MN]int{2, 4, 4, 2, 3}
			c.Pause = false
		}),
		mk("sim5-MUT-noCasRev", func(c *Cfg) { c.CasRev = false; c.Pause = false }),
		mk("sim5-MUT-noFloor", func(c *Cfg) { c.Floor = false; c.E0 = 7; c.Pause = false; c.Release = false }),
		mk("sim5-MUT-noSeal", func(c *Cfg) { c.NoSeal = true; c.Pause, c.Release = false, false }),
		mk("sim5-MUT-lastvouch", func(c *Cfg) { c.NoAgeReset = true; c.Pause, c.Release = false, false }),
		mk("sim5-MUT-pause-casrev-off", func(c *Cfg) { c.CasRev = false; c.SetE = false }),
	}
	for _, c := range cfgs {
		m := &M{c}
		start := time.Now()
		steps, seeds := 0, 0
		var st, st2 liveStat
		viol := ""
		var tr []string
		for time.Since(start) < dur && viol == "" {
			rng := rand.New(rand.NewSource(int64(seeds)*7919 + 17))
			seeds++
			r := mc.Walk[St](m, rng, 50, 120, wt, func(s St) string {
				if v := m.recoverRun(s, rng, false, &st); v != "" {
					return v + " (p alive)"
				}
				if v := m.recoverRun(s, rng, true, &st2); v != "" {
					return v + " (p dead)"
				}
				return ""
			})
			steps += r.Trans
			viol, tr = r.Violation, r.Trace
		}
		if mutation := strings.Contains(c.Name, "-MUT-"); mutation != (viol != "") {
			failed = append(failed, fmt.Errorf("%s: not as it must be: %q", c.Name, viol))
		}
		if viol == "" {
			viol = "no violation"
		}
		fmt.Printf("%-28s seeds=%d walks=%d steps=%d  %s  live(p alive)=%+v live(p dead)=%+v\n", c.Name, seeds, seeds*50, steps, viol, st, st2)
		if len(tr) > 0 {
			fmt.Printf("   (trace of %d steps) %s\n", len(tr)-1, tr[len(tr)-1])
		}
	}
	return errors.Join(failed...)
}
