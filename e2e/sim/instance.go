package sim

import (
	"errors"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// instance is the model of pgctl.Instance: the data directory, the durable records beside it and what the agent remembers
// of the present run. Its steps and its Status mirror pgctl/watch.go, run.go, follow.go, detach.go, promote.go, sync.go,
// clone.go and rewind.go, without their SQL, files and processes; pgctl.Next, which decides between them, is the real one.
type instance struct {
	h *host

	// The data directory.
	exists        bool
	foreign       bool // this node never managed it
	stranger      bool // a server runs on it that this node did not start
	sysid         pg.SystemID
	state         pg.ControlState
	checkpoint    pg.LSN
	checkpointTLI pg.Timeline
	minRecovery   pg.LSN
	signal        bool
	log           place // all that is written
	flushed       pg.LSN
	refuses       [maxHosts]bool // as primary: whose log is gone here
	ctl           pg.HotStandby  // what pg_control says that the primary ran with, up to ctlAt
	ctlAt         pg.LSN

	// The durable records.
	live     live
	detached uint64
	rebuild  bool
	clone    *job
	rewind   *job
	evidence []pgctl.Evidence
	told     int              // how many of those the cluster knows of
	params   pgctl.Parameters // that PostgreSQL has taken
	hot      pg.HotStandby    // for the next start

	// What the agent remembers; it ends with it.
	cached *pgctl.Position
	seen   seen
	locked bool // by a step; a Detach waits for it
	queued []func()
}

// live mirrors pgctl's record of the settings that change while PostgreSQL runs.
type live struct {
	Upstream pgctl.Upstream
	Sync     pgctl.Sync
	Gated    bool
	Own      pg.Timeline
}

// seen mirrors what pgctl knows of one run.
type seen struct {
	run        uint64
	answered   bool
	asked      bool
	walGone    bool
	followed   time.Duration
	promoting  time.Duration // 0: it was not told to open
	applied    pgctl.Upstream
	configured bool
	proved     string
	isProved   bool
	opened     pg.LSN
	receiver   *stream
}

var (
	errRebuilding = errors.New("the log is being rebuilt")
	errServing    = errors.New("it serves")
	errDetached   = errors.New("it was detached from that epoch")
	errNotRunning = errors.New("it does not run")
	errRunning    = errors.New("it runs")
	errNoLease    = errors.New("there is no lease")
	errTimeout    = errors.New("it took too long")
	errNoData     = errors.New("there is no data directory")
)

// upstream is whom a server here may follow: nobody of an epoch that was left.
func (l live) upstream(detached uint64) pgctl.Upstream {
	if l.Upstream.Epoch <= detached {
		return pgctl.Upstream{}
	}
	return l.Upstream
}

// forget is a new agent: it knows what is on disk.
func (d *instance) forget() {
	d.cached, d.seen, d.locked, d.queued = nil, seen{}, false, nil
	for _, j := range []*job{d.clone, d.rewind} {
		if j != nil {
			j.running = false
		}
	}
}

// lose is a sudden end of a server that writes: what was not flushed is there up to some point.
func (d *instance) lose(w *World) {
	if d.log.lsn > d.flushed {
		end := d.flushed + pg.LSN(w.rng.Int64N(int64(d.log.lsn-d.flushed)+1))
		d.truncate(end)
	}
}

func (d *instance) truncate(end pg.LSN) {
	if d.log.b.writer == d.h && d.log.lsn == d.log.b.end {
		d.log.b.end = end
	}
	d.log, d.ctlAt = d.log.upTo(end), min(d.ctlAt, end)
}

// lock has do run when no other step holds the instance; do calls the function that it is given when it is through.
func (d *instance) lock(do func(unlock func())) {
	if d.locked {
		d.queued = append(d.queued, func() { d.lock(do) })
		return
	}
	d.locked = true
	over := false
	do(func() {
		if over {
			return
		}
		over, d.locked = true, false
		if len(d.queued) > 0 {
			next := d.queued[0]
			d.queued = d.queued[1:]
			next()
		}
	})
}

// position is the end of the log as a scan finds it.
func (d *instance) position() pgctl.Position {
	b := d.log.at(d.log.lsn)
	return pgctl.Position{Timeline: b.tli, LSN: d.log.lsn, History: b.history, Oldest: 1}
}

// reportable mirrors pgctl's: a log that is being rebuilt is not to be reported.
func (d *instance) reportable() error {
	if d.clone != nil || d.rebuild {
		return errRebuilding
	}
	return nil
}

// status mirrors Instance.Status.
func (d *instance) status() pgctl.Status {
	view, now := d.h.keeper.Record(), d.h.boot()
	if view.Run != d.seen.run && !view.Gone() {
		d.seen = seen{run: view.Run, followed: now}
	}
	s := pgctl.Status{GuardRun: view.Run, PID: view.PID}
	s.Dir = pgctl.Dir{Empty: !d.exists}
	if d.exists {
		s.Dir.StandbySignal, s.Dir.Foreign = d.signal, d.foreign
		if d.foreign && d.stranger {
			s.Dir.Server = 1
		}
		s.Dir.Control = pg.Control{
			SystemID: d.sysid, State: d.state, Checkpoint: d.checkpoint, Redo: d.checkpoint, CheckpointTimeline: d.checkpointTLI,
			MinRecoveryPoint: d.minRecovery, WalLogHints: true, DataChecksums: true,
		}
		d.control(&s.Dir.Control)
	}
	d.recorded(&s, now)
	switch {
	case view.Gone():
		s.Run = pg.RunStopped
		if s.Dir.Empty {
			s.Run = pg.RunAbsent
		}
	case view.State == guard.StateFrozen:
		s.Run = pg.RunFrozen
	case view.State == guard.StateKilling || view.Exited:
		s.Run = pg.RunStopping
	default:
		d.look(&s, now)
	}
	s.Answered = d.seen.run == view.Run && d.seen.answered
	switch {
	case d.seen.run != view.Run:
	case d.h.server.crashed && d.h.server.run == view.Run:
		s.Died = "the crash of one of its processes" // its log says so at once (pgctl/probe_crash.go)
	case view.Exited && !d.seen.asked:
		s.Died = view.Exit()
	}
	return s
}

// recorded mirrors Instance.recorded.
func (d *instance) recorded(s *pgctl.Status, now time.Duration) {
	s.Upstream = d.live.upstream(d.detached)
	s.Configured = d.seen.configured && d.seen.applied == s.Upstream
	s.Detached, s.Rebuilding, s.WALGone = d.detached, d.rebuild, d.seen.walGone
	s.Gated, s.Opened, s.Own = d.live.Gated, d.seen.opened, d.live.Own
	if s.Promoting = d.seen.promoting > 0; s.Promoting {
		s.PromotingFor = now - d.seen.promoting
	}
	if d.cached != nil {
		p := *d.cached
		s.Position = &p
	}
	s.Evidence = d.evidence[d.told:]
	if d.rewind != nil {
		s.Rewind = d.rewind.rewindState()
	}
	if d.clone != nil {
		s.Clone = &pgctl.CloneState{Source: d.clone.source, Running: d.clone.running, Note: d.clone.note}
	}
}

// look mirrors Instance.ask, fill and remember: what a session shows.
func (d *instance) look(s *pgctl.Status, now time.Duration) {
	sv := &d.h.server
	answers := sv.phase == primary || sv.phase == standby && sv.consistent()
	switch {
	case sv.halted() && d.seen.answered:
		s.Run = pg.RunUnresponsive
		return
	case d.seen.asked || sv.phase == stopping || sv.phase == down:
		s.Run = pg.RunStopping
		return
	case !answers || sv.halted():
		s.Run, s.Unstreamed = pg.RunStarting, now-d.seen.followed
		return
	}
	d.seen.answered = true
	s.Run, s.SystemID = pg.RunPrimary, d.sysid
	s.Sync = sv.rule
	s.Slots, s.SpareSlots = sv.slots, sv.spare
	if sv.phase == standby {
		s.Run = pg.RunStandby
		s.Timeline, s.Flush, s.Replay = d.log.at(d.log.lsn).tli, sv.received, sv.replay
		if sv.receiver != nil {
			s.Receiver = "streaming"
		}
	} else {
		s.Timeline, s.Flush, s.Insert = d.log.b.tli, d.flushed, d.log.lsn
		if d.seen.opened == 0 {
			d.seen.opened = s.Flush
		}
		s.Opened = d.seen.opened
	}
	for _, t := range sv.senders {
		if t != nil && !t.over {
			s.Senders = append(s.Senders, pgctl.Sender{Name: t.to.name, Slot: t.slot, Streaming: t.receiving, Flush: t.flush})
		}
	}
	s.SyncInForce = d.seen.isProved && d.seen.proved == s.Sync.SSN()
	steady := sv.receiver != nil && sv.receiver == d.seen.receiver
	d.seen.receiver = sv.receiver
	if steady || s.Upstream.Name == "" || s.Run == pg.RunPrimary {
		d.seen.followed = now
	}
	s.Unstreamed = now - d.seen.followed
}
