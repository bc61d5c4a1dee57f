package sim

import "github.com/quorate/quorate/internal/pg"

// branch is one timeline as one server wrote it. Two servers that both wrote "timeline 2" made two branches. All logs are
// ends of branches: a log is a branch and how much of it there is, and holds all of the ancestors up to where they were
// left.
type branch struct {
	tli     pg.Timeline
	parent  *branch
	start   pg.LSN // where it left parent
	end     pg.LSN // of what its writer wrote
	writer  *host
	history pg.History // of the ancestors, as in its history file
	commits []pg.LSN   // ends of commit records, rising
	hots    []hotAt    // what its writer ran with, rising
	// promised is the end of the last record that a client was told of: acknowledged, or read where no failover may take
	// back what was read.
	promised pg.LSN
	acked    pg.LSN
}

// place is the end of a log.
type place struct {
	b   *branch
	lsn pg.LSN
}

func newBranch(tli pg.Timeline, from place, writer *host) *branch {
	b := &branch{tli: tli, parent: from.b, start: from.lsn, end: from.lsn, writer: writer}
	if p := from.at(from.lsn); p != nil {
		b.parent = p
		b.history = append(append(pg.History{}, p.history...), pg.HistoryEntry{Timeline: p.tli, End: from.lsn})
	}
	return b
}

// holds says whether the log has what b had up to lsn.
func (p place) holds(b *branch, lsn pg.LSN) bool {
	limit := p.lsn
	for x := p.b; x != nil; x = x.parent {
		if x == b {
			return lsn <= limit
		}
		limit = min(limit, x.start)
	}
	return lsn == 0
}

// at is the branch of the record that ends at lsn.
func (p place) at(lsn pg.LSN) *branch {
	x := p.b
	for x != nil && x.parent != nil && lsn <= x.start {
		x = x.parent
	}
	return x
}

// upTo is the log cut off at lsn.
func (p place) upTo(lsn pg.LSN) place {
	lsn = min(lsn, p.lsn)
	return place{p.at(lsn), lsn}
}

// common is the end of what two logs share.
func common(a, b place) place {
	limit := a.lsn
	for x := a.b; x != nil; x = x.parent {
		if low := b.common(x, limit); low > 0 {
			return place{x, low}
		}
		limit = min(limit, x.start)
	}
	return place{}
}

// common is how much of branch x, up to limit, is in the log; 0 for nothing.
func (p place) common(x *branch, limit pg.LSN) pg.LSN {
	mine := p.lsn
	for y := p.b; y != nil; y = y.parent {
		if y == x {
			return min(limit, mine)
		}
		mine = min(mine, y.start)
	}
	return 0
}

// lastCommit is the end of the last commit in the log.
func (p place) lastCommit() pg.LSN {
	limit := p.lsn
	for x := p.b; x != nil; x = x.parent {
		for i := len(x.commits) - 1; i >= 0; i-- {
			if x.commits[i] <= limit {
				return x.commits[i]
			}
		}
		limit = min(limit, x.start)
	}
	return 1
}
