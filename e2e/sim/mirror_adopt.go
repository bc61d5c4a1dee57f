package sim

// Copied word for word from package cluster, where it is not exported; TestMirrorsAreFaithful compares. Copy it again when it
// complains.

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// DataFacts is what is in a node's data directory before there is a cluster (DETAILS 30).
type DataFacts struct {
	Empty bool            `json:"empty"`
	Dir   string          `json:"dir,omitempty"`   // for people
	Major pg.MajorVersion `json:"major,omitempty"` // of the programs that would run it; 0 on a witness
	// Looking says that it is being looked at, Problem why this directory can't be used as it is and what to do about it.
	Looking bool   `json:"looking,omitempty"`
	Problem string `json:"problem,omitempty"`
	// Unread says the same of the configuration that was in use with it, which matters only where the cluster begins with it.
	Unread string `json:"unread,omitempty"`

	SystemID   pg.SystemID     `json:"system_id,omitempty"`
	State      pg.ControlState `json:"state,omitempty"`
	Timeline   pg.Timeline     `json:"tli,omitempty"` // of the end of the log
	History    pg.History      `json:"history,omitempty"`
	End        pg.LSN          `json:"end,omitempty"`        // of the log; while a server runs, it has at least this
	Highest    pg.Timeline     `json:"highest,omitempty"`    // of which pg_wal has a history, whoever writes it
	Standby    bool            `json:"standby,omitempty"`    // there is a standby.signal
	Recovering bool            `json:"recovering,omitempty"` // there is a recovery.signal
	Unfinished bool            `json:"unfinished,omitempty"` // a base backup whose end was never reached
	Manager    string          `json:"manager,omitempty"`    // the quorate node that ran it last
	Patroni    bool            `json:"patroni,omitempty"`    // Patroni ran it, or what it was copied from
	PID        int             `json:"pid,omitempty"`        // of a server that runs on it, not by this node
	Port       int             `json:"port,omitempty"`       // of that
	// Config is the configuration for a cluster that begins with this directory; nil: nothing had to be taken over.
	Config *fsm.Config `json:"config,omitempty"`
}

// wasPrimary says that the directory was last run as a primary.
func (d DataFacts) wasPrimary() bool {
	switch d.State {
	case pg.ControlShutDown, pg.ControlShuttingDown, pg.ControlInCrashRecovery, pg.ControlInProduction:
		return true
	}
	return false
}

// covers says that the log of o is a part of d's, as far as timelines and positions can tell.
func (d DataFacts) covers(o DataFacts) bool {
	mine := append(slices.Clone(d.History), pg.HistoryEntry{Timeline: d.Timeline, End: d.End})
	theirs := append(slices.Clone(o.History), pg.HistoryEntry{Timeline: o.Timeline, End: o.End})
	last := len(theirs) - 1
	if d.SystemID != o.SystemID || last >= len(mine) || mine[last].Timeline != o.Timeline || mine[last].End < o.End {
		return false
	}
	same := func(a, b pg.HistoryEntry) bool { return a.Timeline == b.Timeline && a.End == b.End }
	return slices.EqualFunc(mine[:last], theirs[:last], same)
}

// founder is one of the initial nodes.
type founder struct {
	member fsm.Member
	data   DataFacts
}

// founders is what the choice is made of: the initial nodes in their order, the first of which begins the cluster, and whose
// directory an operator named, empty if he did not.
type founders struct {
	nodes  []founder
	named  string
	source founder // whose directory it would be
}

// adoption describes the directory of the source. One that was a standby gets a timeline that nobody has: on its own one
// somebody else may have gone on. Postgres takes no number of which it has a history, so none of those is predicted.
func (f founders) adoption() *fsm.Adoption {
	d := f.source.data
	a := &fsm.Adoption{Node: f.source.member.ID, SystemID: d.SystemID, Timeline: d.Timeline, End: d.End}
	for _, e := range d.History {
		a.History = append(a.History, pg.HistoryEntry{Timeline: e.Timeline, End: e.End})
	}
	if !d.wasPrimary() {
		a.Parent = d.Timeline
		for _, n := range f.nodes {
			a.Timeline = max(a.Timeline, n.data.Timeline, n.data.Highest)
		}
		a.Timeline++
	}
	for _, n := range f.others() {
		if f.differs(n) == "" {
			a.Keep = append(a.Keep, n.member.ID)
		} else {
			a.Aside = append(a.Aside, n.member.ID)
		}
	}
	return a
}

// others are the nodes with data beside the source.
func (f founders) others() []founder {
	var out []founder
	for _, n := range f.nodes {
		if !n.data.Empty && n.member.ID != f.source.member.ID {
			out = append(out, n)
		}
	}
	return out
}

// differs says why the directory of n can't go on as a standby of the source's, empty if it can. Of two that were primaries
// on one timeline, as copies of one machine are, positions can't tell whether the one has what the other wrote.
func (f founders) differs(n founder) string {
	switch o, d := n.data, f.source.data; {
	case o.SystemID != d.SystemID:
		return fmt.Sprintf("is of system %s, not %s", o.SystemID, d.SystemID)
	case o.wasPrimary():
		return "was a primary, too: what it wrote may be missing elsewhere"
	case o.Recovering || o.Unfinished:
		return "is a backup that was never recovered"
	case !d.covers(o):
		return fmt.Sprintf("has log up to %s of timeline %d, and that of %s, which ends at %s of timeline %d, does not contain it",
			o.End, o.Timeline, f.source.member.Name, d.End, d.Timeline)
	}
	return ""
}
