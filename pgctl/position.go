package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/internal/pg/wal"
	"github.com/quorate/quorate/pgctl/rejoin"
)

// placeholderReason marks the history files that Promote makes to skip timeline numbers.
const placeholderReason = "quorate placeholder"

func (i *Instance) walDir() string { return filepath.Join(i.cfg.DataDir, "pg_wal") }

// segments reads pg_wal for the end-of-log reader. A segment that is in use is closed by its user.
type segments struct {
	dir  string
	size uint64
}

// Open implements wal.Segments.
func (s segments) Open(tli pg.Timeline, start pg.LSN) (io.ReaderAt, bool, error) {
	f, err := os.Open(filepath.Join(s.dir, pg.SegmentName(tli, start, s.size)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return f, true, nil
}

// Examine finds the exact end of the log of a stopped directory, which Status shows from then on as Position. It returns
// ErrRunning while anything runs, ErrRebuilding or ErrNoData when there is no position to report.
func (i *Instance) Examine(ctx context.Context) (Position, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return Position{}, fmt.Errorf("examine the log: %w", err)
	}
	if i.running() {
		return Position{}, fmt.Errorf("examine the log: %w", ErrRunning)
	}
	p, err := i.stoppedPosition()
	if err != nil {
		return Position{}, err
	}
	return p, i.reportable()
}

const (
	// findLimit bounds who reads the log while there is more to do: that may be as much as lies between two checkpoints.
	findLimit = 2 * time.Second
	// findBefore is how much log before the last checkpoint it reads, in bytes: the last commit may be older.
	findBefore = 64 << 20
)

// FindCommits completes the position of an examined directory by the end of its last commit, so far as that is found in 2 s.
func (i *Instance) FindCommits(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.running() {
		return fmt.Errorf("find the last commit: %w", ErrRunning)
	}
	var p Position
	i.note(func() {
		if i.cached != nil {
			p = *i.cached
		}
	})
	if p.LSN == 0 {
		return errors.New("find the last commit: the end of the log is not known")
	}
	ctx, cancel := context.WithTimeout(ctx, findLimit)
	defer cancel()
	shown, err := i.lastCommit(ctx, p)
	if err != nil {
		i.log.Warn("the last commit was not found, so all of the log counts", "error", err)
		shown = p.LSN
	}
	p.Shown = shown
	i.note(func() { i.cached = &p })
	return nil
}

// lastCommit walks the log from a while before pg_control's redo position and returns the end of the last commit, or where
// it began.
func (i *Instance) lastCommit(ctx context.Context, p Position) (pg.LSN, error) {
	control, err := i.readControl()
	if err != nil {
		return 0, err
	}
	log := i.logOf(control, p.Branch())
	last, err := begin(log, max(p.Oldest, control.Redo-min(control.Redo, findBefore)), control.Redo)
	if err != nil {
		return 0, err
	}
	end, err := log.Walk(last, func(r wal.Record) bool {
		if r.Commit != nil {
			last = r.End
		}
		return ctx.Err() == nil
	})
	switch {
	case err != nil:
		return 0, err
	case end.LSN != p.LSN:
		return 0, fmt.Errorf("the log could be read to %s only, of %s", end.LSN, p.LSN)
	}
	return last, nil
}

// begin returns the first record at or after from, or else redo.
func begin(log wal.Log, from, redo pg.LSN) (pg.LSN, error) {
	if from == 0 || from >= redo {
		return redo, nil
	}
	first, found, err := log.FirstRecord(from - from%pg.LSN(log.BlockSize))
	if err != nil || !found || first > redo {
		return redo, err
	}
	return first, nil
}

// reportable returns ErrRebuilding while this node's log must not be reported.
func (i *Instance) reportable() error {
	if i.foreign() {
		return fmt.Errorf("report a position of data that are not the cluster's yet: %w", ErrRebuilding)
	}
	i.facts.Lock()
	defer i.facts.Unlock()
	if i.clone != nil || i.marks.plan != nil || i.marks.rebuild {
		return fmt.Errorf("report a position: %w", ErrRebuilding)
	}
	return nil
}

// stoppedPosition scans a directory that nothing runs on and keeps the result. The caller holds i.mu.
func (i *Instance) stoppedPosition() (Position, error) {
	if i.dirEmpty() {
		return Position{}, fmt.Errorf("find the end of the log: %w", ErrNoData)
	}
	_, _, seen := i.snapshot()
	p, err := i.scan(seen.lsn, seen.replayed)
	if err != nil {
		return Position{}, err
	}
	if err := i.syncTail(p); err != nil {
		return Position{}, err
	}
	i.note(func() { i.cached = &p })
	return p, nil
}

// oldest goes back from the end of the log as long as there is a file for each segment.
func (i *Instance) oldest(end pg.LSN, size uint64) (pg.LSN, error) {
	entries, err := os.ReadDir(i.walDir())
	if err != nil {
		return 0, fmt.Errorf("list the log: %w", err)
	}
	there := map[pg.LSN]bool{}
	for _, e := range entries {
		if _, start, err := pg.ParseSegmentName(e.Name(), size); err == nil {
			there[start] = true
		}
	}
	var out pg.LSN
	for at := pg.SegmentStart(end-min(end, 1), size); there[at]; at -= pg.LSN(size) {
		out = at
	}
	return out, nil
}

// syncTail makes the end of the log durable before anybody counts on it: a walreceiver that was killed may have written
// what it had not flushed. Segments before the last two were flushed when the next was begun.
func (i *Instance) syncTail(p Position) error {
	control, err := i.readControl()
	if err != nil {
		return err
	}
	size := pg.LSN(control.WalSegmentSize)
	for _, at := range []pg.LSN{p.LSN, p.LSN - min(p.LSN, size)} {
		f, err := os.Open(filepath.Join(i.walDir(), pg.SegmentName(p.Timeline, at, control.WalSegmentSize)))
		if errors.Is(err, fs.ErrNotExist) {
			continue // at a boundary the next one does not exist yet; after a switch of timelines the one before is another's
		}
		if err != nil {
			return fmt.Errorf("open the end of the log: %w", err)
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return fmt.Errorf("make the end of the log durable: %w", err)
		}
	}
	return nil
}

// scan walks the log from a position that is known to be in it, or from pg_control's redo when from is 0. A flush
// position may lie within a record; when nothing begins there the walk starts again from redo, unless from was replayed.
func (i *Instance) scan(from pg.LSN, replayed bool) (Position, error) {
	control, err := i.readControl()
	if err != nil {
		return Position{}, err
	}
	b, err := branchOf(control, i.walDir())
	if err != nil {
		return Position{}, fmt.Errorf("find the end of the log: %w", err)
	}
	if !readsLog && from > 0 {
		tli := b.History.TimelineAt(from-1, b.Timeline)
		return Position{Timeline: tli, LSN: from, History: ancestry(tli, b.Timeline, b.History)}, nil
	}
	p, err := i.scanBranch(control, b, from, replayed)
	top, base := b.Timeline, oldestTarget(control)
	for b.Timeline > base && len(b.History) > 0 && (errors.Is(err, errNoRecord) || err == nil && p.Timeline < b.Timeline) {
		b = parent(b)
		older, errOlder := i.scanBranch(control, b, from, replayed)
		switch {
		case errOlder != nil && !errors.Is(errOlder, errNoRecord):
			err = errOlder // a file that can't be read may hold more than all others
		case errOlder == nil && (err != nil || older.LSN > p.LSN):
			p, err = older, nil
		}
	}
	if err != nil {
		return Position{}, fmt.Errorf("find the end of the log: %w", err)
	}
	if p.Timeline < top {
		if p.Awaits, err = i.unbegun(p.Timeline, base); err != nil {
			return Position{}, fmt.Errorf("find the end of the log: %w", err)
		}
	}
	p.Oldest, err = i.oldest(p.LSN, control.WalSegmentSize)
	return p, err
}

// errNoRecord says that the log has no record where its replay begins, as that of a new timeline of which nothing was received.
var errNoRecord = errors.New("there is no valid record at the redo position")

// unbegun lists the timelines above end, the one on which the log ends, of which there is a history. Those up to base are pg_control's,
// whatever is left of their log.
func (i *Instance) unbegun(end, base pg.Timeline) (all []pg.Timeline, err error) {
	real, err := histories(i.walDir())
	for tli := range real {
		if tli > max(end, base) {
			all = append(all, tli)
		}
	}
	slices.Sort(all)
	return all, err
}

// scanBranch is scan for the log of one branch. A branch of whose own timeline there is no record may lack more than that: what is
// received of a new timeline begins with its first segment, up to the switch a copy of the old one's, and recovery reads no
// other file. So of a standby that is killed on the way that file ends before the log that it has acknowledged, or has not begun.
// The old file has all of it, and is what a start reads once the new timeline is set aside (setAsideUnbegun).
func (i *Instance) scanBranch(control pg.Control, b rejoin.Branch, from pg.LSN, replayed bool) (Position, error) {
	log := i.logOf(control, b)
	end, err := wal.End{}, error(nil)
	if from > 0 {
		end, err = log.FindEnd(from)
	}
	if err == nil && (from == 0 || end.LastRecord == 0 && !replayed) {
		end, err = i.scanFromStart(control, log)
	}
	return Position{Timeline: end.Timeline, LSN: end.LSN, History: ancestry(end.Timeline, b.Timeline, b.History)}, err
}

// parent is the branch that b left last; b is not that of timeline 1.
func parent(b rejoin.Branch) rejoin.Branch {
	last := len(b.History) - 1
	return rejoin.Branch{Timeline: b.History[last].Timeline, History: b.History[:last]}
}

// scanFromStart walks the log from where its replay begins. A directory that was rewound has pg_control of its source, which may be
// past the log that was copied: the rest is asked of the primary when the server runs. It is on the source's timeline, wherever
// the log that is here ends, and that end is reported to nobody.
func (i *Instance) scanFromStart(control pg.Control, log wal.Log) (wal.End, error) {
	_, m, _ := i.snapshot()
	if r := m.rewind; r != nil && (r.Phase == rewindFinishing || r.Phase == rewindWritten) {
		from, err := i.replayStart(control)
		if err != nil {
			return wal.End{}, err
		}
		end, err := log.FindEnd(from)
		end.Timeline = log.Timeline
		return end, err
	}
	end, err := log.FindEnd(control.Redo)
	if err == nil && end.LastRecord == 0 {
		return wal.End{}, fmt.Errorf("%w %s: %s", errNoRecord, control.Redo, end.Detail)
	}
	return end, err
}

// newest picks the timeline that Postgres would recover to: the highest that descends from base.
func newest(base pg.Timeline, branches map[pg.Timeline]pg.History) pg.Timeline {
	out := base
	for tli, h := range branches {
		if _, ok := h.SwitchPoint(base); ok && tli > out {
			out = tli
		}
	}
	return out
}

// ancestry cuts the history of top down to that of its ancestor tli.
func ancestry(tli, top pg.Timeline, history pg.History) pg.History {
	if tli == top {
		return history
	}
	for n, e := range history {
		if e.Timeline == tli {
			return history[:n]
		}
	}
	return nil
}

// histories reads the history files of a pg_wal, those that skip a number left out.
func histories(walDir string) (map[pg.Timeline]pg.History, error) {
	out := map[pg.Timeline]pg.History{}
	err := eachHistory(walDir, func(tli pg.Timeline, h pg.History, placeholder bool) error {
		if !placeholder {
			out[tli] = h
		}
		return nil
	})
	return out, err
}

// oldestTarget is the timeline of pg_control: none before it can be recovered to.
func oldestTarget(control pg.Control) pg.Timeline {
	return max(control.CheckpointTimeline, control.MinRecoveryTimeline, 1)
}

// branchOf is the timeline to which Postgres would recover a directory, by its pg_control and its pg_wal.
func branchOf(control pg.Control, walDir string) (rejoin.Branch, error) {
	branches, err := histories(walDir)
	if err != nil {
		return rejoin.Branch{}, err
	}
	tli := newest(oldestTarget(control), branches)
	history, known := branches[tli]
	if tli > 1 && !known {
		return rejoin.Branch{}, fmt.Errorf("%s is missing in %s", pg.HistoryFileName(tli), walDir)
	}
	return rejoin.Branch{Timeline: tli, History: history}, nil
}

// logOf describes the log of b in pg_wal.
func (i *Instance) logOf(control pg.Control, b rejoin.Branch) wal.Log {
	return wal.Log{
		Segments: segments{dir: i.walDir(), size: control.WalSegmentSize}, SegmentSize: control.WalSegmentSize,
		BlockSize: control.WalBlockSize, SystemID: control.SystemID, Timeline: b.Timeline, History: b.History,
	}
}

// highestHistory is the highest timeline of which there is a history file, one that skips a number included.
func (i *Instance) highestHistory() (pg.Timeline, error) {
	top := pg.Timeline(0)
	err := eachHistory(i.walDir(), func(tli pg.Timeline, _ pg.History, _ bool) error {
		top = max(top, tli)
		return nil
	})
	return top, err
}

// eachHistory calls visit for every history file of a pg_wal.
func eachHistory(walDir string, visit func(tli pg.Timeline, h pg.History, placeholder bool) error) error {
	entries, err := os.ReadDir(walDir)
	if err != nil {
		return fmt.Errorf("list the log: %w", err)
	}
	for _, e := range entries {
		var tli uint32
		if len(e.Name()) != len("00000001.history") || !strings.HasSuffix(e.Name(), ".history") {
			continue
		}
		if _, err := fmt.Sscanf(e.Name(), "%08X.history", &tli); err != nil || tli == 0 {
			continue
		}
		content, err := os.ReadFile(filepath.Join(walDir, e.Name()))
		if err != nil {
			return fmt.Errorf("read a timeline history: %w", err)
		}
		h, err := pg.ParseHistory(content, pg.Timeline(tli))
		if err != nil {
			return fmt.Errorf("read %s: %w", e.Name(), err)
		}
		skipped := len(h) > 0 && strings.HasPrefix(h[len(h)-1].Reason, placeholderReason)
		if err := visit(pg.Timeline(tli), h, skipped); err != nil {
			return err
		}
	}
	return nil
}
