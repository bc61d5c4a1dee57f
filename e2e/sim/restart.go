package sim

import (
	"time"

	"github.com/quorate/quorate/fsm"
)

// reinit is a request for a new copy of a standby's data directory, as node/restart.go and acts.go keep it: in memory only.
// What may speak against it is node's own mayReinit (mirror_node.go).
type reinit struct {
	asked     bool
	force     bool
	since     time.Duration
	announced time.Duration
	epoch     fsm.Epoch // in which it was let begin, 0 before
}

// reinitStep mirrors agent.reinitStep: true while the data directory shall be replaced.
func (a *agent) reinitStep(state fsm.State) bool {
	r, now := &a.reinit, a.h.boot()
	switch {
	case !r.asked:
	case r.epoch == 0 && a.have.Clone == nil:
		a.beginReinit(state, now)
	case a.have.Clone != nil, state.Epoch != r.epoch, now-r.since > restartBox:
		*r = reinit{}
	default:
		return true
	}
	return false
}

// beginReinit mirrors agent.beginRestart.
func (a *agent) beginReinit(state fsm.State, now time.Duration) {
	r := &a.reinit
	if why := mayReinit(state, a.h.id, r.force, r.announced > 0, a.sightings()); why != "" {
		r.announced = 0
		if now-r.since > restartPatience {
			*r = reinit{}
		}
		return
	}
	if r.announced == 0 {
		r.announced = now
	}
	if now-r.announced >= 3*a.h.w.beatEvery() {
		r.epoch = state.Epoch
		a.h.w.say(a.h, "agent", "is given a new copy")
	}
}

// askReinit has an operator ask for a new copy, of one node or of two at once.
func askReinit(w *World, f Fault) func() {
	for i := range 1 + int(f.N>>40)%2 {
		h := w.pick(f)
		if i > 0 {
			h = w.others(h, f.N>>8)
		}
		if h != nil && h.agent.alive && !h.agent.halted() && h.role == fsm.RoleData && !h.agent.reinit.asked {
			h.agent.reinit = reinit{asked: true, force: f.N&(1<<50) != 0, since: h.boot()}
		}
	}
	return nil
}

// crashLoop has daemons end and come back again and again, at any instant of what they do.
func crashLoop(w *World, f Fault) func() {
	over := false
	var turn func()
	turn = func() {
		if over {
			return
		}
		h := w.pick(f)
		if w.chance(0.5) {
			h = w.hosts[w.rng.IntN(len(w.hosts))]
		}
		h.killAgent()
		w.at(w.between(time.Millisecond, 300*time.Millisecond), h.startAgent)
		w.at(w.between(10*time.Millisecond, 1200*time.Millisecond), turn)
	}
	turn()
	return func() { over = true }
}
