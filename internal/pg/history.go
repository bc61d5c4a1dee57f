package pg

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrHistory says that a timeline history is not one that PostgreSQL would have written.
var ErrHistory = errors.New("not a timeline history")

// HistoryEntry is one line of a .history file: an ancestor and where it was left.
type HistoryEntry struct {
	Timeline Timeline `json:"timeline"`
	// End is the switch point: the first position that belongs to the next timeline.
	End    LSN    `json:"end"`
	Reason string `json:"reason,omitempty"`
}

// History lists the ancestors of one timeline, oldest first. The timeline itself is not in it
// (nor is it in its .history file): timeline 1 has the empty history. Timelines strictly grow,
// ends never shrink.
type History []HistoryEntry

// HistoryFileName names the history file of tli in pg_wal, such as "00000002.history".
func HistoryFileName(tli Timeline) string {
	return fmt.Sprintf("%08X.history", uint32(tli))
}

// ParseHistory reads the content of tli's history file. Blank lines and lines that begin with
// '#' are skipped, as PostgreSQL does. Anything out of order is ErrHistory.
func ParseHistory(content []byte, tli Timeline) (History, error) {
	var history History
	for i, line := range strings.Split(string(content), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		entry, err := parseHistoryLine(line)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d of %s: %w", ErrHistory, i+1, HistoryFileName(tli), err)
		}
		history = append(history, entry)
	}
	if err := history.Check(tli); err != nil {
		return nil, err
	}
	return history, nil
}

// parseHistoryLine reads "tli<space>switchpoint<space>reason", where the reason may be missing
// and may itself contain spaces.
func parseHistoryLine(line string) (HistoryEntry, error) {
	number, rest, _ := cutSpace(line)
	tli, err := strconv.ParseUint(number, 10, 32)
	if err != nil {
		return HistoryEntry{}, fmt.Errorf("%q is not a timeline", number)
	}
	position, reason, _ := cutSpace(rest)
	end, err := ParseLSN(position)
	if err != nil {
		return HistoryEntry{}, err
	}
	return HistoryEntry{Timeline: Timeline(tli), End: end, Reason: reason}, nil
}

// cutSpace splits text around its first run of blanks.
func cutSpace(text string) (before, after string, found bool) {
	i := strings.IndexAny(text, " \t")
	if i < 0 {
		return text, "", false
	}
	return text[:i], strings.TrimLeft(text[i:], " \t"), true
}

// Check returns ErrHistory unless h can be the ancestry of tli: timelines from 1 strictly
// growing and below tli, switch points never going back.
func (h History) Check(tli Timeline) error {
	if tli == 0 {
		return fmt.Errorf("%w: there is no timeline 0", ErrHistory)
	}
	var last HistoryEntry
	for _, e := range h {
		if e.Timeline <= last.Timeline {
			return fmt.Errorf("%w of timeline %d: timeline %d follows %d", ErrHistory, tli, e.Timeline, last.Timeline)
		}
		if e.End < last.End {
			return fmt.Errorf("%w of timeline %d: timeline %d ends at %s, before its beginning at %s", ErrHistory, tli, e.Timeline, e.End, last.End)
		}
		last = e
	}
	if last.Timeline >= tli {
		return fmt.Errorf("%w of timeline %d: ancestor %d is not older", ErrHistory, tli, last.Timeline)
	}
	return nil
}

// Format renders h as the content of a .history file. Line breaks inside a reason become
// spaces, since the file has no way to carry them.
func (h History) Format() []byte {
	var out strings.Builder
	clean := strings.NewReplacer("\n", " ", "\r", " ")
	for _, e := range h {
		fmt.Fprintf(&out, "%d\t%s\t%s\n", uint32(e.Timeline), e.End, clean.Replace(e.Reason))
	}
	return []byte(out.String())
}

// TimelineAt returns the timeline that the byte at lsn belongs to in the log of target, whose
// ancestry h is. At a switch point that is the newer timeline.
func (h History) TimelineAt(lsn LSN, target Timeline) Timeline {
	for _, e := range h {
		if lsn < e.End {
			return e.Timeline
		}
	}
	return target
}

// SwitchPoint returns where tli was left, and false when tli is no ancestor in h.
func (h History) SwitchPoint(tli Timeline) (LSN, bool) {
	for _, e := range h {
		if e.Timeline == tli {
			return e.End, true
		}
	}
	return 0, false
}
