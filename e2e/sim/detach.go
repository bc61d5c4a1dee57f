package sim

import (
	"time"

	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// detach mirrors Instance.Detach: the promise on disk, the settings, the end of the walreceiver, and only then the end of
// the log.
func (d *instance) detach(epoch uint64, done func(pgctl.Position, error)) {
	a := &d.h.agent
	d.lock(func(unlock func()) {
		end := func(p pgctl.Position, err error) {
			unlock()
			if err == nil {
				err = d.reportable()
			}
			done(p, err)
		}
		if d.live.Upstream.Epoch > epoch {
			end(pgctl.Position{}, errDetached)
			return
		}
		if d.cached != nil && d.detached >= epoch && d.live.upstream(d.detached).Name == "" {
			end(*d.cached, nil)
			return
		}
		a.h.write(&a.process, func() { d.detached = max(d.detached, epoch) }, func() { d.cut(end) })
	})
}

// cut does the rest once the promise is durable.
func (d *instance) cut(end func(pgctl.Position, error)) {
	a, k, sv := &d.h.agent, &d.h.keeper, &d.h.server
	v := k.Record()
	switch {
	case v.Gone():
		d.cutStopped(end)
		return
	case d.seen.promoting > 0, sv.phase == primary:
		end(pgctl.Position{}, errServing)
		return
	case v.Verdict != guard.VerdictStandby:
		end(pgctl.Position{}, errServing)
		return
	case sv.halted() || sv.phase != standby || !sv.consistent():
		a.h.later(&a.process, answerLimit, func() { d.cutByKill(end) })
		return
	}
	if d.h.w.opts.lacks(MutDetach) {
		d.cutByReloadOnly(end)
		return
	}
	run := sv.run
	a.h.later(&a.process, d.h.w.between(5*time.Millisecond, 40*time.Millisecond), func() {
		if sv.run != run || sv.halted() || sv.phase != standby {
			d.cutByKill(end)
			return
		}
		sv.upstream = pgctl.Upstream{}
		d.seen.applied, d.seen.configured = pgctl.Upstream{}, true
		sv.endReceiver()
		p := d.scan()
		d.cached = &p
		end(p, nil)
	})
}

// scan is the position of a standby that was cut off: the end of what is written. A walreceiver that ends in order has
// flushed it.
func (d *instance) scan() pgctl.Position {
	p := d.position()
	if d.h.w.opts.lacks(MutPosition) {
		// What SQL says instead: nothing is received since the start, or that; and what is replayed.
		sv := &d.h.server
		p.LSN = sv.replay
		p.Timeline = d.log.at(p.LSN).tli
		p.History = d.log.at(p.LSN).history
	}
	return p
}

// cutByReloadOnly leaves a walreceiver alone that lags: it goes on to acknowledge (K3).
func (d *instance) cutByReloadOnly(end func(pgctl.Position, error)) {
	sv := &d.h.server
	sv.upstream = pgctl.Upstream{}
	d.seen.applied, d.seen.configured = pgctl.Upstream{}, true
	if sv.receiver != nil && sv.replay >= d.log.lsn {
		sv.endReceiver()
	}
	p := d.position()
	d.cached = &p
	end(p, nil)
}

// cutByKill ends a server that does not let go.
func (d *instance) cutByKill(end func(pgctl.Position, error)) {
	a, k := &d.h.agent, &d.h.keeper
	d.seen.asked = true
	k.Set(guard.VerdictStop, k.Record().Epoch, 0)
	a.await(killLimit, func() bool { return k.Record().Gone() }, func(ok bool) {
		if !ok {
			end(pgctl.Position{}, errTimeout)
			return
		}
		d.cutStopped(end)
	})
}

// cutStopped mirrors detachStopped: the next start follows nobody of that epoch, since the mark is on disk.
func (d *instance) cutStopped(end func(pgctl.Position, error)) {
	switch {
	case d.clone != nil || d.rewind != nil && (d.rewind.running || d.rewind.torn()):
		end(pgctl.Position{}, errRebuilding)
		return
	case !d.exists:
		end(pgctl.Position{}, errNoData)
		return
	}
	a := &d.h.agent
	delay := d.h.w.between(5*time.Millisecond, 40*time.Millisecond)
	if d.h.hung() {
		delay += d.h.disk.hangs - d.h.w.now
	}
	a.h.later(&a.process, delay, func() {
		p := d.stopped()
		d.cached = &p
		end(p, nil)
	})
}

// endReceiver ends the walreceiver by SIGTERM: it flushes what it has written.
func (s *server) endReceiver() {
	t := s.receiver
	if t == nil {
		return
	}
	s.receiver = nil
	s.h.data.flushed = max(s.h.data.flushed, s.h.data.log.lsn)
	t.over = true
	s.h.w.at(s.noticed(t.to, t.from), func() {
		if t.from.server.senders[t.to.index] == t {
			t.from.server.senders[t.to.index] = nil
		}
	})
}

// powerLost is what a sudden end of the whole host leaves on disk.
func (d *instance) powerLost() {
	if d.exists && d.log.lsn > d.flushed {
		d.truncate(d.flushed)
	}
	d.refuses = [maxHosts]bool{}
}
