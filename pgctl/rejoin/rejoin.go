// Package rejoin decides how a node whose Postgres does not run comes back as a standby: from what is on its disk and
// where the primary's history left it.
//
// It must never do anything itself and must never look at a clock, a file or the network: equal Facts give equal
// Verdicts. It must never answer Plain for a log that holds a record the primary's history does not.
package rejoin

import (
	"fmt"

	"github.com/quorate/quorate/internal/pg"
)

// Branch is a timeline with its ancestry.
type Branch struct {
	Timeline pg.Timeline
	History  pg.History
}

// Facts is all that the decision is made of.
type Facts struct {
	Empty     bool   // no data directory, or nothing in it
	Damaged   string // why pg_control can't be believed; empty when it can
	Unmatched string // why the program can't run this directory (another major version); empty when it can
	Cloning   bool   // a clone into this place was begun and not finished

	SystemID     pg.SystemID // of the directory
	WantSystemID pg.SystemID // of the cluster; 0 when not known yet

	Local Branch // of the end of the local log
	// End is the end of the local valid log, or the minimum recovery point when that is higher: the data files may
	// hold changes up to there.
	End pg.LSN

	Target Branch // the primary's
	// Final says that Target is what the primary reported, not what its appointment predicted.
	Final bool
	// WALGone says that the upstream no longer has the log which this directory needs next.
	WALGone bool
}

// Way is how a node comes back.
type Way string

// The ways.
const (
	// Plain starts the directory as it is; streaming does the rest.
	Plain Way = "plain"
	// Clone makes a new directory beside the old one, which is kept.
	Clone Way = "clone"
	// Hold needs a person, or something that is not known yet.
	Hold Way = "hold"
)

// Verdict is the way and the reason. Fork is where the two logs part, 0 when they don't.
type Verdict struct {
	Way     Way
	Fork    pg.LSN
	Because string
}

// Decide returns the first row that applies.
func Decide(f Facts) Verdict {
	switch {
	case f.WantSystemID == 0:
		return Verdict{Way: Hold, Because: "the cluster has no data yet"}
	case f.Cloning:
		return Verdict{Way: Clone, Because: "a clone was begun and not finished"}
	case f.Empty:
		return Verdict{Way: Clone, Because: "there is no data directory yet"}
	case f.Unmatched != "":
		return Verdict{Way: Hold, Because: f.Unmatched}
	case f.Damaged != "":
		return Verdict{Way: Hold, Because: "the data directory can't be read: " + f.Damaged + "; restore the disk, or move the directory away to have it cloned anew"}
	case f.SystemID != f.WantSystemID:
		return Verdict{Way: Hold, Because: fmt.Sprintf("the data directory belongs to system %s, the cluster is system %s; move it away to have it cloned anew", f.SystemID, f.WantSystemID)}
	}
	return f.compare()
}

// compare judges a directory that is whole and of this cluster.
func (f Facts) compare() Verdict {
	fork, forked := Fork(f.Local, f.Target)
	switch {
	case forked && f.End > fork && !f.Final:
		return Verdict{Way: Hold, Fork: fork, Because: fmt.Sprintf("the log ends at %s, past %s where timeline %d is expected to begin; waiting until the primary has said where it does", f.End, fork, f.Target.Timeline)}
	case forked && f.End > fork:
		return Verdict{Way: Clone, Fork: fork, Because: fmt.Sprintf("diverged: timeline %d has log up to %s that the primary's timeline %d, which left at %s, does not have", f.Local.Timeline, f.End, f.Target.Timeline, fork)}
	case f.WALGone:
		return Verdict{Way: Clone, Fork: fork, Because: fmt.Sprintf("the primary no longer has the log after %s", f.End)}
	}
	return Verdict{Way: Plain, Fork: fork, Because: fmt.Sprintf("all of the log up to %s is in the primary's history", f.End)}
}

// Fork returns the position from which on the log of local is not in the history of target. It is false when nothing
// written on local's timeline can be outside: local is target's timeline, reached by the same way.
func Fork(local, target Branch) (pg.LSN, bool) {
	mine, theirs := local.steps(), target.steps()
	for i, m := range mine {
		if i >= len(theirs) || theirs[i].Timeline != m.Timeline {
			// Both left the common ancestor; where the first of them did is where they part. At i = 0 they have
			// nothing in common.
			if i == 0 {
				return 0, true
			}
			return min(mine[i-1].End, theirs[min(i-1, len(theirs)-1)].End), true
		}
		if m.End != theirs[i].End {
			return min(m.End, theirs[i].End), true
		}
	}
	return 0, false
}

// steps is the whole way, the timeline itself included, which has no end yet.
func (b Branch) steps() []pg.HistoryEntry {
	out := make([]pg.HistoryEntry, 0, len(b.History)+1)
	out = append(out, b.History...)
	return append(out, pg.HistoryEntry{Timeline: b.Timeline, End: ^pg.LSN(0)})
}
