package sim

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// Settings of PostgreSQL, as people change them: some by a reload, some by a restart, and those that a standby must have at least
// as high as the primary whose log it replays. The order of those is pgctl's own Ordering and Outgrown, what an edit says is read
// by config.ReadDCS, and what reports say of the order is node's (mirror_node.go). What has I/O mirrors node/config.go and
// pgctl/parameters.go.

// badValue is a value of work_mem that no PostgreSQL takes.
const badValue = "much"

// configuring mirrors node's. Without a document there is nothing to do, and in most seeds nobody writes one.
type configuring struct {
	version uint64
	wanted  pgctl.Parameters
	held    []string
	began   time.Duration
	lookAt  time.Duration
	busy    bool
	refused string
	tried   uint64
	tryAt   time.Duration
	survey  pgctl.Survey
	of      uint64 // the run that survey is of
}

func (c *configuring) surveyed(run uint64) pg.HotStandby {
	if c.of != run {
		return pg.HotStandby{}
	}
	return c.survey.Hot
}

// configure mirrors agent.configure.
func (a *agent) configure(state fsm.State, seen func() map[fsm.NodeID]failover.Sighting) {
	c, d, now := &a.conf, &a.h.data, a.h.boot()
	if state.Config.Doc == "" {
		return
	}
	if c.began == 0 {
		c.began = max(now, 1)
	}
	if c.version != state.Config.Version {
		dcs, err := config.ReadDCS([]byte(state.Config.Doc))
		if err != nil {
			a.h.w.check.fail(a.h, "model", "an edit made a document that can't be read: %v", err)
			return
		}
		c.version, c.wanted = state.Config.Version, pgctl.Parameters{Version: state.Config.Version, Set: dcs.PostgreSQL.Parameters}
	}
	a.order(state, seen(), now)
	runs := a.have.Run == pg.RunStandby || a.have.Run == pg.RunPrimary
	calm := runs && a.lastStep.Kind == pgctl.Nothing || a.have.Run == pg.RunStopped || a.have.Run == pg.RunAbsent
	mayTry := now >= c.tryAt || c.tried != c.wanted.Version
	switch taken := d.params; {
	case c.busy:
	case calm && mayTry && !(taken.Version == c.wanted.Version && taken.Equal(c.wanted)):
		c.lookAt = now + surveySoon
		a.give(c.wanted)
	case runs && (now >= c.lookAt || c.surveyed(a.have.GuardRun) == pg.HotStandby{}):
		c.lookAt = now + surveyEvery
		a.survey(a.have.GuardRun)
	}
}

// give mirrors agent.give and Instance.SetParameters: checked, written, reloaded, recorded.
func (a *agent) give(p pgctl.Parameters) {
	c, d, sv := &a.conf, &a.h.data, &a.h.server
	c.busy = true
	over := func(refused string) {
		c.busy, c.refused, c.tried, c.tryAt = false, refused, p.Version, a.h.boot()+settingsRetry
		a.poke()
	}
	a.h.later(&a.process, a.h.w.between(50*time.Millisecond, 150*time.Millisecond), func() {
		if p.Set["work_mem"] == badValue {
			over("postgres refuses the settings")
			return
		}
		run := sv.run
		a.h.write(&a.process, func() { d.params = p }, func() {
			if sv.run == run && sv.phase != down {
				a.h.w.after(&sv.process, a.h.w.between(0, 20*time.Millisecond), func() { sv.work = d.params.Set["work_mem"] })
			}
			over("")
		})
	})
}

// survey mirrors agent.survey and Instance.Survey.
func (a *agent) survey(run uint64) {
	c, d, sv := &a.conf, &a.h.data, &a.h.server
	c.busy = true
	wait := a.h.w.between(2*time.Millisecond, 30*time.Millisecond)
	if sv.halted() {
		wait = statusBox
	}
	a.h.later(&a.process, wait, func() {
		c.busy = false
		if sv.run != run || sv.halted() || sv.phase != primary && !(sv.phase == standby && sv.consistent()) {
			return
		}
		found := pgctl.Survey{Hot: sv.runs}
		for n, value := range d.fileHot() {
			if value != sv.runs[n] {
				found.Pending = append(found.Pending, pg.HotStandbyNames()[n])
			}
		}
		if d.params.Set["shared_buffers"] != sv.buffers {
			found.Pending = append(found.Pending, "shared_buffers")
		}
		c.survey, c.of = found, run
	})
}

// order mirrors agent.order.
func (a *agent) order(state fsm.State, seen map[fsm.NodeID]failover.Sighting, now time.Duration) {
	o := ordering(state, a.h.id, seen)
	if o.Primary && now-a.conf.began < a.h.w.opts.failoverAfter() {
		return
	}
	o.Wanted, o.Control = a.conf.wanted.Set, a.have.Dir.Control.HotStandby()
	o.Running = a.conf.surveyed(a.have.GuardRun)
	if a.have.Run != pg.RunStandby && a.have.Run != pg.RunPrimary {
		o.Running = pg.HotStandby{}
	}
	file, held := o.Decide()
	a.conf.held = nil
	for _, h := range held {
		a.conf.held = append(a.conf.held, h.Because)
	}
	if a.h.data.hot == file || a.h.hung() { // in a disk that hangs the agent would hang here
		return
	}
	a.h.data.hot = file
	a.conf.lookAt = now + surveySoon
}

// configured mirrors agent.configured.
func (a *agent) configured() failover.Configured {
	taken, c := a.h.data.params, &a.conf
	out := failover.Configured{Version: taken.Version, Held: c.held, Restart: a.restart.announced > 0}
	if taken.Version != c.version {
		out.Refused = c.refused
	}
	if c.of == a.have.GuardRun && (a.have.Run == pg.RunStandby || a.have.Run == pg.RunPrimary) {
		out.Hot, out.Pending = c.survey.Hot, slices.Clone(c.survey.Pending)
	}
	return out
}

// fileHot is what the next start runs with (pgctl's configuration).
func (d *instance) fileHot() pg.HotStandby {
	out := pg.HotStandbyDefaults()
	for n, name := range pg.HotStandbyNames() {
		value, set := d.params.Set[name]
		if number, err := strconv.Atoi(value); set && err == nil {
			out[n] = number
		}
		if d.hot.Known() && (set || d.hot[n] > 0) {
			out[n] = d.hot[n]
		}
	}
	return out
}

// control completes what pg_control says.
func (d *instance) control(c *pg.Control) {
	c.MaxConnections, c.MaxWorkerProcesses, c.MaxPreparedXacts, c.MaxLocksPerXact = d.ctl[0], d.ctl[1], d.ctl[2], d.ctl[3]
}

// reads is what a start takes from the files.
func (s *server) reads() {
	d := &s.h.data
	s.runs, s.work, s.buffers, s.stuck = d.fileHot(), d.params.Set["work_mem"], d.params.Set["shared_buffers"], false
	if !d.ctl.Known() {
		d.ctl = d.log.hotAt(d.log.lsn)
	}
}

// toldLog puts what a primary runs with into the log, if that says something else.
func (s *server) toldLog() {
	d := &s.h.data
	if d.log.hotAt(d.log.lsn) != s.runs {
		s.append(60)
		d.log.b.hots = append(d.log.b.hots, hotAt{d.log.lsn, s.runs})
	}
	d.ctl, d.ctlAt = s.runs, d.log.lsn
}

// replayTo applies log up to lsn. Where the log says that its primary runs with more of something, a standby that lets sessions in
// stands still for good, another one ends; pg_control has the new values in either case. It is false when the server has ended.
func (s *server) replayTo(lsn pg.LSN) bool {
	d := &s.h.data
	lsn = min(lsn, d.log.lsn)
	if s.stuck || lsn <= s.replay {
		return true
	}
	from := s.replay
	s.replay = lsn
	for _, r := range d.log.hotsIn(max(from, d.ctlAt), lsn) {
		d.ctl, d.ctlAt = r.hot, r.lsn
		if pgctl.Outgrown(s.runs, r.hot) == "" {
			continue
		}
		s.replay = r.lsn
		if s.phase != standby || !s.consistent() {
			s.fatal()
			return false
		}
		s.stuck = true
		s.h.w.stats.Outgrown++
		s.h.w.say(s.h, "server", "replay stands still at %s: the primary ran with more", r.lsn)
		return true
	}
	return true
}

// fatal is a postmaster that ends because its startup process did.
func (s *server) fatal() {
	s.h.w.stats.Stillborn++
	s.h.w.say(s.h, "server", "ends: it was started with less than the log needs")
	s.close()
	s.h.keeper.exited(1 << 8)
	if !s.h.keeper.alive {
		s.h.keeper.reap()
	}
}

// hotAt is a record in the log of what its primary runs with.
type hotAt struct {
	lsn pg.LSN
	hot pg.HotStandby
}

// hotAt is what the newest such record up to lsn says.
func (p place) hotAt(lsn pg.LSN) pg.HotStandby {
	limit := min(lsn, p.lsn)
	for x := p.b; x != nil; x = x.parent {
		for _, r := range slices.Backward(x.hots) {
			if r.lsn <= limit {
				return r.hot
			}
		}
		limit = min(limit, x.start)
	}
	return pg.HotStandbyDefaults()
}

// hotsIn are those past from and up to lsn, in their order.
func (p place) hotsIn(from, lsn pg.LSN) (out []hotAt) {
	limit := min(lsn, p.lsn)
	for x := p.b; x != nil && limit > from; x = x.parent {
		for _, r := range slices.Backward(x.hots) {
			if r.lsn <= limit && r.lsn > from {
				out = append(out, r)
			}
		}
		limit = min(limit, x.start)
	}
	slices.Reverse(out)
	return out
}

// document writes settings and parameters as an edit does.
func document(s fsm.Settings, parameters map[string]string) (string, error) {
	return config.DCS{
		FailoverAfter: config.Duration(time.Duration(s.FailoverAfterMS) * time.Millisecond), Durability: s.Durability, Strict: s.Strict,
		MaximumLag: s.MaximumLag, PostgreSQL: config.DCSPostgreSQL{Parameters: parameters},
	}.Doc()
}

// editConfig is an edit of the settings that rules read, the parameters, or both. A document that nobody wrote yet stays away
// unless there are parameters for it.
func (w *World) editConfig(n uint64, settings func(*fsm.Settings), parameters func(map[string]string)) {
	w.asks(n, "operator", func(s fsm.State) fsm.Command {
		c := fsm.EditConfig{IfVersion: s.Config.Version, Settings: s.Config.Settings}
		set := map[string]string{}
		if s.Config.Doc != "" {
			d, err := config.ReadDCS([]byte(s.Config.Doc))
			if err != nil {
				w.check.fail(nil, "model", "%v", err)
				return nil
			}
			maps.Copy(set, d.PostgreSQL.Parameters)
		}
		before := maps.Clone(set)
		settings(&c.Settings)
		parameters(set)
		if s.ClusterID == "" || c.Settings == s.Config.Settings && maps.Equal(set, before) || contradicts(c.Settings) {
			return nil
		}
		if s.Config.Doc != "" || len(set) > 0 {
			doc, err := document(c.Settings, set)
			if err != nil {
				w.check.fail(nil, "model", "%v", err)
				return nil
			}
			c.Doc = doc
		}
		return c
	})
}

// contradicts mirrors what config refuses of settings.
func contradicts(s fsm.Settings) bool { return s.Strict && s.Durability == fsm.DurabilityAsync }

// parameters has somebody edit PostgreSQL's settings again and again and restart what waits for that, or something else.
func parameters(w *World, f Fault) func() {
	over := false
	var turn func()
	turn = func() {
		if over {
			return
		}
		n := w.rng.Uint64()
		w.editConfig(n>>8, func(*fsm.Settings) {}, func(set map[string]string) { changeOne(set, n) })
		for range 2 {
			w.at(w.between(300*time.Millisecond, 3*time.Second), func() {
				if !over {
					askRestart(w, Fault{Who: aim(w.rng.IntN(4)), N: w.rng.Uint64() | 1<<51})
				}
			})
		}
		w.at(w.between(500*time.Millisecond, 3*time.Second), turn)
	}
	turn()
	return func() {
		over = true
		w.mendParameters(f.N, w.now+editPatience)
	}
}

// changeOne changes one setting: up or down those whose order counts, one that is reloaded, one that waits for a restart, or one
// to what PostgreSQL refuses.
func changeOne(set map[string]string, n uint64) {
	switch n % 8 {
	case 0, 1, 2:
		set["max_connections"] = strconv.Itoa(50 * int(1+(n>>16)%5))
	case 3, 4:
		set["max_locks_per_transaction"] = strconv.Itoa(32 * int(1+(n>>16)%4))
	case 5:
		set["work_mem"] = strconv.Itoa(int(1+(n>>16)%8)) + "MB"
	case 6:
		set["shared_buffers"] = strconv.Itoa(int(16*(1+(n>>16)%4))) + "MB"
	case 7:
		set["work_mem"] = badValue
	}
}

// editPatience is more than an edit is tried for.
const editPatience = 12 * time.Second

// mendParameters takes back what PostgreSQL refuses, until that is done and no edit is under way any more.
func (w *World) mendParameters(n uint64, until time.Duration) {
	d, err := config.ReadDCS([]byte(w.check.newest.Config.Doc))
	bad := err == nil && d.PostgreSQL.Parameters["work_mem"] == badValue
	if bad {
		w.editConfig(n, func(*fsm.Settings) {}, func(set map[string]string) { set["work_mem"] = "4MB" })
	}
	if bad || w.now < until {
		w.at(700*time.Millisecond, func() { w.mendParameters(n+1, until) })
	}
}

// tookSettings: some time after everything healed every member's server has what the newest document says, as far as that takes no
// restart, and none stands still.
func (c *checker) tookSettings(h *host) {
	s := c.newest.Config
	switch {
	case h.server.stuck:
		c.fail(h, "liveness", "%s after everything healed replay stands still, since the log needs more than it runs with", ended-healed)
	case s.Doc == "":
	case h.data.params.Version != s.Version:
		c.fail(h, "settings", "%s after everything healed it has version %d of the settings, not %d: %s", ended-healed,
			h.data.params.Version, s.Version, h.agent.conf.refused)
	case h.server.phase != down && h.server.work != h.data.params.Set["work_mem"]:
		c.fail(h, "settings", "it runs with work_mem %q, and %q was taken", h.server.work, h.data.params.Set["work_mem"])
	}
}

// recoversReader replays the local log of a server that shall not write. It is false when the server ends over that.
func (s *server) recoversReader() bool {
	d := &s.h.data
	if pgctl.Outgrown(s.runs, d.ctl) != "" {
		s.fatal()
		return false
	}
	if s.h.w.chance(0.5) { // sessions may be let in before all of it is replayed
		s.phase = standby
	}
	s.replay = min(d.ctlAt, d.log.lsn)
	if !s.replayTo(d.log.lsn) {
		return false
	}
	if s.phase = starting; !s.stuck && s.lag > 0 {
		s.replay = d.log.lsn - min(commitSize, d.log.lsn) // the last commit is not due yet; replay stands before what was acknowledged (K4)
	}
	return true
}
