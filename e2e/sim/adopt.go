package sim

import (
	"errors"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// Data directories that were there before the cluster. Whose it begins with is what an operator named; what becomes of the others
// is cluster's own founders.adoption (mirror_adopt.go), and what is done with each pgctl.Next's. The step itself mirrors
// pgctl/adopt.go.

var errAdopt = errors.New("the data directory can't be adopted")

// foundSystem and otherSystem are of data that were there.
const (
	foundSystem pg.SystemID = 7
	otherSystem pg.SystemID = 9
)

// findData gives the hosts data directories and chooses the one that the cluster begins with. What that one has, somebody was
// told of.
func (w *World) findData() {
	var nodes []*host
	for _, h := range w.hosts {
		if h.role == fsm.RoleData && !h.joins {
			nodes = append(nodes, h)
		}
	}
	source := nodes[w.rng.IntN(len(nodes))]
	log := w.oldLog(source)
	source.data.found(log, foundSystem, []pg.ControlState{pg.ControlShutDown, pg.ControlInProduction, pg.ControlShutDownInRecovery}[w.rng.IntN(3)])
	source.data.stranger = w.chance(0.3)
	for _, h := range nodes {
		if h == source {
			continue
		}
		cut := log.upTo(log.lsn - pg.LSN(w.rng.IntN(600)))
		switch p := w.rng.Float64(); {
		case p < 0.3:
		case p < 0.65:
			h.data.found(cut, foundSystem, pg.ControlShutDownInRecovery)
		case p < 0.8: // it went on by itself
			more := newBranch(cut.at(cut.lsn).tli, cut, h)
			more.end = cut.lsn + 700
			h.data.found(place{more, more.end}, foundSystem, pg.ControlShutDown)
		default:
			h.data.found(w.oldLog(h), otherSystem, pg.ControlShutDown)
		}
	}
	w.adopted = w.choose(source, nodes)
	last := log.lastCommit()
	w.check.promise(log.at(last), last)
	log.at(last).acked = last
}

// oldLog is the log of a server that was promoted some times, last on h.
func (w *World) oldLog(h *host) place {
	b := &branch{tli: 1, start: 1, writer: h}
	at := place{b, 1}
	for n := 1 + w.rng.IntN(3); ; n-- {
		for range 4 + w.rng.IntN(8) {
			at.lsn += commitSize
			b.commits = append(b.commits, at.lsn)
		}
		b.end = at.lsn
		if n <= 1 {
			return at
		}
		b = newBranch(b.tli+1, at, h)
		at.b = b
	}
}

// found is a directory that this node has never managed.
func (d *instance) found(log place, system pg.SystemID, state pg.ControlState) {
	d.exists, d.foreign, d.sysid, d.state = true, true, system, state
	d.signal = state == pg.ControlShutDownInRecovery
	d.log, d.flushed, d.checkpoint, d.checkpointTLI = log, log.lsn, log.lsn, log.at(log.lsn).tli
	d.ctl, d.ctlAt = pg.HotStandbyDefaults(), log.lsn
}

// choose mirrors Node.dataFacts and judgeData for a person who named source.
func (w *World) choose(source *host, nodes []*host) *fsm.Adoption {
	of := func(h *host) founder {
		d := &h.data
		if !d.exists {
			return founder{h.member(), DataFacts{Empty: true}}
		}
		p := d.position()
		return founder{h.member(), DataFacts{
			SystemID: d.sysid, State: d.state, Timeline: p.Timeline, History: p.History, End: p.LSN, Highest: p.Timeline, Standby: d.signal,
		}}
	}
	f := founders{named: source.name, source: of(source)}
	for _, h := range nodes {
		f.nodes = append(f.nodes, of(h))
	}
	a := f.adoption()
	if w.opts.Without == MutAside {
		a.Keep, a.Aside = append(a.Keep, a.Aside...), nil
	}
	return a
}

// adopt mirrors Instance.Adopt.
func (a *agent) adopt(s pgctl.Step, done func(error)) {
	d := &a.h.data
	switch _, err := a.leaseFor(s.Epoch); {
	case !a.h.keeper.Record().Gone():
		done(errRunning)
		return
	case !d.exists:
		done(errNoData)
		return
	case !d.foreign:
		done(nil)
		return
	case err != nil:
		a.soon(done, err)
		return
	case d.sysid != s.SystemID:
		a.soon(done, errAdopt)
		return
	}
	a.endStranger(func() {
		was, end := wasPrimary(d.state), d.position()
		if !(end.Timeline == s.Timeline && was) && !(end.Timeline < s.Timeline && !was) {
			a.soon(done, errAdopt)
			return
		}
		if _, err := a.leaseFor(s.Epoch); err != nil {
			a.soon(done, err)
			return
		}
		a.h.later(&a.process, a.h.w.between(200*time.Millisecond, 900*time.Millisecond), func() { a.takeOver(s, done) })
	})
}

// endStranger ends a server that runs on the directory, which wrote until now.
func (a *agent) endStranger(then func()) {
	d, w := &a.h.data, a.h.w
	if !d.stranger {
		then()
		return
	}
	a.h.later(&a.process, w.between(50*time.Millisecond, 400*time.Millisecond), func() {
		d.stranger = false
		if !wasPrimary(d.state) {
			then()
			return
		}
		b := d.log.b
		for range 1 + w.rng.IntN(5) {
			d.log.lsn += commitSize
			b.commits = append(b.commits, d.log.lsn)
		}
		b.end, d.flushed, d.state = d.log.lsn, d.log.lsn, pg.ControlShutDown
		w.check.promise(b, b.end)
		b.acked = b.end
		then()
	})
}

// takeOver is the single-user server, which ends recovery and makes the roles, and then the records by which the directory is
// ours. Power may be lost between the two.
func (a *agent) takeOver(s pgctl.Step, done func(error)) {
	d := &a.h.data
	a.h.write(&a.process, func() {
		b := d.log.at(d.log.lsn)
		if !wasPrimary(d.state) {
			b = newBranch(s.Timeline, d.log, a.h)
		}
		d.log = place{b, d.log.lsn + 200}
		b.end = d.log.lsn
		d.flushed, d.checkpoint, d.checkpointTLI = d.log.lsn, d.log.lsn, b.tli
		d.state, d.signal, d.cached = pg.ControlShutDown, false, nil
	}, func() {
		a.h.write(&a.process, func() { d.live, d.signal, d.foreign = live{}, true, false }, func() {
			a.h.w.stats.Adopted++
			done(nil)
		})
	})
}

// settingsGiven mirrors agent.settingsGiven.
func (a *agent) settingsGiven(state fsm.State) bool {
	c := &a.conf
	return state.Config.Doc == "" || c.version > 0 && (a.h.data.params.Version == c.version || c.tried == c.version && c.refused != "")
}

// alone says that h has, and nobody else, what the cluster is to begin with: without it there would be none.
func (w *World) alone(h *host) bool {
	s := w.check.newest
	return w.adopted != nil && h.id == w.adopted.Node && (s.Epoch == 0 || s.Adopting(h.id))
}
