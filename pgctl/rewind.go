package pgctl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/pg"
)

// rewindPlan is the content of rewind.bin (DETAILS 27). It stands from before anything is touched until the directory
// streams past the fork, or is replaced by a clone.
type rewindPlan struct {
	Phase   rewindPhase `json:"phase"`
	Because string      `json:"because"`
	Source  Upstream    `json:"source"`
	Target  pg.Timeline `json:"target"` // of the source
	Discard discard     `json:"discard"`
	Tries   int         `json:"tries"` // in this phase that failed for a reason that speaks against a rewind and may have passed
	Fails   int         `json:"fails"` // in a row in this phase, for whatever reason
	Note    string      `json:"note"`  // of the last failure
}

type rewindPhase string

// The phases. Up to checking the directory is as it was, but for crash recovery, and may be run. While pg_rewind writes it
// is of no time and no server; only a clone helps if that is cut short.
const (
	rewindSaving     rewindPhase = "saving"
	rewindRecovering rewindPhase = "recovering"
	rewindChecking   rewindPhase = "checking"
	rewindWriting    rewindPhase = "writing"
	rewindFinishing  rewindPhase = "finishing" // pg_rewind is through; only settings are left to write
	rewindWritten    rewindPhase = "written"   // it can be started; whether it streams past the fork is to be seen
	rewindFailed     rewindPhase = "failed"    // it can't be done, and nothing was changed
	rewindDone       rewindPhase = "done"      // there is no plan
)

const (
	// rewindTries is how often a rewind is tried before a clone takes its place.
	rewindTries = 3
	// recoverTries is how often Postgres is started for a rewind before a clone takes its place: four minutes or more, enough
	// to be told of a setting that keeps it down, which would keep a clone down too.
	recoverTries = 10
	// rewindPause is the longest pause between two tries; the first is cloneBackoff.
	rewindPause = 30 * time.Second
)

// ErrNoRewind says that pg_rewind can't take this directory back; nothing was changed.
var ErrNoRewind = errors.New("the directory can't be rewound")

// errSourceAway says that the primary could not be asked: that is no reason to give up a rewind, and a clone would fail too.
var errSourceAway = errors.New("the primary can't be asked")

// against is a failure of pg_rewind itself, of finding what it needs of the log, or of the server that recovers: the next
// try may well end like it.
type against struct{ error }

func (a against) Unwrap() error { return a.error }

// judged is a step of which each failure is one against the rewind.
func judged(do func(context.Context, *rewindPlan) error) func(context.Context, *rewindPlan) error {
	return func(ctx context.Context, p *rewindPlan) error {
		if err := do(ctx, p); err != nil {
			return against{err}
		}
		return nil
	}
}

// rewinding is a rewind that runs in its own goroutine.
type rewinding struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

// state renders the plan for Status.
func (p rewindPlan) state(running bool) *RewindState {
	s := &RewindState{Source: p.Source, Running: running, Writing: p.Phase == rewindWriting, Note: p.Note}
	s.Torn = s.Writing && !running
	switch p.Phase {
	case rewindFailed:
		s.Over = "a rewind failed: " + p.Note
	case rewindWritten:
		s.Over = "it was rewound already"
	}
	return s
}

// StartRewind begins to take the data directory back to fork, where its log leaves the history of u, whose timeline is
// target, or resumes what an earlier agent began. It returns at once; Status shows it. Before anything is touched it is
// durable that this node has no position to report, until Settle, and what goes is kept as Evidence. The end of the log
// must be known (Examine).
func (i *Instance) StartRewind(u Upstream, target pg.Timeline, fork pg.LSN, because string) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.running() {
		return fmt.Errorf("rewind: %w", ErrRunning)
	}
	var busy bool
	i.note(func() { busy = i.rewind != nil || i.clone != nil })
	if busy {
		return nil
	}
	p, err := i.planRewind(u, target, fork, because)
	if err != nil {
		return fmt.Errorf("plan the rewind: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &rewinding{cancel: cancel, ended: make(chan struct{})}
	i.note(func() { i.rewind = r })
	go i.runRewind(ctx, r, p)
	return nil
}

// CancelRewind ends a running rewind and returns when it has ended. If pg_rewind was changing files by then, only a clone
// is left: see RewindState.Writing.
func (i *Instance) CancelRewind() {
	var r *rewinding
	i.note(func() { r = i.rewind })
	if r != nil {
		r.cancel()
		<-r.ended
	}
}

// planRewind writes down what will be done. A plan for the same log that has not come to writing is taken up.
func (i *Instance) planRewind(u Upstream, target pg.Timeline, fork pg.LSN, because string) (rewindPlan, error) {
	d, err := i.discarded(u.Epoch, fork, "rewind")
	if err != nil {
		return rewindPlan{}, err
	}
	p := rewindPlan{Phase: rewindSaving, Because: because, Source: u, Target: target, Discard: d}
	_, m, _ := i.snapshot()
	if old := m.rewind; old != nil {
		switch {
		case old.Phase == rewindWriting, old.Phase == rewindWritten, old.Phase == rewindFailed:
			return rewindPlan{}, fmt.Errorf("a rewind is %q already: %w", old.Phase, ErrRebuilding)
		case old.Phase == rewindFinishing, old.Discard.Timeline == d.Timeline && old.Discard.From == d.From && old.Discard.To == d.To:
			p.Phase, p.Discard, p.Tries, p.Fails, p.Note = old.Phase, old.Discard, old.Tries, old.Fails, old.Note
		}
	}
	if err := i.setRebuild(true, because); err != nil {
		return rewindPlan{}, err
	}
	return p, i.setRewind(p)
}

// discarded describes the log from fork to the end of the local log, which must be known.
func (i *Instance) discarded(epoch uint64, fork pg.LSN, way string) (discard, error) {
	var p *Position
	i.note(func() { p = i.cached })
	if p == nil {
		return discard{}, errors.New("the end of the log is not known")
	}
	return p.from(epoch, fork, way), nil
}

// from describes the log from fork to this position.
func (p Position) from(epoch uint64, fork pg.LSN, way string) discard {
	if fork == 0 {
		fork = p.Oldest // nothing in common with the cluster's history: all of it goes
	}
	return discard{Epoch: epoch, Timeline: p.Timeline, History: p.History, From: fork, To: p.LSN, Way: way}
}

func (i *Instance) setRewind(p rewindPlan) error {
	if err := durable.Save(i.cfg.own(rewindRecord), recordVersion, p); err != nil {
		return fmt.Errorf("record the rewind: %w", err)
	}
	i.note(func() {
		i.marks.rewind = &p
		if p.Phase == rewindDone {
			i.marks.rewind = nil
		}
	})
	return nil
}

// endRewind forgets a rewind: the directory streams past the fork, or was replaced.
func (i *Instance) endRewind() error {
	if _, m, _ := i.snapshot(); m.rewind == nil {
		return nil
	}
	return i.setRewind(rewindPlan{Phase: rewindDone})
}

// torn says that pg_rewind was cut short. The caller holds the facts lock.
func (i *Instance) torn() bool {
	return i.rewind == nil && i.marks.rewind != nil && i.marks.rewind.Phase == rewindWriting
}

// runRewind carries the plan out. After a failure it waits a moment, so that whoever tries again doesn't do so at once.
func (i *Instance) runRewind(ctx context.Context, r *rewinding, p rewindPlan) {
	defer close(r.ended)
	began := time.Now()
	i.log.Info("rewind begins", "source", p.Source.Name, "because", p.Because, "from", p.Discard.To.String(), "to", p.Discard.From.String(), "phase", string(p.Phase))
	err := i.carryOutRewind(ctx, &p)
	switch {
	case err == nil:
		i.log.Info("rewound", "source", p.Source.Name, "took", time.Since(began).Round(time.Millisecond))
	case ctx.Err() == nil:
		i.log.Error("rewind failed", "source", p.Source.Name, "phase", string(p.Phase), "error", err)
		p = p.failed(err)
		i.failRewind(p)
		_ = pause(ctx, p.pause()) // cut short by CancelRewind
	}
	i.note(func() {
		i.rewind = nil
		if err == nil {
			// Positions seen before say nothing about the directory as it is now.
			i.cached, i.seen.lsn, i.seen.walGone = nil, 0, false
		}
	})
	i.lookAgain()
}

// failed decides whether another try makes sense. Only what speaks against the rewind itself counts to the tries: a clone
// copies everything, for good, and would fail in a full disk too. A failure of another kind, as of a full disk or of the
// primary, is tried again for as long as it lasts; a server that doesn't start to recover, recoverTries times. The note
// says why. An error of reading or writing is of the first kind: the sectors of a clone are other ones.
func (p rewindPlan) failed(err error) rewindPlan {
	p.Note = err.Error()
	p.Fails++
	if p.Phase == rewindWriting || p.Phase == rewindFinishing || noRoom(err) {
		return p
	}
	limit := rewindTries
	if p.Phase == rewindRecovering {
		limit = recoverTries
	}
	if errors.As(err, &against{}) {
		p.Tries++
	}
	if errors.Is(err, ErrNoRewind) || p.Tries >= limit {
		p.Phase = rewindFailed
	}
	return p
}

// pause is how long to wait before the next try.
func (p rewindPlan) pause() time.Duration {
	return min(cloneBackoff<<min(max(p.Fails-1, 0), 10), rewindPause)
}

// noRoom says that an error, which may be what a program wrote, comes from a disk that is full or may not be written.
func noRoom(err error) bool {
	for _, e := range []syscall.Errno{unix.ENOSPC, unix.EDQUOT, unix.EROFS} {
		if errors.Is(err, e) || strings.Contains(strings.ToLower(err.Error()), e.Error()) {
			return true
		}
	}
	return false
}

// failRewind writes down how a try ended. Where that fails too, as in a full disk, this agent knows it at least.
func (i *Instance) failRewind(p rewindPlan) {
	if err := i.setRewind(p); err != nil {
		i.log.Error("the rewind's failure is not on disk", "error", err)
		i.note(func() { i.marks.rewind = &p })
	}
}

// carryOutRewind does the steps that the plan's phase has left.
func (i *Instance) carryOutRewind(ctx context.Context, p *rewindPlan) error {
	for _, s := range i.rewindSteps() {
		if s.phase != p.Phase {
			continue
		}
		if err := ctx.Err(); err != nil && s.phase != rewindFinishing {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := s.do(ctx, p); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// rewindStep is a part that can be done again after a crash in its middle or at its end, but for the one in the phase
// writing.
type rewindStep struct {
	name  string
	phase rewindPhase
	do    func(context.Context, *rewindPlan) error
}

func (i *Instance) rewindSteps() []rewindStep {
	enter := func(next rewindPhase) func(context.Context, *rewindPlan) error {
		return func(_ context.Context, p *rewindPlan) error {
			entered := *p
			entered.Phase, entered.Tries, entered.Fails, entered.Note = next, 0, 0, ""
			if err := i.setRewind(entered); err != nil {
				return err // and it is not entered: a rewind that only may write is not torn
			}
			*p = entered
			return nil
		}
	}
	return []rewindStep{
		{"keep evidence", rewindSaving, func(ctx context.Context, p *rewindPlan) error { return i.keepEvidence(ctx, p.Discard, p.Because) }},
		{"record that the evidence is kept", rewindSaving, enter(rewindRecovering)},
		{"recover", rewindRecovering, judged(i.recoverForRewind)},
		{"record that it is shut down in order", rewindRecovering, enter(rewindChecking)},
		{"have the primary write its timeline down", rewindChecking, i.prepareSource},
		{"find the last common checkpoint", rewindChecking, judged(func(ctx context.Context, p *rewindPlan) error { return i.findCommonCheckpoint(ctx, p.Discard) })},
		{"take standby.signal away", rewindChecking, func(context.Context, *rewindPlan) error { return i.takeSignal() }},
		{"try without changing anything", rewindChecking, i.tryRewind},
		{"record that it writes", rewindChecking, enter(rewindWriting)},
		{"run pg_rewind", rewindWriting, func(ctx context.Context, p *rewindPlan) error {
			_, err := i.pgRewind(ctx, p.Source)
			return err
		}},
		{"record that pg_rewind is through", rewindWriting, enter(rewindFinishing)},
		{"make it a standby", rewindFinishing, func(context.Context, *rewindPlan) error { return i.finishCopy(i.cfg.DataDir) }},
		{"record that it is rewound", rewindFinishing, enter(rewindWritten)},
	}
}
