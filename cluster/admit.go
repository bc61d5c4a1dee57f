package cluster

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/fsm"
)

// Who may come in and who may go: pure judgements over the replicated state and who is heard. Each refusal says what was found,
// in numbers, and the command that would work.

// JoinRequest is what a node asks to become.
type JoinRequest struct {
	ClusterID string     `json:"cluster_id"` // the one it wants to be in
	Member    fsm.Member `json:"member"`
	Data      DataFacts  `json:"data"`
	// Proof shows that the node has the cluster's secret. A certificate of an own PKI shows no such thing, and what a member
	// is told opens the database.
	Proof string `json:"proof,omitempty"`
	// Replace says that the member which has the name now is gone for good.
	Replace bool `json:"replace,omitempty"`
}

// Removal asks to take a member out.
type Removal struct {
	Name string `json:"name"`
	// LastCopy says that its copy of the data is to go although no other standby has one.
	LastCopy bool `json:"last_copy,omitempty"`
	// Replace says that the node is lost and another one takes its name: who is heard is not.
	Replace bool `json:"replace,omitempty"`
}

// errPausedMembers: the steps that a change of members takes are the leader's, which does nothing while paused.
var errPausedMembers = fmt.Errorf("%w: the cluster is paused, and nobody comes or goes meanwhile; first: quorate resume", ErrUnfit)

// standing is who is a member and who of them is heard.
type standing struct {
	state fsm.State
	heard func(fsm.NodeID) bool
}

// named finds a member.
func (s standing) named(name string) (fsm.Member, bool) {
	for _, m := range s.state.Members {
		if m.Name == name {
			return m, true
		}
	}
	return fsm.Member{}, false
}

// judgeJoin returns why a node may not come in, nil if it may. displaced is the member that has to go first, if there is one.
func (s standing) judgeJoin(r JoinRequest) (displaced *fsm.Member, err error) {
	m := r.Member
	if r.ClusterID != s.state.ClusterID {
		return nil, otherToken(r.ClusterID, s.state.ClusterID)
	}
	if s.state.Paused {
		return nil, errPausedMembers
	}
	if known, ok := s.state.Members[m.ID]; ok {
		if known.Name != m.Name || known.Role != m.Role {
			return nil, fmt.Errorf("%w: this node is the %s %s here, and can't become the %s %s", ErrUnfit, known.Role, known.Name, m.Role, m.Name)
		}
		if known.Leaving {
			return nil, fmt.Errorf("%w: %s is being removed; empty its cluster.data_dir and join it anew", ErrUnfit, m.Name)
		}
		return nil, nil // it asks again: the answer was lost
	}
	for _, other := range s.state.Members {
		if other.Name != m.Name && other.Addr == m.Addr {
			return nil, fmt.Errorf("%w: %s is the address of %s: set another cluster.connect_address here", ErrUnfit, m.Addr, other.Name)
		}
	}
	if err := s.judgeData(r); err != nil {
		return nil, err
	}
	taken, ok := s.named(m.Name)
	switch {
	case !ok:
		return nil, nil
	case taken.Leaving:
		return nil, fmt.Errorf("%w: the %s before this one is still being removed", ErrNotYet, m.Name)
	case s.heard(taken.ID):
		return nil, fmt.Errorf("%w: a node named %s lives at %s: choose another name, or stop that one and remove it: quorate members remove %s", ErrUnfit, m.Name, taken.Addr, m.Name)
	case !r.Replace:
		return nil, fmt.Errorf("%w: there is a member named %s at %s, which is not heard. If its cluster.data_dir is gone for good, say so by quorate join with --replace", ErrUnfit, m.Name, taken.Addr)
	}
	return &taken, s.judgeRemoval(Removal{Name: m.Name, LastCopy: true})
}

func otherToken(asked, here string) error {
	return fmt.Errorf("%w: the token is of cluster %s, this is cluster %s", ErrUnfit, asked, here)
}

// judgeData refuses what could never replicate.
func (s standing) judgeData(r JoinRequest) error {
	if r.Member.Role != fsm.RoleData {
		return nil
	}
	switch d := r.Data; {
	case d.Empty:
	case d.Problem != "":
		return fmt.Errorf("%w: %s: move it away, the node then gets a copy of the cluster's data", ErrUnfit, d.Problem)
	case d.SystemID != s.state.SystemID:
		return fmt.Errorf("%w: %s on %s holds another database (system %s, this cluster's is %s): move it away, the node then gets a copy", ErrUnfit,
			d.Dir, r.Member.Name, d.SystemID, s.state.SystemID)
	default:
		return fmt.Errorf("%w: %s on %s holds an earlier copy of this database, and nothing tells what happened to it since: move it away, the node then gets a new one", ErrUnfit,
			d.Dir, r.Member.Name)
	}
	if p := s.state.Members[s.state.Primary]; p.Major != 0 && r.Member.Major != p.Major {
		return fmt.Errorf("%w: %s has PostgreSQL %d, the primary %s has %d: install postgresql-%d there and set postgresql.bin_dir", ErrUnfit,
			r.Member.Name, r.Member.Major, p.Name, p.Major, p.Major)
	}
	return nil
}

// judgeRemoval returns why a member may not be taken out, nil if it may.
func (s standing) judgeRemoval(r Removal) error {
	m, ok := s.named(r.Name)
	switch {
	case s.state.Paused:
		return errPausedMembers
	case !ok:
		return fmt.Errorf("%w: %q is no member; members are %s", ErrUnfit, r.Name, strings.Join(s.names(), ", "))
	case m.ID == s.state.Primary && s.heard(m.ID):
		return fmt.Errorf("%w: %s is the primary of epoch %d; first: quorate switchover", ErrUnfit, m.Name, s.state.Epoch)
	case m.ID == s.state.Primary:
		return fmt.Errorf("%w: %s was the primary of epoch %d and nobody has taken over; quorate explain says why", ErrUnfit, m.Name, s.state.Epoch)
	}
	if r.Replace && s.heard(m.ID) {
		return fmt.Errorf("%w: %s lives, at %s, and only a lost node is replaced. To take it out all the same: quorate members remove %s", ErrUnfit, m.Name, m.Addr, m.Name)
	}
	if s.state.Electorate.Has(m.ID) {
		if err := s.judgeElectorate(m); err != nil {
			return err
		}
	}
	if r.LastCopy || !s.lastCopy(m) {
		return nil
	}
	if r.Replace {
		return fmt.Errorf("%w: no other standby has a copy of the data. If the disk of %s is gone for good, and the primary is to be alone until the new node has a copy: quorate members replace %s --last-copy", ErrUnfit, m.Name, m.Name)
	}
	return fmt.Errorf("%w: %s has the only copy of the data beside the primary's. If the primary is to be alone: quorate members remove %s --last-copy", ErrUnfit, m.Name, m.Name)
}

// judgeElectorate refuses to leave less than a majority alive.
func (s standing) judgeElectorate(m fsm.Member) error {
	var heard, silent []string
	for _, id := range s.state.Electorate.Voters {
		switch {
		case id == m.ID || s.state.Members[id].Leaving:
		case s.heard(id):
			heard = append(heard, s.state.Name(id))
		default:
			silent = append(silent, s.state.Name(id))
		}
	}
	voters := len(heard) + len(silent)
	if need := voters/2 + 1; voters == 0 || len(heard) < need {
		return fmt.Errorf("%w: without %s there are %d voters, %d of them must live and %d do (not heard: %s). Bring one back, or remove a dead one first", ErrUnfit,
			m.Name, voters, need, len(heard), strings.Join(silent, ", "))
	}
	return nil
}

// lastCopy says that no other standby could take over.
func (s standing) lastCopy(m fsm.Member) bool {
	if m.Role != fsm.RoleData {
		return false
	}
	for id, other := range s.state.Members {
		if id != m.ID && id != s.state.Primary && s.hasCopy(other) && !other.Leaving && s.heard(id) {
			return false
		}
	}
	return true
}

// hasCopy says that commits count on this node's copy. One that still gets its first copy, or is far behind, is a member with
// data too. With durability async nothing counts on anybody, and whoever is there has to do.
func (s standing) hasCopy(m fsm.Member) bool {
	if s.state.Config.Settings.Durability == fsm.DurabilityAsync {
		return m.Role == fsm.RoleData
	}
	return s.state.Sync.Has(m.ID)
}

func (s standing) names() []string {
	var out []string
	for _, m := range s.state.Members {
		out = append(out, m.Name)
	}
	slices.Sort(out)
	return out
}
