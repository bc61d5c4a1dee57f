package sim

import (
	"slices"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// setSync mirrors Instance.SetSync: the file, the reload, a checkpoint if nobody waited before, and two replies of each
// walsender unless the rule only asks for less.
func (a *agent) setSync(rule pgctl.Sync, done func(error)) {
	d, sv := &a.h.data, &a.h.server
	d.lock(func(unlock func()) {
		if a.h.keeper.Record().Gone() || sv.halted() {
			unlock()
			a.soon(done, errNotRunning)
			return
		}
		run, before := sv.run, sv.rule
		waiting := before.SSN() != "" && sv.marked
		if rule.SSN() == "" {
			sv.marked = false
		}
		d.seen.isProved = false
		rule.Names = slices.Sorted(slices.Values(rule.Names))
		a.h.write(&a.process, func() { d.live.Sync = rule }, func() {
			unlock()
			if sv.run != run || sv.phase == down {
				done(errNotRunning)
				return
			}
			sv.reload()
			a.soon(func(error) { a.proveSync(run, before, rule, waiting, done) }, nil)
		})
	})
}

// proveSync waits for the proofs that the rule is in force.
func (a *agent) proveSync(run uint64, before, rule pgctl.Sync, waiting bool, done func(error)) {
	d, sv := &a.h.data, &a.h.server
	proved := func(ok bool) {
		if !ok || sv.run != run || d.live.Sync.SSN() != rule.SSN() {
			done(errTimeout)
			return
		}
		d.seen.proved, d.seen.isProved = rule.SSN(), true
		done(nil)
	}
	if a.h.w.opts.Without == MutProof {
		proved(true)
		return
	}
	replies := func() {
		fewer := rule.SSN() == "" || rule.K < before.K && slices.Equal(rule.Names, before.Names)
		if sv.phase != primary || fewer {
			proved(true)
			return
		}
		a.repliesTwice(run, union(before.Names, rule.Names), proved)
	}
	if rule.SSN() == "" || waiting {
		replies()
		return
	}
	a.h.w.after(&a.process, a.h.w.between(10*time.Millisecond, 120*time.Millisecond), func() {
		if sv.run == run && !sv.halted() {
			sv.publish()
			sv.marked = true
		}
		replies()
	})
}

func union(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}

// repliesTwice mirrors pgctl's: each walsender of the members has recorded two replies since.
func (a *agent) repliesTwice(run uint64, members []string, then func(bool)) {
	sv := &a.h.server
	owed := map[*stream]int{}
	for _, t := range sv.senders {
		if t != nil && slices.Contains(members, t.to.name) {
			owed[t] = t.counted + 2
		}
	}
	sv.append(60) // pg_logical_emit_message, so that there is something to reply to
	sv.flushSoon(sv.h.data.log.lsn, func() {})
	a.await(stepBox, func() bool {
		if sv.run != run || sv.phase != primary || sv.halted() {
			return false
		}
		missing := false
		for t, n := range owed {
			missing = missing || sv.senders[t.to.index] == t && t.counted < n
		}
		if missing {
			sv.append(60)
			sv.flushSoon(sv.h.data.log.lsn, func() {})
		}
		return !missing
	}, then)
}

// syncGoal mirrors node/sync.go's.
func (a *agent) syncGoal(state fsm.State, seen map[fsm.NodeID]failover.Sighting) (pgctl.Sync, *fsm.SyncRule) {
	view := failover.View{State: state, Self: a.h.id, Seen: seen, BeatEvery: a.h.w.beatEvery()}
	view.Lost = a.copies.Look(a.h.boot(), view)
	step, _ := failover.NextSync(view)
	if a.h.w.opts.Without == MutOrder && step.To.Copies > 0 && !step.NeedsPromise() && state.Primary == a.h.id {
		// PostgreSQL is told at once, and it may be agreed later or never.
		return enforced(state, step.To, a.h.id), nil
	}
	rule, promise := fsm.Enforce(state, a.h.id, a.promised(state.Rev), step)
	return enforced(state, rule, a.h.id), promise
}

// promise mirrors node/sync.go's: rule 18 (a) to (d) of the sync election.
func (a *agent) promise(state fsm.State, rule fsm.SyncRule, done func(error)) {
	a.setSync(enforced(state, rule, a.h.id), func(err error) {
		if err != nil {
			done(err)
			return
		}
		a.flushedBy(state, rule, a.h.data.flushed, promiseBox, func(err error) {
			if err != nil {
				done(err)
				return
			}
			if a.state().Rev != state.Rev {
				done(errTimeout)
				return
			}
			p := fsm.Promise{Node: a.h.id, Rev: state.Rev, Rule: rule}
			a.h.write(&a.process, func() { a.h.disk.promise = &p }, func() {
				if a.h.w.tape != nil {
					a.h.w.say(a.h, "promise", "%d of %v under revision %d", rule.Copies, rule.Members, p.Rev)
				}
				done(nil)
			})
		})
	})
}

// flushedBy mirrors node/sync.go's: it goes on reporting meanwhile.
func (a *agent) flushedBy(state fsm.State, rule fsm.SyncRule, barrier pg.LSN, box time.Duration, then func(error)) {
	a.observe()
	have, there := copiesAt(a.have, bySlot(state), a.h.id, rule, barrier)
	switch {
	case have >= rule.Copies && barrier > 0:
		then(nil)
		return
	case there < rule.Copies || box <= 0:
		then(errTimeout)
		return
	}
	a.h.later(&a.process, 20*time.Millisecond, func() { a.flushedBy(state, rule, barrier, box-20*time.Millisecond, then) })
}
