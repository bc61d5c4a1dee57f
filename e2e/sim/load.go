package sim

import (
	"time"

	"github.com/quorate/quorate/internal/pg"
)

const (
	opEvery    = 90 * time.Millisecond // 11 operations per second
	opPatience = 500 * time.Millisecond
	opAgain    = 50 * time.Millisecond
)

// outcome is what a client knows of its operation.
type outcome uint8

const (
	pending outcome = iota
	ok              // acknowledged
	unknown         // no answer, or one that promises nothing
)

// op is one commit that a client asks for.
type op struct {
	issued time.Duration
	b      *branch
	lsn    pg.LSN
	result outcome
}

// load is the clients: they look for a server that takes writes, wherever it is, and never mind who is primary.
type load struct {
	w        *World
	issued   int
	acked    int
	unknown  int
	refused  int
	lastAck  time.Duration
	firstAck time.Duration // after the healing
	longest  time.Duration
	acks     []time.Duration
}

func (l *load) start(w *World) {
	*l = load{w: w, acks: make([]time.Duration, 0, 2048)}
	w.at(time.Second, l.next)
}

// next issues an operation and schedules the one after it.
func (l *load) next() {
	l.w.at(opEvery/2+l.w.between(0, opEvery), l.next)
	l.issued++
	l.attempt(&op{issued: l.w.now})
	l.read()
}

// attempt goes to a server that takes writes, if the clients reach one.
func (l *load) attempt(o *op) {
	w := l.w
	var found [maxHosts]*host
	n := 0
	for _, h := range w.hosts {
		if h.server.accepts() && h.server.gateOpen && w.net.open(clients, h.index) {
			found[n] = h
			n++
		}
	}
	if n == 0 {
		if w.now-o.issued < opPatience {
			w.at(opAgain, func() { l.attempt(o) })
			return
		}
		l.refused++
		return
	}
	h := found[0]
	if n > 1 {
		h = found[w.rng.IntN(n)]
	}
	run := h.server.run
	w.at(w.latency(), func() {
		if h.server.run == run && h.server.accepts() && h.server.gateOpen {
			h.server.execute(o)
			return
		}
		if h.server.run == run && h.server.halted() {
			l.unknown++ // it may be taken in later; nobody waits for it
			w.after(&h.server.process, 0, func() {
				if h.server.accepts() {
					h.server.execute(o)
				}
			})
			return
		}
		l.attempt(o)
	})
}

// acknowledge is the server's answer. Whether it reaches a client that still waits makes no difference to what it promises.
func (l *load) acknowledge(h *host, o *op) {
	if o.result != pending {
		return
	}
	o.result = ok
	l.acked++
	now := l.w.now
	if gap := now - l.lastAck; l.lastAck > 0 && gap > l.longest {
		l.longest = gap
	}
	l.lastAck = now
	l.acks = append(l.acks, now)
	if now > l.w.opts.healAt() && l.firstAck == 0 {
		l.firstAck = now
	}
	l.w.check.acknowledged(h, o)
}

// lost is an operation whose server went away.
func (l *load) lost(o *op) {
	if o.result == pending {
		o.result = unknown
		l.unknown++
	}
}

// read looks at what clients see where they are promised that no failover takes it back: on a primary, and on an old
// primary that serves reads because nobody replaced it. What is read there binds as an acknowledgement does.
func (l *load) read() {
	for _, h := range l.w.hosts {
		s, d := &h.server, &h.data
		if s.halted() || !h.up || !s.gateOpen || !l.w.net.open(clients, h.index) {
			continue
		}
		switch {
		case s.phase == primary && s.opened > 0:
			l.w.check.shown(h, d.log.upTo(s.opened))
		case s.phase == standby && d.live.Own > 0 && s.upstream.Name == "" && s.consistent():
			l.w.check.shown(h, d.log.upTo(s.replay))
		}
	}
}
