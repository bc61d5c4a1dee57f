package failover

import (
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
)

// hung is a view in which n1 alone had the newest commits and is gone, and n3 beats and has not told its position for long.
func hung() View {
	v := electing()
	v.State.Sync = fsm.SyncRule{Members: []fsm.NodeID{"n1"}, Copies: 1}
	v.SealingFor = answerBox + 1
	delete(v.Positions, "n3")
	return v
}

// TestALateAnswerVoidsTheToken: what is told after a loss was accepted was not accepted, also where it is less than the rest.
func TestALateAnswerVoidsTheToken(t *testing.T) {
	token, against := AcceptLoss(hung(), "n2")
	if against != "" {
		t.Fatal(against)
	}
	v := hung()
	v.State.Wish = &fsm.Wish{ID: "w", Kind: fsm.WishFailover, To: "n2", Epoch: 7, Loss: token}
	if d := Decide(v); d.Rule != RuleAcceptedLoss {
		t.Fatalf("without an answer %s decides: %v", d.Rule, d.Because)
	}
	v.Positions["n3"] = fsm.Position{Node: "n3", Detached: 7, Timeline: 3, LSN: 0x100}
	if d := Decide(v); d.Rule != "accepted-void" {
		t.Errorf("with one %s decides: %v", d.Rule, d.Because)
	}
}

// TestAReleaseWithoutAPlace: a primary releases with a log that is in no history of the cluster, or with none. Its release shows that
// it stopped. The state machine refuses a position that it can't compare, so that none goes with it.
func TestAReleaseWithoutAPlace(t *testing.T) {
	for name, r := range map[string]fsm.Release{
		"a timeline of another history": {Epoch: 7, Node: "n1", Timeline: 9, FinalLSN: 0x9000},
		"no position":                   {Epoch: 7, Node: "n1"},
		"a known one":                   {Epoch: 7, Node: "n1", Timeline: 3, FinalLSN: 0x7000},
	} {
		v := hung()
		p := v.Seen["n1"]
		p.Age, p.Report.Run, p.Report.Released, p.Report.Serving = 10*time.Millisecond, RunStopped, &r, 0
		v.Seen["n1"], v.Seals = p, nil
		token, against := AcceptLoss(v, "n2")
		if against != "" {
			t.Errorf("%s: %s", name, against)
			continue
		}
		v.State.Wish = &fsm.Wish{ID: "w", Kind: fsm.WishFailover, To: "n2", Epoch: 7, Loss: token}
		d := Decide(v)
		propose, _ := d.Do.(Propose)
		after, err := v.State.Apply(fsm.Envelope{ID: "x", IfRev: propose.IfRev, Change: propose.Command})
		if d.Rule != RuleAcceptedLoss || err != nil || after.Primary != "n2" {
			t.Errorf("%s: %s proposes %+v: %v", name, d.Rule, propose.Command, err)
		}
	}
}
