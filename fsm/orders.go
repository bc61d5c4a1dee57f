package fsm

import "github.com/quorate/quorate/internal/pg"

// Assignment is what the replicated state wants a node to be.
type Assignment string

// The assignments.
const (
	AssignNone    Assignment = "none"    // no Postgres wanted: a witness, a stranger, or nobody is primary yet
	AssignPrimary Assignment = "primary" // serve, while the lease lasts
	AssignStandby Assignment = "standby" // follow Upstream
)

// Orders is the part of State that one node acts on.
type Orders struct {
	Role     Assignment
	Epoch    Epoch
	Rev      uint64
	Upstream Member      // whom a standby follows; zero for the others
	SystemID pg.SystemID // 0: no data exists yet, the primary makes it
	Lineage  Lineage     // the present assignment; its timeline is a prediction unless Promoted
	History  pg.History  // ancestors of that timeline, oldest first
	Sync     SyncRule    // R
	// WaitFor and WaitCount are what Postgres here must be set to wait for if it is, or becomes, primary: WaitCount of
	// the members named WaitFor. A standby carries them too, so that a promotion changes no setting.
	WaitFor   []string
	WaitCount int
	Paused    bool
	Wish      *Wish // a copy; nil when nothing is pending
}

// OrdersFor returns what the node id has to do.
func (s State) OrdersFor(id NodeID) Orders {
	o := Orders{
		Role: AssignNone, Epoch: s.Epoch, Rev: s.Rev, SystemID: s.SystemID, Lineage: s.lastLineage(), Paused: s.Paused,
		Sync: SyncRule{Members: append([]NodeID{}, s.Sync.Members...), Copies: s.Sync.Copies},
	}
	o.History, _ = s.LineageHistory(o.Lineage.Timeline)
	if s.Wish != nil {
		wish := *s.Wish
		o.Wish = &wish
	}
	me, ok := s.Members[id]
	if !ok || me.Role != RoleData || s.Epoch == 0 {
		return o
	}
	ids, count := EnforcedBy(s.Sync, id)
	o.WaitFor, o.WaitCount = s.Names(ids), count
	if id == s.Primary {
		o.Role = AssignPrimary
		return o
	}
	o.Role, o.Upstream = AssignStandby, s.Members[s.Primary]
	return o
}
