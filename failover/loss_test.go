package failover

import (
	"strings"
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
// it stopped, and its log, where there is one, is what is accepted like any other.
func TestAReleaseWithoutAPlace(t *testing.T) {
	tokens := map[string]string{}
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
		if other, same := tokens[token]; same {
			t.Errorf("%s and %s have the same token", name, other)
		}
		tokens[token] = name
		v.State.Wish = &fsm.Wish{ID: "w", Kind: fsm.WishFailover, To: "n2", Epoch: 7, Loss: token}
		d := Decide(v)
		propose, _ := d.Do.(Propose)
		after, err := v.State.Apply(fsm.Envelope{ID: "x", IfRev: propose.IfRev, Change: propose.Command})
		if d.Rule != RuleAcceptedLoss || err != nil || after.Primary != "n2" {
			t.Errorf("%s: %s proposes %+v: %v", name, d.Rule, propose.Command, err)
		}
	}
}

// TestATokenCoversALogOfNowhere: n3 tells of a log on a timeline that the cluster does not know, as after a primary that opened another
// one than was predicted. It may be the best there is, and nobody who accepted the loss was shown it. Once shown it can be given up.
func TestATokenCoversALogOfNowhere(t *testing.T) {
	token, against := AcceptLoss(hung(), "n2")
	if against != "" {
		t.Fatal(against)
	}
	v := hung()
	v.State.Wish = &fsm.Wish{ID: "w", Kind: fsm.WishFailover, To: "n2", Epoch: 7, Loss: token}
	v.Positions["n3"] = fsm.Position{Node: "n3", Detached: 7, Timeline: 9, LSN: 0x9000}
	if d := Decide(v); d.Rule != "accepted-void" {
		t.Errorf("n3 told after the token was made of log to 9/0/9000, and %s decides: %v", d.Rule, d.Because)
	}
	v.State.Wish = nil
	token, against = AcceptLoss(v, "n2")
	if against != "" {
		t.Fatal(against)
	}
	v.State.Wish = &fsm.Wish{ID: "w", Kind: fsm.WishFailover, To: "n2", Epoch: 7, Loss: token}
	d := Decide(v)
	propose, _ := d.Do.(Propose)
	after, err := v.State.Apply(fsm.Envelope{ID: "x", IfRev: propose.IfRev, Change: propose.Command})
	if d.Rule != RuleAcceptedLoss || err != nil || after.Primary != "n2" {
		t.Errorf("with all logs shown %s proposes %+v: %v", d.Rule, propose.Command, err)
	}
}

// TestAReasonFitsWhereItGoes: the longest reason for which an accepted loss is dropped is one that the machine takes. It would be
// proposed for ever, and the wish would stay.
func TestAReasonFitsWhereItGoes(t *testing.T) {
	v := hung()
	m := v.State.Members["n2"]
	m.Name = strings.Repeat("n", 63)
	v.State.Members["n2"] = m
	v.State.Config.Settings.FailoverAfterMS = 30_000
	v.Unapplied["n2"] = 1000*time.Hour - time.Millisecond
	v.Seals = map[fsm.NodeID]Sealed{"n2": {Epoch: 7}, "n3": {Epoch: 7}}
	p := v.Seen["n1"]
	p.Age = time.Hour
	v.Seen["n1"] = p
	v.State.Wish = &fsm.Wish{ID: "w", Kind: fsm.WishFailover, To: "n2", Epoch: 7, Loss: "some"}
	for _, id := range []fsm.NodeID{"n2", "n3"} {
		s := v.Seen[id]
		s.Report.Sightings = []Age{{Node: "n1", MS: 3_600_000}}
		v.Seen[id] = s
	}
	d := Decide(v)
	propose, _ := d.Do.(Propose)
	if _, is := propose.Command.(fsm.EndWish); !is || !strings.Contains(joined(d.Because), "disk full") {
		t.Fatalf("%s: %v", d.Rule, d.Because)
	}
	if _, err := v.State.Apply(fsm.Envelope{ID: "x", IfRev: propose.IfRev, Change: propose.Command}); err != nil {
		t.Error(err)
	}
}
