package sim

import (
	"errors"
	"time"
)

// maxHosts bounds a cluster with everybody that may join it.
const maxHosts = 7

// clients is the place of the clients in the matrix of cuts.
const clients = maxHosts

// retransmit is when a connection tries again what a cut kept from arriving, and connectionDies for how long it does.
const (
	retransmit     = 100 * time.Millisecond
	connectionDies = 10 * time.Second
)

// network moves closures between hosts. It is harsher than TCP, which carries the product's messages: those of Raft,
// beats and calls may be dropped, doubled and reordered. Replication streams keep their order, see stream.
type network struct {
	cut     [maxHosts + 1][maxHosts + 1]int8 // by how many faults the way from row to column is closed
	hole    [maxHosts]int8                   // by how many faults Raft's log is kept from a host
	drop    float64
	double  float64
	low     time.Duration // one way
	high    time.Duration
	jitter  time.Duration // more, in a fault
	slowBy  float64       // which part of messages takes up to jitter longer
	Dropped uint64
}

func (n *network) open(from, to int) bool { return n.cut[from][to] == 0 }

func (w *World) latency() time.Duration {
	d := w.between(w.net.low, w.net.high)
	if w.net.jitter > 0 && w.chance(w.net.slowBy) {
		d += w.between(0, w.net.jitter)
	}
	return d
}

// send has do happen to process p on host to, unless the message is lost on the way.
func (w *World) send(from, to *host, p *process, do func()) {
	if from == to {
		w.after(p, 0, do)
		return
	}
	copies := 1
	if w.chance(w.net.double) {
		copies = 2
	}
	for range copies {
		if !w.net.open(from.index, to.index) || w.chance(w.net.drop) {
			w.net.Dropped++
			continue
		}
		w.at(w.latency(), func() {
			if to.up && p.alive && w.net.open(from.index, to.index) {
				w.after(p, 0, do)
			}
		})
	}
}

var errNoAnswer = errors.New("no answer")

// call asks host to and hands the first answer to done, or errNoAnswer after within. It mirrors a call over
// transport.RPC: the request may have been served although no answer came.
func call[T any](from, to *host, within time.Duration, serve func(reply func(T, error)), done func(T, error)) {
	w, asker := from.w, &from.agent.process
	over := false
	end := func(v T, err error) {
		if !over {
			over = true
			done(v, err)
		}
	}
	w.send(from, to, &to.agent.process, func() {
		serve(func(v T, err error) {
			w.send(to, from, asker, func() { end(v, err) })
		})
	})
	from.later(asker, within, func() {
		var none T
		end(none, errNoAnswer)
	})
}
