package sim

import (
	"slices"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// What an agent does about its epoch: give it up, release it, hand it over. It mirrors node/agent.go, handover.go, pause.go
// and probe.go.

func (a *agent) servesUnrecorded(state fsm.State) bool {
	return state.Epoch > 0 && state.Primary == a.h.id && a.have.Run == pg.RunPrimary &&
		a.h.disk.served < state.Epoch && a.mayServe(state)
}

func (a *agent) givesUp(state fsm.State) bool {
	now := a.h.boot()
	if state.Epoch == 0 || state.SystemID == 0 || state.Primary != a.h.id || !a.fence.live(state.Epoch, now) {
		return false
	}
	if lostWhatElectedIt(state, a.have) {
		return true
	}
	switch a.have.Run {
	case pg.RunStandby:
		return a.readerAt > 0 && !a.have.Promoting && now-max(a.leaseFrom, a.readerAt) > patience
	case pg.RunAbsent, pg.RunStopped:
		return now-max(a.leaseFrom, a.sameSince) > openPatience
	}
	return false
}

func (a *agent) releaseDue(state fsm.State) bool {
	if state.Epoch == 0 || state.Primary != a.h.id || a.releasedEpoch() >= state.Epoch {
		return false
	}
	down := a.have.Run == pg.RunStopped || a.have.Run == pg.RunAbsent
	return down && (a.h.disk.served >= state.Epoch || a.gaveUp == state.Epoch || a.stopping >= state.Epoch)
}

// release tells the end of the log and is durable before it is said.
func (a *agent) release(state fsm.State) {
	done := a.done("release")
	if a.have.Position == nil && a.have.Run == pg.RunStopped && a.have.Clone == nil && a.failures < examineTries {
		a.h.later(&a.process, a.h.w.between(5*time.Millisecond, 60*time.Millisecond), func() {
			if err := a.examine(pgctl.Examine); err != nil {
				done(err)
				return
			}
			a.observe()
			a.releaseNow(state, done)
		})
		return
	}
	a.releaseNow(state, done)
}

func (a *agent) releaseNow(state fsm.State, done func(error)) {
	rel := fsm.Release{Epoch: state.Epoch, Node: a.h.id}
	if p := a.have.Position; p != nil {
		rel.Timeline, rel.FinalLSN = p.Timeline, p.LSN
	}
	a.saveRelease(rel, func() {
		a.said.Released = a.h.disk.released
		a.say()
		done(nil)
	})
}

func (a *agent) saveRelease(rel fsm.Release, then func()) {
	a.h.write(&a.process, func() {
		if old := a.h.disk.released; old == nil || old.Epoch < rel.Epoch {
			a.h.disk.released = &rel
		}
	}, func() {
		if a.h.w.tape != nil {
			a.h.w.say(a.h, "release", "epoch %d at %d/%s", rel.Epoch, rel.Timeline, rel.FinalLSN)
		}
		a.beats.released(rel.Epoch)
		a.fence.Release(rel.Epoch)
		then()
	})
}

func (a *agent) readsDue(state fsm.State) bool {
	if state.Epoch == 0 || state.Primary != a.h.id || a.releasedEpoch() < state.Epoch {
		return false
	}
	now := a.h.boot()
	if a.downOf != state.Epoch {
		a.downOf, a.downAt = state.Epoch, now
	}
	return now-a.downAt >= a.h.w.opts.failoverAfter()
}

func (a *agent) yields(state fsm.State) bool {
	now := a.h.boot()
	if _, opened := target(state); opened && a.openOf != state.Epoch {
		a.openOf, a.openAt = state.Epoch, now
	}
	var streams []failover.StreamingMember
	if r := a.beats.reportOf(state.Primary); r != nil && r.Epoch == state.Epoch {
		streams = r.Streaming
	}
	return yields(state, a.h.id, streams, now-a.openAt)
}

// handover mirrors node/handover.go's.
type handover struct {
	id   string
	shut bool
	gone bool
}

func (a *agent) readyToHandOver(state fsm.State) bool {
	if !handingOver(state, a.h.id) {
		a.wish = handover{}
		return false
	}
	if a.wish.id != state.Wish.ID {
		a.wish = handover{id: state.Wish.ID}
		a.h.later(&a.process, a.h.w.between(20*time.Millisecond, 300*time.Millisecond), func() { // the checkpoint before
			a.wish.shut = true
			a.poke()
		})
	}
	if !a.wish.shut {
		return false
	}
	if !a.wish.gone && a.have.Run == pg.RunPrimary {
		a.wish.gone = closeBehind(state, a.have)
	}
	down := a.have.Run == pg.RunStopping || a.have.Run == pg.RunStopped || a.have.Run == pg.RunAbsent
	return a.wish.gone || down
}

// pause mirrors node/pause.go's, with the marker as a field on disk.
func (a *agent) pause(s fsm.State) bool {
	if a.fence.mayPause(s, a.releasedEpoch()) {
		if a.h.hung() && !a.h.disk.paused {
			return true
		}
		a.h.disk.paused = true
		a.fence.Pause(s)
		return true
	}
	acted := a.fence.Unpause(s)
	if leaseless(s, a.h.id, a.releasedEpoch()) {
		return acted
	}
	a.h.disk.paused = false
	return acted
}

// mayHold mirrors node/hooks.go's.
func (a *agent) mayHold(epoch fsm.Epoch) bool {
	return a.h.role == fsm.RoleData && a.stopping < epoch && a.releasedEpoch() < epoch
}

func (a *agent) onLease(epoch fsm.Epoch, until time.Duration) {
	a.fence.Lease(epoch, until)
	if a.report.Serving != epoch {
		a.poke()
	}
}

func (a *agent) onHigher(epoch fsm.Epoch) { a.fence.Higher(epoch) }

// sick is the prober's finding: three failures in a row over 1.5 failover_after.
func (a *agent) sick() string {
	h := a.h
	limit := time.Duration(1.5 * float64(h.w.opts.failoverAfter()))
	switch {
	case h.server.hanging && h.w.now-h.server.hangSince > limit:
		return "connect: no answer"
	case h.hung() && h.w.now-h.disk.hungSince > limit:
		return "write: the disk hangs"
	}
	return ""
}

// stopSick mirrors node/probe.go's: the leader's order to kill a sick server and to release.
func (a *agent) stopSick(epoch fsm.Epoch) {
	if a.h.role == fsm.RoleWitness || a.stopping >= epoch || a.sick() == "" || !a.fence.stop(epoch) {
		return
	}
	a.endSick(epoch)
}

func (a *agent) endSick(epoch fsm.Epoch) {
	if a.stopping >= epoch {
		return
	}
	a.stopping = epoch
	a.poke()
	released := func() bool { return a.releasedEpoch() >= epoch }
	a.await2(a.h.w.opts.failoverAfter(), released, a.h.w.opts.failoverAfter()/4, func() {
		rel := fsm.Release{Epoch: epoch, Node: a.h.id}
		a.saveRelease(rel, func() {
			a.blind = a.h.disk.released
			a.tell()
		})
	})
	a.h.later(&a.process, a.h.w.opts.failoverAfter(), func() {
		if !released() {
			a.exit("a sick server could not be ended and released in time")
		}
	})
}

// await2 calls otherwise when nothing has been left of the server for as long as patience and it is still not so.
func (a *agent) await2(box time.Duration, is func() bool, patience time.Duration, otherwise func()) {
	since := time.Duration(0)
	var look func(left time.Duration)
	look = func(left time.Duration) {
		now := a.h.boot()
		switch {
		case is() || left <= 0:
			return
		case !a.h.keeper.Record().Gone():
			since = 0
		case since == 0:
			since = max(now, 1)
		case now-since >= patience:
			otherwise()
			return
		}
		a.h.later(&a.process, 10*time.Millisecond, func() { look(left - 10*time.Millisecond) })
	}
	look(box)
}

// endUndying mirrors node/probe.go's.
func (a *agent) endUndying() {
	state, view := a.state(), a.h.keeper.Record()
	if a.h.role == fsm.RoleWitness || a.stopping >= state.Epoch || a.releasedEpoch() >= state.Epoch ||
		!undying(state, a.h.id, view, a.h.boot(), a.h.w.opts.failoverAfter()) || !a.fence.stop(state.Epoch) {
		return
	}
	a.endSick(state.Epoch)
}

// detach mirrors Cluster.detach and Node.detach: the seal first, then the cut.
func (a *agent) detach(epoch fsm.Epoch, done func(fsm.Position, error)) {
	a.beats.seal(epoch, func(lease sealAnswer) {
		s := a.state()
		if s.Epoch > epoch || s.Epoch == epoch && s.Primary == a.h.id || a.h.role == fsm.RoleWitness {
			done(fsm.Position{}, ErrRefused)
			return
		}
		if w := a.beats.detaching; w != nil {
			if w.epoch == epoch {
				w.waiters = append(w.waiters, done)
				return
			}
			done(fsm.Position{}, errTimeout)
			return
		}
		run := &detachRun{epoch: epoch, waiters: []func(fsm.Position, error){done}}
		a.beats.detaching = run
		a.h.data.detach(uint64(epoch), func(p pgctl.Position, err error) {
			a.beats.detaching = nil
			out := fsm.Position{Node: a.h.id, Detached: epoch, Timeline: p.Timeline, LSN: p.LSN}
			if err != nil {
				err = ErrRefused
			} else {
				if a.h.w.tape != nil {
					a.h.w.say(a.h, "detach", "from epoch %d at %d/%s", epoch, p.Timeline, p.LSN)
				}
				a.poke()
			}
			for _, tell := range slices.Clone(run.waiters) {
				tell(out, err)
			}
		})
	})
}

// detachRun is a Detach under way with those who asked for it.
type detachRun struct {
	epoch   fsm.Epoch
	waiters []func(fsm.Position, error)
}

// recordEvidence mirrors node/evidence.go: it tells the cluster until that knows.
func (a *agent) recordEvidence() {
	for _, e := range a.have.Evidence {
		id := e.ID
		a.submit(fsm.RecordDiscard{Discard: discardOf(a.state(), a.h.id, e)}, 0, "evidence", func(err error) {
			if err == nil && a.h.data.told < len(a.h.data.evidence) && a.h.data.evidence[a.h.data.told].ID == id {
				a.h.data.told++
			}
		})
		return
	}
}
