package failover

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
)

// electorateCase is where one node other than the primary n1 stands on its way in or out.
type electorateCase struct {
	member   string // what the cluster shall have it be: voter, novote, leaving; empty: no member
	standing Standing
	elects   bool // it is in the electorate
	age      time.Duration
	caughtUp bool
}

func electorateCases() []electorateCase {
	var out []electorateCase
	for _, member := range []string{"voter", "novote", "leaving", ""} {
		for _, standing := range []Standing{"", NonVoter, Voter} {
			for _, elects := range []bool{false, true} {
				for _, age := range []time.Duration{0, time.Second} {
					if elects && member == "" {
						continue // the machine forgets no voter
					}
					out = append(out, electorateCase{member, standing, elects, age, age == 0})
				}
			}
		}
	}
	return out
}

// TestEveryElectorateStep looks at every way in which three nodes can stand beside the primary, and at every step from there.
func TestEveryElectorateStep(t *testing.T) {
	fired, views := map[string]int{}, 0
	cases := electorateCases()
	for _, a := range cases {
		for _, b := range cases {
			for _, c := range cases {
				for _, shown := range []time.Duration{0, 2*time.Second - 1, 2 * time.Second} {
					for _, serving := range []bool{true, false} {
						v := electorateView(map[fsm.NodeID]electorateCase{"n2": a, "n3": b, "n4": c}, shown, serving)
						if apart(v) > 1 {
							continue // no sequence of steps leads here, as the check below shows
						}
						views++
						d := Decide(v)
						fired[d.Rule]++
						if why := unsafeStep(v, d); why != "" {
							t.Fatalf("%s\nrule %s: %s\nn2 %+v\nn3 %+v\nn4 %+v\nshown %s serving %v", why, d.Rule, renderDo(v, d.Do), a, b, c, shown, serving)
						}
					}
				}
			}
		}
	}
	t.Logf("%d views, rules fired: %v", views, fired)
	for _, name := range []string{"member-enrol", "member-strike", "member-forget", "electorate-grow", "electorate-shrink", "member-vote", "member-leaving"} {
		if fired[name] == 0 {
			t.Errorf("rule %s never fired", name)
		}
	}
}

func electorateView(nodes map[fsm.NodeID]electorateCase, shown time.Duration, serving bool) View {
	v := baseView()
	v.Self, v.ElectorateShown = "n1", shown
	v.State.Sync = fsm.SyncRule{Members: []fsm.NodeID{"n1"}, Copies: 1}
	v.State.Members["n1"] = fsm.Member{ID: "n1", Name: "n1", Role: fsm.RoleData, Addr: "a"}
	v.State.Electorate.Voters = []fsm.NodeID{"n1"}
	v.Servers = map[fsm.NodeID]Standing{"n1": Voter}
	r := Report{Node: "n1", Epoch: 7, Rev: 9, Run: RunRunning, Healthy: true}
	if serving {
		r.Serving = 7
	}
	v.Seen["n1"] = Sighting{Report: r}
	for _, id := range []fsm.NodeID{"n2", "n3", "n4"} {
		n := nodes[id]
		if n.member != "" {
			v.State.Members[id] = fsm.Member{ID: id, Name: string(id), Role: fsm.RoleWitness, Addr: "a", NoVote: n.member == "novote", Leaving: n.member == "leaving"}
		}
		if n.elects {
			v.State.Electorate.Voters = append(v.State.Electorate.Voters, id)
		}
		if n.standing != "" {
			v.Servers[id] = n.standing
		}
		v.Seen[id] = Sighting{Age: n.age, Report: Report{Node: id, Epoch: 7, Rev: 9, Run: RunNone, Sightings: []Age{{Node: "n1", MS: 10}}}}
		v.CaughtUp[id] = n.caughtUp
	}
	return v
}

// apart is by how many nodes the electorate and Raft's voters differ.
func apart(v View) int {
	n := 0
	for _, id := range []fsm.NodeID{"n1", "n2", "n3", "n4"} {
		if slices.Contains(v.State.Electorate.Voters, id) != (v.Servers[id] == Voter) {
			n++
		}
	}
	return n
}

// unsafeStep says what is wrong with a step, empty if nothing is.
func unsafeStep(v View, d Decision) string {
	before := slices.Clone(v.State.Electorate.Voters)
	switch do := d.Do.(type) {
	case Reconfigure:
		v.Servers[do.Node] = do.To
		if do.To == Outside {
			delete(v.Servers, do.Node)
		}
		if do.To != Voter && slices.Contains(before, do.Node) && v.Servers[do.Node] != Voter && d.Rule == "member-strike" {
			return "a voter of the electorate loses its vote in Raft"
		}
	case Propose:
		switch c := do.Command.(type) {
		case fsm.SetElectorate:
			if v.ElectorateShown < 2*time.Second || v.Seen["n1"].Report.Serving != 7 {
				return "the electorate changes though a lease may be counted under an older one"
			}
			if !slices.Contains(c.Voters, "n1") {
				return "the primary loses its vote"
			}
			if err := electable(v, c.Voters); err != nil {
				return err.Error()
			}
			v.State.Electorate.Voters = c.Voters
		case fsm.RemoveMember:
			if slices.Contains(before, c.ID) || v.Servers[c.ID] != "" {
				return "a member is forgotten that something counts on"
			}
		}
	}
	if apart(v) > 1 {
		return "the electorate and Raft's voters come to differ by more than one node"
	}
	return ""
}

// electable refuses an electorate that is not one step away, or of which no majority is heard after a removal.
func electable(v View, voters []fsm.NodeID) error {
	before, heard := v.State.Electorate.Voters, 0
	for _, id := range voters {
		if v.Seen[id].Age == 0 {
			heard++
		}
	}
	if d := len(voters) - len(before); d != 1 && d != -1 {
		return fmt.Errorf("%d voters instead of %d", len(voters), len(before))
	}
	if len(voters) < len(before) && heard < len(voters)/2+1 {
		return fmt.Errorf("%d of %d voters are heard after the removal", heard, len(voters))
	}
	return nil
}
