package rejoin

import (
	"testing"

	"github.com/quorate/quorate/internal/pg"
)

// at builds a branch from pairs of timeline and end, and the timeline itself.
func at(tli pg.Timeline, ancestors ...pg.HistoryEntry) Branch {
	return Branch{Timeline: tli, History: ancestors}
}

func left(tli pg.Timeline, end pg.LSN) pg.HistoryEntry {
	return pg.HistoryEntry{Timeline: tli, End: end}
}

func TestFork(t *testing.T) {
	for _, c := range []struct {
		name          string
		local, target Branch
		fork          pg.LSN
		forked        bool
	}{
		{"the same timeline", at(1), at(1), 0, false},
		{"the same timeline by the same way", at(2, left(1, 100)), at(2, left(1, 100)), 0, false},
		{"the target went on from here", at(1), at(2, left(1, 100)), 100, true},
		{"the target went on twice", at(1), at(3, left(1, 100), left(2, 200)), 100, true},
		{"went on to where the target never was", at(2, left(1, 100)), at(1), 100, true},
		{"both went on from the same place", at(2, left(1, 100)), at(3, left(1, 100)), 100, true},
		{"both went on, the target earlier", at(2, left(1, 150)), at(3, left(1, 100)), 100, true},
		{"both went on, the target later", at(2, left(1, 100)), at(3, left(1, 150)), 100, true},
		{"the same number, begun elsewhere", at(2, left(1, 100)), at(2, left(1, 120)), 100, true},
		{"a common ancestor two back", at(3, left(1, 100), left(2, 200)), at(4, left(1, 100), left(2, 180)), 180, true},
		{"nothing in common", at(2), at(3), 0, true},
	} {
		fork, forked := Fork(c.local, c.target)
		if fork != c.fork || forked != c.forked {
			t.Errorf("%s: %s %t, want %s %t", c.name, fork, forked, c.fork, c.forked)
		}
	}
}

func TestDecide(t *testing.T) {
	whole := Facts{SystemID: 7, WantSystemID: 7, Local: at(1), End: 100, Target: at(2, left(1, 100)), Final: true, Hints: true, Oldest: 20}
	past := func(f *Facts) { f.End = 101 }
	but := func(change func(*Facts)) func(*Facts) { return func(f *Facts) { past(f); change(f) } }
	for _, c := range []struct {
		name   string
		change func(*Facts)
		way    Way
	}{
		{"ends where the new timeline begins", func(*Facts) {}, Plain},
		{"would do, and a new copy was asked for", func(f *Facts) { f.Asked = true }, Clone},
		{"past, and a new copy was asked for", but(func(f *Facts) { f.Asked = true }), Clone},
		{"another cluster's, and a new copy was asked for", func(f *Facts) { f.Asked, f.SystemID = true, 8 }, Hold},
		{"unreadable, and a new copy was asked for", func(f *Facts) { f.Asked, f.Damaged = true, "I/O error" }, Hold},
		{"ends before", func(f *Facts) { f.End = 60 }, Plain},
		{"one byte past", past, Rewind},
		{"past, on a branch of its own", but(func(f *Facts) { f.Local, f.Target = at(2, left(1, 100)), at(3, left(1, 100)) }), Rewind},
		{"past, and no hints in the log", but(func(f *Facts) { f.Hints = false }), Clone},
		{"past, and a rewind failed", but(func(f *Facts) { f.RewindFailed = "no space" }), Clone},
		{"past, and the log before is gone", but(func(f *Facts) { f.Oldest = 100 }), Clone},
		{"past, and where its log begins is not known", but(func(f *Facts) { f.Oldest = 0 }), Clone},
		{"past, an unfinished backup", but(func(f *Facts) { f.Incomplete = true }), Clone},
		{"past, under the same number", but(func(f *Facts) { f.Local, f.Target = at(2, left(1, 90)), at(2, left(1, 100)) }), Clone},
		{"nothing in common", but(func(f *Facts) { f.Local, f.Target = at(3), at(4) }), Clone},
		{"past, while a clone is unfinished", but(func(f *Facts) { f.Cloning = true }), Clone},
		{"past, and the primary's log is gone", but(func(f *Facts) { f.WALGone = true }), Rewind},
		{"a rewind was cut short", func(f *Facts) { f.Torn = true }, Quarantine},
		{"a rewind was cut short and took pg_control with it", func(f *Facts) { f.Torn, f.Damaged, f.Corrupt = true, "checksum", true }, Quarantine},
		{"a rewind was cut short and a clone was begun", func(f *Facts) { f.Torn, f.Cloning = true, true }, Clone},
		{"a rewind was cut short, of another version", func(f *Facts) { f.Torn, f.Unmatched = true, "14, not 15" }, Hold},
		{"pg_control is not what was written", func(f *Facts) { f.Damaged, f.Corrupt = "checksum", true }, Quarantine},
		{"a restored backup", func(f *Facts) { f.Restored = true }, Quarantine},
		{"a restored backup of another system", func(f *Facts) { f.Restored, f.SystemID = true, 8 }, Hold},
		{"the end is a minimum recovery point that is past", func(f *Facts) { f.End, f.Short = 1<<30, true }, Clone},
		{"one byte past what was only predicted", func(f *Facts) { f.End, f.Final = 101, false }, Hold},
		{"on the primary's own timeline, however far", func(f *Facts) { f.Target, f.End = at(1), 1<<40 }, Plain},
		{"the log it needs is gone", func(f *Facts) { f.WALGone = true }, Clone},
		{"no data", func(f *Facts) { f.Empty = true }, Clone},
		{"no data, and a copy was asked for", func(f *Facts) { f.Empty, f.Asked = true, true }, Clone},
		{"a clone is unfinished", func(f *Facts) { f.Cloning, f.Damaged = true, "half of it" }, Clone},
		{"another system", func(f *Facts) { f.SystemID = 8 }, Hold},
		{"the cluster has no data", func(f *Facts) { f.WantSystemID, f.Empty = 0, true }, Hold},
		{"damaged", func(f *Facts) { f.Damaged = "checksum" }, Hold},
		{"another major version", func(f *Facts) { f.Unmatched = "14, not 15" }, Hold},
	} {
		f := whole
		c.change(&f)
		if v := Decide(f); v.Way != c.way || v.Because == "" {
			t.Errorf("%s: %+v, want %s", c.name, v, c.way)
		}
	}
}
