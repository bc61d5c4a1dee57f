package failover

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/fsm"
)

// The rows that bring members in and out (DETAILS 5, lease.md rule 3). Raft's configuration and the electorate differ by one
// node at most: a node comes into Raft without a vote, gets Raft's vote once it has caught up and then its place in the
// electorate, and goes the same way backwards. Each row is one step, and a new leader goes on wherever the last one stopped.

// Standing is a node's place in Raft's configuration.
type Standing string

// The standings.
const (
	Outside  Standing = "outside" // not in the configuration
	NonVoter Standing = "non-voter"
	Voter    Standing = "voter"
)

// Reconfigure gives Node the place To in Raft's configuration.
type Reconfigure struct {
	Node fsm.NodeID
	To   Standing
}

func (Reconfigure) do() {}

// votes says that the node shall vote once it can.
func votes(m fsm.Member) bool { return !m.NoVote && !m.Leaving }

// unenrolled is a member that Raft does not have, or does not let vote though the electorate does.
func (f *facts) unenrolled() (fsm.Member, Standing, bool) {
	for _, id := range f.memberIDs() {
		m, s := f.State.Members[id], f.Servers[id]
		switch {
		case f.voters[id] && s != Voter:
			return m, Voter, true // it was let into the electorate: nothing of ours comes to this
		case s == "" && !m.Leaving:
			return m, NonVoter, true
		}
	}
	return fsm.Member{}, "", false
}

func memberUnenrolled(f *facts) bool {
	_, _, ok := f.unenrolled()
	return f.knowsServers() && ok
}

// knowsServers: only a leader may change Raft's configuration, and one that does not know it changes nothing.
func (f *facts) knowsServers() bool { return f.Leading && len(f.Servers) > 0 }

func thenEnrol(f *facts) Decision {
	m, to, _ := f.unenrolled()
	return Decision{Verdict: Acting, Do: Reconfigure{Node: m.ID, To: to}, Because: []string{
		fmt.Sprintf("%s is a member and not in Raft's configuration as a %s", m.Name, to),
	}}
}

// surplus is a server that Raft still has, or still lets vote, though nothing counts on it any more. One that leaves stays until
// no commit counts on it, so that it still hears of that.
func (f *facts) surplus() (fsm.NodeID, Standing, bool) {
	for _, id := range f.serverIDs() {
		if f.voters[id] {
			continue
		}
		m, member := f.State.Members[id]
		switch {
		case !member || m.Leaving && !f.State.Sync.Has(id):
			return id, Outside, true
		case m.NoVote && f.Servers[id] == Voter:
			return id, NonVoter, true
		}
	}
	return "", "", false
}

func (f *facts) serverIDs() []fsm.NodeID {
	var ids []fsm.NodeID
	for id := range f.Servers {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func serverSurplus(f *facts) bool {
	id, _, ok := f.surplus()
	return f.knowsServers() && ok && id != f.Self
}

func thenStrike(f *facts) Decision {
	id, to, _ := f.surplus()
	return Decision{Verdict: Acting, Do: Reconfigure{Node: id, To: to}, Because: []string{
		f.name(id) + " has no vote in the electorate any more",
	}}
}

// gone is a leaving member on which nothing counts any more.
func (f *facts) gone() (fsm.NodeID, bool) {
	for _, id := range f.memberIDs() {
		if f.State.Members[id].Leaving && !f.voters[id] && !f.State.Sync.Has(id) && f.Servers[id] == "" {
			return id, true
		}
	}
	return "", false
}

func memberGone(f *facts) bool {
	_, ok := f.gone()
	return f.knowsServers() && ok
}

func thenForget(f *facts) Decision {
	id, _ := f.gone()
	return f.propose(fsm.RemoveMember{ID: id}, "nothing counts on "+f.name(id)+" any more")
}

// halfway are the nodes that vote in Raft and not in the electorate, or the other way round: a change is under way, and no other
// may begin.
func (f *facts) halfway() []fsm.NodeID {
	var ids []fsm.NodeID
	for id := range f.voters {
		if f.Servers[id] != Voter {
			ids = append(ids, id)
		}
	}
	for _, id := range f.serverIDs() {
		if f.Servers[id] == Voter && !f.voters[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// electorateShown is lease.md rule 3: the primary's own beats have shown this leader the present electorate for twice the
// longest lease, so no lease is counted under an older one. 2 L (1+r)/(1-r) with L = 0.8 failover_after is less than
// 2 failover_after.
func electorateShown(f *facts) bool {
	return f.knowsServers() && f.primaryFresh && !notServing(f) && f.ElectorateShown >= 2*f.failoverAfter
}

// entrant is the voter of Raft that shall come into the electorate.
func (f *facts) entrant() (fsm.NodeID, bool) {
	ids := f.halfway()
	if len(ids) != 1 || f.voters[ids[0]] {
		return "", false
	}
	m, ok := f.State.Members[ids[0]]
	return ids[0], ok && votes(m) && f.CaughtUp[ids[0]]
}

func electorateGrows(f *facts) bool {
	_, ok := f.entrant()
	return ok && electorateShown(f)
}

func thenGrowElectorate(f *facts) Decision {
	id, _ := f.entrant()
	voters := append(slices.Clone(f.State.Electorate.Voters), id)
	return f.propose(fsm.SetElectorate{Voters: voters}, fmt.Sprintf("%s has caught up; %d voters instead of %d", f.name(id), len(voters), len(voters)-1))
}

// leaver is a voter that shall vote no more and that the others can do without: a majority of them is heard. The primary
// stays; it can be removed after a switchover.
func (f *facts) leaver() (fsm.NodeID, bool) {
	for _, id := range f.State.Electorate.Voters {
		if m, ok := f.State.Members[id]; ok && votes(m) || id == f.State.Primary {
			continue
		}
		heard, rest := 0, 0
		for _, other := range f.State.Electorate.Voters {
			if other == id {
				continue
			}
			rest++
			if s, ok := f.Seen[other]; ok && f.fresh(s) {
				heard++
			}
		}
		if rest > 0 && heard >= rest/2+1 {
			return id, true
		}
	}
	return "", false
}

func electorateShrinks(f *facts) bool {
	id, ok := f.leaver()
	return ok && id != f.Self && len(f.halfway()) == 0 && electorateShown(f)
}

func thenShrinkElectorate(f *facts) Decision {
	id, _ := f.leaver()
	var rest []fsm.NodeID
	for _, other := range f.State.Electorate.Voters {
		if other != id {
			rest = append(rest, other)
		}
	}
	return f.propose(fsm.SetElectorate{Voters: rest}, fmt.Sprintf("%s shall not vote any more; %d voters instead of %d", f.name(id), len(rest), len(rest)+1))
}

// leaderLeaves: a leader does not take itself out; another voter leads on.
func leaderLeaves(f *facts) bool {
	m, ok := f.State.Members[f.Self]
	return f.knowsServers() && ok && !votes(m) && f.heir() != ""
}

func thenHandOffLeaving(f *facts) Decision {
	to := f.heir()
	return Decision{Verdict: Acting, Do: HandOff{To: to}, Because: []string{f.name(f.Self) + " leads and shall vote no more; " + f.name(to) + " can lead"}}
}

// candidates are the non-voters that could vote at once.
func (f *facts) candidates() []fsm.NodeID {
	var ids []fsm.NodeID
	for _, id := range f.memberIDs() {
		s, heard := f.Seen[id]
		if f.Servers[id] == NonVoter && votes(f.State.Members[id]) && heard && f.fresh(s) && f.CaughtUp[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// promotable: voters come in pairs. Of an even number one more must live for a majority than of the odd number below it,
// and no more may die.
func (f *facts) promotable() (fsm.NodeID, bool) {
	ids, voters := f.candidates(), len(f.State.Electorate.Voters)
	if len(ids) == 0 || voters >= fsm.MaxVoters || voters%2 == 1 && (len(ids) < 2 || voters+2 > fsm.MaxVoters) {
		return "", false
	}
	return ids[0], true
}

func memberVotes(f *facts) bool {
	_, ok := f.promotable()
	_, leaving := f.leaver()
	return ok && !leaving && len(f.halfway()) == 0 && electorateShown(f)
}

func thenGiveVote(f *facts) Decision {
	id, _ := f.promotable()
	return Decision{Verdict: Acting, Do: Reconfigure{Node: id, To: Voter}, Because: []string{
		fmt.Sprintf("%s has caught up and becomes voter number %d", f.name(id), len(f.State.Electorate.Voters)+1),
	}}
}

// departing are the members on their way out, each with what holds it up.
func (f *facts) departing() []string {
	var out []string
	for _, id := range f.memberIDs() {
		m := f.State.Members[id]
		switch {
		case !m.Leaving:
		case f.State.Sync.Has(id):
			out = append(out, fmt.Sprintf("%s is being removed: commits still count on its copy (%s)", m.Name, f.rule(f.State.Sync)))
		case f.voters[id]:
			out = append(out, fmt.Sprintf("%s is being removed: it still votes, one of %d", m.Name, len(f.voters)))
		default:
			out = append(out, m.Name+" is being removed")
		}
	}
	return out
}

func memberDeparting(f *facts) bool { return !notServing(f) && len(f.departing()) > 0 }

func thenAwaitDeparture(f *facts) Decision {
	return Decision{Verdict: Waiting, Do: Nothing{}, Because: f.departing()}
}
