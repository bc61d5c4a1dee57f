package failover

import (
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// TestApplied says for how long n2 has got nothing of a log of which it lacks some.
func TestApplied(t *testing.T) {
	type look struct {
		at   time.Duration
		view View
		want time.Duration
	}
	// state is epoch 7, revision 9 and a version; shown is what n2 shows of it.
	at := func(version uint64, age time.Duration, shown progress) View {
		v := baseView()
		v.State = exhaustiveState()
		v.State.Version = version
		v.Seen["n2"] = Sighting{Age: age, Report: Report{Node: "n2", Epoch: shown.epoch, Rev: shown.rev, Version: shown.version}}
		return v
	}
	shows := func(version uint64) progress { return progress{7, 9, version} }
	const lacksNothing = -1
	for _, c := range []struct {
		name  string
		looks []look
	}{
		{"it has everything", []look{{0, at(9, 0, shows(9)), lacksNothing}, {time.Minute, at(9, 0, shows(9)), lacksNothing}}},
		{"it has more than the looker", []look{{0, at(9, 0, shows(12)), lacksNothing}}},
		{"something new is on its way", []look{{0, at(9, 0, shows(9)), lacksNothing}, {time.Minute, at(10, 0, shows(9)), 0}, {time.Minute + ms, at(10, 0, shows(10)), lacksNothing}}},
		{"it gets nothing", []look{{0, at(10, 0, shows(9)), 0}, {time.Second, at(10, 0, shows(9)), time.Second}, {time.Minute, at(14, 0, shows(9)), time.Minute}}},
		{"it is far behind and gets on", []look{{0, at(90, 0, shows(9)), 0}, {time.Second, at(90, 0, shows(12)), 0}, {3 * time.Second, at(90, 0, shows(12)), 2 * time.Second}}},
		{"it lacks an epoch", []look{{0, at(9, 0, progress{6, 8, 8}), 0}, {time.Minute, at(9, 0, progress{6, 8, 8}), time.Minute}}},
		{"an earlier release shows no version", []look{{0, at(9, 0, shows(0)), lacksNothing}, {time.Minute, at(90, 0, shows(0)), lacksNothing}}},
		{"but its revision", []look{{0, at(9, 0, progress{7, 8, 0}), 0}, {time.Minute, at(9, 0, progress{7, 8, 0}), time.Minute}}},
		{"who was away begins anew", []look{{0, at(10, 0, shows(9)), 0}, {time.Minute, at(10, 1001*ms, shows(9)), lacksNothing}, {time.Minute + ms, at(10, 0, shows(9)), 0}}},
		{"a beat is late", []look{{0, at(10, 0, shows(9)), 0}, {900 * ms, at(10, 900*ms, shows(9)), 900 * ms}}},
	} {
		var a Applied
		for i, l := range c.looks {
			got, lacks := a.Look(l.at, l.view)["n2"]
			if lacks != (l.want != lacksNothing) || lacks && got != l.want {
				t.Errorf("%s: look %d says %s, %t, want %s", c.name, i, got, lacks, l.want)
			}
		}
	}
}

// TestAStrangerIsNotLookedAt: who is no member any more can lack nothing.
func TestAStrangerIsNotLookedAt(t *testing.T) {
	v := baseView()
	v.State = exhaustiveState()
	v.Seen["n9"] = Sighting{Report: Report{Node: "n9", Epoch: 1}}
	var a Applied
	if got := a.Look(0, v); len(got) != 0 {
		t.Errorf("lacking: %v", got)
	}
}

// TestCandidatesWithoutTheLog: a candidate that does not get Raft's log is said to be none while another one is.
func TestCandidatesWithoutTheLog(t *testing.T) {
	v, at := electing(), pg.LSN(0x6000)
	for _, id := range []fsm.NodeID{"n2", "n3"} {
		v.Positions[id] = fsm.Position{Node: id, Detached: 7, Timeline: 3, LSN: at}
	}
	v.Unapplied["n3"] = noLog
	for _, c := range Candidates(v) {
		if (c.Against == "") != (c.Node == "n2") {
			t.Errorf("against %s: %q", c.Node, c.Against)
		}
	}
	v.Positions["n2"] = fsm.Position{Node: "n2", Detached: 7, Timeline: 3, LSN: at - 1} // a commit may be on n1 and n3 only
	for _, c := range Candidates(v) {
		if (c.Against == "") != (c.Node == "n3") {
			t.Errorf("against %s, alone: %q", c.Node, c.Against)
		}
	}
}

// TestNobodyReplacesWhoAdopts: until the data that the cluster begins with are opened nobody else can be appointed.
func TestNobodyReplacesWhoAdopts(t *testing.T) {
	at := standbyCase{heard: 10 * ms, answer: 1100 * ms, run: RunRunning}
	v := compose(exhaustiveState(), primaryCase{run: RunRunning, rev: 8, unread: true}, map[fsm.NodeID]standbyCase{"n2": at, "n3": at})
	v.State.Sync = fsm.SyncRule{Members: []fsm.NodeID{"n1", "n2", "n3"}, Copies: 2}
	if got := Decide(v).Rule; got != "appointment-unread" {
		t.Fatalf("without an adoption rule %s decides", got)
	}
	v.State.Adopted = &fsm.Adoption{Node: "n1", Timeline: 3}
	for i := range v.State.Lineage {
		v.State.Lineage[i].Promoted = false
	}
	if got := Decide(v).Rule; got != "primary-starting" {
		t.Errorf("rule %s decides", got)
	}
}
