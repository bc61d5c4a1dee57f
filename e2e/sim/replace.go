package sim

import (
	"time"

	"github.com/quorate/quorate/fsm"
)

// replace has a host die for good: its member is removed, and an empty machine under its name is let in. The log, the seals and
// the votes of the old one are gone, so it must not be taken for it (lease.md rule 11).
func replace(w *World, f Fault) func() {
	h, s := w.pick(f), w.check.newest
	if h.id == s.Primary {
		h = w.others(h, f.N)
	}
	if h == nil || len(s.Members) < 3 || leavingOne(s) || w.recovering || w.alone(h) {
		return nil
	}
	if _, member := s.Members[h.id]; !member || s.Electorate.Has(h.id) && len(s.Electorate.Voters) < 3 {
		return nil // of two voters neither can be done without
	}
	h.powerOff()
	if id := h.id; w.opts.Without == MutIdentity {
		h.wipe()
		h.id, h.started = id, true
		return h.powerOn
	}
	w.remove(h, h.id, f.N)
	return nil
}

func leavingOne(s fsm.State) bool {
	for _, m := range s.Members {
		if m.Leaving {
			return true
		}
	}
	return false
}

// remove asks until somebody takes it, and has the host wiped when it is done. A removal that nobody took until everything is
// healed is given up: the host comes back as it was.
func (w *World) remove(h *host, id fsm.NodeID, n uint64) {
	m, member := w.check.newest.Members[id]
	switch {
	case h.id != id:
		return
	case !member:
		h.wipe()
		w.at(2*time.Second, func() { w.letIn(h, h.id, n) })
		return
	case !m.Leaving && w.now > healed:
		h.powerOn()
		return
	case !m.Leaving:
		w.asks(n, "operator", func(s fsm.State) fsm.Command {
			m, member := s.Members[id]
			// Without the only voter, whom somebody recovered meanwhile, nobody is left: standing.judgeRemoval refuses it.
			if !member || m.Leaving || id == s.Primary || s.Electorate.Has(id) && len(s.Electorate.Voters) == 1 {
				return nil
			}
			m.Leaving = true
			return fsm.SetMember{Member: m}
		})
	}
	w.at(700*time.Millisecond, func() { w.remove(h, id, n+1) })
}

// letIn asks until it is a member.
func (w *World) letIn(h *host, id fsm.NodeID, n uint64) {
	if _, member := w.check.newest.Members[id]; member || h.id != id {
		w.stats.Replaced++
		return
	}
	w.asks(n, "join", func(s fsm.State) fsm.Command {
		if _, known := s.Members[id]; known {
			return nil
		}
		return fsm.SetMember{Member: h.member()}
	})
	if !h.started {
		h.started = true
		w.at(300*time.Millisecond, h.powerOn)
	}
	w.at(700*time.Millisecond, func() { w.letIn(h, id, n+1) })
}
