package sim

import (
	"slices"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// The model of PostgreSQL: what a server does with its log, its standbys and its clients. What matters is as it was seen to
// be (reference K3 to K9): a commit is in the log before it waits for copies and is there after a crash; who waits is let
// through by walsenders, each by the settings it has read; with no rule at all nobody waits; a lagging walreceiver outlives
// a reload; after a restart the received position is unknown; a server that starts shows all that its disk has.

type phase uint8

const (
	down phase = iota
	starting
	standby
	primary
	stopping
)

// commitSize is how much log a commit takes.
const commitSize = 120

// server is one run of the postmaster and its children. What is on disk is in instance.
type server struct {
	process
	h         *host
	run       uint64
	phase     phase
	writing   bool // it was started to write, not to read
	frozen    bool
	hanging   bool // its processes are stopped by somebody else than the guard
	hangSince time.Duration
	asked     bool // to shut down
	upstream  pgctl.Upstream
	rule      pgctl.Sync // as a new session shows it
	waits     bool       // commits wait: the checkpointer has published that there is a rule
	marked    bool       // pgctl's waiting mark
	gateOpen  bool
	runs      pg.HotStandby // the settings that it was started with
	buffers   string
	work      string // work_mem, which a reload changes
	stuck     bool   // replay stands still for want of those
	wedged    int    // backends that are stopped: a fast shutdown waits for them
	crashed   bool   // one of its processes did

	receiver *stream
	received pg.LSN // pg_last_wal_receive_lsn; 0 after a start until something is received
	replay   pg.LSN
	lag      time.Duration // of replay
	senders  [maxHosts]*stream
	waiting  []*op
	opened   pg.LSN // end of recovery of this run
	slots    []string
	spare    []string
}

// talks says that it takes connections.
func (s *server) talks() bool {
	return (s.phase == standby || s.phase == primary) && !s.halted() && s.h.up
}

// accepts says that it takes writes at this instant, whoever may be able to reach it.
func (s *server) accepts() bool { return s.phase == primary && !s.halted() && s.h.up }

// fork starts a run. It is a standby when standby.signal is there.
func (s *server) fork(run uint64, upstream pgctl.Upstream) {
	h := s.h
	s.begin()
	s.stopped, s.frozen, s.hanging = 0, false, false
	s.run, s.phase, s.asked = run, starting, false
	s.wedged, s.crashed = 0, false
	s.upstream, s.rule, s.gateOpen = upstream, h.data.live.Sync, !h.data.live.Gated
	s.writing, s.waits, s.marked = !h.data.signal, s.rule.SSN() != "", false
	s.received, s.replay, s.opened, s.receiver, s.waiting = 0, 0, 0, nil, nil
	s.senders = [maxHosts]*stream{}
	s.reads()
	h.w.after(&s.process, h.w.between(60*time.Millisecond, 250*time.Millisecond)+h.disk.slow, s.recovered)
}

// recovered is the end of a start: all of the local log is replayed, and on disk.
func (s *server) recovered() {
	d := &s.h.data
	if s.h.hung() {
		s.h.w.after(&s.process, s.h.disk.hangs-s.h.w.now+time.Millisecond, s.recovered)
		return
	}
	d.flushed = d.log.lsn
	if !s.writing {
		if !s.recoversReader() {
			return
		}
		if d.rewind != nil && d.log.lsn < d.minRecovery || d.minRecovery > d.log.lsn {
			s.consistentLater()
			return
		}
		s.phase, d.state = standby, pg.ControlInArchiveRecovery
		s.h.agent.poke()
		s.connect()
		return
	}
	s.reopen()
}

// consistentLater is a standby that does not answer before it has received what its files may already hold.
func (s *server) consistentLater() {
	s.phase, s.h.data.state = standby, pg.ControlInArchiveRecovery
	s.connect()
}

// consistent says whether sessions are let in.
func (s *server) consistent() bool { return s.h.data.minRecovery <= s.h.data.log.lsn }

// reopen begins to write where the log on this disk ends, on the timeline that it ends on.
func (s *server) reopen() {
	log := s.h.data.log
	b := log.at(log.lsn)
	if b.writer != s.h || b.end != log.lsn && s.shared(b, log.lsn) {
		// Another server's timeline under the same number, or log that somebody else has further: not the same history.
		b = newBranch(b.tli, log, s.h)
	}
	b.end = log.lsn
	for n := len(b.commits); n > 0 && b.commits[n-1] > log.lsn; n-- {
		b.commits = b.commits[:n-1]
	}
	for n := len(b.hots); n > 0 && b.hots[n-1].lsn > log.lsn; n-- {
		b.hots = b.hots[:n-1]
	}
	s.open(b)
}

// open begins to write on b.
func (s *server) open(b *branch) {
	d := &s.h.data
	d.log.b = b
	s.phase, s.writing, d.state = primary, true, pg.ControlInProduction
	d.checkpoint, d.checkpointTLI, d.minRecovery = d.log.lsn, b.tli, 0
	s.toldLog()
	s.append(100) // the record of the end of recovery
	d.flushed, s.opened = d.log.lsn, d.log.lsn
	s.h.w.check.opened(s.h)
	s.h.agent.poke()
	s.pumpAll()
}

// shared says whether some other disk holds log of b past lsn.
func (s *server) shared(b *branch, lsn pg.LSN) bool {
	return slices.ContainsFunc(s.h.w.hosts, func(o *host) bool { return o != s.h && o.data.exists && o.data.log.holds(b, lsn+1) })
}

// append adds a record to the log in memory.
func (s *server) append(size pg.LSN) {
	d := &s.h.data
	d.log.lsn += size
	d.log.b.end = d.log.lsn
}

// promote ends recovery on a timeline of the given number.
func (s *server) promote(tli pg.Timeline) {
	s.open(newBranch(tli, s.h.data.log, s.h))
}

// execute commits o: into the log, to disk, and then, if there is a rule, it waits.
func (s *server) execute(o *op) {
	s.append(commitSize)
	b := s.h.data.log.b
	o.b, o.lsn = b, s.h.data.log.lsn
	b.commits = append(b.commits, o.lsn)
	s.flushSoon(o.lsn, func() {
		if !s.waits {
			s.h.w.load.acknowledge(s.h, o)
			return
		}
		s.waiting = append(s.waiting, o)
		s.releaseAll()
	})
}

// flushSoon makes the log durable up to lsn.
func (s *server) flushSoon(lsn pg.LSN, then func()) {
	d := &s.h.data
	delay := s.h.w.between(300*time.Microsecond, 2*time.Millisecond) + s.h.disk.slow
	if s.h.hung() {
		delay += s.h.disk.hangs - s.h.w.now
	}
	s.h.w.after(&s.process, delay, func() {
		d.flushed = max(d.flushed, min(lsn, d.log.lsn))
		s.pumpAll()
		then()
	})
}

func (s *server) pumpAll() {
	for _, t := range s.senders {
		if t != nil {
			t.pump()
		}
	}
}

// release lets those through whose commits have the copies that the walsender t knows to be asked for.
func (s *server) release(t *stream) {
	if s.phase != primary || len(s.waiting) == 0 || t.rule.K == 0 || !slices.Contains(t.rule.Names, t.to.name) {
		return
	}
	s.letThrough(s.reached(t.rule))
}

// reached is how far K of the rule's members have flushed.
func (s *server) reached(rule pgctl.Sync) pg.LSN {
	var far [maxHosts]pg.LSN
	n := 0
	for _, t := range s.senders {
		if t != nil && t.receiving && slices.Contains(rule.Names, t.to.name) {
			far[n] = t.flush
			n++
		}
	}
	if n < rule.K {
		return 0
	}
	slices.Sort(far[:n])
	return far[n-rule.K]
}

func (s *server) letThrough(upto pg.LSN) {
	for len(s.waiting) > 0 && s.waiting[0].lsn <= upto {
		o := s.waiting[0]
		s.waiting = s.waiting[1:]
		s.h.w.load.acknowledge(s.h, o)
	}
}

func (s *server) releaseAll() {
	for _, t := range s.senders {
		if t != nil {
			s.release(t)
		}
	}
}

// reload has the processes read the rule again: new sessions at once, each walsender and the checkpointer in its own time.
// Once the checkpointer sees that there is no rule, it lets everybody through (K5).
func (s *server) reload() {
	rule := s.h.data.live.Sync
	if s.rule.Equal(rule) {
		return
	}
	s.rule = rule
	for _, t := range s.senders {
		if t != nil {
			t.told(rule)
		}
	}
	run, lag := s.run, s.h.w.between(0, 20*time.Millisecond)
	if s.h.w.chance(0.1) {
		lag = s.h.w.between(0, 300*time.Millisecond) // it is busy with a checkpoint
	}
	s.h.w.after(&s.process, lag, func() {
		if s.run == run {
			s.publish()
		}
	})
}

// publish is the checkpointer with the settings that hold now.
func (s *server) publish() {
	s.waits = s.rule.SSN() != ""
	if !s.waits {
		s.letThrough(^pg.LSN(0))
	}
}

// replaySoon applies what was received, late by as much as this standby lags.
func (s *server) replaySoon(lsn pg.LSN) {
	s.h.w.after(&s.process, s.lag+time.Millisecond, func() { s.replayTo(lsn) })
}

// freeze and thaw are the guard's; hang and go on are somebody else's.
func (s *server) freeze() {
	if s.phase != down && !s.frozen {
		s.frozen = true
		s.stop()
	}
}

func (s *server) thaw() {
	if s.frozen {
		s.frozen = false
		s.resume()
		s.h.w.check.writers(s.h)
		s.pumpAll()
	}
}

// die is the sudden end of all processes. What the WAL buffers held beyond the last flush is partly lost.
func (s *server) die() {
	if s.phase == down {
		return
	}
	d := &s.h.data
	if s.phase == primary || s.phase == stopping && s.writing {
		d.lose(s.h.w)
	}
	s.close()
}

// close is the end of the run, whatever brought it about.
func (s *server) close() {
	if s.phase == down {
		return
	}
	s.phase, s.stopped, s.frozen, s.hanging = down, 0, false, false
	s.end()
	for _, o := range s.waiting {
		s.h.w.load.lost(o)
	}
	s.waiting = nil
	for i, t := range s.senders {
		if t != nil {
			s.senders[i] = nil
			s.h.w.at(s.noticed(t.from, t.to), t.end)
		}
	}
	if t := s.receiver; t != nil {
		s.receiver = nil
		s.h.w.at(s.noticed(t.to, t.from), t.end)
	}
}

// noticed is when the other side of a connection learns that this one is gone.
func (s *server) noticed(from, to *host) time.Duration {
	if !from.up || !s.h.w.net.open(from.index, to.index) {
		return connectionDies
	}
	return s.h.w.latency()
}

// crash kills the postmaster; its backends go on for a moment, until the guard has killed them (K7).
func (s *server) crash(signal uint32) {
	if s.phase == down {
		return
	}
	s.h.keeper.exited(signal)
	if !s.h.keeper.alive {
		s.die()
		s.h.keeper.view.State = guard.StateEmpty
	}
}

// shutdown is a fast stop: clients go, the rest of the log goes to those who stream, then comes the shutdown checkpoint,
// which goes to them too.
func (s *server) shutdown() {
	if s.phase == down || s.asked {
		return
	}
	s.asked = true
	was := s.phase
	s.phase = stopping
	for _, o := range s.waiting {
		s.h.w.load.lost(o)
	}
	s.waiting = nil
	if t := s.receiver; t != nil {
		s.receiver = nil
		s.h.data.flushed = s.h.data.log.lsn // a walreceiver that ends in order flushes
		s.h.w.at(s.noticed(t.to, t.from), t.end)
	}
	s.h.w.after(&s.process, s.h.w.between(20*time.Millisecond, 200*time.Millisecond), func() { s.lastCheckpoint(was) })
}

func (s *server) lastCheckpoint(was phase) {
	d := &s.h.data
	if s.h.hung() {
		s.h.w.after(&s.process, s.h.disk.hangs-s.h.w.now, func() { s.lastCheckpoint(was) })
		return
	}
	if s.wedged > 0 {
		s.h.w.after(&s.process, 50*time.Millisecond, func() { s.lastCheckpoint(was) })
		return
	}
	if was != primary {
		d.state = pg.ControlShutDownInRecovery
		if was == starting && s.writing {
			d.state = pg.ControlInProduction
		}
		s.exit()
		return
	}
	d.checkpoint, d.checkpointTLI = d.log.lsn, d.log.b.tli
	s.append(100)
	d.flushed = d.log.lsn
	s.drain(s.h.w.now + connectionDies)
}

// drain waits until every walsender has confirmed the end.
func (s *server) drain(limit time.Duration) {
	for _, t := range s.senders {
		if t == nil || t.over || s.h.w.now >= limit || t.flush >= s.h.data.log.lsn {
			continue
		}
		t.pump()
		s.h.w.after(&s.process, 5*time.Millisecond, func() { s.drain(limit) })
		return
	}
	s.h.data.state = pg.ControlShutDown
	s.exit()
}

// exit ends the run in good order.
func (s *server) exit() {
	s.close()
	k := &s.h.keeper
	k.view.Exited, k.view.WaitStatus = true, 0
	if k.alive && !k.halted() {
		k.reap()
	} else {
		k.view.State = guard.StateEmpty
	}
}
