package failover

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
)

// served is n1 serving epoch 3 with n2 and n3 behind it, as n2 sees it.
func served() View {
	v := View{Self: "n2", Leading: true, BeatEvery: 125 * time.Millisecond, LeadingFor: time.Minute, EpochAge: time.Minute, Seen: map[fsm.NodeID]Sighting{}}
	v.State = fsm.State{
		ClusterID: "c", Epoch: 3, Primary: "n1", Members: map[fsm.NodeID]fsm.Member{},
		Electorate: fsm.Electorate{Voters: []fsm.NodeID{"n1", "n2", "n3"}},
		Sync:       fsm.SyncRule{Members: []fsm.NodeID{"n1", "n2", "n3"}, Copies: 2},
		Config:     fsm.Config{Settings: fsm.Settings{FailoverAfterMS: 1000, Durability: fsm.DurabilityQuorum}},
		Lineage:    []fsm.Lineage{{Epoch: 3, Node: "n1", Timeline: 1, Promoted: true}},
	}
	for _, id := range []fsm.NodeID{"n1", "n2", "n3"} {
		v.State.Members[id] = fsm.Member{ID: id, Name: string(id), Role: fsm.RoleData}
		v.Seen[id] = Sighting{Report: Report{Node: id, Epoch: 3, Run: RunRunning, Healthy: true, Timeline: 1, Flush: 0x900, InRecovery: id != "n1"}}
	}
	p := v.Seen["n1"]
	p.Report.Serving, p.Report.Streaming = 3, []StreamingMember{{Node: "n2", Flush: 0x900}, {Node: "n3", Flush: 0x800}}
	v.Seen["n1"] = p
	return v
}

func TestHandOver(t *testing.T) {
	v := served()
	for to, want := range map[fsm.NodeID]struct {
		node    fsm.NodeID
		against string
	}{
		"":   {"n2", ""},
		"n3": {"n3", ""},
		"n1": {"n1", "is the primary already"},
		"n9": {"n9", "not a member"},
	} {
		node, against := HandOver(v, to)
		if node != want.node || (against == "") != (want.against == "") || !strings.Contains(against, want.against) {
			t.Errorf("to %q: %s, %q", to, node, against)
		}
	}
	if v.State.Wish != nil {
		t.Error("the view was changed")
	}
}

func TestCandidates(t *testing.T) {
	v := served()
	for _, c := range Candidates(v) {
		if c.Against != "" || c.LSN != 0x900 {
			t.Errorf("while the primary serves: %+v", c)
		}
	}
	// The primary is gone and n3 too: nobody knows what n3 has, and n2 alone does not suffice.
	gone := v.Seen["n1"]
	gone.Age, gone.Report.Flush = time.Minute, 0xa00
	v.Seen["n1"] = gone
	lost := v.Seen["n3"]
	lost.Age = time.Minute
	v.Seen["n3"] = lost
	v.Positions = map[fsm.NodeID]fsm.Position{"n2": {Node: "n2", Detached: 3, Timeline: 1, LSN: 0x900}}
	got := Candidates(v)
	if len(got) != 2 || !strings.Contains(got[0].Against, "2 nodes have to be known") || got[0].Lacks != 0x100 || !strings.Contains(got[1].Against, "last heard 1m0s ago") {
		t.Errorf("%+v", got)
	}
	// n3 is back, not ahead of n2.
	lost.Age = 0
	v.Seen["n3"] = lost
	v.Positions["n3"] = fsm.Position{Node: "n3", Detached: 3, Timeline: 1, LSN: 0x800}
	got = Candidates(v)
	if got[0].Against != "" || got[1].Against == "" {
		t.Errorf("%+v", got)
	}
}
