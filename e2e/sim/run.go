package sim

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// Outcome is what became of one seed.
type Outcome struct {
	Seed      uint64
	Shape     string
	Plan      []Fault
	Violation *Violation
	Stats     Stats
}

// Run plays one seed.
func Run(o Options) Outcome {
	w, plan := prepare(o)
	w.play(plan)
	return Outcome{Seed: o.Seed, Shape: w.opts.shape.String(), Plan: plan, Violation: w.check.failed, Stats: w.stats}
}

// prepare makes the world of a seed, with its faults before it.
func prepare(o Options) (*World, []Fault) {
	draw := rand.New(rand.NewPCG(o.Seed, 1))
	o.shape = drawShape(draw)
	o.shape.accepts = o.Seed%2 == 0
	plan := drawPlan(draw, o.shape.adopts)
	w := &World{rng: rand.New(rand.NewPCG(o.Seed, 2)), opts: o}
	if o.Log != nil {
		w.tape = &tape{out: o.Log}
	}
	w.build()
	w.schedule(plan)
	if o.shape.accepts {
		w.standBy()
	}
	return w, plan
}

// play has all of it happen.
func (w *World) play(plan []Fault) {
	w.run(ended)
	if w.check.failed == nil {
		w.check.alive()
	}
	w.finish(plan)
}

// build makes the hosts and lets them start.
func (w *World) build() {
	s := w.opts.shape
	w.check = checker{w: w, leaders: map[uint64]int{}}
	w.stats = newStats()
	w.net.low, w.net.high = 100*time.Microsecond, 800*time.Microsecond
	if s.wide {
		w.net.low, w.net.high = 2*time.Millisecond, 12*time.Millisecond
	}
	for i := range s.data + s.witnesses + s.spares {
		h := &host{w: w, index: i, name: "n" + strconv.Itoa(i+1), role: fsm.RoleData, up: true, rate: w.drawRate()}
		h.id = fsm.NodeID(h.name)
		if i >= s.data && i < s.data+s.witnesses {
			h.role = fsm.RoleWitness
		}
		h.joins = i >= s.data+s.witnesses
		h.booted = -w.between(time.Second, time.Hour)
		h.agent.h, h.keeper.h, h.server.h, h.data.h = h, h, h, h
		h.agent.w, h.keeper.w, h.server.w = w, w, w
		h.keeper.lease, h.keeper.killAfter = w.leaseLength(), s.failoverAfter/4
		w.hosts = append(w.hosts, h)
	}
	var servers []standing
	for _, h := range w.hosts {
		if !h.joins {
			servers = append(servers, standing{h.index, h.id, failover.Voter})
		}
	}
	first := &entry{term: 1, index: 1, servers: servers}
	for _, h := range w.hosts {
		h.agent.raft = newRaft(h)
		h.agent.fence = &fence{guard: &h.keeper}
		if h.joins {
			h.keeper.begin()
			continue
		}
		h.disk.term, h.disk.log, h.disk.synced = 1, []*entry{first}, 1
		h.keeper.begin()
		h.agent.begin()
		h.agent.end()
		w.at(w.between(0, 500*time.Millisecond), h.startAgent)
	}
	if s.adopts {
		w.findData()
	}
	w.load.start(w)
}

// drawRate is how fast a clock goes: often as wrong as it may be (ρ = 1 %), since only that shows a wait that is too short.
func (w *World) drawRate() float64 {
	switch p := w.rng.Float64(); {
	case p < 0.2:
		return 0.99
	case p < 0.4:
		return 1.01
	default:
		return 0.99 + 0.02*w.rng.Float64()
	}
}

func (w *World) byName(name string) *host {
	for _, h := range w.hosts {
		if h.name == name {
			return h
		}
	}
	return nil
}

// byID is the host of a member; nil for one that was wiped, and is another member since.
func (w *World) byID(id fsm.NodeID) *host {
	for _, h := range w.hosts {
		if h.id == id {
			return h
		}
	}
	return nil
}

// nextID is a request id that no other request has.
func (w *World) nextID() string {
	w.ids++
	return "r" + strconv.Itoa(w.ids)
}

// state is a line about everybody, for people.
func (w *World) state() string {
	var out strings.Builder
	s := w.check.newest
	fmt.Fprintf(&out, "epoch %d of %s, sync %d of %v", s.Epoch, s.Name(s.Primary), s.Sync.Copies, s.Sync.Members)
	for _, h := range w.hosts {
		a := &h.agent
		if !a.alive {
			fmt.Fprintf(&out, "; %s down", h.name)
			continue
		}
		fmt.Fprintf(&out, "; %s epoch %d %s step %s (%s)", h.name, a.published.Epoch, a.have.Run, a.lastStep.Kind, a.lastStep.Because)
		if a.lead.leads {
			fmt.Fprintf(&out, " leads: %s", a.lead.last.Rule)
		}
	}
	return out.String()
}
