package lead

import (
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// shown is since when which primary has shown which electorate, by its own beats to this leader. A leader that begins knows
// nothing of what was shown before.
type shown struct {
	version uint64
	primary fsm.NodeID
	rev     uint64 // at or after the one that brought the electorate
	since   time.Duration
	seen    bool
}

// electorateShown is for how long the present primary has shown the present electorate (lease.md rule 3): its beats carry a
// revision at or past the one under which this leader first saw it. Revisions never go back, so one such beat is enough.
func (l *ledger) electorateShown(now time.Duration, v failover.View) time.Duration {
	e, s := &l.electorate, v.State
	if e.version != s.Electorate.Version || e.primary != s.Primary {
		*e = shown{version: s.Electorate.Version, primary: s.Primary, rev: s.Rev}
	}
	p, heard := v.Seen[s.Primary]
	if !e.seen && heard && p.Report.Rev >= e.rev {
		e.seen, e.since = true, now
	}
	if !e.seen {
		return 0
	}
	return now - e.since
}
