package sim

import (
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// restarting is a planned restart under way, or the replacement of a standby's data directory by a new copy, as node/restart.go and
// acts.go keep it: in memory only. What may speak against it is node's own mayRestart and mayReinit (mirror_node.go).
type restarting struct {
	asked     bool
	renews    bool // a copy is wanted
	pending   bool // only if a setting waits for it
	force     bool // though commits may depend on the log here
	grown     bool // nobody asked: the log needs more than this standby runs with
	since     time.Duration
	announced time.Duration
	run       uint64    // the run that it ends, once it has begun
	epoch     fsm.Epoch // in which it was begun
	downAt    time.Duration
	ownAt     time.Duration
}

// restartStep mirrors agent.restartStep: down while Postgres shall be down for a restart, renew while its data directory shall be
// replaced.
func (a *agent) restartStep(state fsm.State) (down, renew bool) {
	if r := &a.restart; !r.asked && !a.takeRestart(state, a.h.boot()) {
		return false, false
	}
	if a.restart.renews {
		return false, a.reinitStep(state)
	}
	return a.restartFurther(state), false
}

// restartFurther mirrors agent.restartFurther.
func (a *agent) restartFurther(state fsm.State) bool {
	r, now := &a.restart, a.h.boot()
	running := a.have.Run == pg.RunStandby || a.have.Run == pg.RunPrimary
	switch {
	case r.run == 0:
		return a.beginRestart(state, now, running)
	case a.have.GuardRun != r.run && running:
		a.endRestart("restarted")
	case state.Epoch != r.epoch:
		a.endRestart("an epoch began before the restart was over")
	case now-r.since > restartBox:
		a.endRestart("not back in time")
	case a.have.GuardRun != r.run || a.have.Run == pg.RunStopped:
		if r.downAt == 0 {
			r.downAt = now
		}
		if state.Primary == a.h.id && a.have.Run == pg.RunStopped && a.have.Dir.Control.State != pg.ControlShutDown {
			a.endRestart("the shutdown was not clean")
		}
	default:
		return true
	}
	return false
}

// reinitStep mirrors agent.reinitStep: true while the data directory shall be replaced.
func (a *agent) reinitStep(state fsm.State) bool {
	r, now := &a.restart, a.h.boot()
	switch {
	case r.epoch == 0 && a.have.Clone != nil:
		a.endRestart("a copy is being made already")
	case r.epoch == 0:
		return a.beginRestart(state, now, false)
	case a.have.Clone != nil:
		a.endRestart("the copy is begun")
	case state.Epoch != r.epoch:
		a.endRestart("an epoch began before the copy was begun")
	case now-r.since > restartBox:
		a.endRestart("the copy was not begun in time")
	default:
		return true
	}
	return false
}

// takeRestart mirrors agent.takeRestart where nobody asked: a standby whose settings the log has outgrown restarts itself.
func (a *agent) takeRestart(state fsm.State, now time.Duration) bool {
	r := &a.restart
	grown := pgctl.Outgrown(a.conf.surveyed(a.have.GuardRun), a.have.Dir.Control.HotStandby())
	if grown == "" || now < r.ownAt || a.have.Run != pg.RunStandby || state.Primary == a.h.id {
		return false
	}
	*r = restarting{asked: true, grown: true, since: now, ownAt: now + ownTries}
	return true
}

// beginRestart mirrors agent.beginRestart.
func (a *agent) beginRestart(state fsm.State, now time.Duration, running bool) bool {
	r := &a.restart
	if r.pending && running && len(a.configured().Pending) == 0 {
		a.endRestart("nothing waits for it")
		return false
	}
	why := "Postgres does not run"
	switch {
	case r.renews:
		why = mayReinit(state, a.h.id, r.force, r.announced > 0, a.sightings())
	case running:
		insists := r.grown && now-r.since > restartPatience
		why = mayRestart(state, a.h.id, a.have.Run == pg.RunPrimary && a.fence.live(state.Epoch, now), r.announced > 0, insists, a.sightings())
	}
	if why != "" {
		r.announced = 0
		if now-r.since > restartPatience {
			a.endRestart(why)
		}
		return false
	}
	if r.announced == 0 {
		r.announced = now
	}
	if now-r.announced < 3*a.h.w.beatEvery() {
		return false
	}
	if r.grown {
		r.ownAt = now + ownRestarts
	}
	r.run, r.epoch = a.have.GuardRun, state.Epoch
	a.h.w.stats.Restarts++
	if a.h.w.tape != nil {
		a.h.w.say(a.h, "restart", "begins, for a new copy: %t, pending %v", r.renews, a.conf.survey.Pending)
	}
	return true
}

func (a *agent) endRestart(how string) {
	a.h.w.say(a.h, "restart", "ends: %s", how)
	a.restart = restarting{ownAt: a.restart.ownAt}
}

// downForRestart mirrors agent.downForRestart.
func (a *agent) downForRestart(state fsm.State) bool {
	r := &a.restart
	return r.run != 0 && r.epoch == state.Epoch && (r.downAt == 0 || a.h.boot()-r.downAt < openBox)
}

// ask has an operator ask a node for r, unless it is busy with another one.
func (a *agent) ask(r restarting) {
	if a.alive && !a.halted() && a.h.role == fsm.RoleData && !a.restart.asked {
		r.asked, r.since, r.ownAt = true, a.h.boot(), a.restart.ownAt
		a.restart = r
		a.poke()
	}
}

// askReinit has an operator ask for a new copy, of one node or of two at once.
func askReinit(w *World, f Fault) func() {
	for _, h := range w.oneOrTwo(f) {
		h.agent.ask(restarting{renews: true, force: f.N&(1<<50) != 0})
	}
	return nil
}

// askRestart has an operator ask for a restart: of one node or two at once, whether a setting waits for it or not.
func askRestart(w *World, f Fault) func() {
	for _, h := range w.oneOrTwo(f) {
		h.agent.ask(restarting{pending: f.N&(1<<51) != 0})
	}
	return nil
}

// oneOrTwo is whom a fault means, and in every other one somebody else too.
func (w *World) oneOrTwo(f Fault) []*host {
	hosts := []*host{w.pick(f)}
	if o := w.others(hosts[0], f.N>>8); o != nil && (f.N>>40)%2 == 1 {
		hosts = append(hosts, o)
	}
	return hosts
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
