package pgctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/pgctl/guard"
)

// The bounds of Detach (DETAILS 17). A fresh session alone takes tens of milliseconds on a busy machine, and killing a
// standby for it would cost seconds, so that answering and letting go are bounded apart.
const (
	proofEvery  = 20 * time.Millisecond // between the two looks that must find no walreceiver
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
	laps := &stopwatch{last: time.Now()}
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
	if err := durable.Save(i.cfg.own(detachedRecord), recordVersion, detachedMark{Epoch: epoch}); err != nil {
		return fmt.Errorf("record that epoch %d was left: %w", epoch, err)
	}
	i.note(func() { i.marks.detached = epoch })
	return nil
}

// detachStopped needs no proof: nothing runs, and the next start reads the settings written here.
func (i *Instance) detachStopped(epoch uint64) (Position, error) {
	var cloning bool
	i.note(func() { cloning = i.clone != nil || i.marks.plan != nil })
	if cloning {
		return Position{}, i.reportable()
	}
	if i.dirEmpty() {
		return Position{}, fmt.Errorf("detach from epoch %d: %w", epoch, ErrNoData)
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
	laps.lap("asked")
	if recovering != "t" {
		return Position{}, ErrServing
	}
	cut := []string{"primary_conninfo", "restore_command"}
	if err := i.apply(answering, cut...); err != nil {
		return Position{}, err
	}
	laps.lap("settings")
	if err := i.shown(answering, cut...); err != nil {
		return Position{}, err
	}
	laps.lap("shown")
	proving, cancelProof := context.WithTimeout(ctx, proofLimit)
	defer cancelProof()
	if err := i.endReceiver(proving, postmaster); err != nil {
		return Position{}, err
	}
	laps.lap("receiver")
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

// endReceiver ends the walreceiver and proves that there is none: two looks 20 ms apart at the children of the
// postmaster. A reload alone leaves one that lags running and acknowledging, and one that connects is in no view.
func (i *Instance) endReceiver(ctx context.Context, postmaster int) error {
	var clearSince time.Time
	told := map[int]bool{}
	for {
		pids, unsure, err := receivers(postmaster, i.cfg.clusterName())
		if err != nil {
			return err
		}
		now := time.Now()
		switch {
		case len(pids) > 0 || unsure:
			clearSince = time.Time{}
		case clearSince.IsZero():
			clearSince = now
		case now.Sub(clearSince) >= proofEvery:
			return nil
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
		if err := pause(ctx, pollEvery); err != nil {
			return fmt.Errorf("wait until the walreceiver is gone: %w", err)
		}
	}
}

// receivers lists the walreceivers among the postmaster's children. unsure means that a child has not said yet what it
// is: it still carries the postmaster's command line.
func receivers(postmaster int, clusterName string) (pids []int, unsure bool, err error) {
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", postmaster))
	if err != nil {
		return nil, false, fmt.Errorf("read the postmaster's title: %w", err)
	}
	children, err := childrenOf(postmaster)
	if err != nil {
		return nil, false, err
	}
	for _, pid := range children {
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // it ended
		}
		switch {
		case isReceiver(string(title), clusterName):
			pids = append(pids, pid)
		case string(title) == string(own):
			unsure = true
		}
	}
	return pids, unsure, nil
}

// isReceiver reads a process title such as "postgres: main/n1: walreceiver streaming 0/3000060".
func isReceiver(title, clusterName string) bool {
	rest, ok := strings.CutPrefix(title, "postgres: ")
	if !ok {
		return false
	}
	rest = strings.TrimPrefix(rest, clusterName+": ")
	return strings.HasPrefix(rest, "walreceiver") || strings.HasPrefix(rest, "wal receiver")
}

// childrenOf reads what the kernel lists for the postmaster's only thread; a kernel without that list has its whole
// process table searched.
func childrenOf(pid int) ([]int, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return searchChildren(pid)
	}
	var out []int
	for _, f := range strings.Fields(string(content)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return nil, fmt.Errorf("read the children of %d: %w", pid, err)
		}
		out = append(out, n)
	}
	return out, nil
}

func searchChildren(parent int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && parentOf(pid) == parent {
			out = append(out, pid)
		}
	}
	return out, nil
}

// parentOf is 0 for a process that is gone.
func parentOf(pid int) int {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// The name is in parentheses and may contain any byte; state and parent follow the last one.
	fields := strings.Fields(string(content)[strings.LastIndexByte(string(content), ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0
	}
	return parent
}

// terminate sends SIGTERM to a walreceiver. The descriptor pins the process, so that what is checked after it was opened
// is true of what gets the signal.
func terminate(pid, postmaster int, clusterName string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the walreceiver: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || parentOf(pid) != postmaster || !isReceiver(string(title), clusterName) {
		return nil // it ended, and the number may be another's
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end the walreceiver: %w", err)
	}
	return nil
}
