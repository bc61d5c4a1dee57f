package sim

import (
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl/guard"
)

// What faults do to hosts and processes. Each returns what ends it.

// powerOff is the sudden end of a host: what its disks had not synced is gone.
func (h *host) powerOff() {
	if !h.up {
		return
	}
	h.up = false
	h.server.die()
	h.data.powerLost()
	h.agent.end()
	h.keeper.end()
	h.agent.stopped, h.keeper.stopped = 0, 0
	h.disk.dropUnsynced()
	h.disk.hangs = 0
}

func (h *host) powerOn() {
	if h.up || h.joins && !h.started {
		return
	}
	w := h.w
	h.up, h.booted = true, w.now-time.Millisecond
	h.keeper.begin()
	h.keeper.gone, h.keeper.view = false, guard.View{Run: h.keeper.runs}
	h.keeper.last = order{run: h.keeper.runs}
	w.at(w.between(100*time.Millisecond, time.Second), func() {
		if h.up && !h.agent.alive {
			h.agent.start()
		}
	})
}

func hostKill(w *World, f Fault) func() {
	h := w.pick(f)
	h.powerOff()
	return h.powerOn
}

// allKill is the loss of power everywhere; the hosts come back one after the other, in any order.
func allKill(w *World, f Fault) func() {
	for _, h := range w.hosts {
		h.powerOff()
	}
	return func() {
		for _, h := range w.hosts {
			w.at(w.between(0, 3*time.Second), h.powerOn)
		}
	}
}

// killAgent ends the daemon; what it wrote last may be on disk or not.
func (h *host) killAgent() {
	if !h.agent.alive {
		return
	}
	h.agent.end()
	h.agent.stopped = 0
	if h.w.chance(0.5) {
		h.disk.dropUnsynced()
	} else {
		h.disk.synced = h.disk.snap.index + uint64(len(h.disk.log))
	}
}

func (h *host) startAgent() {
	if h.up && !h.agent.alive && (!h.joins || h.started) {
		h.agent.start()
	}
}

func agentKill(w *World, f Fault) func() {
	h := w.pick(f)
	h.killAgent()
	return h.startAgent
}

// still stops a process until the end of the fault, if it is the same process then.
func still(p *process) func() {
	if !p.alive {
		return func() {}
	}
	gen := p.gen
	p.stop()
	return func() {
		if p.gen == gen && p.stopped > 0 {
			p.resume()
		}
	}
}

func agentStop(w *World, f Fault) func() {
	h := w.pick(f)
	if !h.agent.alive {
		return nil
	}
	return still(&h.agent.process)
}

// ends of the guard: the postmaster gets SIGQUIT when its parent dies, unless it is frozen.
func (h *host) killGuard() {
	k := &h.keeper
	if !k.alive {
		return
	}
	k.end()
	k.stopped = 0
	k.down(h.w.now)
	run := k.view.Run
	h.w.at(h.w.between(2*time.Millisecond, 30*time.Millisecond), func() {
		if k.view.Run == run && !h.server.frozen {
			h.server.die()
			k.view.State = guard.StateEmpty
		}
	})
}

// down notes since when the guard does not work.
func (k *keeper) down(now time.Duration) {
	k.haltedAt, k.downSince = k.h.boot(), now
}

func guardKill(w *World, f Fault) func() {
	h := w.pick(f)
	h.killGuard()
	return nil
}

func (h *host) stopGuard() func() {
	k := &h.keeper
	if !k.alive {
		return nil
	}
	if !k.halted() {
		k.down(h.w.now)
	}
	goOn := still(&k.process)
	return func() {
		k.lateUntil = h.w.now + 2*guardTick
		goOn()
		if k.alive && !k.halted() {
			k.look()
		}
	}
}

func guardStop(w *World, f Fault) func() { return w.pick(f).stopGuard() }

func bothKill(w *World, f Fault) func() {
	h := w.pick(f)
	h.killAgent()
	h.killGuard()
	return h.startAgent
}

func bothStop(w *World, f Fault) func() {
	h := w.pick(f)
	if !h.agent.alive || !h.keeper.alive {
		return nil
	}
	agent, guard := still(&h.agent.process), h.stopGuard()
	return func() { guard(); agent() }
}

func postgresKill(w *World, f Fault) func() {
	w.pick(f).server.crash(9)
	return nil
}

// postgresStop stops the server's processes from outside.
func postgresStop(w *World, f Fault) func() {
	h := w.pick(f)
	s := &h.server
	if s.phase == down || s.hanging {
		return nil
	}
	run := s.run
	s.hanging, s.hangSince = true, w.now
	s.stop()
	return func() {
		if s.run == run && s.hanging && s.phase != down {
			s.hanging = false
			s.resume()
			w.check.writers(h)
		}
	}
}

// suspend stops the whole machine, as a hypervisor does; its clock since boot goes on. The guard runs again a moment before
// the server does anything.
func suspend(w *World, f Fault) func() {
	h := w.pick(f)
	if !h.up {
		return nil
	}
	var ends []func()
	for _, p := range []*process{&h.keeper.process, &h.agent.process, &h.server.process} {
		ends = append(ends, still(p))
	}
	h.keeper.down(w.now)
	server, run, since := ends[2], h.server.run, w.now
	return func() {
		if w.opts.lacks(MutClock) {
			h.booted += w.now - since
		}
		ends[0]()
		h.keeper.lateUntil = w.now + 2*guardTick
		if h.keeper.alive && !h.keeper.halted() {
			h.keeper.look()
		}
		ends[1]()
		w.at(2*time.Millisecond, func() {
			if h.server.run == run {
				server()
				w.check.writers(h)
			}
		})
	}
}

func diskHang(w *World, f Fault) func() {
	h := w.pick(f)
	if !h.hung() {
		h.disk.hungSince = w.now
	}
	h.disk.hangs = max(h.disk.hangs, w.now+f.For)
	return nil
}

func diskSlow(w *World, f Fault) func() {
	h := w.pick(f)
	by := time.Duration(1+f.N%40) * time.Millisecond
	h.disk.slow += by
	return func() { h.disk.slow -= by }
}

// replayLag has a standby apply what it received late; its walreceiver is not late.
func replayLag(w *World, f Fault) func() {
	h := w.pick(f)
	by := time.Duration(50+f.N%2000) * time.Millisecond
	h.server.lag += by
	return func() { h.server.lag = max(0, h.server.lag-by) }
}

// walGone has the primary drop log that a standby needs, and the standby's connection; and, while it lasts, what those need that
// were rewound and can't come up without it.
func walGone(w *World, f Fault) func() {
	drop := func(h *host) {
		primary := w.byID(w.check.newest.Primary)
		if primary == nil || h == nil || h == primary {
			return
		}
		primary.data.refuses[h.index] = true
		if t := primary.server.senders[h.index]; t != nil {
			t.end()
		}
	}
	drop(w.others(w.byID(w.check.newest.Primary), f.N))
	over := false
	var turn func()
	turn = func() {
		for _, h := range w.hosts {
			if r := h.data.rewind; r != nil && r.written && !h.server.consistent() {
				drop(h)
			}
		}
		if !over {
			w.at(20*time.Millisecond, turn)
		}
	}
	turn()
	return func() { over = true }
}

// rashLeader has whoever leads believe that the primary is silent and that nobody vouched for it, whatever it is told: what
// it believes must not matter for safety.
func rashLeader(w *World, _ Fault) func() {
	w.rash++
	return func() { w.rash-- }
}

// trap has one standby hold the newest commits and replay them late, another one lag, and then the primary's host die: the
// end of its log decides, not what it shows.
func trap(w *World, f Fault) func() {
	primary := w.byID(w.check.newest.Primary)
	if primary == nil {
		return nil
	}
	var ends []func()
	late := false
	for _, h := range w.hosts {
		switch {
		case h == primary || h.server.phase != standby:
		case late:
			ends = append(ends, w.block([][2]int{{h.index, primary.index}, {primary.index, h.index}}))
		default:
			h.server.lag += 5 * time.Second
			ends = append(ends, func() { h.server.lag = max(0, h.server.lag-5*time.Second) })
			late = true
		}
	}
	ends = append(ends, primary.powerOn)
	w.at(w.between(200*time.Millisecond, 900*time.Millisecond), primary.powerOff)
	return func() {
		for _, end := range ends {
			end()
		}
	}
}

// rashRestart has some daemons restarted and, before or after, a rash leader: a promise that was only in memory is gone, and
// so is what a voter vouched for a moment ago. Sometimes a link is cut, so that not all promise.
func rashRestart(w *World, f Fault) func() {
	over := false
	w.at(w.between(0, 900*time.Millisecond), func() {
		if !over {
			w.rash++
			over = true
		}
	})
	var ends []func()
	for i, h := range w.hosts {
		if (f.N>>(8*i))&1 == 0 || h.agent.alive && h.agent.raft.role == leader {
			continue
		}
		w.at(w.between(50*time.Millisecond, 1200*time.Millisecond), func() {
			h.killAgent()
			w.at(w.between(20*time.Millisecond, 200*time.Millisecond), h.startAgent)
		})
	}
	if f.N&(1<<62) != 0 {
		ends = append(ends, link(w, Fault{Who: theLeader, N: f.N >> 3}))
	}
	return func() {
		if over {
			w.rash--
		}
		over = true
		for _, end := range ends {
			end()
		}
	}
}

// vouchLost has the leader hear nothing of the primary for so long that its own last vouch is over. Then the primary is cut off,
// all others, who hold its lease, are restarted at once, and the leader turns rash: what they vouched for a moment ago is in no memory.
func vouchLost(w *World, _ Fault) func() {
	primary, lead := w.byID(w.check.newest.Primary), w.pick(Fault{Who: theLeader})
	if primary == nil || primary == lead || lead.agent.raft.role != leader {
		return nil
	}
	span, over, rash := w.opts.failoverAfter(), false, 0
	ends := []func(){w.block([][2]int{{primary.index, lead.index}, {lead.index, primary.index}})}
	w.at(span+w.between(span/4, span/2), func() {
		if over {
			return
		}
		ends = append(ends, w.block(w.around(primary.index)))
		for _, h := range w.hosts {
			if h != primary && h != lead {
				h.killAgent()
				w.at(w.between(5*time.Millisecond, 30*time.Millisecond), h.startAgent)
			}
		}
		w.at(40*time.Millisecond, func() {
			if !over {
				rash = 1
				w.rash++
			}
		})
	})
	return func() {
		over = true
		w.rash -= rash
		for _, end := range ends {
			end()
		}
	}
}

// cancelWaits has somebody cancel what waits for copies: it is let through, and promises nothing (K6).
func cancelWaits(w *World, _ Fault) func() {
	for _, h := range w.hosts {
		if s := &h.server; s.accepts() {
			for _, o := range s.waiting {
				w.load.lost(o)
			}
			s.waiting = nil
		}
	}
	return nil
}

// asks submits a command by a daemon that lives.
func (w *World) asks(n uint64, by string, c func(fsm.State) fsm.Command) {
	for i := range w.hosts {
		h := w.hosts[(n+uint64(i))%uint64(len(w.hosts))]
		if !h.agent.alive || h.agent.halted() || h.joins && !h.started {
			continue
		}
		if cmd := c(h.agent.state()); cmd != nil {
			h.agent.submit(cmd, 0, by, func(err error) {
				if w.tape != nil {
					w.say(h, "operator", "%s: %v", cmd.Kind(), err)
				}
			})
		}
		return
	}
}
