package node

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// patience is how long an appointed standby may hold its lease without leaving recovery before it gives the epoch up
// (DETAILS 31).
const patience = 2 * time.Second

const (
	// openPatience is the same for data that can't be opened at all.
	openPatience = 10 * time.Second
	// examineTries is how often the end of the log is looked for before a release goes without it.
	examineTries = 3
	membersRetry = 5 * time.Second
)

// agent is the loop that brings the local Postgres to what the cluster agreed: observe, report, one step, again. Events
// only wake it; what it does follows from what it then reads.
type agent struct {
	*Node
	have      pgctl.Status
	seenAt    time.Duration
	lastStep  pgctl.Step
	lastRun   pg.RunState
	sameSince time.Duration // since when the kind of step and the run state are what they are
	leaseFrom time.Duration // since when the lease of leaseOf is held without a break
	leaseOf   fsm.Epoch
	openOf    fsm.Epoch      // the newest epoch whose primary is known to have opened, which was at openAt
	openAt    time.Duration  // or earlier
	readerAt  time.Duration  // since when Postgres answers as a standby, 0 while it does not
	gaveUp    fsm.Epoch      // the epoch that this node gave up, 0 for none
	members   []pgctl.Member // as Postgres was told
	membersAt time.Duration  // not before this are they told again
	flushed   pg.LSN         // as primary, at the last look
	handover  handover
	copies    failover.Copies
	absences  absences
	away      map[fsm.NodeID]bool // whose slots were given up
	downOf    fsm.Epoch           // the epoch that was found released
	downAt    time.Duration       // when
	failures  int
	trouble   trouble
	conf      configuring
	restart   restarting
	hurrying  hurrying
	pausing   pausing
	actedOn   uint64 // the newest revision that the guard's orders are in line with
}

func (a *agent) run(ctx context.Context) {
	tick := time.NewTicker(a.timing.Beat)
	defer tick.Stop()
	for ctx.Err() == nil {
		changed := a.cluster.Changed()
		a.observe(ctx)
		moved := a.act(ctx)
		if moved {
			continue
		}
		select {
		case <-ctx.Done():
		case <-changed:
		case <-a.wake:
		case <-tick.C:
		}
	}
}

// observe reads Postgres and reports it; a change that others decide by goes out at once.
func (a *agent) observe(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, statusBox)
	defer cancel()
	a.have = a.postgres.Status(ctx)
	a.seenAt = guard.Now()
	if a.have.Run == pg.RunPrimary {
		a.flushed = a.have.Flush
	}
	if a.have.Run != pg.RunStandby {
		a.readerAt = 0
	} else if a.readerAt == 0 {
		a.readerAt = a.seenAt
	}
	a.noteTrouble()
	a.say()
}

// say hands the report to the beats and keeps it for the API.
func (a *agent) say() {
	state := a.cluster.State()
	acted := a.pause(state)
	leased, unleased := a.fence.mayWrite(state, a.records.ReleasedEpoch(), guard.Now())
	live := leased || unleased
	if state.Epoch != a.leaseOf || !live {
		a.leaseOf, a.leaseFrom = state.Epoch, guard.Now()
	}
	held := ""
	if a.lastStep.Kind == pgctl.Hold {
		held = a.lastStep.Because
	}
	r := report(a.have, own{
		self: a.cluster.Self(), state: state, leaseLive: live, unleased: unleased, held: held, trouble: a.trouble.String(),
		released: a.records.Released(), promise: a.records.Promised(state.Rev), ending: a.ending.Load(), flushed: a.flushed,
	})
	if acted {
		a.actedOn = r.Rev
	} else {
		r.Rev = a.actedOn
	}
	r.Config = a.configured()
	r.Warnings = a.warned()
	if a.cluster.Removed() {
		r.Problem = removedWords
	}
	pending := a.pendingRestart()
	a.pending.Store(&pending)
	a.last.set(a.have, r, a.seenAt)
	a.tell()
}

// mayServe says that Postgres here may accept writes in the present epoch: by the lease, or by a pause if it does so already.
func (a *agent) mayServe(state fsm.State) bool {
	leased, unleased := a.fence.mayWrite(state, a.records.ReleasedEpoch(), guard.Now())
	return leased || unleased
}

// act takes the one next step. It returns true when it did something, so that the result is looked at right away.
func (a *agent) act(ctx context.Context) bool {
	state := a.cluster.State()
	a.tellMembers(ctx, state)
	a.configure(ctx, state)
	restart, reinit := a.restartStep(state)
	if a.servesUnrecorded(state) {
		return a.attempt("record serving", "it was appointed again while it served", func() error { return a.records.Serve(state.Epoch) })
	}
	if a.releaseDue(state) && !a.downForRestart(state) {
		return a.attempt("release", "Postgres does not run any more in the epoch it served", func() error { return a.release(ctx, state) })
	}
	handOver := a.readyToHandOver(ctx, state)
	if a.givesUp(state) && a.gaveUp != state.Epoch {
		a.gaveUp = state.Epoch
		a.log.Warn("giving the epoch up: another node may do better", "epoch", state.Epoch, "run", string(a.have.Run), "step", string(a.lastStep.Kind), "because", a.lastStep.Because)
	}
	goal, promise := a.syncGoal(state)
	reads, fresh := a.readsDue(state), time.Duration(state.Config.Settings.FailoverAfterMS)*time.Millisecond
	if reads {
		fresh = math.MaxInt64 // see copies
	}
	away := a.absences.look(state, a.cluster.Self(), a.cluster.Sightings(), a.have.Senders, guard.Now())
	a.noteAway(state, away)
	w := want(situation{
		self: a.cluster.Self(), state: state, leaseLive: a.mayServe(state), sealed: a.sealed(),
		released: a.records.ReleasedEpoch(), reads: reads, giveUp: a.gaveUp == state.Epoch && state.Epoch > 0,
		handOver: handOver, restart: restart, reinit: reinit, ending: a.ending.Load(), removed: a.cluster.Removed(),
		yields: a.yields(state), sync: goal, away: away,
		copies: copies(state, a.cluster.Self(), a.cluster.Sightings(), fresh),
	})
	step := pgctl.Next(w, a.have)
	a.noteStep(step, w)
	switch step.Kind {
	case pgctl.Nothing:
		a.failures = 0
		return a.settled(ctx, state, promise)
	case pgctl.Hold:
		return false
	}
	if step.Kind == pgctl.Adopt && !a.settingsGiven() {
		return false // its first start shall have the settings that were taken over
	}
	if !(reinit && step.Kind == pgctl.Clone) && a.trouble.holds(step.Kind, w.Role, state.Epoch, guard.Now()) {
		return false
	}
	return a.attempt(string(step.Kind), step.Because, func() error {
		err := a.do(ctx, step)
		if err != nil && bringsUp(step.Kind) {
			a.trouble.failed(step.Kind, err.Error(), state.Epoch, guard.Now())
		}
		return err
	})
}

// yields applies the rule of that name to what the primary says of itself.
func (a *agent) yields(state fsm.State) bool {
	if _, opened := target(state); opened && a.openOf != state.Epoch {
		a.openOf, a.openAt = state.Epoch, guard.Now()
	}
	r := a.cluster.Sightings()[state.Primary].Report
	if r.Epoch != state.Epoch {
		r.Streaming = nil
	}
	return yields(state, a.cluster.Self(), r.Streaming, guard.Now()-a.openAt)
}

// readsDue says that this node released the present epoch failover_after ago and is still named as its primary: there is
// no quorum, or nobody qualifies. Any sooner, its start would take from the machine what a successor needs to open.
func (a *agent) readsDue(state fsm.State) bool {
	if state.Epoch == 0 || state.Primary != a.cluster.Self() || a.records.ReleasedEpoch() < state.Epoch {
		return false
	}
	if a.downOf != state.Epoch {
		a.downOf, a.downAt = state.Epoch, guard.Now()
	}
	return guard.Now()-a.downAt >= time.Duration(state.Config.Settings.FailoverAfterMS)*time.Millisecond
}

// noteStep logs a change of the next step and remembers since when it is the same.
func (a *agent) noteStep(step pgctl.Step, w pgctl.Want) {
	if step.Kind != a.lastStep.Kind || step.Because != a.lastStep.Because {
		a.log.Info("next step", "step", string(step.Kind), "because", step.Because, "epoch", w.Epoch, "role", string(w.Role), "run", string(a.have.Run))
	}
	if step.Kind != a.lastStep.Kind || a.have.Run != a.lastRun {
		a.sameSince = guard.Now()
	}
	a.lastStep, a.lastRun = step, a.have.Run
}

// attempt runs one action and, when it fails, says so and slows down instead of spinning.
func (a *agent) attempt(what, why string, action func() error) bool {
	err := action()
	if err == nil {
		a.failures = 0
		return true
	}
	a.failures++
	a.log.Warn("step failed and is tried again", "step", what, "because", why, "attempt", a.failures, "error", err)
	return false
}

// settled does what is left when Postgres is as it shall be: report the timeline, promise a sync rule.
func (a *agent) settled(ctx context.Context, state fsm.State, promise *fsm.SyncRule) bool {
	if a.last.report().Serving != state.Epoch || state.Epoch == 0 {
		return false
	}
	if last := state.Lineage[len(state.Lineage)-1]; !last.Promoted {
		return a.attempt("report promotion", "the cluster knows only the predicted timeline", func() error { return a.reportPromotion(ctx, last) })
	}
	a.hurryCheckpoint(ctx)
	if promise != nil {
		return a.attempt("promise", "elections are to count on it", func() error { return a.promise(ctx, state, *promise) })
	}
	return false
}

// servesUnrecorded: the epoch went up under a serving Postgres, which from now on must be released if it goes down.
func (a *agent) servesUnrecorded(state fsm.State) bool {
	return state.Epoch > 0 && state.Primary == a.cluster.Self() && a.have.Run == pg.RunPrimary &&
		a.records.Served() < state.Epoch && a.mayServe(state)
}

// givesUp says that this node was appointed, holds the lease, and makes no progress towards serving: a standby that it
// can't promote, a log that ends before what it was elected for, or data that it can't open. A server that is starting
// may replay for long and is left alone.
func (a *agent) givesUp(state fsm.State) bool {
	if state.Epoch == 0 || state.SystemID == 0 || state.Primary != a.cluster.Self() || !a.fence.live(state.Epoch, guard.Now()) {
		return false
	}
	if lostWhatElectedIt(state, a.have) {
		return true
	}
	now := guard.Now()
	switch a.have.Run {
	case pg.RunStandby:
		return a.readerAt > 0 && !a.have.Promoting && now-max(a.leaseFrom, a.readerAt) > patience
	case pg.RunAbsent, pg.RunStopped:
		return now-max(a.leaseFrom, a.sameSince) > openPatience
	}
	return false
}

// lostWhatElectedIt: the log of an appointed node, not yet promoted, ends before the position for which it was elected,
// as after a loss of power that took what was not flushed. Somebody else may have what is missing.
func lostWhatElectedIt(state fsm.State, have pgctl.Status) bool {
	last := state.Lineage[len(state.Lineage)-1]
	return !last.Promoted && have.Position != nil && have.Position.Timeline < last.Timeline && have.Position.LSN < last.SwitchLSN
}

// releaseDue says that this node is primary of an epoch that it opened Postgres for, gave up, or was told to stop serving,
// and nothing runs: it never opens it again in that epoch, so others need not wait for a lease.
func (a *agent) releaseDue(state fsm.State) bool {
	if state.Epoch == 0 || state.Primary != a.cluster.Self() || a.records.ReleasedEpoch() >= state.Epoch {
		return false
	}
	down := a.have.Run == pg.RunStopped || a.have.Run == pg.RunAbsent
	return down && (a.records.Served() >= state.Epoch || a.gaveUp == state.Epoch || a.stopping.Load() >= uint64(state.Epoch))
}

// release tells the end of the log, durably says that this epoch is over here, and beats it to everybody. A log whose end
// can't be found is released without one: the position then counts for nothing, but nobody has to wait.
func (a *agent) release(ctx context.Context, state fsm.State) error {
	rel := fsm.Release{Epoch: state.Epoch, Node: a.cluster.Self()}
	if a.have.Position == nil && a.have.Run == pg.RunStopped && a.have.Clone == nil {
		if _, err := a.postgres.Examine(ctx); err != nil && a.failures < examineTries {
			return err
		}
		a.observe(ctx)
	}
	if p := a.have.Position; p != nil {
		rel.Timeline, rel.FinalLSN = p.Timeline, p.LSN
	}
	if err := a.records.Release(rel); err != nil {
		return err
	}
	a.cluster.Released(rel)
	a.fence.Release(rel.Epoch)
	a.log.Info("released", "epoch", rel.Epoch, "timeline", rel.Timeline, "final_lsn", rel.FinalLSN.String(), "died", a.have.Died)
	a.say()
	return nil
}

// tellMembers lets Postgres know who may replicate from here, when that changed. Names that can't be looked up now are
// tried again after a while.
func (a *agent) tellMembers(ctx context.Context, state fsm.State) {
	members := replicas(state, a.cluster.Self())
	if slices.Equal(members, a.members) || guard.Now() < a.membersAt {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, statusBox)
	defer cancel()
	if err := a.postgres.SetMembers(ctx, members); err != nil {
		a.log.Warn("members not fully known to Postgres", "error", err)
		a.membersAt = guard.Now() + membersRetry
		return
	}
	a.members = members
}
