package node

import (
	"net"
	"slices"
	"sort"
	"strconv"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/rejoin"
)

// situation is what the node's goal follows from: agreed truth, its own promises and its lease.
type situation struct {
	self      fsm.NodeID
	state     fsm.State
	leaseLive bool      // for state.Epoch, a margin before its end
	sealed    fsm.Epoch // highest epoch that this node has sealed
	released  fsm.Epoch // highest epoch that this node has released
	reads     bool      // it released, and nobody took over since: Postgres is to serve reads
	giveUp    bool      // it was appointed and makes no progress: stop, so that it can release
	handOver  bool      // the switchover away from this node may go ahead now
	ending    bool      // the daemon was asked to end in order
	restart   bool      // Postgres is to be down for a planned restart
	reinit    bool      // the data directory of a standby is to be replaced by a copy
	removed   bool      // this node is no member any more: its copy is not kept up, so nobody shall read it
	yields    bool      // an old primary that is down lets others start to stream first
	sync      pgctl.Sync
	copies    []pgctl.Copy        // what is known of the others' logs
	away      map[fsm.NodeID]bool // no log is kept for these
}

// want turns the situation into the goal for Postgres. It is the one place where agreement becomes an order to Postgres.
func want(s situation) pgctl.Want {
	w := pgctl.Want{
		Role: pgctl.RoleNone, Epoch: uint64(s.state.Epoch), SystemID: s.state.SystemID,
		LeaseLive: s.leaseLive, Sealed: uint64(s.sealed), Yields: s.yields, Sync: s.sync, Copies: s.copies,
	}
	me, member := s.state.Members[s.self]
	if s.removed {
		w.Role, w.Stop = pgctl.RoleStopped, pgctl.StopFast
		return w
	}
	if !member || me.Role != fsm.RoleData || s.state.Epoch == 0 {
		return w
	}
	if a := s.state.Adopted; a != nil {
		w.Keep, w.Aside = slices.Contains(a.Keep, s.self), slices.Contains(a.Aside, s.self)
		if s.state.Adopting(s.self) {
			w.Adopt = a.SystemID
		}
	}
	w.Target, w.Final = target(s.state)
	w.Slots = slots(s.state, s.self, s.away)
	if s.ending || s.restart {
		w.Role, w.Stop = pgctl.RoleStopped, pgctl.StopFast
		return w
	}
	if s.state.Primary != s.self {
		w.Role, w.Reinit = pgctl.RoleStandby, s.reinit
		if s.sealed < s.state.Epoch {
			w.Upstream = upstream(s.state, s.self)
		}
		return w
	}
	switch {
	case s.released >= s.state.Epoch && s.reads:
		w.Role, w.Reads = pgctl.RoleStandby, true
	case s.released >= s.state.Epoch || s.giveUp:
		w.Role, w.Stop = pgctl.RoleStopped, pgctl.StopKill
	case s.handOver:
		w.Role, w.Stop = pgctl.RoleStopped, pgctl.StopFast
		if s.state.Wish != nil && s.state.Wish.Kind == fsm.WishFailover {
			w.StopBox = failoverBox
		}
	default:
		w.Role = pgctl.RolePrimary
		w.MayInit = s.state.Epoch == 1 && s.state.SystemID == 0 && s.state.Adopted == nil
	}
	return w
}

// handingOver says that the leader approved a switchover away from this node in the present epoch.
func handingOver(s fsm.State, self fsm.NodeID) bool {
	return s.Wish != nil && s.Wish.Approved && s.Wish.Epoch == s.Epoch && s.Primary == self
}

// failoverBox is how long a primary that is to be replaced at once, by hand, gets for its checkpoint, and again for its shutdown
// before it is killed (DETAILS 31).
const failoverBox = 2 * time.Second

// yieldFor is how long an old primary that is down waits for others to stream. Starting a server takes what the machine,
// or the disk that they share, needs now to let clients commit again.
const yieldFor = time.Second

// yields says that the primary opened openFor ago and that its commits still wait for standbys, of which there are
// enough besides self.
func yields(s fsm.State, self fsm.NodeID, streaming []failover.StreamingMember, openFor time.Duration) bool {
	ids, k := fsm.EnforcedBy(s.Sync, s.Primary)
	others, there := 0, 0
	for _, id := range ids {
		if id == self {
			continue
		}
		others++
		if slices.ContainsFunc(streaming, func(m failover.StreamingMember) bool { return m.Node == id }) {
			there++
		}
	}
	return openFor < yieldFor && there < k && others >= k
}

// target is the timeline of the present epoch with its ancestry, and whether the primary has reported it.
func target(s fsm.State) (rejoin.Branch, bool) {
	if len(s.Lineage) == 0 {
		return rejoin.Branch{}, false
	}
	last := s.Lineage[len(s.Lineage)-1]
	history, _ := s.LineageHistory(last.Timeline)
	return rejoin.Branch{Timeline: last.Timeline, History: history}, last.Promoted
}

func upstream(s fsm.State, self fsm.NodeID) pgctl.Upstream {
	p := s.Members[s.Primary]
	host, port, err := net.SplitHostPort(p.Postgres)
	if err != nil {
		return pgctl.Upstream{}
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return pgctl.Upstream{}
	}
	return pgctl.Upstream{Name: p.Name, Host: host, Port: n, Epoch: uint64(s.Epoch), Slot: slot(s.Members[self])}
}

// slot is where the primary keeps log for a member. It is the same member's for ever and never another's.
func slot(m fsm.Member) string { return pgctl.SlotName(string(m.ID), m.Name) }

// slots are those of the members for whom the primary keeps log: all but those who are away for long.
func slots(s fsm.State, self fsm.NodeID, away map[fsm.NodeID]bool) []string {
	var out []string
	for id, m := range s.Members {
		if id != self && m.Role == fsm.RoleData && !away[id] {
			out = append(out, slot(m))
		}
	}
	sort.Strings(out)
	return out
}

// enforced turns what rule asks of x into what its Postgres is told. A node outside D enforces nothing: it can't be
// appointed before it enters.
func enforced(s fsm.State, rule fsm.SyncRule, x fsm.NodeID) pgctl.Sync {
	ids, k := fsm.EnforcedBy(rule, x)
	in := false
	for _, id := range rule.Members {
		in = in || id == x
	}
	if !in || k <= 0 {
		return pgctl.Sync{}
	}
	out := pgctl.Sync{K: k}
	for _, id := range ids {
		out.Names = append(out.Names, s.Members[id].Name)
	}
	sort.Strings(out.Names)
	return out
}
