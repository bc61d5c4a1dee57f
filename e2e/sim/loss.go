package sim

import (
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// givenUp is an appointment at which acknowledged commits may have been lost: what its node lacked of older timelines is nobody's
// any more. What it had is promised as ever.
type givenUp struct {
	kept     place
	timeline pg.Timeline // the new one
}

// givesUp notes what is lost by an appointment that may lose something: under async nothing was promised, and an operator who
// accepts a loss gives up what is past the position that he was shown.
func (c *checker) givesUp(before fsm.State, a fsm.Appoint) {
	s := c.newest
	h := c.w.byID(s.Primary)
	if !s.Lineage[len(s.Lineage)-1].Async || h == nil {
		return
	}
	if len(before.Sync.Members) > 0 {
		c.accepted++
		if w := before.Wish; w == nil || w.To != s.Primary || w.Loss == unseen(before, s.Primary) {
			c.fail(h, "accepted loss", "it is appointed at a loss that nobody accepted: the wish is %+v", w)
		}
	}
	c.givenUp = append(c.givenUp, givenUp{place{h.data.log.at(a.SwitchLSN), a.SwitchLSN}, a.Timeline})
}

// unseen is the token that stands for no logs at all. Nobody may be appointed by that, since he has one.
func unseen(s fsm.State, candidate fsm.NodeID) string {
	return fsm.LossToken(s.ClusterID, s.Epoch, candidate, nil)
}

// owed is how much of b, of what it had up to lsn, was never given up.
func (c *checker) owed(b *branch, lsn pg.LSN) pg.LSN {
	for _, g := range c.givenUp {
		if b.tli < g.timeline {
			lsn = g.kept.common(b, lsn)
		}
	}
	return lsn
}

// comesBack: what the server has that is opened now is the cluster's, though an appointment that came to nothing had given it up.
func (c *checker) comesBack() {
	for i, g := range c.givenUp {
		if c.open.holds(g.kept.at(g.kept.lsn), g.kept.lsn) {
			c.givenUp[i].kept = c.open
		}
	}
}
