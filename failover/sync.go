package failover

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
)

// The rows that move the sync rule R = (D, K) (lease.md rules 15-20). What makes elections stricter the leader commits; what
// makes them looser the primary enforces and promises first, and the leader commits the promise.

// NextSync is the next step of the sync rule as a looker with view v sees it: the primary carries out those that need a
// promise, the leader the others. v.Lost comes from a Copies of that looker.
func NextSync(v View) (fsm.SyncStep, bool) { return study(v).nextSync() }

// nextSync is worked out once: most rows of the table ask for it.
func (f *facts) nextSync() (fsm.SyncStep, bool) {
	if !f.syncKnown {
		f.syncStep, f.syncDue = f.findNextSync()
		f.syncKnown = true
	}
	return f.syncStep, f.syncDue
}

func (f *facts) findNextSync() (fsm.SyncStep, bool) {
	if f.State.Epoch == 0 {
		return fsm.SyncStep{}, false
	}
	facts := fsm.SyncFacts{Primary: f.State.Primary, Settings: f.State.Config.Settings, Lost: f.Lost}
	for _, id := range f.caughtUp() {
		if id != f.State.Primary {
			facts.CaughtUp = append(facts.CaughtUp, id)
		}
	}
	for _, id := range f.State.Sync.Members {
		if f.State.Members[id].Leaving {
			facts.Leaving = append(facts.Leaving, id)
		}
		s, heard := f.Seen[id]
		if f.State.Electable(id) != nil || heard && f.fresh(s) && s.Report.Run == RunCloning {
			facts.Unfit = append(facts.Unfit, id)
		}
	}
	return fsm.NextSync(f.State.Sync, facts)
}

// next makes a condition of the kinds of the next step.
func next(kinds ...fsm.SyncKind) func(*facts) bool {
	return func(f *facts) bool {
		step, ok := f.nextSync()
		return ok && slices.Contains(kinds, step.Kind)
	}
}

// nextHere is next while the primary serves, for the steps that the primary has to make.
func nextHere(kind fsm.SyncKind) func(*facts) bool {
	return func(f *facts) bool { return !notServing(f) && f.primaryFresh && next(kind)(f) }
}

// thenSetSync commits a step that comes before Postgres.
func thenSetSync(f *facts) Decision {
	step, _ := f.nextSync()
	because := []string{fmt.Sprintf("%s becomes %s", f.rule(f.State.Sync), f.rule(step.To))}
	if step.Kind == fsm.SyncDegrade {
		because = append(because, f.absent()...)
	}
	return f.propose(fsm.SetSync{Rule: step.To}, because...)
}

// thenAwaitPromise waits for the primary to enforce and promise a step.
func thenAwaitPromise(f *facts) Decision {
	step, _ := f.nextSync()
	return Decision{Verdict: Waiting, Do: Nothing{}, Because: append([]string{
		fmt.Sprintf("%s is to bring %s into force and promise it, instead of %s", f.name(f.State.Primary), f.rule(step.To), f.rule(f.State.Sync)),
	}, f.absent()...)}
}

// absent says which members of D do not keep up.
func (f *facts) absent() []string {
	var out []string
	for _, id := range f.State.Sync.Members {
		if lost := f.Lost[id]; id != f.State.Primary && lost >= f.failoverAfter {
			out = append(out, fmt.Sprintf("%s has not kept up for %s", f.name(id), lost.Round(time.Millisecond)))
		}
	}
	return out
}

// thenPaused decides nothing: the sync rule stays as it is too, so commits hang when too few standbys stream. Nothing but a person,
// or those standbys, ends that.
func thenPaused(f *facts) Decision {
	d := thenWait(f)
	if whom := f.awaited(); whom != "" {
		d.Verdict = Stuck
		d.Because = []string{"commits wait for " + whom + ": nothing degrades while paused; quorate resume"}
		if f.State.Config.Settings.Strict {
			d.Because = []string{"commits wait for " + whom + ", as strict asks for"}
		}
	}
	return d
}

// awaited says for whom of D the commits of a serving primary wait, empty if as many stream as are needed. Who hears no majority
// can't know, nor could he end the pause.
func (f *facts) awaited() string {
	if notServing(f) || !f.primaryFresh || f.freshVoters("") < f.majority {
		return ""
	}
	streams := map[fsm.NodeID]bool{f.State.Primary: true}
	for _, s := range f.Seen[f.State.Primary].Report.Streaming {
		streams[s.Node] = true
	}
	away, missing := []fsm.NodeID{}, f.State.Sync.Copies
	for _, id := range f.State.Sync.Members {
		if streams[id] {
			missing--
		} else {
			away = append(away, id)
		}
	}
	switch {
	case missing <= 0:
		return ""
	case missing < len(away):
		return fmt.Sprintf("%d of %s", missing, f.names(away))
	}
	return f.names(away)
}

// promised makes a condition of what the primary promised under the present Rev.
func promised(kind fsm.SyncKind) func(*facts) bool {
	return func(f *facts) bool {
		p := f.Seen[f.State.Primary].Report.Promise
		return p != nil && p.Node == f.State.Primary && p.Rev == f.State.Rev && kindOfPromise(f.State.Sync, p.Rule) == kind
	}
}

func kindOfPromise(from, to fsm.SyncRule) fsm.SyncKind {
	switch {
	case len(from.Members) == 0:
		return fsm.SyncReturn
	case to.Copies > from.Copies:
		return fsm.SyncRaise
	}
	return fsm.SyncLeave
}

func thenCommitPromise(f *facts) Decision {
	p := f.Seen[f.State.Primary].Report.Promise
	return f.propose(fsm.SetSync{Rule: p.Rule, Promise: p},
		fmt.Sprintf("%s promised %s under revision %d", f.name(p.Node), f.rule(p.Rule), p.Rev))
}

// degraded: commits are acknowledged by the primary alone although others could hold copies.
func degraded(f *facts) bool {
	electable := 0
	for id := range f.State.Members {
		if f.State.Electable(id) == nil {
			electable++
		}
	}
	return !notServing(f) && f.State.Sync.Copies == 1 && electable > 1
}

func thenDegraded(f *facts) Decision {
	p := f.name(f.State.Primary)
	because := []string{fmt.Sprintf("%s acknowledges commits alone: no automatic failover without it", p)}
	return Decision{Verdict: AtRisk, Do: Nothing{}, Because: append(because, f.missing()...)}
}
