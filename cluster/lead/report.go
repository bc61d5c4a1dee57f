package lead

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

const (
	// reportBy is who files reports, as the events name it.
	reportBy = "failover-report"
	// reportAfter is when the report of an epoch is filed although its primary does not serve, or too few stream from it.
	reportAfter = 30 * time.Second
	// handOffWaits is for how long a leader stays to see the end of what it began: who comes after it has not seen it.
	handOffWaits = 2 * time.Second
	// reportAgain is the pause after a report that could not be filed.
	reportAgain = time.Second
	// maxCause bounds the cause in a report; fsm takes a little more.
	maxCause = 2048
	// keepCauses is for how many epochs the cause of their end is remembered.
	keepCauses = 8
)

// acknowledging says whether the primary serves the present epoch, and whether as many nodes stream from it as a commit
// waits for: then it acknowledges commits.
func acknowledging(v failover.View) (serves, again bool) {
	p := v.Seen[v.State.Primary].Report
	if v.State.Epoch == 0 || p.Serving != v.State.Epoch {
		return false, false
	}
	ids, need := fsm.EnforcedBy(v.State.Sync, v.State.Primary)
	for _, s := range p.Streaming {
		if slices.Contains(ids, s.Node) {
			need--
		}
	}
	return true, need <= 0
}

// follow marks what comes after an Appoint, unless the epoch that it began is in trouble itself by now, or this node was
// not the leader all the while: then it can't tell when it was.
func (l *ledger) follow(now time.Duration, v failover.View) {
	s := v.State
	if s.Epoch <= l.ledFrom || !l.begun(s.Epoch-1) || l.begun(s.Epoch) {
		return
	}
	ended := s.Epoch - 1
	l.mark(now, ended, PhaseAppointed)
	if n := len(s.Lineage); n > 1 && s.Lineage[n-1].Promoted && s.Lineage[n-1].Node != s.Lineage[n-2].Node {
		l.mark(now, ended, PhasePromoted)
	}
	serves, again := acknowledging(v)
	if serves {
		l.mark(now, ended, PhaseServing)
	}
	if again {
		l.mark(now, ended, PhaseStreaming)
	}
}

// noteCause remembers why the present epoch has to end, as "RULE: words", and forgets what is long over.
func (l *ledger) noteCause(v failover.View, d failover.Decision) {
	cause := slices.Clone(d.Because)
	if problem := v.Seen[v.State.Primary].Report.Problem; problem != "" {
		cause = append(cause, v.State.Name(v.State.Primary)+" said: "+problem)
	}
	l.causes[v.State.Epoch] = pg.Excerpt(d.Rule+": "+strings.Join(cause, "; "), maxCause)
	for epoch := range l.causes {
		if epoch+keepCauses < v.State.Epoch {
			delete(l.causes, epoch)
		}
	}
}

// told is what this node knows of how epoch ended; nothing if another node led then.
func (l *ledger) told(ended fsm.Epoch) (cause string, phases []fsm.Phase) {
	for _, p := range l.phases {
		if p.Epoch == ended {
			phases = append(phases, fsm.Phase{Name: p.Name, MS: max(0, p.SinceBeat.Milliseconds())})
		}
	}
	slices.SortStableFunc(phases, func(a, b fsm.Phase) int { return cmp.Compare(a.MS, b.MS) })
	return l.causes[ended], phases
}

// dueReport is the oldest report that s lacks and that can be written. settled: of the present epoch nothing more is to
// be told. told gives cause and phases of the failover that ended an epoch. An epoch whose Appoint is too old for the
// events gets none: nobody knows its rule any more.
func dueReport(s fsm.State, settled bool, told func(ended fsm.Epoch) (string, []fsm.Phase)) (fsm.Failover, bool) {
	for i := max(0, len(s.Lineage)-fsm.MaxFailovers); i < len(s.Lineage); i++ {
		epoch := s.Lineage[i].Epoch
		if epoch == s.Epoch && !settled || reported(s, epoch) {
			continue
		}
		appointed, ok := s.Appointment(epoch)
		if !ok {
			continue
		}
		f := fsm.Failover{Epoch: epoch, To: s.Lineage[i].Node, Rule: appointed.By, Async: s.Lineage[i].Async, Wall: appointed.Wall}
		f.Cause, f.Phases = told(epoch - 1)
		if i > 0 {
			f.From = s.Lineage[i-1].Node
		}
		if f.From != f.To {
			f.Wish = handedOver(s.Events, epoch-1)
		}
		return f, true
	}
	return fsm.Failover{}, false
}

// handedOver is the id of the switchover that was under way when epoch ended; empty for none.
func handedOver(events []fsm.Event, ended fsm.Epoch) string {
	asked, begun := fsm.WishSwitchover, ""
	for _, e := range events {
		if e.Epoch != ended {
			continue
		}
		switch {
		case e.By == "switchover-void":
			asked, begun = fsm.WishSwitchover, ""
		case e.By == "switchover-begin":
			begun = asked
		case fsm.WishAsked(e.Text):
			asked, begun = e.By, "" // It took the place of one that nobody could carry out any more.
		}
	}
	return begun
}

// owesReport says that this leader saw how the present epoch came to be and will be able to tell soon.
func (l *Loop) owesReport(v failover.View) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return v.State.Epoch > l.ledger.ledFrom && v.EpochAge < handOffWaits && l.ledger.begun(v.State.Epoch-1) && !reported(v.State, v.State.Epoch)
}

func reported(s fsm.State, epoch fsm.Epoch) bool {
	return slices.ContainsFunc(s.Failovers, func(f fsm.Failover) bool { return f.Epoch == epoch })
}

// file puts the next missing report into the log, beside all proposals: nothing waits for it.
func (l *Loop) file(ctx context.Context, calls *sync.WaitGroup, v failover.View) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.filing || l.transferring || l.cfg.Boot() < l.fileAt {
		return
	}
	// The report that was filed last may have come in since v was made.
	state := l.consensus.State()
	if state.Epoch != v.State.Epoch {
		return
	}
	_, again := acknowledging(v)
	report, due := dueReport(state, again || v.EpochAge >= reportAfter, l.ledger.told)
	if !due {
		return
	}
	l.filing = true
	calls.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, proposeWithin)
		defer cancel()
		err := l.consensus.Submit(ctx, fsm.RecordFailover{Failover: report}, 0, reportBy)
		if err != nil && !errors.Is(err, fsm.ErrExists) {
			l.cfg.Logger.Info("report not filed", "of_epoch", report.Epoch, "error", err)
		}
		l.mu.Lock()
		l.filing = false
		if err != nil {
			l.fileAt = l.cfg.Boot() + reportAgain
		}
		l.mu.Unlock()
		l.Wake()
	})
}
