package sim

import "time"

// What single backends do to a server (K8): one that is stopped keeps a fast shutdown from ending, for as long as it is, and one
// that crashes ends the server, whose postmaster waits five seconds for one that does not hear it.

// crashEscalation is when a postmaster kills what does not end by SIGQUIT.
const crashEscalation = 5 * time.Second

// wedge stops one backend of a server from outside.
func wedge(w *World, f Fault) func() {
	s := &w.pick(f).server
	if s.phase == down {
		return nil
	}
	run := s.run
	s.wedged++
	return func() {
		if s.run == run {
			s.wedged--
		}
	}
}

// backendCrash kills one backend: all sessions end at once, and the postmaster, which restarts nothing, as soon as nobody is left.
func backendCrash(w *World, f Fault) func() {
	s := &w.pick(f).server
	if s.phase != primary && s.phase != standby || s.halted() || s.crashed {
		return nil
	}
	s.crashed, s.phase = true, stopping
	for _, o := range s.waiting {
		w.load.lost(o)
	}
	s.waiting = nil
	s.h.agent.poke()
	wait := w.between(5*time.Millisecond, 100*time.Millisecond)
	if s.wedged > 0 {
		wait = crashEscalation
	}
	w.after(&s.process, wait, func() {
		s.die()
		s.h.keeper.exited(1 << 8)
		if !s.h.keeper.alive {
			s.h.keeper.reap()
		}
	})
	return nil
}
