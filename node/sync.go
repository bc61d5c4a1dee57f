package node

import (
	"context"
	"fmt"
	"sort"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// syncGoal says what Postgres here shall enforce, and the rule that this node, as primary, should promise next.
func (a *agent) syncGoal(state fsm.State) (goal pgctl.Sync, raise *fsm.SyncRule) {
	self := a.cluster.Self()
	rule, raise := enforce(state, self, a.records.Promised(state.Rev), a.caughtUp(state))
	return enforced(state, rule, self), raise
}

// enforce chooses between the replicated rule and what is on the way (lease.md rules 15-18). A promise freezes what it
// promised until a higher Rev is applied. A rule that needs a promise is enforced before it is committed, never after; one
// that does not is enforced once it is committed.
func enforce(s fsm.State, self fsm.NodeID, promise *fsm.Promise, caughtUp []fsm.NodeID) (fsm.SyncRule, *fsm.SyncRule) {
	if promise != nil {
		return promise.Rule, nil
	}
	if s.Primary != self || s.Config.Settings.Durability == fsm.DurabilityAsync {
		return s.Sync, nil
	}
	next, needsPromise, ok := fsm.NextSync(s.Sync, caughtUp, self)
	if !ok || !needsPromise {
		return s.Sync, nil
	}
	ids, k := fsm.EnforcedBy(next, self)
	if p := (fsm.SyncRule{Members: ids, Copies: k}); !fsm.SafeEnforcement(p, self, s.Sync) || !fsm.SafeEnforcement(p, self, next) {
		return s.Sync, nil
	}
	return next, &next
}

// caughtUp lists this node and the members that stream from it.
func (a *agent) caughtUp(state fsm.State) []fsm.NodeID {
	out := []fsm.NodeID{a.cluster.Self()}
	for _, s := range a.last.report().Streaming {
		out = append(out, s.Node)
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

// promiseBox bounds one try of making a promise; a member that stalls makes it fail and be tried again.
const promiseBox = 5 * time.Second

// promise carries out lease.md rule 18 (a)-(d): the stricter rule is in force in every walsender, everything flushed by
// then is on K' members of D', and from now on that is frozen under the Rev it was found under.
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

// flushedBy waits until K members of D, this node counted, have flushed to barrier.
func (a *agent) flushedBy(ctx context.Context, state fsm.State, rule fsm.SyncRule, barrier pg.LSN) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		status := a.postgres.Status(ctx)
		have := 0
		if rule.Has(a.cluster.Self()) && status.Run == pg.RunPrimary && status.Flush >= barrier && barrier > 0 {
			have++
		}
		ids := byName(state)
		for _, s := range status.Senders {
			if id, ok := ids[s.Name]; ok && id != a.cluster.Self() && s.Streaming && rule.Has(id) && s.Flush >= barrier {
				have++
			}
		}
		if have >= rule.Copies && barrier > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d copies reached %s: %w", have, rule.Copies, barrier, ctx.Err())
		case <-tick.C:
		}
	}
}
