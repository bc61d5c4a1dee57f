package sim

import (
	"time"

	"github.com/quorate/quorate/pgctl/guard"
)

// The names under which the guard's decider knows its words.
type (
	State   = guard.State
	Verdict = guard.Verdict
	action  int
)

const (
	StateRunning    = guard.StateRunning
	StateFrozen     = guard.StateFrozen
	VerdictNone     = guard.VerdictNone
	VerdictStandby  = guard.VerdictStandby
	VerdictServe    = guard.VerdictServe
	VerdictStop     = guard.VerdictStop
	VerdictUnleased = guard.VerdictUnleased
)

const (
	actNothing action = iota
	actFreeze
	actThaw
	actKill
)

// guardTick is how long an order may go unnoticed (pgctl/guard/loop.go).
const guardTick = 25 * time.Millisecond

// keeper is the guard: the process that owns PostgreSQL and the deadline, with the record that it shares with the agent.
// What it decides is pgctl/guard's own decide, see mirror_guard.go; the loop around it mirrors pgctl/guard/loop.go.
type keeper struct {
	process
	h         *host
	view      guard.View
	last      order // the newest that was accepted, as in the shared memory
	leaseEnd  time.Duration
	beat      time.Duration
	haltedAt  time.Duration // by this host's clock
	downSince time.Duration // in true time
	lateUntil time.Duration // it runs again and may not have looked yet
	runs      uint64
	lease     time.Duration // L
	killAfter time.Duration
	armed     uint64
	gone      bool // what a lost guard owned is swept, and there is no other guard yet
}

// Record is what the agent reads in shared memory: it is there although the guard is stopped.
func (k *keeper) Record() guard.View {
	v := k.view
	v.Tick = k.h.boot()
	if !k.gone && (!k.alive || k.halted()) {
		v.Tick = k.haltedAt
	}
	return v
}

// Set mirrors guard.Client.Set.
func (k *keeper) Set(v guard.Verdict, epoch uint64, deadline time.Duration) bool {
	if k.gone {
		return false
	}
	k.beat = k.h.boot()
	next := order{run: k.view.Run, verdict: v, epoch: epoch, deadline: deadline}
	if !k.last.accepts(next) {
		return false
	}
	extended := v == VerdictServe && k.last.verdict == VerdictServe
	k.last = next
	if !extended {
		k.h.later(&k.process, k.h.w.between(0, guardTick), k.look)
	}
	return true
}

// start begins a run.
func (k *keeper) start(v guard.Verdict, epoch uint64, deadline time.Duration) uint64 {
	k.runs++
	now := k.h.boot()
	k.last = order{run: k.runs, verdict: v, epoch: epoch, deadline: deadline}
	k.leaseEnd = 0
	k.view = guard.View{Run: k.runs, State: StateRunning, Since: now, Verdict: v, Epoch: epoch, PID: int(k.runs)}
	k.read(true)
	k.look()
	return k.runs
}

// read takes a new order over; a deadline is capped once, when it is first seen.
func (k *keeper) read(first bool) {
	o := k.last
	if !first && o.verdict == k.view.Verdict && o.epoch == k.view.Epoch && min(o.deadline, k.leaseEnd) == o.deadline {
		return
	}
	k.leaseEnd = 0
	if o.verdict == VerdictServe {
		k.leaseEnd = min(o.deadline, k.h.boot()+k.lease)
	}
	k.view.Verdict, k.view.Epoch, k.view.Deadline = o.verdict, o.epoch, k.leaseEnd
}

// look obeys.
func (k *keeper) look() {
	if k.view.Gone() {
		return
	}
	k.read(false)
	now := k.h.boot()
	act, next := decide(facts{
		now: now, state: k.view.State, since: k.view.Since, exited: k.view.Exited, verdict: k.view.Verdict, leaseEnd: k.leaseEnd,
		beat: k.beat, paused: k.h.disk.paused, killAfter: k.killAfter,
	})
	switch act {
	case actFreeze:
		k.freeze()
	case actThaw:
		k.enter(StateRunning)
		k.h.server.thaw()
		k.look()
	case actKill:
		k.kill()
	case actNothing:
		if next > 0 {
			k.arm(max(next-now, 0))
		}
	}
}

// arm looks again after delay, a little late as any timer; a newer one replaces it.
func (k *keeper) arm(delay time.Duration) {
	k.armed++
	mine := k.armed
	k.h.later(&k.process, delay+k.h.w.between(0, 3*time.Millisecond), func() {
		if k.armed == mine {
			k.look()
		}
	})
}

func (k *keeper) enter(s guard.State) {
	k.view.State, k.view.Since = s, k.h.boot()
	if k.h.w.tape != nil {
		k.h.w.say(k.h, "guard", "%s run %d, verdict %s of epoch %d", s, k.view.Run, k.view.Verdict, k.view.Epoch)
	}
	k.h.agent.poke()
}

func (k *keeper) freeze() {
	k.enter(StateFrozen)
	k.h.server.freeze()
	k.look()
}

// kill is final for the run: a moment later nothing is left.
func (k *keeper) kill() {
	k.enter(guard.StateKilling)
	run := k.view.Run
	if k.h.w.opts.lacks(MutKill) && k.view.Exited {
		k.reap()
		k.h.w.at(10*time.Second, func() {
			if k.h.server.run == run {
				k.h.server.die()
			}
		})
		return
	}
	k.h.w.at(k.h.w.between(time.Millisecond, 15*time.Millisecond), func() {
		if k.h.up && k.view.Run == run && !k.view.Gone() {
			k.h.server.die()
			k.reap()
		}
	})
}

// reap notes that nothing of the run exists any more.
func (k *keeper) reap() {
	if k.view.Gone() {
		return
	}
	k.enter(guard.StateEmpty)
}

// exited tells the guard of the end of the postmaster: by a signal, or in good order with status 0.
func (k *keeper) exited(signal uint32) {
	k.view.Exited, k.view.WaitStatus = true, signal
	if k.alive {
		k.h.w.after(&k.process, k.h.w.between(0, 5*time.Millisecond), k.look)
	}
}
