package lead

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/quorate/quorate/cluster/lease"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

const ms = time.Millisecond

func at(epoch fsm.Epoch, primary fsm.NodeID) fsm.State {
	return fsm.State{Epoch: epoch, Primary: primary}
}

func filled(l *ledger, now time.Duration) failover.View {
	var v failover.View
	l.fill(now, &v)
	return v
}

func TestFactsOfAnEpochEndWithIt(t *testing.T) {
	l := newLedger(100 * ms)
	l.observe(100*ms, at(7, "a"))
	l.noteSealing(110*ms, 7)
	l.noteAnswer(120*ms, "b", 7, lease.AskReply{VouchedAgo: time.Second})
	l.noteSeal(130*ms, "b", 7, lease.SealReply{Epoch: 7, Left: 40 * ms})
	l.notePosition("b", 7, fsm.Position{Node: "b", Detached: 7, LSN: 5})
	l.noteRefusal(0, "c", 7, fmt.Errorf("%w: cloning", ErrRefused))
	l.noteRefusal(0, "d", 7, errors.New("connection refused")) // no answer, so nothing is known

	s := at(7, "a")
	s.Rev = 99 // a new revision of the same epoch
	l.observe(140*ms, s)
	v := filled(l, 150*ms)
	if a := v.Answers["b"]; a.Age != 30*ms || a.VouchedAgo != time.Second {
		t.Errorf("answer %+v", a)
	}
	if s := v.Seals["b"]; s.Age != 20*ms || s.Left != 40*ms || s.Epoch != 7 {
		t.Errorf("seal %+v", s)
	}
	if v.Positions["b"].LSN != 5 || v.Failed["c"] == "" || len(v.Failed) != 1 || v.SealingFor != 40*ms {
		t.Errorf("positions %v, failed %v, sealing for %s", v.Positions, v.Failed, v.SealingFor)
	}

	l.observe(160*ms, at(8, "b"))
	l.noteAnswer(170*ms, "c", 7, lease.AskReply{})
	l.noteSeal(170*ms, "c", 7, lease.SealReply{Epoch: 7})
	l.notePosition("c", 7, fsm.Position{Node: "c", Detached: 7})
	l.noteRefusal(0, "c", 7, ErrRefused)
	l.noteSealing(170*ms, 7)
	v = filled(l, 180*ms)
	if len(v.Answers)+len(v.Seals)+len(v.Positions)+len(v.Failed) != 0 || v.SealingFor != 0 {
		t.Errorf("facts of epoch 7 in epoch 8: %+v", v)
	}
	if v.EpochAge != 20*ms || len(v.Appointed) != 1 || v.Appointed[0] != 20*ms {
		t.Errorf("epoch age %s, appointed %v", v.EpochAge, v.Appointed)
	}
}

func TestOnlyTheFirstSealsWaitCounts(t *testing.T) {
	l := newLedger(0)
	l.observe(0, at(7, "a"))
	l.noteSeal(10*ms, "b", 7, lease.SealReply{Epoch: 6}) // no promise for 7
	if len(filled(l, 10*ms).Seals) != 0 {
		t.Fatal("a seal of an earlier epoch counted")
	}
	l.noteSeal(20*ms, "b", 7, lease.SealReply{Epoch: 7, Left: 90 * ms})
	l.noteSeal(50*ms, "b", 7, lease.SealReply{Epoch: 7, Left: 60 * ms})
	if s := filled(l, 60*ms).Seals["b"]; s.Left != 90*ms || s.Age != 40*ms {
		t.Errorf("seal %+v, want the first answer's", s)
	}
}

func TestPositionsMustBeTheNodesOwn(t *testing.T) {
	l := newLedger(0)
	l.observe(0, at(7, "a"))
	l.notePosition("b", 7, fsm.Position{Node: "c", Detached: 7})
	l.notePosition("b", 7, fsm.Position{Node: "b", Detached: 6})
	if got := filled(l, 0).Positions; len(got) != 0 {
		t.Errorf("taken: %v", got)
	}
	l.noteRefusal(0, "b", 7, ErrRefused)
	l.notePosition("b", 7, fsm.Position{Node: "b", Detached: 7})
	l.noteRefusal(0, "b", 7, ErrRefused)
	if v := filled(l, 0); len(v.Positions) != 1 || len(v.Failed) != 0 {
		t.Errorf("positions %v beside refusals %v", v.Positions, v.Failed)
	}
}

func TestARefusalHoldsForAMoment(t *testing.T) {
	l := newLedger(0)
	l.observe(0, at(7, "a"))
	l.noteRefusal(time.Second, "b", 7, ErrRefused)
	if v := filled(l, time.Second+refusalHolds); len(v.Failed) != 1 {
		t.Errorf("refusals %v, want the one of b", v.Failed)
	}
	if v := filled(l, time.Second+refusalHolds+1); len(v.Failed) != 0 {
		t.Errorf("refusals %v, want none: b must be asked again", v.Failed)
	}
}

func TestReappointmentsAreNoFailovers(t *testing.T) {
	l := newLedger(0)
	for i, s := range []fsm.State{at(1, "a"), at(2, "a"), at(3, "b"), at(2, "a"), at(4, "a"), at(5, "a")} {
		l.observe(time.Duration(i+1)*time.Second, s)
	}
	if got := filled(l, 10*time.Second).Reappointed; len(got) != 2 {
		t.Errorf("re-appointments %v, want 2", got)
	}
	if got := filled(l, 10*time.Second).Appointed; len(got) != 2 || got[0] != 5*time.Second || got[1] != 7*time.Second {
		t.Errorf("appointed %v, want 5s and 7s ago", got)
	}
	l.observe(124*time.Second, at(5, "a"))
	if got := filled(l, 124*time.Second).Appointed; len(got) != 1 {
		t.Errorf("appointed %v two minutes on, want only the newer", got)
	}
}

func TestWishAge(t *testing.T) {
	l := newLedger(0)
	s := at(1, "a")
	s.Wish = &fsm.Wish{ID: "w1"}
	l.observe(time.Second, s)
	l.observe(2*time.Second, s)
	if got := filled(l, 3*time.Second).WishAge; got != 2*time.Second {
		t.Errorf("wish age %s", got)
	}
	s.Wish = &fsm.Wish{ID: "w2"}
	l.observe(4*time.Second, s)
	if got := filled(l, 5*time.Second).WishAge; got != time.Second {
		t.Errorf("age of the next wish %s", got)
	}
	s.Wish = nil
	l.observe(6*time.Second, s)
	if got := filled(l, 7*time.Second).WishAge; got != 0 {
		t.Errorf("age of no wish %s", got)
	}
}
