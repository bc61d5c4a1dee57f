package node

import (
	"context"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// Boxes of what waits for Postgres.
const (
	orderlyEndBox = 10 * time.Second // of Postgres when this program is told to end; nothing waits for a new primary then
	stepBox       = 10 * time.Second
	initBox       = 5 * time.Minute
	statusBox     = time.Second
)

// do carries out one step. Before anything opens for writing it is durable that this epoch was served: a Postgres that
// is found down in it has crashed.
func (a *agent) do(ctx context.Context, s pgctl.Step) error {
	box := stepBox
	if s.Kind == pgctl.Init || s.Kind == pgctl.Adopt {
		box = initBox
	}
	ctx, cancel := context.WithTimeout(ctx, box)
	defer cancel()
	if s.Kind == pgctl.StartWriter || s.Kind == pgctl.Promote {
		if err := a.records.Serve(fsm.Epoch(s.Epoch)); err != nil {
			return err
		}
	}
	if s.Kind == pgctl.Stop {
		a.closing.Store(true)
		defer a.closing.Store(false)
	} else if s.Kind != pgctl.StartReader && s.Kind != pgctl.StartWriter && s.Kind != pgctl.Init {
		var done func()
		ctx, done = a.whileItRuns(ctx)
		defer done()
	}
	_, err := a.postgres.Do(ctx, s)
	if err != nil && s.Kind == pgctl.Stop && s.Stop == pgctl.StopFast {
		a.log.Warn("fast shutdown did not end, killing", "error", err)
		return a.postgres.Kill(ctx)
	}
	return err
}

// whileItRuns ends a step on a running server as soon as that server is frozen, killed or gone: there is nothing left for
// the step to wait for, and what happened must be acted on at once. The caller calls done.
func (a *agent) whileItRuns(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	if a.guard.Record().State != guard.StateRunning {
		return ctx, cancel
	}
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for a.guard.Record().State == guard.StateRunning {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
		cancel()
	}()
	return ctx, cancel
}

// reportPromotion corrects the predicted timeline of the present epoch by the real one.
func (a *agent) reportPromotion(ctx context.Context, last fsm.Lineage) error {
	p, err := a.postgres.Origin(ctx)
	if err != nil {
		return err
	}
	return a.cluster.Submit(ctx, fsm.Promoted{
		Epoch: last.Epoch, Node: a.cluster.Self(), Timeline: p.Timeline, SwitchLSN: p.Switch, SystemID: p.SystemID,
	}, 0, "promotion")
}

// replicas are the other data nodes as Postgres needs them.
func replicas(state fsm.State, self fsm.NodeID) []pgctl.Member {
	var out []pgctl.Member
	for id, m := range state.Members {
		if host, _, err := net.SplitHostPort(m.Postgres); err == nil && id != self && m.Role == fsm.RoleData {
			out = append(out, pgctl.Member{Name: m.Name, Host: host, Slot: slot(m)})
		}
	}
	slices.SortFunc(out, func(x, y pgctl.Member) int { return strings.Compare(x.Name, y.Name) })
	return out
}
