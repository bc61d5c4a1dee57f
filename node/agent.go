package node

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// patience is how long an appointed standby may hold its lease without leaving recovery before it gives the epoch up
// (DETAILS 31).
const patience = 2 * time.Second

// agent is the loop that brings the local Postgres to what the cluster agreed: observe, report, one step, again. Events
// only wake it; what it does follows from what it then reads.
type agent struct {
	*Node
	have      pgctl.Status
	seenAt    time.Duration
	lastStep  pgctl.Step
	leaseFrom time.Duration // since when the lease of leaseOf is held without a break
	leaseOf   fsm.Epoch
	readerAt  time.Duration // since when Postgres answers as a standby, 0 while it does not
	shutFor   string        // id of the wish for which the checkpoint before the shutdown is done
	failures  int
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
	if a.have.Run != pg.RunStandby {
		a.readerAt = 0
	} else if a.readerAt == 0 {
		a.readerAt = a.seenAt
	}
	a.say()
}

// say hands the report to the beats and keeps it for the API.
func (a *agent) say() {
	state := a.cluster.State()
	live := a.fence.live(state.Epoch, guard.Now())
	if state.Epoch != a.leaseOf || !live {
		a.leaseOf, a.leaseFrom = state.Epoch, guard.Now()
	}
	held := ""
	if a.lastStep.Kind == pgctl.Hold {
		held = a.lastStep.Because
	}
	r := report(a.have, own{
		self: a.cluster.Self(), state: state, leaseLive: live, held: held,
		released: a.records.Released(), promise: a.records.Promised(state.Rev),
	})
	before := a.last.set(a.have, r, a.seenAt)
	a.cluster.SetReport(r)
	if changed(before, r) {
		a.cluster.Kick()
	}
}

// act takes the one next step. It returns true when it did something, so that the result is looked at right away.
func (a *agent) act(ctx context.Context) bool {
	state := a.cluster.State()
	if a.tellMembers(ctx, state) {
		return true
	}
	if a.releaseDue(state) {
		return a.attempt("release", "Postgres does not run any more in the epoch it served", func() error { return a.release(ctx, state) })
	}
	if handingOver(state, a.cluster.Self()) && a.have.Run == pg.RunPrimary && a.shutFor != state.Wish.ID {
		return a.attempt("checkpoint", "a switchover was approved", func() error { return a.checkpoint(ctx, state.Wish.ID) })
	}
	goal, raise := a.syncGoal(state)
	w := want(situation{
		self: a.cluster.Self(), state: state, leaseLive: a.fence.live(state.Epoch, guard.Now()),
		sealed: a.sealed(), released: a.records.ReleasedEpoch(), giveUp: a.givesUp(state), sync: goal,
	})
	step := pgctl.Next(w, a.have)
	if step.Kind != a.lastStep.Kind || step.Because != a.lastStep.Because {
		a.log.Info("next step", "step", string(step.Kind), "because", step.Because, "epoch", w.Epoch, "role", string(w.Role), "run", string(a.have.Run))
	}
	a.lastStep = step
	switch step.Kind {
	case pgctl.Nothing:
		a.failures = 0
		return a.settled(ctx, state, raise)
	case pgctl.Hold:
		return false
	}
	return a.attempt(string(step.Kind), step.Because, func() error { return a.do(ctx, step) })
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

// settled does what is left when Postgres is as it shall be: report the timeline, promise a stricter sync rule.
func (a *agent) settled(ctx context.Context, state fsm.State, raise *fsm.SyncRule) bool {
	if a.last.report().Serving != state.Epoch || state.Epoch == 0 {
		return false
	}
	if last := state.Lineage[len(state.Lineage)-1]; !last.Promoted {
		return a.attempt("report promotion", "the cluster knows only the predicted timeline", func() error { return a.reportPromotion(ctx, last) })
	}
	if raise != nil && a.records.Promised(state.Rev) == nil {
		return a.attempt("promise", "one more copy of each commit", func() error { return a.promise(ctx, state, *raise) })
	}
	return false
}

// givesUp says that this node was appointed, and for all its patience held the lease and had a standby that answers, and
// still could not promote it.
func (a *agent) givesUp(state fsm.State) bool {
	if state.Primary != a.cluster.Self() || a.records.Served() >= state.Epoch {
		return false
	}
	if a.readerAt == 0 || !a.fence.live(state.Epoch, guard.Now()) {
		return false
	}
	return guard.Now()-max(a.leaseFrom, a.readerAt) > patience
}

// releaseDue says that this node is primary of an epoch that it opened Postgres for, or gave up, and nothing runs: it
// never opens it again in that epoch, so others need not wait for a lease.
func (a *agent) releaseDue(state fsm.State) bool {
	if state.Epoch == 0 || state.Primary != a.cluster.Self() || a.records.ReleasedEpoch() >= state.Epoch {
		return false
	}
	if a.have.Run != pg.RunStopped || a.have.Clone != nil {
		return false
	}
	return a.records.Served() >= state.Epoch || a.lastStep.Kind == pgctl.Stop
}

// release tells the end of the log, durably says that this epoch is over here, and beats it to everybody.
func (a *agent) release(ctx context.Context, state fsm.State) error {
	if a.have.Position == nil {
		if _, err := a.postgres.Examine(ctx); err != nil {
			return err
		}
		a.observe(ctx)
		if a.have.Position == nil {
			return errors.New("the end of the log is not known")
		}
	}
	rel := fsm.Release{Epoch: state.Epoch, Node: a.cluster.Self(), Timeline: a.have.Position.Timeline, FinalLSN: a.have.Position.LSN}
	if err := a.records.Release(rel); err != nil {
		return err
	}
	a.cluster.Released(rel)
	a.log.Info("released", "epoch", rel.Epoch, "timeline", rel.Timeline, "final_lsn", rel.FinalLSN.String(), "died", a.have.Died)
	a.say()
	return nil
}

// checkpoint makes the shutdown that follows short, while clients still write.
func (a *agent) checkpoint(ctx context.Context, wish string) error {
	if err := a.postgres.Checkpoint(ctx); err != nil {
		return err
	}
	a.shutFor = wish
	return nil
}

// tellMembers lets Postgres know who may replicate from here, when that changed.
func (a *agent) tellMembers(ctx context.Context, state fsm.State) bool {
	members := replicas(state, a.cluster.Self())
	if slices.Equal(members, a.members) || len(members) == 0 {
		return false
	}
	if err := a.postgres.SetMembers(ctx, members); err != nil {
		a.log.Warn("members not fully known to Postgres", "error", err)
	}
	a.members = members
	return true
}
