package failover

import (
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// Copies remembers since when each standby has not kept up with the serving primary, as its reports show it. The leader
// has one for what it proposes, the primary one for what it promises. The zero value has just begun to look. It has no
// lock.
type Copies struct {
	primary fsm.NodeID
	epoch   fsm.Epoch
	good    map[fsm.NodeID]kept
}

// kept is when a standby was last seen to keep up, and how far it was.
type kept struct {
	at    time.Duration
	flush pg.LSN
}

// Look takes note of v at now, any clock that never goes back, and returns for how long each standby of D and each other
// data node has not kept up, for View.Lost.
//
// A standby keeps up if the primary streams to it and it either has everything or has got further: a walsender whose
// standby lost power looks as if it streamed for many seconds. While no primary serves nobody can keep up, which is held
// against nobody; but a node that is not heard by anybody is gone for as long, so that a primary whose predecessor died
// with its host need not wait for it again.
func (c *Copies) Look(now time.Duration, v View) map[fsm.NodeID]time.Duration {
	p, heard := v.Seen[v.State.Primary]
	serving := heard && p.Age <= beatsFresh*v.BeatEvery && p.Report.Serving == v.State.Epoch && v.State.Epoch > 0
	if c.primary != v.State.Primary || c.epoch != v.State.Epoch || !serving {
		c.primary, c.epoch, c.good = v.State.Primary, v.State.Epoch, map[fsm.NodeID]kept{}
	}
	streams := make(map[fsm.NodeID]pg.LSN, len(p.Report.Streaming))
	if serving {
		for _, s := range p.Report.Streaming {
			streams[s.Node] = s.Flush
		}
	}
	lost := make(map[fsm.NodeID]time.Duration)
	for id, m := range v.State.Members {
		if id == v.State.Primary || m.Role != fsm.RoleData {
			continue
		}
		last, known := c.good[id]
		flush, streaming := streams[id]
		if !known || streaming && (flush > last.flush || flush >= p.Report.Flush) {
			last = kept{at: now, flush: flush}
			c.good[id] = last
		}
		lost[id] = now - last.at
		if !streaming {
			lost[id] = max(lost[id], v.unheard(id))
		}
	}
	return lost
}

// unheard is how long ago the looker and, by its fresh report, the primary last heard the node; 0 for one that neither
// ever heard.
func (v View) unheard(id fsm.NodeID) time.Duration {
	age := time.Duration(-1)
	if s, ok := v.Seen[id]; ok {
		age = s.Age
	}
	if p, ok := v.Seen[v.State.Primary]; ok && p.Age <= beatsFresh*v.BeatEvery {
		for _, a := range p.Report.Sightings {
			if a.Node == id && age >= 0 {
				age = min(age, time.Duration(a.MS)*time.Millisecond+p.Age)
			}
		}
	}
	return max(0, age)
}
