package sim

import (
	"strconv"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// recoverAfter is more than any message is under way: recovery is offline, and what is lost is lost for good.
const recoverAfter = 4 * time.Second

// recoverOne has all hosts but one die for good, and an operator make a new cluster of the one that is left. The others are
// wiped and let in again.
func recoverOne(w *World, f Fault) func() {
	left := w.hosts[f.N%uint64(len(w.hosts))]
	s := left.disk.state
	if _, member := w.check.newest.Members[left.id]; !member || leavingOne(w.check.newest) {
		return nil // nobody removes, and goes on to remove, the one that he recovers
	}
	if _, member := s.Members[left.id]; !member || left.role != fsm.RoleData || s.Epoch == 0 || leavingOne(s) ||
		w.recovering || !left.data.exists || left.data.foreign || left.data.rebuild {
		return nil
	}
	w.recovering = true
	for _, h := range w.hosts {
		if h != left {
			h.wipe()
		}
	}
	left.killAgent()
	w.at(recoverAfter, func() {
		left.killAgent() // something may have started it
		left.recover()
		w.recovering = false
		w.at(w.between(0, time.Second), left.startAgent)
		made := w.recovered
		for i, h := range w.hosts {
			if h == left {
				continue
			}
			w.at(time.Duration(2+i)*time.Second, func() {
				if w.recovered == made && !w.recovering { // else all but one are dead again: the next recovery lets them in
					w.letIn(h, h.id, f.N+uint64(i))
				}
			})
		}
	})
	return nil
}

// recover mirrors cluster.Recover: the whole log is replayed, committed or not, and a snapshot of what State.Recovered makes of
// that takes its place, with this node as the only server.
func (h *host) recover() {
	w, r := h.w, newRaft(h)
	h.release = w.release // an older one refuses a log that it can't read
	s := r.state
	for i := r.applied + 1; i <= r.last(); i++ {
		if env, _ := r.read(r.at(i)); env.Change != nil {
			if next, err := w.opts.apply(s, env); err == nil {
				s = next
			}
		}
	}
	w.recovered++
	next, err := s.Recovered(h.id, "c"+strconv.Itoa(w.recovered), w.now.Milliseconds())
	if err != nil {
		w.check.fail(h, "recover", "%v", err)
		return
	}
	d := &h.disk
	d.snap = snapshot{
		index: r.last(), term: r.termAt(r.last()), state: next, later: r.later, release: h.release,
		servers: []standing{{h.index, h.id, failover.Voter}},
	}
	d.log, d.synced = nil, d.snap.index
	d.state, d.stateIndex = next, d.snap.index
	w.say(h, "recover", "generation %d, epoch %d, rev %d", next.Generation, next.Epoch, next.Rev)
	w.check.restart(h, next)
}

// restart is a new history, of h alone: the operator gave up what the others had. The numbers of timelines are told apart within one
// cluster id only (decision 0014), since nobody that is left knows which ones the others used.
func (c *checker) restart(h *host, s fsm.State) {
	c.newest, c.results, c.leaders, c.givenUp = s, nil, map[uint64]int{}, nil
	log, kept := h.data.log.upTo(h.data.flushed), []*branch{}
	for _, b := range c.branches {
		if log.common(b, b.end) > 0 {
			kept = append(kept, b)
		}
		if has := log.common(b, b.promised); has < b.promised {
			c.lossy += countCommits(b, has, b.acked)
			b.promised, b.acked = has, min(b.acked, has)
		}
	}
	c.branches = kept
}
