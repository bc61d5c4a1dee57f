package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// syncGoal says what Postgres here shall enforce, and the rule that this node, as primary, should promise once that is in
// force.
func (a *agent) syncGoal(state fsm.State) (goal pgctl.Sync, promise *fsm.SyncRule) {
	self := a.cluster.Self()
	view := failover.View{State: state, Self: self, Seen: a.cluster.Sightings(), BeatEvery: a.timing.Beat}
	view.Lost = a.copies.Look(guard.Now(), view)
	step, _ := failover.NextSync(view)
	rule, promise := fsm.Enforce(state, self, a.records.Promised(state.Rev), step)
	return enforced(state, rule, self), promise
}

// promiseBox bounds one try of making a promise; a member that stalls makes it fail and be tried again.
const promiseBox = 3 * time.Second

var errTooFew = errors.New("too few members stream")

// promise carries out lease.md rule 18 (a)-(d): the rule is in force in every walsender, everything flushed by then is on
// K' members of D', and from now on that is frozen under the Rev it was found under, also for the next agent.
func (a *agent) promise(ctx context.Context, state fsm.State, rule fsm.SyncRule) error {
	ctx, cancel := context.WithTimeout(ctx, promiseBox)
	defer cancel()
	ctx, done := a.whileItRuns(ctx)
	defer done()
	self := a.cluster.Self()
	if err := a.postgres.SetSync(ctx, enforced(state, rule, self)); err != nil {
		return fmt.Errorf("bring the rule into force: %w", err)
	}
	barrier, err := a.postgres.FlushLSN(ctx)
	if err != nil {
		return err
	}
	if err := a.flushedBy(ctx, state, rule, barrier); err != nil {
		return err
	}
	if now := a.cluster.State(); now.Rev != state.Rev {
		return fmt.Errorf("revision %d was replaced by %d meanwhile", state.Rev, now.Rev)
	}
	p := fsm.Promise{Node: self, Rev: state.Rev, Rule: rule}
	if err := a.records.Promise(p); err != nil {
		return err
	}
	a.log.Info("promised", "rev", p.Rev, "copies", rule.Copies, "members", fmt.Sprint(state.Names(rule.Members)), "barrier", barrier.String())
	return nil
}

// flushedBy waits until K members of D, this node counted, have flushed to barrier. It goes on reporting, because others
// decide by who streams, and gives up as soon as too few do: commits wait for them already.
func (a *agent) flushedBy(ctx context.Context, state fsm.State, rule fsm.SyncRule, barrier pg.LSN) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		a.observe(ctx)
		have, there := copiesAt(a.have, bySlot(state), a.cluster.Self(), rule, barrier)
		switch {
		case have >= rule.Copies && barrier > 0:
			return nil
		case there < rule.Copies:
			return fmt.Errorf("%w: %d of %d", errTooFew, there, rule.Copies)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d copies reached %s: %w", have, rule.Copies, barrier, ctx.Err())
		case <-tick.C:
		}
	}
}

// copiesAt counts the members of D, self included, that have flushed to barrier, and those that are there at all.
func copiesAt(have pgctl.Status, ids map[string]fsm.NodeID, self fsm.NodeID, rule fsm.SyncRule, barrier pg.LSN) (flushed, there int) {
	count := func(flush pg.LSN) {
		there++
		if flush >= barrier {
			flushed++
		}
	}
	if rule.Has(self) && have.Run == pg.RunPrimary {
		count(have.Flush)
	}
	for _, s := range have.Senders {
		if id, ok := ids[s.Slot]; ok && id != self && s.Streaming && rule.Has(id) {
			count(s.Flush)
		}
	}
	return flushed, there
}
