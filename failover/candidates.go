package failover

import (
	"fmt"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// Candidate is a data node as successor of the primary: what is known of its log, and what speaks against it now.
type Candidate struct {
	Node     fsm.NodeID
	Timeline pg.Timeline
	LSN      pg.LSN // 0: nothing is known
	Lacks    pg.LSN // of the primary's log as far as it is known
	Known    bool   // false: it may lack more than that, because how far the primary was is not known, or where this log belongs
	Against  string // empty: it would do
}

// HandOver says whom a switchover to the node to, empty for the best standby, would make primary now, and what speaks
// against that, empty for nothing.
func HandOver(v View, to fsm.NodeID) (fsm.NodeID, string) {
	v.State.Wish = &fsm.Wish{Kind: fsm.WishSwitchover, To: to, Epoch: v.State.Epoch}
	return study(v).wishFault()
}

// Candidates judges every data node but the primary: as target of a switchover while the primary serves, else as who could
// be appointed in its place.
func Candidates(v View) []Candidate {
	f := study(v)
	var out []Candidate
	for _, id := range f.memberIDs() {
		if id == v.State.Primary || v.State.Members[id].Role != fsm.RoleData {
			continue
		}
		c := Candidate{Node: id}
		if s, heard := f.Seen[id]; heard {
			c.Timeline, c.LSN = s.Report.Timeline, s.Report.Flush
		}
		if p, has := f.positions[id]; has {
			c.Timeline, c.LSN = p.Timeline, p.LSN
		}
		c.Lacks, c.Known = f.behind(fsm.Position{Node: id, Timeline: c.Timeline, LSN: c.LSN})
		if f.primaryFresh && !notServing(f) {
			_, c.Against = HandOver(v, id)
		} else {
			c.Against = f.unfit(id)
		}
		out = append(out, c)
	}
	return out
}

// unfit says why a node can't be appointed in place of a primary that is gone.
func (f *facts) unfit(id fsm.NodeID) string {
	if f.qualify(id) != nil {
		if f.logless(id) && (f.best == nil || f.best.node != id) {
			return "it " + f.noLog(id)
		}
		return ""
	}
	s, heard := f.Seen[id]
	_, known := f.positions[id]
	switch {
	case f.State.Members[id].Leaving:
		return "it is being removed"
	case f.State.Electable(id) != nil:
		return "it has nofailover set"
	case !heard || !f.fresh(s):
		return "it is not heard" + f.whyMissing(id)
	case len(f.State.Sync.Members) > 0 && !member(f.State.Sync.Members, id):
		return "it is not one of the nodes that hold every acknowledged commit"
	case !electableRun(s.Report.Run):
		return fmt.Sprintf("its Postgres is %s", s.Report.Run)
	case f.Failed[id] != "":
		return "it gave no position: " + f.Failed[id]
	case !known:
		return "the end of its log is not known yet"
	case len(f.State.Sync.Members) == 0:
		return fmt.Sprintf("it may lack more than maximum_lag_on_failover, %d bytes", f.State.Config.Settings.MaximumLag)
	}
	return fmt.Sprintf("%d nodes have to be known not to be ahead of it", fsm.PositionsNeeded(f.State.Sync))
}
