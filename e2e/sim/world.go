package sim

import (
	"math/rand/v2"
	"time"
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

	ids     int
	heal    []func() // ends of the faults that are under way
	effects int
	rash    int // by how many faults the leader believes the primary silent
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
	for len(w.queue) > 0 && w.check.failed == nil {
		e := w.queue.pop()
		if e.at > end {
			w.now = end
			return
		}
		w.now = e.at
		w.stats.Events++
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
	p.alive = true
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

// queue is a binary heap by instant and, within one, by order of scheduling.
type queue []event

func (q queue) less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}

func (q *queue) push(e event) {
	*q = append(*q, e)
	h := *q
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !h.less(i, up) {
			return
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func (q *queue) pop() event {
	h := *q
	top, last := h[0], len(h)-1
	h[0], h[last] = h[last], event{}
	h = h[:last]
	*q = h
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return top
		}
		if child+1 < last && h.less(child+1, child) {
			child++
		}
		if !h.less(child, i) {
			return top
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
