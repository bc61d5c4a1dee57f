// Package rejoin decides how a node whose Postgres does not run comes back as a standby: from what is on its disk and
// where the primary's history left it.
//
// The rows are, in this order: nothing to come back to, a clone under way, no data, another version, torn or damaged data,
// another cluster's data, a restored backup, a log that diverged, a log that can't go on, a copy that was asked for, a log
// that can go on.
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
	Damaged   string // why the directory can't be read; empty when it can
	Corrupt   bool   // it can be read, and pg_control is not what Postgres wrote; Damaged says how
	Unmatched string // why the program can't run this directory (another major version); empty when it can
	Cloning   bool   // a clone into this place was begun and not finished
	Torn      bool   // a rewind was cut short while it changed files: what is there is of no time and no server
	Restored  bool   // it holds a backup_label which neither a clone nor a rewind of this node left

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
	Asked   bool // somebody asked for a new copy in place of a directory that would do

	// Of a directory that diverged, whether pg_rewind can take it back.
	Hints        bool   // pg_control has wal_log_hints or data checksums: every changed page is in the log
	Incomplete   bool   // it is a base backup whose end was never reached
	Short        bool   // the log ends before the minimum recovery point: what changed the files last is not in it
	Oldest       pg.LSN // from here to End the local log has no gap; 0: there is none
	RewindFailed string // why a rewind of this directory did not work; empty if none was tried
}

// Way is how a node comes back.
type Way string

// The ways.
const (
	// Plain starts the directory as it is; streaming does the rest.
	Plain Way = "plain"
	// Rewind takes a directory that diverged back to where the logs part, after what goes was kept as evidence.
	Rewind Way = "rewind"
	// Clone makes a new directory beside the old one, which is kept.
	Clone Way = "clone"
	// Quarantine is a clone whose old directory nobody should run again: it is kept under another name, with the reason.
	Quarantine Way = "quarantine"
	// Hold needs a person, or something that is not known yet.
	Hold Way = "hold"
)

// Verdict is the way and the reason. Fork is where the two logs part, 0 when they don't.
type Verdict struct {
	Way      Way
	Fork     pg.LSN
	Diverged bool // the local log goes past Fork
	Because  string
}

// Decide returns the first row that applies.
func Decide(f Facts) Verdict {
	switch {
	case f.WantSystemID == 0:
		return Verdict{Way: Hold, Because: "the cluster has no data yet"}
	case f.Cloning:
		return Verdict{Way: Clone, Because: "a clone was begun and not finished"}
	case f.Empty && f.Asked:
		return Verdict{Way: Clone, Because: asked}
	case f.Empty:
		return Verdict{Way: Clone, Because: "there is no data directory yet"}
	case f.Unmatched != "":
		return Verdict{Way: Hold, Because: f.Unmatched}
	case f.Torn:
		return Verdict{Way: Quarantine, Because: "a rewind was cut short while it changed the data directory"}
	case f.Corrupt:
		return Verdict{Way: Quarantine, Because: "the data directory is damaged: " + f.Damaged}
	case f.Damaged != "":
		return Verdict{Way: Hold, Because: "the data directory can't be read: " + f.Damaged + "; restore the disk, or move it away and have a new copy made: quorate reinit"}
	case f.SystemID != f.WantSystemID:
		return Verdict{Way: Hold, Because: fmt.Sprintf("the data directory belongs to system %s, the cluster is system %s; move it away and have a new copy made: quorate reinit", f.SystemID, f.WantSystemID)}
	case f.Restored:
		return Verdict{Way: Quarantine, Because: "somebody restored a backup into the data directory (it has a backup_label): where its log ends can't be told"}
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
		return f.diverged(fork)
	case f.WALGone:
		return Verdict{Way: Clone, Fork: fork, Because: fmt.Sprintf("the primary no longer has the log after %s", f.End)}
	case f.Asked:
		return Verdict{Way: Clone, Fork: fork, Because: asked}
	}
	return Verdict{Way: Plain, Fork: fork, Because: fmt.Sprintf("all of the log up to %s is in the primary's history", f.End)}
}

// diverged chooses between going back and beginning anew.
func (f Facts) diverged(fork pg.LSN) Verdict {
	v := Verdict{Way: Rewind, Fork: fork, Diverged: true, Because: fmt.Sprintf("diverged: timeline %d has log up to %s that the primary's timeline %d, which left at %s, does not have", f.Local.Timeline, f.End, f.Target.Timeline, fork)}
	if why := f.noRewind(fork); why != "" {
		v.Way, v.Because = Clone, v.Because+"; it can't be rewound: "+why
	}
	return v
}

const asked = "a new copy was asked for"

// noRewind says why pg_rewind can't help, empty when nothing is known to speak against it.
func (f Facts) noRewind(fork pg.LSN) string {
	switch {
	case f.Asked:
		return asked
	case f.RewindFailed != "":
		return f.RewindFailed
	case fork == 0:
		return "the histories have nothing in common"
	case f.Local.Timeline == f.Target.Timeline:
		return fmt.Sprintf("both logs are called timeline %d", f.Target.Timeline)
	case !f.Hints:
		return "it has neither wal_log_hints nor data checksums"
	case f.Incomplete:
		return "it is a base backup that was never completed"
	case f.Short:
		return "its log ends before what its files may hold"
	case f.Oldest == 0 || f.Oldest >= fork:
		return fmt.Sprintf("its log from before %s is gone", fork)
	}
	return ""
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
