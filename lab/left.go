package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/lab/judge"
)

// leftWith is evidence that a member has left with, in a directory that is about to be wiped: all that it acknowledged since it was
// told to leave, when nobody looked after that any more, and of the time before only the log that is there. A primary that was cut
// off has log of its own that nobody has kept yet, since it did not come back.
func (n *Node) leftWith(past judge.Past, since, now int64) (judge.Kept, error) {
	k := judge.Kept{ID: "wiped", Node: n.Name, Whole: judge.Span{From: since, To: now}}
	content, err := os.ReadFile(filepath.Join(n.PGData(), "global", "pg_control"))
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil // it was being cloned
	}
	if err != nil {
		return k, fmt.Errorf("read what %s has left with: %w", n.Name, err)
	}
	control, err := pg.ParseControl(content)
	if err != nil {
		return k, fmt.Errorf("read what %s has left with: %w", n.Name, err)
	}
	text, err := n.historyFile(uint32(control.CheckpointTimeline))
	if err != nil {
		return k, err
	}
	own, errOwn := pg.ParseHistory([]byte(text), control.CheckpointTimeline)
	present, errPresent := pg.ParseHistory([]byte(past.History), pg.Timeline(past.Timeline))
	if err := errors.Join(errOwn, errPresent); err != nil {
		return k, fmt.Errorf("compare what %s has left with: %w", n.Name, err)
	}
	from, apart := forkOf(control.CheckpointTimeline, own, pg.Timeline(past.Timeline), present)
	if !apart {
		return k, nil
	}
	if k.Log, k.XIDs, err = walkLog(filepath.Join(n.PGData(), "pg_wal"), control, control.CheckpointTimeline, own, from, math.MaxUint64); err != nil {
		return k, fmt.Errorf("read the log that %s has left with: %w", n.Name, err)
	}
	return k, nil
}

// forkOf is from where on log of one timeline may not be in that of another; false: it is the same timeline, come by the same way.
func forkOf(tli pg.Timeline, own pg.History, other pg.Timeline, history pg.History) (at pg.LSN, apart bool) {
	steps := func(h pg.History, tli pg.Timeline) pg.History {
		return append(slices.Clone(h), pg.HistoryEntry{Timeline: tli, End: math.MaxUint64})
	}
	theirs := steps(history, other)
	for i, mine := range steps(own, tli) {
		if i == len(theirs) || theirs[i].Timeline != mine.Timeline {
			return at, true // where the one before was left
		}
		if at = min(mine.End, theirs[i].End); mine.End != theirs[i].End {
			return at, true
		}
	}
	return 0, false
}
