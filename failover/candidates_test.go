package failover

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
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

// lacks is what a candidate is said to lack, and whether that is all.
func lacks(t *testing.T, v View, node fsm.NodeID) (pg.LSN, bool) {
	t.Helper()
	for _, c := range Candidates(v) {
		if c.Node == node {
			return c.Lacks, c.Known
		}
	}
	t.Fatalf("%s is no candidate", node)
	return 0, false
}

// TestAnOldPrimarysTailIsNothingOfThePrimarysLog: where timeline 3 left timeline 2 everything that is longer on timeline 2 is another
// log. Its LSN can't be subtracted from one on timeline 3, neither for itself nor, as the furthest end that is known, for others.
func TestAnOldPrimarysTailIsNothingOfThePrimarysLog(t *testing.T) {
	v := hung() // n1 told of log to 0/5000 on timeline 3, which left timeline 2 at 0/3000
	v.Positions["n2"] = fsm.Position{Node: "n2", Detached: 7, Timeline: 2, LSN: 0xf000}
	v.Positions["n3"] = fsm.Position{Node: "n3", Detached: 7, Timeline: 3, LSN: 0x4000}
	for node, want := range map[fsm.NodeID]pg.LSN{"n2": 0x2000, "n3": 0x1000} {
		if got, known := lacks(t, v, node); got != want || !known {
			t.Errorf("%s is said to lack %s, known: %t; want %s", node, got, known, want)
		}
	}
}

// TestNothingKnownIsNotNothingLacked: the leader began after the primary was lost, or the log is on a timeline that nobody knows.
func TestNothingKnownIsNotNothingLacked(t *testing.T) {
	v := hung()
	delete(v.Seen, "n1")
	if got, known := lacks(t, v, "n2"); known {
		t.Errorf("how far n1 was is not known, and n2 is said to lack %s", got)
	}
	v = hung()
	v.Positions["n2"] = fsm.Position{Node: "n2", Detached: 7, Timeline: 9, LSN: 0xf000}
	if got, known := lacks(t, v, "n2"); known {
		t.Errorf("what is before timeline 9 is not known, and n2 is said to lack %s", got)
	}
}

// TestAsyncTakesNoOldPrimaryWithATail: it lacks all of the present timeline, however long its own log is, and
// maximum_lag_on_failover is not a wish. One that has the present timeline is not held to have less because of such a tail.
func TestAsyncTakesNoOldPrimaryWithATail(t *testing.T) {
	async := func(n2, n3 fsm.Position) View {
		v := electing()
		v.State.Sync = fsm.SyncRule{Members: []fsm.NodeID{}}
		v.State.Config.Settings.Durability = fsm.DurabilityAsync
		v.State.Config.Settings.MaximumLag = 16
		p := v.Seen["n1"]
		p.Report.Flush = 0x50000 // on timeline 3, which began at 0/3000
		v.Seen["n1"] = p
		v.Positions["n2"], v.Positions["n3"] = n2, n3
		v.SealingFor = answerBox + 1
		return v
	}
	at := func(node fsm.NodeID, tli pg.Timeline, lsn pg.LSN) fsm.Position {
		return fsm.Position{Node: node, Detached: 7, Timeline: tli, LSN: lsn}
	}
	d := Decide(async(at("n2", 2, 0x50000), at("n3", 2, 0x4000)))
	if got := appointee(d); got != "" {
		t.Errorf("%s appoints %s, which lacks 0x4d000 bytes of the primary's log with 16 allowed: %v", d.Rule, got, d.Because)
	}
	d = Decide(async(at("n2", 2, 0x90000), at("n3", 3, 0x50000)))
	if got := appointee(d); got != "n3" {
		t.Errorf("%s appoints %q, not n3, which lacks nothing: %v", d.Rule, got, d.Because)
	}
}
