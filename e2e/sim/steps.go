package sim

import (
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// pollEvery is how often a step looks whether what it waits for is so; the product looks more often.
const pollEvery = 5 * time.Millisecond

// do mirrors Instance.Do: it carries s out and calls done once.
func (a *agent) do(s pgctl.Step, done func(error)) {
	d := &a.h.data
	switch s.Kind {
	case pgctl.Init:
		a.h.later(&a.process, a.h.w.between(300*time.Millisecond, time.Second), func() { done(d.init()) })
	case pgctl.Adopt:
		a.adopt(s, done)
	case pgctl.Examine, pgctl.FindCommits:
		a.h.later(&a.process, a.h.w.between(5*time.Millisecond, 60*time.Millisecond), func() { done(a.examine(s.Kind)) })
	case pgctl.StartReader, pgctl.StartWriter:
		a.startServer(s, done)
	case pgctl.Promote:
		a.promote(s, done)
	case pgctl.Follow:
		a.follow(s.Upstream, done)
	case pgctl.LookForLog:
		d.seen.followed = a.h.boot()
		a.askForLog(done)
	case pgctl.Detach:
		d.detach(s.Epoch, func(_ pgctl.Position, err error) {
			if err == errRebuilding {
				err = nil
			}
			a.soon(done, err)
		})
	case pgctl.Configure:
		a.setSync(s.Sync, done)
	case pgctl.Slots:
		a.h.server.slots, a.h.server.spare = nil, s.Slots
		if s.KeepLog {
			a.h.server.slots, a.h.server.spare = a.h.server.spare, nil
		}
		a.soon(done, nil)
	case pgctl.Settle:
		a.settle(done)
	case pgctl.Mark:
		a.h.write(&a.process, func() { d.live.Upstream, d.signal = pgctl.Upstream{}, true }, func() { done(nil) })
	case pgctl.OpenGate:
		a.h.write(&a.process, func() { d.live.Gated = false }, func() {
			a.h.server.gateOpen = true
			done(nil)
		})
	case pgctl.Clone, pgctl.Quarantine, pgctl.Rewind:
		a.soon(done, a.startJob(s))
	case pgctl.CancelClone, pgctl.CancelRewind:
		a.cancelJob(s.Kind)
		a.soon(done, nil)
	case pgctl.Stop:
		a.stopServer(s, done)
	default:
		a.h.w.check.fail(a.h, "model", "a step that the model does not know: %s", s.Kind)
	}
}

// soon ends a step that takes a moment.
func (a *agent) soon(done func(error), err error) {
	a.h.later(&a.process, a.h.w.between(time.Millisecond, 8*time.Millisecond), func() { done(err) })
}

func (d *instance) init() error {
	if d.exists {
		return errRunning
	}
	b := &branch{tli: 1, start: 1, end: 1000, writer: d.h}
	d.exists, d.sysid, d.state, d.signal = true, foundSystem, pg.ControlShutDown, true
	d.log, d.flushed, d.checkpoint, d.checkpointTLI = place{b, 1000}, 1000, 1000, 1
	d.live, d.cached = live{}, nil
	d.ctl, d.ctlAt = pg.HotStandbyDefaults(), 1000
	return nil
}

// examine mirrors Examine and FindCommits: the end of the log counts only once it is on disk.
func (a *agent) examine(kind pgctl.StepKind) error {
	d := &a.h.data
	switch {
	case !a.h.keeper.Record().Gone():
		return errRunning
	case !d.exists:
		return errNoData
	case kind == pgctl.FindCommits && d.cached != nil:
		d.cached.Shown = d.log.lastCommit()
		return nil
	}
	p := d.stopped()
	d.cached = &p
	return nil // a log that is being rebuilt has no position to report, which is no failure of the step
}

// stopped mirrors stoppedPosition.
func (d *instance) stopped() pgctl.Position {
	d.flushed = d.log.lsn
	return d.position()
}

// leaseFor mirrors Instance.lease.
func (a *agent) leaseFor(epoch uint64) (time.Duration, error) {
	held, deadline := a.fence.Held()
	if held != epoch || deadline <= a.h.boot() {
		return 0, errNoLease
	}
	return deadline, nil
}

// startServer mirrors StartReadOnly and StartPrimary.
func (a *agent) startServer(s pgctl.Step, done func(error)) {
	d, k := &a.h.data, &a.h.keeper
	busy := d.clone != nil || d.rewind != nil && (d.rewind.running || d.rewind.torn())
	if !k.Record().Gone() || busy || !d.exists || k.gone || !k.alive || k.halted() {
		a.soon(done, errRunning)
		return
	}
	l := d.live
	l.Gated = s.Gate
	if s.Kind == pgctl.StartReader && a.h.w.opts.Without != MutSettings {
		d.hot, _ = pgctl.ToReplay(d.hot, d.ctl, d.params.Set)
	}
	if s.Kind == pgctl.StartWriter {
		if !wasPrimary(d.state) && l.Own == 0 {
			a.soon(done, errServing)
			return
		}
		l.Upstream = pgctl.Upstream{}
	} else {
		if s.Upstream.Name != "" {
			l.Upstream = s.Upstream
		}
		if l.Upstream.Epoch != s.Epoch {
			l.Upstream = pgctl.Upstream{}
		}
		if l.Upstream.Name == "" && wasPrimary(d.state) {
			l.Own = 0
			if d.cached != nil {
				l.Own = d.cached.Timeline
			}
		}
		if l.Upstream.Name != "" {
			l.Own = 0
		}
	}
	a.h.write(&a.process, func() { d.live, d.foreign, d.signal = l, false, d.signal || s.Kind == pgctl.StartReader }, func() { a.fork(s, done) })
}

func (a *agent) fork(s pgctl.Step, done func(error)) {
	d, k := &a.h.data, &a.h.keeper
	verdict, deadline := guard.VerdictStandby, time.Duration(0)
	up := d.live.upstream(d.detached)
	if s.Kind == pgctl.StartWriter {
		var err error
		if deadline, err = a.leaseFor(s.Epoch); err != nil {
			done(err)
			return
		}
		verdict, up, d.signal = guard.VerdictServe, pgctl.Upstream{}, false
	}
	if !k.alive || k.halted() {
		done(errNotRunning)
		return
	}
	if up.Name != "" || verdict != guard.VerdictStandby {
		d.cached = nil
	}
	if name := pgctl.Outgrown(d.fileHot(), d.ctl); name != "" && d.signal {
		a.h.w.check.fail(a.h, "settings", "it is started to replay with %s of %v, and the log needs %v", name, d.fileHot(), d.ctl)
	}
	run := k.start(verdict, s.Epoch, deadline)
	a.h.server.fork(run, up)
	now := a.h.boot()
	d.seen = seen{run: run, followed: now, applied: up, configured: true, proved: d.live.Sync.SSN(), isProved: true}
	if verdict == guard.VerdictServe {
		d.seen.promoting = now
	}
	done(nil)
}

// promote mirrors Instance.Promote.
func (a *agent) promote(s pgctl.Step, done func(error)) {
	d, k, sv := &a.h.data, &a.h.keeper, &a.h.server
	d.lock(func(unlock func()) {
		end := func(err error) { unlock(); done(err) }
		if d.live.upstream(d.detached).Name != "" || d.reportable() != nil || sv.phase != standby || sv.halted() || sv.receiver != nil {
			a.soon(end, errServing)
			return
		}
		gate := func(then func()) { then() }
		if s.Gate {
			gate = func(then func()) {
				a.h.write(&a.process, func() { d.live.Gated = true }, func() {
					sv.gateOpen = false
					a.h.later(&a.process, a.h.w.between(5*time.Millisecond, 40*time.Millisecond), then)
				})
			}
		}
		gate(func() {
			deadline, err := a.leaseFor(s.Epoch)
			if err != nil {
				end(err)
				return
			}
			k.Set(guard.VerdictServe, s.Epoch, deadline)
			sv.slots, sv.spare = s.Slots, nil
			a.await(time.Second, func() bool {
				v := k.Record()
				return v.Verdict == guard.VerdictServe && v.Epoch == s.Epoch
			}, func(ok bool) {
				if !ok {
					end(errTimeout)
					return
				}
				a.leaveRecovery(s.Timeline, end)
			})
		})
	})
}

// leaveRecovery is pg_promote: what is received is replayed first.
func (a *agent) leaveRecovery(tli pg.Timeline, end func(error)) {
	d, sv := &a.h.data, &a.h.server
	if sv.phase != standby {
		end(errNotRunning)
		return
	}
	d.cached, d.seen.promoting = nil, max(a.h.boot(), 1)
	run := sv.run
	a.h.w.after(&sv.process, a.h.w.between(20*time.Millisecond, 90*time.Millisecond)+sv.lag, func() {
		if sv.run == run && sv.phase == standby && sv.replayTo(d.log.lsn) && !sv.stuck {
			sv.promote(tli)
		}
	})
	a.await(stepBox, func() bool {
		return sv.run == run && sv.phase == primary && !sv.halted() || sv.run != run || sv.phase == down
	}, func(ok bool) {
		if !ok || sv.run != run || sv.phase != primary {
			end(errTimeout)
			return
		}
		a.h.write(&a.process, func() { d.live.Upstream, d.signal = pgctl.Upstream{}, true }, func() { end(nil) })
	})
}

// await looks again and again until it is true or the box is over. It mirrors a step that whileItRuns cuts short.
func (a *agent) await(box time.Duration, is func() bool, then func(bool)) {
	if is() {
		then(true)
		return
	}
	if box <= 0 || a.h.keeper.Record().Gone() {
		then(false)
		return
	}
	a.h.later(&a.process, pollEvery, func() { a.await(box-pollEvery, is, then) })
}

// follow mirrors Instance.Follow; the wait for the stream holds no lock.
func (a *agent) follow(u pgctl.Upstream, done func(error)) {
	d, k, sv := &a.h.data, &a.h.keeper, &a.h.server
	d.lock(func(unlock func()) {
		end := func(err error) { unlock(); done(err) }
		v := k.Record()
		switch {
		case u.Epoch <= d.detached:
			a.soon(end, errDetached)
			return
		case v.Gone() || sv.halted():
			a.soon(end, errNotRunning)
			return
		case d.seen.promoting > 0:
			a.soon(end, errServing)
			return
		case v.Verdict != guard.VerdictStandby && !k.Set(guard.VerdictStandby, u.Epoch, 0):
			a.soon(end, errServing)
			return
		}
		d.cached, d.seen.followed, d.seen.walGone = nil, a.h.boot(), false
		l := d.live
		l.Upstream, l.Own = u, 0
		run := sv.run
		a.h.write(&a.process, func() { d.live = l }, func() {
			unlock()
			if sv.run != run || sv.phase != standby {
				done(errNotRunning)
				return
			}
			d.seen.applied, d.seen.configured = u, true
			a.followNow(u, done)
		})
	})
}

func (a *agent) followNow(u pgctl.Upstream, done func(error)) {
	d, sv := &a.h.data, &a.h.server
	if t := sv.receiver; t != nil && (sv.upstream.Name != u.Name || t.from.name != u.Name) {
		sv.endReceiver()
	}
	sv.upstream = u
	sv.connect()
	over := func() bool { return sv.receiver != nil || d.live.upstream(d.detached) != u }
	a.await(followLimit, over, func(bool) { a.askForLog(done) })
}

// askForLog mirrors pgctl/loggone.go: without a stream the upstream is asked whether it has the log that is needed next.
func (a *agent) askForLog(done func(error)) {
	d, u := &a.h.data, a.h.data.live.upstream(a.h.data.detached)
	from := a.h.w.byName(u.Name)
	if a.h.server.receiver != nil || from == nil {
		a.soon(done, nil)
		return
	}
	if !a.h.reaches(from) || !from.server.talks() {
		a.h.later(&a.process, time.Second, func() { done(errNoAnswer) })
		return
	}
	a.soon(func(error) {
		if from.data.refuses[a.h.index] && d.live.Upstream == u {
			d.seen.walGone = true
		}
		done(nil)
	}, nil)
}

// settle mirrors Instance.Settle.
func (a *agent) settle(done func(error)) {
	d, up := &a.h.data, a.h.data.live.upstream(a.h.data.detached)
	from := a.h.w.byName(up.Name)
	if from == nil || !from.server.talks() || !a.h.reaches(from) {
		a.soon(done, errNotRunning)
		return
	}
	goal := from.data.flushed
	a.await(settleLimit, func() bool { return max(a.h.server.received, a.h.server.replay) >= goal }, func(ok bool) {
		if !ok || d.live.upstream(d.detached).Name != up.Name {
			done(errTimeout)
			return
		}
		a.h.write(&a.process, func() { d.rewind, d.rebuild = nil, false }, func() { done(nil) })
	})
}

// stopServer mirrors StopFast, with Kill after its box, and Kill.
func (a *agent) stopServer(s pgctl.Step, done func(error)) {
	k, sv := &a.h.keeper, &a.h.server
	a.h.data.seen.asked = true
	gone := func() bool { return k.Record().Gone() }
	kill := func() {
		k.Set(guard.VerdictStop, k.Record().Epoch, 0)
		a.await(stepBox, gone, func(ok bool) {
			if ok {
				done(nil)
				return
			}
			done(errTimeout)
		})
	}
	if s.Stop == pgctl.StopKill {
		kill()
		return
	}
	if !sv.halted() {
		sv.shutdown()
	}
	a.await(FastStopBox, gone, func(ok bool) {
		if ok {
			done(nil)
			return
		}
		kill()
	})
}
