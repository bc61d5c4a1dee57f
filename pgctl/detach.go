package pgctl

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/pgctl/guard"
)

// The bounds of Detach (DETAILS 17). A fresh session alone takes tens of milliseconds on a busy machine, and killing a
// standby for it would cost seconds, so that answering and letting go are bounded apart.
const (
	proofEvery  = 20 * time.Millisecond // between the two looks that must find no walreceiver, if nothing else speaks for it
	proofLimit  = 200 * time.Millisecond
	answerLimit = 400 * time.Millisecond
	killLimit   = 10 * time.Second
)

// Detach leaves the primary of epoch and every earlier one for good and returns the exact end of the local log. When it
// returns nil no process here can acknowledge anything to that primary, whatever its Postgres does, and the returned
// position will not grow until Follow. The caller has made its seal durable before. If Postgres does not answer within
// 400 ms, or its walreceiver is not gone 200 ms after that, it is killed; Next starts it again.
//
// ErrServing: it runs as a primary, which must be stopped first. ErrRebuilding: detached, but there is no position to
// report. It may be repeated and waits for no clone.
func (i *Instance) Detach(ctx context.Context, epoch uint64) (Position, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	defer i.lookAgain()
	laps := &stopwatch{last: time.Now()}
	if l, _, _ := i.snapshot(); l.Upstream.Epoch > epoch {
		// The request was overtaken: what follows a later primary must not be cut off, let alone killed, for an earlier one.
		return Position{}, fmt.Errorf("detach from epoch %d: it follows the primary of epoch %d already", epoch, l.Upstream.Epoch)
	}
	if p, done := i.alreadyDetached(epoch); done {
		return p, i.reportable()
	}
	if err := i.markDetached(epoch); err != nil {
		return Position{}, err
	}
	view := i.deps.Guard.Record()
	if view.Gone() {
		return i.detachStopped(epoch)
	}
	_, _, seen := i.snapshot()
	if !seen.promoting.IsZero() {
		return Position{}, fmt.Errorf("detach from epoch %d: %w", epoch, ErrServing)
	}
	laps.lap("mark")
	p, err := i.detachRunning(ctx, view.PID, laps)
	if err == nil {
		i.note(func() { i.cached = &p })
		i.log.Info("detached", append([]any{"epoch", epoch, "timeline", uint32(p.Timeline), "lsn", p.LSN.String()}, laps.pairs...)...)
		return p, i.reportable()
	}
	if errors.Is(err, ErrServing) || view.Verdict != guard.VerdictStandby {
		// What may serve is ended by whoever decides about that, not by the way.
		return Position{}, fmt.Errorf("detach from epoch %d: %w", epoch, err)
	}
	i.log.Warn("postgres did not let go of its primary, killing it", append([]any{"epoch", epoch, "error", err}, laps.pairs...)...)
	killing, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	if err := i.kill(killing); err != nil {
		return Position{}, fmt.Errorf("detach from epoch %d: %w", epoch, err)
	}
	return i.detachStopped(epoch)
}

// alreadyDetached answers a repeated request from the position that can't have changed since.
func (i *Instance) alreadyDetached(epoch uint64) (Position, bool) {
	i.facts.Lock()
	defer i.facts.Unlock()
	if i.cached == nil || i.marks.detached < epoch || i.live.upstream(i.marks.detached).Name != "" {
		return Position{}, false
	}
	return *i.cached, true
}

// markDetached is the durable promise. From here on the upstream of a lower epoch counts as none, also after a restart.
func (i *Instance) markDetached(epoch uint64) error {
	_, m, _ := i.snapshot()
	if m.detached >= epoch {
		return nil
	}
	if err := durable.Save(i.cfg.own(detachedRecord), recordVersion, detachedMark{Epoch: epoch, Pausing: true}); err != nil {
		return fmt.Errorf("record that epoch %d was left: %w", epoch, err)
	}
	i.note(func() { i.marks.detached, i.marks.pausing, i.drifts.good = epoch, true, nil })
	return nil
}

// detachStopped needs no proof: nothing runs, and the next start reads the settings written here.
func (i *Instance) detachStopped(epoch uint64) (Position, error) {
	var cloning bool
	i.note(func() { cloning = i.clone != nil || i.marks.plan != nil || i.rewind != nil || i.torn() })
	if cloning {
		return Position{}, i.reportable()
	}
	if i.dirEmpty() {
		return Position{}, fmt.Errorf("detach from epoch %d: %w", epoch, ErrNoData)
	}
	if i.foreign() {
		return Position{}, i.reportable()
	}
	l, m, _ := i.snapshot()
	if err := i.writeAutoConf(i.autoConf(), l.settings(i.cfg, m.detached)); err != nil {
		return Position{}, err
	}
	p, err := i.stoppedPosition()
	if err != nil {
		return Position{}, err
	}
	return p, i.reportable()
}

// detachRunning cuts a running standby off.
func (i *Instance) detachRunning(ctx context.Context, postmaster int, laps *stopwatch) (Position, error) {
	answering, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	recovering, err := i.execValue(answering, "SELECT pg_is_in_recovery()")
	if err != nil {
		return Position{}, fmt.Errorf("ask whether it is in recovery: %w", err)
	}
	if recovering != "t" {
		return Position{}, ErrServing
	}
	laps.lap("asked")
	cut := []string{"primary_conninfo", "restore_command"}
	if err := i.apply(answering, cut...); err != nil {
		return Position{}, err
	}
	laps.lap("settings")
	if err := i.told(answering, postmaster, cut...); err != nil {
		return Position{}, err
	}
	laps.lap("told")
	if endsReceiver {
		if err := i.letGo(ctx, postmaster, laps); err != nil {
			return Position{}, err
		}
	}
	reading, cancelRead := context.WithTimeout(ctx, answerLimit)
	defer cancelRead()
	text, err := i.execValue(reading, "SELECT pg_last_wal_replay_lsn()")
	if err != nil {
		return Position{}, fmt.Errorf("read the replay position: %w", err)
	}
	replay, err := lsnField(text)
	if err != nil {
		return Position{}, err
	}
	p, err := i.scan(replay, true)
	laps.lap("scan")
	return p, err
}

// letGo returns when no process can acknowledge anything to the primary that was left, nor can one come that would.
func (i *Instance) letGo(ctx context.Context, postmaster int, laps *stopwatch) error {
	ctx, cancel := context.WithTimeout(ctx, proofLimit)
	defer cancel()
	withdrawn, err := i.startupTookNotice(ctx)
	if err != nil {
		return err
	}
	laps.lap("startup")
	apart := proofEvery
	if withdrawn {
		apart = pollEvery
	}
	if err := i.endReceiver(ctx, postmaster, apart); err != nil {
		return err
	}
	laps.lap("receiver")
	return nil
}

// stopwatch collects how long the parts of a step took, for the log.
type stopwatch struct {
	last  time.Time
	pairs []any
}

func (w *stopwatch) lap(name string) {
	now := time.Now()
	w.pairs = append(w.pairs, name, now.Sub(w.last).Round(100*time.Microsecond))
	w.last = now
}

// told returns when the startup process has been signalled to read the settings. It is the one that matters, and it is
// signalled directly: that the postmaster has done so shows only in a process forked after that, which on a busy machine
// takes as long as all the rest. Before PostgreSQL 14 nothing confirms that it has read them, so there the slower proof is
// used, and where it can't be found.
func (i *Instance) told(ctx context.Context, postmaster int, names ...string) error {
	if i.major >= 14 {
		if found, err := hupStartup(postmaster, i.cfg.clusterName()); err != nil || found {
			return err
		}
	}
	return i.shown(ctx, names...)
}

// startupTookNotice returns when the startup process has read the settings that it was told of and has called back what it
// had asked for under the old ones. It alone asks for walreceivers; on a starved machine one came up with the old
// primary_conninfo 25 ms after two looks at the processes had found none.
//
// It confirms a pause of replay only after it has read what it was signalled to read. So replay is paused for a moment:
// once for the settings, and once more for the turn of its loop after that, in which it withdraws a request that the
// postmaster has not served yet. A walreceiver that is forked for it all the same finds it withdrawn and ends before it
// connects (withdrawn is true then). Where somebody else has paused replay the startup process stands in a loop that can't
// ask. Before PostgreSQL 14 nothing is confirmed.
func (i *Instance) startupTookNotice(ctx context.Context) (withdrawn bool, err error) {
	if i.major < 14 {
		return false, nil
	}
	for range 2 {
		before, err := i.execValue(ctx, pauseState)
		if err != nil {
			return false, fmt.Errorf("ask whether replay is paused: %w", err)
		}
		if before == "paused" {
			return false, nil
		}
		if err := i.pauseReplay(ctx); err != nil {
			return false, err
		}
		if before != "not paused" {
			return false, nil // the request was somebody else's
		}
		if _, err := i.exec(ctx, "SELECT pg_wal_replay_resume()"); err != nil {
			return false, fmt.Errorf("let replay go on: %w", err)
		}
	}
	return true, nil
}

const pauseState = "SELECT pg_get_wal_replay_pause_state()"

// pauseReplay returns when the startup process has confirmed.
func (i *Instance) pauseReplay(ctx context.Context) error {
	if _, err := i.exec(ctx, "SELECT pg_wal_replay_pause()"); err != nil {
		return fmt.Errorf("pause replay: %w", err)
	}
	for {
		now, err := i.execValue(ctx, pauseState)
		if err != nil {
			return fmt.Errorf("ask whether replay is paused: %w", err)
		}
		if now == "paused" {
			return nil
		}
		if err := pause(ctx, pollEvery/2); err != nil {
			return fmt.Errorf("wait until the startup process has read the settings: %w", err)
		}
	}
}

// endReceiver ends the walreceiver and proves that there is none: two looks, so far apart, at the children of the
// postmaster. A reload alone leaves one that lags running and acknowledging, and one that connects is in no view.
func (i *Instance) endReceiver(ctx context.Context, postmaster int, apart time.Duration) error {
	told := map[int]bool{}
	var clearSince time.Time
	var suspects []int
	for {
		pids, unsure, err := receivers(postmaster, i.cfg.clusterName())
		if err != nil {
			return err
		}
		now := time.Now()
		switch {
		case len(pids) > 0:
			clearSince = time.Time{}
		case clearSince.IsZero():
			clearSince, suspects = now, unsure
		default:
			// A younger child that has not said what it is yet is somebody's new connection, and one that sleeps waits
			// for its client to speak: a walreceiver names itself before it ever sleeps.
			suspects = slices.DeleteFunc(suspects, func(pid int) bool { return !slices.Contains(unsure, pid) || sleeps(pid) })
			if len(suspects) == 0 && now.Sub(clearSince) >= apart {
				return nil
			}
		}
		for _, pid := range pids {
			if told[pid] {
				continue
			}
			told[pid] = true
			if err := terminate(pid, postmaster, i.cfg.clusterName()); err != nil {
				return err
			}
		}
		next := pollEvery
		if !clearSince.IsZero() {
			next = max(next, apart-time.Since(clearSince)) // looking costs what others need now
		}
		if err := pause(ctx, next); err != nil {
			return fmt.Errorf("wait until the walreceiver is gone: %w", err)
		}
	}
}
