package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/guard"
)

const (
	// warnEvery is how often Postgres is asked what is to be warned of, and warnLook how often it is looked whether that is due.
	warnEvery = time.Minute
	warnLook  = 5 * time.Second
)

// warnings are what this node warns of: nothing that fails today, and nothing by which anybody decides. They go with its report.
type warnings struct {
	list  []string
	asked bool
	at    time.Duration // when Postgres was last asked
	epoch fsm.Epoch     // and in which epoch: who is primary is asked for more
}

// due says whether to ask Postgres again.
func (w warnings) due(epoch fsm.Epoch, now time.Duration) bool {
	return !w.asked || epoch != w.epoch || now-w.at >= warnEvery
}

// watchWarnings keeps the warnings up to date until ctx ends. It may hang with Postgres, or with a disk; nothing waits for it.
func (n *Node) watchWarnings(ctx context.Context) {
	tick := time.NewTicker(warnLook)
	defer tick.Stop()
	var w warnings
	late := uint64(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w = n.lookForWarnings(ctx, w)
		list := slices.Clone(w.list)
		record := n.guard.Record()
		if text := fenceWarning(record, n.timing.Margin); text != "" {
			list = append([]string{text}, list...)
			if record.FenceLate > late {
				n.log.Error("fence_late", "times", record.FenceLate, "worst", record.WorstLateness.String(), "margin", n.timing.Margin.String())
			}
			late = record.FenceLate
		}
		n.warns.Store(&list)
	}
}

// lookForWarnings asks Postgres when that is due. While it can't be asked what was known stands, until it is down.
func (n *Node) lookForWarnings(ctx context.Context, w warnings) warnings {
	have, _, _ := n.last.get()
	if have.Run != pg.RunPrimary && have.Run != pg.RunStandby {
		return warnings{}
	}
	state, now := n.cluster.State(), guard.Now()
	if !w.due(state.Epoch, now) {
		return w
	}
	// Roles and databases are the same on all nodes: one tells of them.
	kept := have.Run == pg.RunPrimary && state.Primary == n.cluster.Self() && len(state.Sync.Members) > 0
	ctx, stop := context.WithTimeout(ctx, warnLook)
	defer stop()
	list, err := n.postgres.Warnings(ctx, kept)
	if err != nil {
		n.log.Debug("can't look for what is to be warned of", "error", err)
		return w
	}
	for _, text := range list {
		if !slices.Contains(w.list, text) {
			n.log.Warn("to be looked at", "what", text)
		}
	}
	return warnings{list: list, asked: true, at: now, epoch: state.Epoch}
}

// fenceWarning says that a fence came later after the end of its lease than is allowed for: meanwhile another node may have been
// writing, too (DETAILS 12).
func fenceWarning(v guard.View, margin time.Duration) string {
	if v.FenceLate == 0 {
		return ""
	}
	times := "once"
	if v.FenceLate > 1 {
		times = fmt.Sprintf("%d times", v.FenceLate)
	}
	return fmt.Sprintf("fence_late: PostgreSQL was frozen too late %s, at worst %s after the end of its lease, with %s allowed: the guard got no CPU or "+
		"the control group hung; find out why, it endangers what this cluster promises", times, v.WorstLateness.Round(time.Millisecond), margin)
}

// warned are the warnings as they were last seen.
func (n *Node) warned() []string {
	if list := n.warns.Load(); list != nil {
		return *list
	}
	return nil
}
