package sim

import (
	"math"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// agent is one node's daemon: consensus, beats, the leader's loop and the loop that brings PostgreSQL to what was agreed.
// The loop mirrors node/agent.go line by line as far as there is no I/O in it; what is pure there is copied word for word
// in mirror_node.go and mirror_fence.go.
type agent struct {
	process
	h     *host
	raft  *raft
	beats beats
	lead  leading
	fence *fence

	published fsm.State // state.bin, once it is there
	pubIndex  uint64
	offered   bool

	have      pgctl.Status
	report    failover.Report // the newest, completed
	said      failover.Report // as the loop made it
	seenAt    time.Duration
	lastStep  pgctl.Step
	lastRun   pg.RunState
	sameSince time.Duration
	leaseFrom time.Duration
	leaseOf   fsm.Epoch
	openOf    fsm.Epoch
	openAt    time.Duration
	readerAt  time.Duration
	gaveUp    fsm.Epoch
	flushed   pg.LSN
	copies    failover.Copies
	downOf    fsm.Epoch
	downAt    time.Duration
	failures  int
	trouble   trouble
	actedOn   uint64
	wish      handover
	restart   restarting
	conf      configuring
	stopping  fsm.Epoch // what the leader, or a death that does not end, told to stop
	busy      bool      // a step is under way
	woken     bool
	blind     *fsm.Release
	sweeping  bool          // a guard that was lost is being replaced
	removed   bool          // this node is no member any more
	upSince   time.Duration // in true time
}

// start is a new life of the daemon: it knows what its disk has.
func (a *agent) start() {
	h := a.h
	a.begin()
	w, disk := h.w, &h.disk
	*a = agent{process: a.process, h: h}
	h.data.forget()
	a.published, a.pubIndex = disk.state, disk.stateIndex
	a.upSince = w.now
	margin := max(50*time.Millisecond, w.leaseLength()/16)
	a.fence = &fence{guard: &h.keeper, margin: margin, self: h.id, state: a.state}
	a.raft = newRaft(h)
	a.beats.start(a)
	a.lead.start(a)
	if w.opts.lacks(MutFloor) {
		a.published, a.pubIndex = a.raft.state, a.raft.applied
	}
	w.say(h, "agent", "starts, epoch %d rev %d", a.published.Epoch, a.published.Rev)
	a.adoptGuard()
	a.every(20*time.Millisecond, func() { a.raft.tick() })
	a.every(w.beatEvery(), a.turn)
	a.every(2*time.Second, a.watchStanding)
	a.every(2*time.Second, func() { a.raft.compact() })
	if h.role == fsm.RoleData {
		a.every(50*time.Millisecond, a.watchGuard)
	}
	if h.role == fsm.RoleData {
		a.every(time.Second, a.recordEvidence)
	}
	a.poke()
}

// every runs do again and again by the host's clock.
func (a *agent) every(period time.Duration, do func()) {
	var again func()
	again = func() {
		do()
		a.h.later(&a.process, period, again)
	}
	a.h.later(&a.process, a.h.w.between(0, period), again)
}

// state is what the node acts on: it is on disk.
func (a *agent) state() fsm.State { return a.published }

// newest is the newest applied state, durable or not.
func (a *agent) newest() fsm.State {
	if a.raft.applied > a.pubIndex {
		return a.raft.state
	}
	return a.published
}

// offer mirrors cluster/publish.go: a state is shown once the disk has it, and never an older one.
func (a *agent) offer(index uint64, _ fsm.State) {
	if index <= a.pubIndex || a.offered {
		return
	}
	a.offered = true
	a.h.later(&a.process, 0, a.flush)
}

func (a *agent) flush() {
	a.offered = false
	index, state := a.raft.applied, a.raft.state
	if index <= a.pubIndex {
		return
	}
	a.offered = true
	a.h.write(&a.process, func() {
		if index > a.h.disk.stateIndex {
			a.h.disk.state, a.h.disk.stateIndex = state, index
		}
	}, func() {
		a.offered = false
		if index > a.pubIndex {
			a.h.w.check.published(a.h, a.published, state)
			a.published, a.pubIndex = state, index
			a.lead.observe(state)
			a.poke()
			if a.h.role == fsm.RoleWitness {
				a.witness()
			}
			a.beats.kick()
		}
		a.flush()
	})
}

// diskHangs ends the process when its log would be written too late (cluster/patience.go).
func (a *agent) diskHangs(d time.Duration) {
	if d > raftDiskLimit {
		a.h.later(&a.process, raftDiskLimit, func() { a.exit("the disk of the log hangs") })
	}
}

// exit ends the process; something restarts it, as systemd does.
func (a *agent) exit(why string) {
	a.h.w.say(a.h, "agent", "ends: %s", why)
	a.end()
	h := a.h
	h.w.at(h.w.between(200*time.Millisecond, time.Second), func() {
		if h.up && !a.alive && a.stopped == 0 {
			a.start()
		}
	})
}

// poke wakes the loop.
func (a *agent) poke() {
	if a.woken || !a.alive {
		return
	}
	a.woken = true
	a.h.w.after(&a.process, 0, func() {
		a.woken = false
		a.turn()
	})
}

// turn is one round of the loop: observe, report, one step. A step takes its time, and nothing else is done meanwhile.
func (a *agent) turn() {
	if a.busy || a.h.role == fsm.RoleWitness {
		if a.h.role == fsm.RoleWitness {
			a.witness()
		}
		return
	}
	if a.h.server.halted() && !a.h.server.frozen && a.h.data.seen.answered && a.h.data.seen.run == a.h.keeper.view.Run {
		// A server that does not answer is found out by waiting.
		a.busy = true
		a.h.later(&a.process, statusBox, func() { a.busy = false; a.observe(); a.act() })
		return
	}
	a.observe()
	a.act()
}

// done ends a step and looks again at once when it came to something.
func (a *agent) done(what string) func(error) {
	a.busy = true
	return func(err error) {
		a.busy = false
		if err == nil {
			a.failures = 0
			a.poke()
			return
		}
		a.failures++
		if a.h.w.tape != nil {
			a.h.w.say(a.h, "step", "%s failed: %v", what, err)
		}
	}
}

// observe mirrors agent.observe.
func (a *agent) observe() {
	if a.h.role == fsm.RoleWitness {
		return
	}
	a.have = a.h.data.status()
	a.seenAt = a.h.boot()
	if a.have.Run == pg.RunPrimary {
		a.flushed = a.have.Flush
	}
	if a.have.Run != pg.RunStandby {
		a.readerAt = 0
	} else if a.readerAt == 0 {
		a.readerAt = a.seenAt
	}
	if a.trouble.look(a.have) {
		a.trouble.failed(pgctl.StartReader, "it ended before it answered", a.state().Epoch, a.seenAt)
	}
	a.say()
}

// say mirrors agent.say.
func (a *agent) say() {
	state, now := a.state(), a.h.boot()
	acted := a.pause(state)
	leased, unleased := a.fence.mayWrite(state, a.releasedEpoch(), now)
	live := leased || unleased
	if state.Epoch != a.leaseOf || !live {
		a.leaseOf, a.leaseFrom = state.Epoch, now
	}
	held := ""
	if a.lastStep.Kind == pgctl.Hold {
		held = a.lastStep.Because
	}
	r := report(a.have, own{
		self: a.h.id, state: state, leaseLive: live, unleased: unleased, held: held, trouble: a.trouble.String(),
		released: a.h.disk.released, promise: a.promised(state.Rev), flushed: a.flushed,
	})
	r.Config = a.configured()
	if acted {
		a.actedOn = r.Rev
	} else {
		r.Rev = a.actedOn
	}
	a.said = r
	a.tell()
}

// tell mirrors node/probe.go's tell: the report, completed, goes to the beats, and a change at once.
func (a *agent) tell() {
	if a.seenAt == 0 {
		return
	}
	r, limit := a.said, time.Duration(lookPatience*float64(a.h.w.opts.failoverAfter()))
	if a.h.boot()-a.seenAt > limit {
		r.Healthy, r.Problem = false, "the agent has not come back"
	}
	if sick := a.sick(); sick != "" {
		r.Sick, r.Problem, r.Healthy, r.Restartable = sick, sick, false, r.Restartable && !a.h.hung()
	}
	if b := a.blind; b != nil && (r.Released == nil || r.Released.Epoch < b.Epoch) {
		r.Released = b
		if r.Serving <= b.Epoch {
			r.Serving, r.Unleased, r.Streaming = 0, false, nil
		}
	}
	before := a.report
	a.report = r
	if changed(before, r) {
		a.beats.kick()
	}
}

// witness mirrors node/serve.go's.
func (a *agent) witness() {
	state := a.state()
	a.report = failover.Report{Node: a.h.id, Epoch: state.Epoch, Rev: state.Rev, Version: state.Version, Run: failover.RunNone, Healthy: true}
	a.seenAt = max(a.h.boot(), 1)
}

func (a *agent) releasedEpoch() fsm.Epoch {
	if r := a.h.disk.released; r != nil {
		return r.Epoch
	}
	return 0
}

func (a *agent) promised(rev uint64) *fsm.Promise {
	if p := a.h.disk.promise; p.Binds(rev) {
		return p
	}
	return nil
}

func (a *agent) mayServe(state fsm.State) bool {
	leased, unleased := a.fence.mayWrite(state, a.releasedEpoch(), a.h.boot())
	return leased || unleased
}

// act mirrors agent.act: the one next step.
func (a *agent) act() {
	if a.busy {
		return
	}
	state := a.state()
	a.configure(state, a.sightings)
	restart, anew := a.restartStep(state)
	if a.servesUnrecorded(state) {
		done := a.done("record serving")
		a.h.write(&a.process, func() { a.h.disk.served = max(a.h.disk.served, state.Epoch) }, func() { done(nil) })
		return
	}
	if a.releaseDue(state) && !a.downForRestart(state) {
		a.release(state)
		return
	}
	handOver := a.readyToHandOver(state)
	if a.givesUp(state) && a.gaveUp != state.Epoch {
		a.gaveUp = state.Epoch
		if a.h.w.tape != nil {
			a.h.w.say(a.h, "agent", "gives epoch %d up", state.Epoch)
		}
	}
	seen := a.sightings() // the same for all that looks in this round
	goal, promise := a.syncGoal(state, seen)
	reads, fresh := a.readsDue(state), a.h.w.opts.failoverAfter()
	if reads {
		fresh = math.MaxInt64
	}
	w := want(situation{
		self: a.h.id, state: state, leaseLive: a.mayServe(state), sealed: a.beats.sealed(),
		released: a.releasedEpoch(), reads: reads, giveUp: a.gaveUp == state.Epoch && state.Epoch > 0,
		handOver: handOver, restart: restart, reinit: anew, removed: a.removed, yields: a.yields(state), sync: goal,
		copies: copies(state, a.h.id, seen, fresh),
	})
	step := pgctl.Next(w, a.have)
	if a.h.w.opts.Without == MutGate {
		step.Gate = false
	}
	a.noteStep(step)
	switch step.Kind {
	case pgctl.Nothing:
		a.failures = 0
		a.settled(state, promise)
		return
	case pgctl.Hold:
		return
	}
	if step.Kind == pgctl.Adopt && !a.settingsGiven(state) {
		return
	}
	if !(anew && step.Kind == pgctl.Clone) && a.trouble.holds(step.Kind, w.Role, state.Epoch, a.h.boot()) {
		return
	}
	a.carryOut(step, state)
}

// carryOut mirrors node/steps.go's do.
func (a *agent) carryOut(step pgctl.Step, state fsm.State) {
	done := a.done(string(step.Kind))
	a.h.w.stats.step(step.Kind)
	result := func(err error) {
		if err != nil && bringsUp(step.Kind) {
			a.trouble.failed(step.Kind, err.Error(), state.Epoch, a.h.boot())
		}
		done(err)
	}
	if step.Kind == pgctl.StartWriter || step.Kind == pgctl.Promote {
		a.h.write(&a.process, func() { a.h.disk.served = max(a.h.disk.served, fsm.Epoch(step.Epoch)) }, func() { a.do(step, result) })
		return
	}
	a.do(step, result)
}

func (a *agent) noteStep(step pgctl.Step) {
	if step.Kind != a.lastStep.Kind || step.Because != a.lastStep.Because {
		if a.h.w.tape != nil {
			a.h.w.say(a.h, "step", "%s (%s): %s", step.Kind, a.have.Run, step.Because)
		}
	}
	if step.Kind != a.lastStep.Kind || a.have.Run != a.lastRun {
		a.sameSince = a.h.boot()
	}
	a.lastStep, a.lastRun = step, a.have.Run
}

// settled mirrors agent.settled.
func (a *agent) settled(state fsm.State, promise *fsm.SyncRule) {
	if a.report.Serving != state.Epoch || state.Epoch == 0 {
		return
	}
	if last := state.Lineage[len(state.Lineage)-1]; !last.Promoted {
		b := a.h.data.log.b
		parent := pg.Timeline(0)
		if b.parent != nil {
			parent = b.parent.tli
		}
		_ = parent // the agent does not tell it (node/steps.go)
		p := fsm.Promoted{Epoch: last.Epoch, Node: a.h.id, Timeline: b.tli, SystemID: a.h.data.sysid}
		if b.parent != nil {
			p.SwitchLSN = b.start
		}
		a.submit(p, 0, "promotion", a.done("report promotion"))
		return
	}
	if promise != nil {
		a.promise(state, *promise, a.done("promise"))
	}
}

// watchStanding mirrors cluster/removed.go: a node that hears of no leader, or is on its way out, asks whether it is a
// member still.
func (a *agent) watchStanding() {
	state := a.newest()
	if a.removed || state.ClusterID == "" || a.raft.leader >= 0 && !state.Members[a.h.id].Leaving {
		return
	}
	for _, o := range a.h.w.hosts {
		if _, member := state.Members[o.id]; !member || o == a.h {
			continue
		}
		call(a.h, o, time.Second, func(reply func(bool, error)) {
			if r := o.agent.raft; r.role == leader && r.begun {
				_, member := r.state.Members[a.h.id]
				reply(member, nil)
			}
		}, func(member bool, err error) {
			if err == nil && !member && !a.removed {
				a.removed = true
				a.h.w.say(a.h, "agent", "was removed from the cluster")
				a.poke()
			}
		})
	}
}

// adoptGuard is the beginning of an agent's life: it takes the guard that lives, or kills what a dead one left.
func (a *agent) adoptGuard() {
	k := &a.h.keeper
	if k.alive {
		return
	}
	a.guardLost()
}

// watchGuard mirrors node/guardloss.go: a guard that has ended, or does not tick, is as good as none.
func (a *agent) watchGuard() {
	k := &a.h.keeper
	if a.sweeping || a.h.role == fsm.RoleWitness {
		return
	}
	if !k.alive || a.h.boot()-k.Record().Tick > guardLate {
		a.guardLost()
	}
}

// guardLost kills what the guard owned and, once that is proved, gets another one.
func (a *agent) guardLost() {
	k := &a.h.keeper
	a.h.w.say(a.h, "agent", "the guard is lost")
	a.sweeping = true
	k.end()
	k.stopped = 0
	k.haltedAt = a.h.boot()
	a.h.w.after(&a.process, a.h.w.between(2*time.Millisecond, 30*time.Millisecond), func() {
		a.h.server.die()
		k.view.State, k.view.Since = guard.StateEmpty, a.h.boot()
		k.gone = true
		a.poke()
		a.h.later(&a.process, a.h.w.between(50*time.Millisecond, 300*time.Millisecond), func() {
			k.begin()
			k.gone, a.sweeping = false, false
			a.poke()
		})
	})
}

// sealed is the seal that is durable.
func (b *beats) sealed() fsm.Epoch {
	rec := b.voter.Record()
	return rec.Sealed
}
