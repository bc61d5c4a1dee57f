package sim

import (
	"math/rand/v2"
	"time"

	"github.com/quorate/quorate/fsm"
)

// World is one simulated cluster. Its only clock is now, which is true time; each host's own clock is made from it.
type World struct {
	now   time.Duration
	seq   uint64
	queue queue
	rng   *rand.Rand
	opts  Options

	hosts []*host
	net   network
	tape  *tape // nil: nobody reads along
	check checker
	load  load
	stats Stats

	ids        int
	release    uint64        // the newest that somebody has
	adopted    *fsm.Adoption // what the cluster begins with; nil: a new database
	heal       []func()      // ends of the faults that are under way
	rash       int           // by how many faults the leader believes the primary silent
	late       time.Duration // up to so long lies a leader's proposal between the decision and the log
	recovering bool          // all hosts but one are lost, and the operator has not made up his mind yet
	recovered  int           // clusters made of one host
}

// event is something that happens at an instant. One with an owner happens to that process only: it is dropped when the
// process has ended since, and waits when it is stopped.
type event struct {
	at    time.Duration
	seq   uint64
	owner *process
	gen   uint32
	do    func()
}

// maxEvents is far more than a seed has.
const maxEvents = 3_000_000

// at schedules what depends on no process: the network, the kernel, the disk, faults.
func (w *World) at(delay time.Duration, do func()) {
	w.seq++
	w.queue.push(event{at: w.now + max(delay, 0), seq: w.seq, do: do})
}

// after schedules an event of p, delay later in true time.
func (w *World) after(p *process, delay time.Duration, do func()) {
	w.seq++
	w.queue.push(event{at: w.now + max(delay, 0), seq: w.seq, owner: p, gen: p.gen, do: do})
}

// run plays events until end or until a check fails.
func (w *World) run(end time.Duration) {
	for w.check.failed == nil {
		if len(w.queue.heap) == 0 || w.queue.heap[0].at > end {
			w.now = end
			return
		}
		e := w.queue.pop()
		w.now = e.at
		if w.stats.Events++; w.stats.Events > maxEvents {
			w.check.fail(nil, "model", "more than %d events: something goes round in a circle", maxEvents)
		}
		if p := e.owner; p != nil {
			switch {
			case p.gen != e.gen:
				continue
			case p.halted():
				p.waiting = append(p.waiting, e)
				continue
			}
		}
		e.do()
		w.check.after()
	}
}

// between draws a duration.
func (w *World) between(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(w.rng.Int64N(int64(high-low)))
}

func (w *World) chance(p float64) bool { return p > 0 && w.rng.Float64() < p }

// process is something that can be stopped, or end, apart from everything else on its host.
type process struct {
	w       *World
	gen     uint32 // of the present life; events of an earlier one are dropped
	alive   bool
	stopped int     // by how many faults
	waiting []event // that came while it was stopped
}

func (p *process) halted() bool { return p.stopped > 0 }

// begin starts a life of the process.
func (p *process) begin() {
	p.end()
	p.alive, p.stopped = true, 0
}

// end drops everything that was still to happen to it.
func (p *process) end() {
	p.gen++
	p.alive, p.waiting = false, nil
}

func (p *process) stop() { p.stopped++ }

// resume lets what waited happen now, in its order.
func (p *process) resume() {
	if p.stopped--; p.stopped > 0 {
		return
	}
	p.stopped = 0
	late := p.waiting
	p.waiting = nil
	for _, e := range late {
		if e.gen == p.gen {
			p.w.after(p, 0, e.do)
		}
	}
}

// queue is a binary heap by instant and, within one, by order of scheduling. The heap itself holds no pointers, so that
// sorting costs the garbage collector nothing.
type queue struct {
	heap  []instant
	slots []event
	free  []int32
}

// instant is an event's place in time and in slots.
type instant struct {
	at   time.Duration
	seq  uint64
	slot int32
}

func (a instant) before(b instant) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

func (q *queue) push(e event) {
	slot := int32(len(q.slots))
	if n := len(q.free); n > 0 {
		slot, q.free = q.free[n-1], q.free[:n-1]
		q.slots[slot] = e
	} else {
		q.slots = append(q.slots, e)
	}
	p := instant{e.at, e.seq, slot}
	q.heap = append(q.heap, p)
	h, i := q.heap, len(q.heap)-1
	for i > 0 {
		up := (i - 1) / 2
		if !p.before(h[up]) {
			break
		}
		h[i] = h[up]
		i = up
	}
	h[i] = p
}

func (q *queue) pop() event {
	h := q.heap
	top, n := h[0], len(h)-1
	last := h[n]
	q.heap = h[:n]
	h = q.heap
	for i := 0; n > 0; {
		child := 2*i + 1
		if child+1 < n && h[child+1].before(h[child]) {
			child++
		}
		if child >= n || !h[child].before(last) {
			h[i] = last
			break
		}
		h[i] = h[child]
		i = child
	}
	e := q.slots[top.slot]
	q.slots[top.slot].do = nil
	q.free = append(q.free, top.slot)
	return e
}
