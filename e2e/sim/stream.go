package sim

import (
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// stream is one walreceiver with its walsender: a connection that keeps its order. It carries only what the sender's server
// has flushed. A cut holds it up; after connectionDies both ends give it up.
type stream struct {
	from, to   *host
	fromRun    uint64
	toRun      uint64
	over       bool
	receiving  bool // the receiver has had its first answer
	busy       bool // something is on the way
	slot       string
	stuckSince time.Duration

	// The sender's side.
	flush   pg.LSN     // what the standby said it has flushed
	rule    pgctl.Sync // synchronous_standby_names as this process has read it
	pending *pgctl.Sync
	notice  time.Duration // when it reads pending at the latest, if no reply makes it
	replies int           // since it was told of pending
	counted int           // all replies
}

// segmentSize is that of a file of log.
const segmentSize = 1 << 14

// connect starts a walreceiver on h, which asks its upstream for log from its end on.
func (s *server) connect() {
	h, up := s.h, s.upstream
	if up.Name == "" || s.phase != standby || s.receiver != nil || s.asked {
		return
	}
	from := h.w.byName(up.Name)
	run := s.run
	h.w.after(&s.process, h.w.between(20*time.Millisecond, 80*time.Millisecond), func() {
		if s.run != run || s.upstream != up || s.receiver != nil || s.phase != standby {
			return
		}
		if from == nil || from == h || !h.reaches(from) || !from.server.talks() {
			s.reconnect()
			return
		}
		src := from.data.log.upTo(from.data.flushed)
		switch mine := h.data.log; {
		case from.data.refuses[h.index], !src.holds(mine.at(mine.lsn), mine.lsn):
			s.reconnect() // what it needs is gone there, or it is ahead, or its log parted from this one
		default:
			s.receive(from)
		}
	})
}

// reconnect tries again after wal_retrieve_retry_interval.
func (s *server) reconnect() {
	run := s.run
	s.h.w.after(&s.process, 100*time.Millisecond, func() {
		if s.run == run {
			s.connect()
		}
	})
}

func (s *server) receive(from *host) {
	h := s.h
	t := &stream{from: from, to: h, fromRun: from.server.run, toRun: s.run, rule: from.server.rule, slot: s.upstream.Slot}
	s.receiver = t
	if s.received == 0 { // the first of this run asks for the whole segment, and until that has come that is what is told (K4)
		s.received = h.data.log.lsn &^ (segmentSize - 1)
	}
	from.server.senders[h.index] = t
	if h.w.tape != nil {
		h.w.say(h, "stream", "from %s at %s of timeline %d", from.name, h.data.log.lsn, h.data.log.at(h.data.log.lsn).tli)
	}
	t.ack()
	from.agent.poke()
}

// live says whether both processes exist still.
func (t *stream) live() bool {
	return !t.over && t.to.server.receiver == t && t.to.server.run == t.toRun && t.to.server.phase == standby &&
		t.from.server.run == t.fromRun && t.from.server.senders[t.to.index] == t
}

// receives is live as far as the receiving side can tell: what is in the network arrives though its sender has died.
func (t *stream) receives() bool {
	return !t.over && t.to.server.receiver == t && t.to.server.run == t.toRun && t.to.server.phase == standby
}

// end closes the connection; each side notices when it can.
func (t *stream) end() {
	t.over = true
	if t.from.server.senders[t.to.index] == t {
		t.from.server.senders[t.to.index] = nil
	}
	if t.to.server.receiver == t {
		t.to.server.receiver = nil
		t.to.server.reconnect()
	}
}

// carry has do happen to p on the other side, in order, as soon as the network lets it.
func (t *stream) carry(from, to *host, p *process, do func()) {
	w := from.w
	if !w.net.open(from.index, to.index) {
		if t.stuckSince == 0 {
			t.stuckSince = w.now
		}
		if w.now-t.stuckSince > connectionDies {
			t.end()
			return
		}
		w.at(retransmit, func() {
			if !t.over {
				t.carry(from, to, p, do)
			}
		})
		return
	}
	t.stuckSince = 0
	w.at(w.latency(), func() {
		switch {
		case t.over:
		case !to.up || !p.alive:
			t.end()
		case !w.net.open(from.index, to.index):
			t.carry(from, to, p, do)
		default:
			w.after(p, 0, do)
		}
	})
}

// pump sends what is flushed and was not sent, one piece at a time.
func (t *stream) pump() {
	src := &t.from.data
	has := t.to.data.log
	if t.busy || !t.live() || t.from.server.halted() || src.flushed <= t.to.server.received && src.log.holds(has.b, has.lsn) {
		return
	}
	t.busy = true
	upto := src.log.upTo(src.flushed)
	t.carry(t.from, t.to, &t.to.server.process, func() { t.arrive(upto) })
}

// arrive writes and then flushes on the standby. A walreceiver that ended meanwhile writes nothing.
func (t *stream) arrive(upto place) {
	if !t.receives() {
		t.busy = false
		t.end()
		return
	}
	h, s := t.to, &t.to.server
	if !upto.holds(h.data.log.at(h.data.log.lsn), h.data.log.lsn) {
		t.busy = false
		t.end() // its log was replaced under the connection
		return
	}
	h.data.log, s.received = upto, upto.lsn
	s.replaySoon(upto.lsn)
	delay := h.w.between(300*time.Microsecond, 2*time.Millisecond) + h.disk.slow
	if h.hung() {
		delay += h.disk.hangs - h.w.now
	}
	h.w.after(&s.process, delay, func() {
		t.busy = false
		if t.receives() && h.data.log.holds(upto.b, upto.lsn) {
			h.data.flushed = max(h.data.flushed, upto.lsn)
			t.ack()
		}
	})
	t.ack() // what is written is told too; only what is flushed counts, and nothing more is taken in before that
}

// ack tells the sender how far the log is flushed here.
func (t *stream) ack() {
	flush := t.to.data.flushed
	if log := t.to.data.log; flush > log.lsn {
		flush = log.lsn
	}
	t.carry(t.to, t.from, &t.from.server.process, func() { t.replied(flush) })
}

// replied is the walsender with a reply in its hands. It takes notice of a reload before it looks for replies, so that the
// second one since is handled under the new rule at the latest (pgctl's repliesTwice stands on that).
func (t *stream) replied(flush pg.LSN) {
	if !t.live() {
		return
	}
	t.counted++
	if t.pending != nil {
		if t.replies++; t.replies >= 2 || t.from.w.now >= t.notice {
			t.take()
		}
	}
	t.receiving = true
	t.flush = max(t.flush, flush)
	t.from.server.release(t)
	t.pump()
}

// take makes the pending rule this process's own.
func (t *stream) take() { t.rule, t.pending = *t.pending, nil }

// told is the signal to read the settings again.
func (t *stream) told(rule pgctl.Sync) {
	w := t.from.w
	t.pending, t.replies = &rule, 0
	lag := w.between(0, 5*time.Millisecond)
	if w.chance(0.05) {
		lag = w.between(0, 200*time.Millisecond)
	}
	t.notice = w.now + lag
	w.after(&t.from.server.process, lag, func() {
		if t.live() && t.pending == &rule {
			t.take()
			t.from.server.release(t)
		}
	})
}
