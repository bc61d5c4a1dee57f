package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/guard"
)

// Promotion is what a promotion made.
type Promotion struct {
	Timeline pg.Timeline
	Parent   pg.Timeline
	Switch   pg.LSN // where Timeline left Parent
	SystemID pg.SystemID
	Took     time.Duration // until it left recovery, for people
}

// PromoteOrder says what to promote to.
type PromoteOrder struct {
	Epoch    uint64
	Timeline pg.Timeline // the predicted one; Postgres takes it unless a history file already has its number
	Slots    []string    // the members' slots, and no other of quorate's, exist before it opens
	Gate     bool        // no client may read before OpenGate
}

// Promote opens a detached standby for writing under the lease of o.Epoch (ErrNoLease) and returns once standby.signal
// is back. When ctx ends first Postgres may still be about to open: only Kill ends that.
func (i *Instance) Promote(ctx context.Context, o PromoteOrder) (Promotion, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	laps := &stopwatch{last: time.Now()}
	own, err := i.promotable(ctx)
	if err != nil {
		return Promotion{}, fmt.Errorf("promote for epoch %d: %w", o.Epoch, err)
	}
	if err := i.dropSlots(ctx, o.Slots, "false"); err != nil {
		return Promotion{}, err
	}
	if err := i.createSlots(ctx, o.Slots, true); err != nil {
		return Promotion{}, err
	}
	laps.lap("slots")
	if err := i.skipTimelines(own, o.Timeline); err != nil {
		return Promotion{}, err
	}
	if o.Gate {
		if err := i.closeGate(ctx); err != nil {
			return Promotion{}, fmt.Errorf("promote for epoch %d: %w", o.Epoch, err)
		}
		laps.lap("gate")
	}
	deadline, err := i.lease(o.Epoch)
	if err != nil {
		return Promotion{}, fmt.Errorf("promote: %w", err)
	}
	// From here on the guard freezes it when the lease ends. False means that it already has a later deadline.
	if !i.deps.Guard.Set(guard.VerdictServe, o.Epoch, deadline) {
		if v := i.deps.Guard.Record(); v.Verdict != guard.VerdictServe || v.Epoch != o.Epoch {
			return Promotion{}, fmt.Errorf("promote for epoch %d: the guard has the verdict %s for epoch %d", o.Epoch, v.Verdict, v.Epoch)
		}
	}
	if err := i.enforced(ctx, o.Epoch); err != nil {
		return Promotion{}, fmt.Errorf("promote: %w", err)
	}
	i.note(func() { i.cached, i.seen.promoting = nil, time.Now() })
	began := time.Now()
	if _, err := i.exec(ctx, "SELECT pg_promote(wait => false)"); err != nil {
		return Promotion{}, fmt.Errorf("promote: %w", err)
	}
	if err := i.waitPrimary(ctx); err != nil {
		return Promotion{}, err
	}
	took := time.Since(began)
	p, err := i.promoted(ctx)
	if err != nil {
		return Promotion{}, err
	}
	p.Took = took
	laps.lap("promote")
	err = i.mark(ctx)
	laps.lap("mark")
	i.log.Info("promoted", append([]any{"epoch", o.Epoch, "timeline", uint32(p.Timeline), "switch", p.Switch.String()}, laps.pairs...)...)
	return p, err
}

// enforceLimit bounds the wait for the guard to take an order, which it does within a millisecond.
const enforceLimit = time.Second

// enforced returns when the guard says itself that it holds this server to the lease of epoch. Nothing may open before: an
// order that went astray would leave a primary without a deadline.
func (i *Instance) enforced(ctx context.Context, epoch uint64) error {
	ctx, cancel := context.WithTimeout(ctx, enforceLimit)
	defer cancel()
	for {
		v := i.deps.Guard.Record()
		if v.Verdict == guard.VerdictServe && v.Epoch == epoch {
			return nil
		}
		if err := pause(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("wait until the guard holds run %d to the lease of epoch %d; it has the verdict %s for epoch %d: %w", v.Run, epoch, v.Verdict, v.Epoch, err)
		}
	}
}

// promotable returns the timeline of a running standby that follows nobody.
func (i *Instance) promotable(ctx context.Context) (pg.Timeline, error) {
	l, m, _ := i.snapshot()
	if up := l.upstream(m.detached); up.Name != "" {
		return 0, fmt.Errorf("it still follows %s of epoch %d", up.Name, up.Epoch)
	}
	if err := i.reportable(); err != nil {
		return 0, err
	}
	out, err := i.exec(ctx, `SELECT pg_is_in_recovery(), greatest(c.timeline_id, m.min_recovery_end_timeline), current_setting('primary_conninfo')
 FROM pg_control_checkpoint() AS c, pg_control_recovery() AS m`)
	if err != nil {
		return 0, fmt.Errorf("look at the standby: %w", err)
	}
	row := out[0][0]
	if row[0] != "t" {
		return 0, ErrServing
	}
	if row[2] != "" {
		return 0, errors.New("it has a primary_conninfo")
	}
	tli, err := intField(row[1])
	return pg.Timeline(tli), err
}

// skipTimelines makes Postgres choose the timeline want: it takes the first number above its own without a history file,
// so the numbers between get one. Their content names a switch at the very beginning of timeline 1, which lies before
// any position: every standby that sees one, whatever it has replayed, refuses it as no descendant and waits on. Those at
// want or above, left by an order that was not carried out, go.
func (i *Instance) skipTimelines(own, want pg.Timeline) error {
	if err := i.removePlaceholders(func(tli pg.Timeline) bool { return tli >= want }); err != nil {
		return err
	}
	for tli := own + 1; tli < want; tli++ {
		path := filepath.Join(i.walDir(), pg.HistoryFileName(tli))
		if _, err := os.Stat(path); err == nil {
			continue
		}
		skip := pg.History{{Timeline: 1, End: 1, Reason: placeholderReason + ": this number is not used"}}
		if err := i.writeFile(path, skip.Format()); err != nil {
			return fmt.Errorf("skip timeline %d: %w", tli, err)
		}
	}
	return nil
}

// clearTimelines leaves no history in pg_wal by which a start would recover to a timeline of which there is no log here.
func (i *Instance) clearTimelines(control pg.Control) error {
	if err := i.setAsideUnbegun(control); err != nil {
		return err
	}
	return i.dropPlaceholders()
}

// asideSuffix ends the name of a history file that was set aside. Nobody reads it.
const asideSuffix = ".unbegun"

// setAsideUnbegun renames the histories of timelines above the one on which the examined log ends. A promotion writes its history
// before the first record of its timeline: killed in between it leaves one that nobody else knows, and a standby that starts with
// it waits for that timeline for ever, whoever is primary. One that was fetched from a primary is fetched again. Without the history
// Postgres reads the old timeline's files again, by which the end of the log may have been found (scanBranch).
func (i *Instance) setAsideUnbegun(control pg.Control) error {
	end := pg.Timeline(0)
	i.note(func() {
		if i.cached != nil {
			end = i.cached.Timeline
		}
	})
	if end == 0 {
		return nil
	}
	unused, err := i.unbegun(end, oldestTarget(control))
	if err != nil {
		return err
	}
	for _, tli := range unused {
		path := filepath.Join(i.walDir(), pg.HistoryFileName(tli))
		if err := os.Rename(path, path+asideSuffix); err != nil {
			return fmt.Errorf("set the history of timeline %d aside, of which there is no log: %w", tli, err)
		}
		i.log.Info("set a timeline aside that was not begun here", "timeline", uint32(tli), "log_ends_on", uint32(end), "file", path+asideSuffix)
	}
	if len(unused) == 0 {
		return nil
	}
	i.note(func() {
		p := *i.cached
		p.Awaits = nil
		i.cached = &p
	})
	return syncDir(i.walDir())
}

// dropPlaceholders removes those above every real timeline: a start would take the highest number for the timeline to
// recover to, and end. The ones below stay, because standbys fetch every number in between.
func (i *Instance) dropPlaceholders() error {
	real, err := histories(i.walDir())
	if err != nil {
		return err
	}
	top := pg.Timeline(1)
	for tli := range real {
		top = max(top, tli)
	}
	return i.removePlaceholders(func(tli pg.Timeline) bool { return tli > top })
}

func (i *Instance) removePlaceholders(unwanted func(pg.Timeline) bool) error {
	removed := false
	err := eachHistory(i.walDir(), func(tli pg.Timeline, _ pg.History, placeholder bool) error {
		if !placeholder || !unwanted(tli) {
			return nil
		}
		removed = true
		err := os.Remove(filepath.Join(i.walDir(), pg.HistoryFileName(tli)))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a placeholder: %w", err)
		}
		return nil
	})
	if err != nil || !removed {
		return err
	}
	return syncDir(i.walDir())
}

// waitPrimary polls until recovery has ended. A server that dies on the way is an error at once.
func (i *Instance) waitPrimary(ctx context.Context) error {
	for {
		recovering, err := i.execValue(ctx, "SELECT pg_is_in_recovery()")
		if err != nil {
			return fmt.Errorf("wait for the end of recovery: %w", err)
		}
		if recovering == "f" {
			return nil
		}
		if err := pause(ctx, pollEvery); err != nil {
			return fmt.Errorf("wait for the end of recovery: %w", err)
		}
	}
}

// promoted reads the timeline from the server and where it began from its history file.
func (i *Instance) promoted(ctx context.Context) (Promotion, error) {
	out, err := i.exec(ctx, "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), system_identifier FROM pg_control_system()")
	if err != nil {
		return Promotion{}, fmt.Errorf("read the new timeline: %w", err)
	}
	number, err := strconv.ParseUint(out[0][0][0], 16, 32)
	if err != nil {
		return Promotion{}, fmt.Errorf("read the new timeline: %w", err)
	}
	id, err := intField(strings.TrimSpace(out[0][0][1]))
	if err != nil {
		return Promotion{}, err
	}
	tli := pg.Timeline(number)
	content, err := os.ReadFile(filepath.Join(i.walDir(), pg.HistoryFileName(tli)))
	if err != nil {
		return Promotion{}, fmt.Errorf("read the new timeline's history: %w", err)
	}
	h, err := pg.ParseHistory(content, tli)
	if err != nil {
		return Promotion{}, err
	}
	if len(h) == 0 {
		return Promotion{}, fmt.Errorf("the history of timeline %d is empty", tli)
	}
	last := h[len(h)-1]
	return Promotion{Timeline: tli, Parent: last.Timeline, Switch: last.End, SystemID: pg.SystemID(id)}, nil
}
