package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/fsm"
)

// Releases that differ. A later one writes commands that this one does not know: some may be skipped, the others halt the node
// before its state can become another one (cluster/machine.go). While releases differ every command goes through fsm's own encoding.

// laterKind is a command that only a later release knows.
const laterKind = "later"

// laterCommand is what a release that is not written yet puts into the log.
func laterCommand(id string, optional bool) []byte {
	return fmt.Appendf(nil, `{"format":1,"kind":%q,"optional":%t,"id":%q,"if_rev":0,"by":"release","wall":0,"change":{"more":1}}`,
		laterKind, optional, id)
}

// encode is the entry's command as it is in the log.
func (w *World) encode(env fsm.Envelope) []byte {
	if w.release == 0 || env.Change == nil {
		return nil
	}
	raw, err := fsm.EncodeCommand(env)
	if err != nil {
		w.check.fail(nil, "model", "encode %s: %v", env.Change.Kind(), err)
	}
	return raw
}

// read mirrors machine.Apply's reading of an entry; false: the node halts. What only a later release knows changes nothing that this
// one has, so that it is counted, to be the same everywhere.
func (r *raft) read(e *entry) (fsm.Envelope, bool) {
	if e.raw == nil {
		return e.env, true
	}
	env, err := fsm.DecodeCommand(e.raw)
	unknown := (*fsm.UnknownCommandError)(nil)
	switch {
	case err == nil:
		return env, true
	case !errors.As(err, &unknown):
		r.h.w.check.fail(r.h, "encoding", "entry %d can't be read: %v", e.index, err)
		return fsm.Envelope{}, false
	case unknown.Optional:
		return fsm.Envelope{}, true
	case r.h.release >= e.since:
		r.later++
		return fsm.Envelope{}, true
	}
	return fsm.Envelope{}, r.h.w.opts.Without == MutHalt
}

// halt ends the process at an entry that it can't apply; whoever starts it again finds the same.
func (r *raft) halt(index uint64) {
	r.halted = true
	r.h.w.stats.Halted++
	r.h.agent.exit(fmt.Sprintf("log entry %d can't be applied", index))
}

// upgrade brings a later release to one node after the other. Leaders that have it write what the others don't know: what may be
// skipped at once, the rest when all have it, or at once too.
func upgrade(w *World, f Fault) func() {
	w.release++
	to, careful, over := w.release, f.N%2 == 0, false
	var turn func()
	turn = func() {
		if over {
			return
		}
		if h := w.behind(to, f.N>>8); h != nil && w.chance(0.7) {
			h.upgrade(to)
		}
		w.writeLater(to, !careful || w.behind(to, 0) == nil)
		w.at(w.between(100*time.Millisecond, 2500*time.Millisecond), turn)
	}
	turn()
	return func() {
		over = true
		for h := w.behind(to, 0); h != nil; h = w.behind(to, 0) {
			h.upgrade(to)
		}
	}
}

// behind is a host with an older release, nil for none.
func (w *World) behind(release uint64, n uint64) *host {
	for i := range w.hosts {
		if h := w.hosts[(n+uint64(i))%uint64(len(w.hosts))]; h.release < release {
			return h
		}
	}
	return nil
}

// upgrade restarts the daemon with a later release; PostgreSQL goes on under its guard.
func (h *host) upgrade(to uint64) {
	h.release = to
	h.w.stats.Upgraded++
	h.w.say(h, "upgrade", "release %d", to)
	if h.agent.alive && !h.agent.halted() {
		h.killAgent()
		h.w.at(h.w.between(20*time.Millisecond, 400*time.Millisecond), h.startAgent)
	}
}

// writeLater has a leader with that release write what only that release knows.
func (w *World) writeLater(release uint64, mandatory bool) {
	for _, h := range w.hosts {
		r := h.agent.raft
		if !h.agent.alive || h.agent.halted() || r.role != leader || !r.begun || h.release < release {
			continue
		}
		optional := !mandatory || w.chance(0.6)
		e := &entry{raw: laterCommand(w.nextID(), optional)}
		if !optional {
			e.since = release
		}
		w.say(h, "later", "writes a command of release %d, optional: %t", release, optional)
		r.enter(e, func(error) {})
	}
}

// appliedLater: what only later releases know is the same on all that have it, and skipped by no other.
func (c *checker) appliedLater(h *host, e *entry, later uint64) {
	for uint64(len(c.results)) < e.index {
		c.results = append(c.results, result{})
	}
	r := result{term: e.term, later: later}
	known := &c.results[e.index-1]
	if known.term != 0 && *known != r {
		c.fail(h, "equal states", "entry %d gave %+v elsewhere and %+v here", e.index, *known, r)
	}
	*known = r
}
