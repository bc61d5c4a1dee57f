package sim

import (
	"testing"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// modelPair is servers made of the model.
type modelPair struct {
	t     *testing.T
	w     *World
	p, s  *host
	op    *op
	acked pg.LSN
	runs  uint64
	free  func() // ends the wedge
}

func newModelPair(t *testing.T) servers {
	w, p, s := pair(t, pgctl.Sync{})
	return &modelPair{t: t, w: w, p: p, s: s, runs: 1}
}

func (m *modelPair) pass(d time.Duration) { m.w.run(m.w.now + d) }

func (m *modelPair) rule(copies int) {
	m.p.data.live.Sync = pgctl.Sync{}
	if copies > 0 {
		m.p.data.live.Sync = pgctl.Sync{K: copies, Names: []string{m.s.name}}
	}
	m.p.server.reload()
	m.pass(time.Second)
}

func (m *modelPair) commit() string {
	m.op = &op{issued: m.w.now}
	if !m.p.server.accepts() {
		m.t.Fatal("the primary takes no commit")
	}
	m.p.server.execute(m.op)
	m.pass(300 * time.Millisecond)
	if m.op.result == pending {
		return "waits"
	}
	return m.outcome()
}

func (m *modelPair) outcome() string {
	m.pass(time.Second)
	switch m.op.result {
	case ok:
		m.acked = m.op.lsn
		return "acknowledged"
	case unknown:
		return "unknown"
	}
	return "waits"
}

func (m *modelPair) readable() string {
	s := &m.p.server
	upto := s.replay
	if s.phase == primary {
		upto = m.p.data.log.lsn
	}
	if s.talks() && m.p.data.log.upTo(upto).holds(m.op.b, m.op.lsn) {
		return "yes"
	}
	return "no"
}

func (m *modelPair) cancel() { cancelWaits(m.w, Fault{}) }

func (m *modelPair) lag()   { m.s.server.lag = time.Hour }
func (m *modelPair) leave() { m.s.data.cutByReloadOnly(func(pgctl.Position, error) {}) }

func (m *modelPair) receiver() string {
	m.pass(2 * time.Second)
	if m.s.server.receiver != nil {
		return "runs"
	}
	return "none"
}

func (m *modelPair) endReceiver() { m.s.server.endReceiver() }
func (m *modelPair) lose()        { m.s.server.die() }

// fork starts a run of h, as its guard would note.
func (m *modelPair) fork(h *host, upstream pgctl.Upstream) {
	m.runs++
	h.keeper.view.Exited = false
	h.server.fork(m.runs, upstream)
	m.pass(2 * time.Second)
}

func (m *modelPair) alone() { m.fork(m.s, pgctl.Upstream{}) }

func (m *modelPair) received() string { return behind(m.s.server.received, m.acked) }
func (m *modelPair) replayed() string { return behind(m.s.server.replay, m.acked) }
func (m *modelPair) log() string      { return behind(m.s.data.position().LSN, m.acked) }

func (m *modelPair) end(mode string) {
	if mode == "fast" {
		m.p.server.shutdown()
		m.gone()
		return
	}
	m.p.server.die()
}

func (m *modelPair) start(signal bool) string {
	m.p.data.signal = signal
	m.fork(m.p, pgctl.Upstream{})
	switch m.p.server.phase {
	case primary:
		return "writes"
	case standby:
		return "reads"
	}
	return "no"
}

func (m *modelPair) killPostmaster() {
	m.p.keeper.stop() // so that nobody ends what is left
	m.p.server.crash(9)
}

func (m *modelPair) goesOn() string {
	if m.commit() == "acknowledged" {
		return "go on"
	}
	return "end"
}

func (m *modelPair) killRest() { m.p.server.die() }

func (m *modelPair) wedge() {
	m.free = wedge(m.w, Fault{Who: thePrimary})
}

func (m *modelPair) unwedge() { m.free() }

func (m *modelPair) ask(string) { m.p.server.shutdown() }
func (m *modelPair) crash()     { backendCrash(m.w, Fault{Who: thePrimary}) }

func (m *modelPair) there() string {
	m.pass(2 * time.Second)
	if m.p.server.phase == down {
		return "gone"
	}
	return "there"
}

func (m *modelPair) gone() string {
	for range 20 {
		if m.p.server.phase == down {
			return "gone"
		}
		m.pass(time.Second)
	}
	return "there"
}

func (m *modelPair) raise() {
	m.p.server.die()
	m.p.data.hot = pg.HotStandby{200, 8, 0, 64}
	m.start(false)
	m.pass(2 * time.Second)
}

func (m *modelPair) still() string {
	if m.s.server.stuck {
		return "stands still"
	}
	return "goes on"
}

func (m *modelPair) restarted(enough bool) string {
	m.s.server.die()
	m.s.data.hot = pg.HotStandbyDefaults()
	if enough {
		m.s.data.hot[0] = 200
	}
	m.fork(m.s, pgctl.Upstream{Name: m.p.name, Epoch: 1})
	if m.s.server.phase == standby && m.s.server.consistent() {
		return "reads"
	}
	return "ends"
}
