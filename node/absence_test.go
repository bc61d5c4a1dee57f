package node

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl"
)

// TestNoLogIsKeptForWhoIsAwayForLong: a member loses its slot after half an hour without a word and without a stream, not
// earlier, and has it again as soon as it is heard.
func TestNoLogIsKeptForWhoIsAwayForLong(t *testing.T) {
	s := threeNodes(3, "1")
	s.Members["w"] = fsm.Member{ID: "w", Name: "w1", Role: fsm.RoleWitness}
	paused := s
	paused.Paused = true
	heard := func(age time.Duration) map[fsm.NodeID]failover.Sighting {
		return map[fsm.NodeID]failover.Sighting{"2": {Age: time.Second}, "3": {Age: age}}
	}
	streams := []pgctl.Sender{{Name: "n3", Slot: slot(s.Members["3"])}}
	type look struct {
		at      time.Duration
		state   fsm.State
		seen    map[fsm.NodeID]failover.Sighting
		senders []pgctl.Sender
		away    bool // n3
	}
	for _, c := range []struct {
		name  string
		looks []look
	}{
		{"away", []look{{0, s, heard(0), nil, false}, {29 * time.Minute, s, heard(29 * time.Minute), nil, false}, {30 * time.Minute, s, heard(30 * time.Minute), nil, true}}},
		{"never heard: it counts from the first look", []look{{time.Hour, s, nil, nil, false}, {90 * time.Minute, s, nil, nil, true}}},
		{"back", []look{{0, s, heard(0), nil, false}, {31 * time.Minute, s, heard(31 * time.Minute), nil, true}, {32 * time.Minute, s, heard(0), nil, false}}},
		{"heard in between", []look{{0, s, heard(0), nil, false}, {20 * time.Minute, s, heard(0), nil, false}, {40 * time.Minute, s, heard(20 * time.Minute), nil, false}}},
		{"its agent is dead and its Postgres streams", []look{{0, s, heard(0), nil, false}, {31 * time.Minute, s, heard(31 * time.Minute), streams, false}}},
		{"taken down in a pause", []look{{0, s, heard(0), nil, false}, {31 * time.Minute, paused, heard(31 * time.Minute), nil, false}, {32 * time.Minute, s, heard(32 * time.Minute), nil, false}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var a absences
			last := c.looks[0].at
			for _, l := range c.looks {
				for ; last < l.at; last += presentWithin { // It looks all the time.
					a.look(l.state, "1", l.seen, l.senders, last)
				}
				away := a.look(l.state, "1", l.seen, l.senders, l.at)
				if away["3"] != l.away {
					t.Fatalf("after %s: away %t, want %t", l.at, away["3"], l.away)
				}
				if away["1"] || away["w"] || l.seen != nil && away["2"] {
					t.Fatalf("after %s: away are %v", l.at, away)
				}
				kept := want(situation{self: "1", state: l.state, away: away}).Slots
				if slices.Contains(kept, slot(s.Members["3"])) == l.away || !slices.Contains(kept, slot(s.Members["2"])) && !away["2"] {
					t.Fatalf("after %s: the slots kept are %v", l.at, kept)
				}
			}
		})
	}
}

// TestASleepIsNoAbsence: all machines were suspended, and this one looks before it has heard anybody again.
func TestASleepIsNoAbsence(t *testing.T) {
	s, a := threeNodes(3, "1"), absences{}
	seen := func(age time.Duration) map[fsm.NodeID]failover.Sighting {
		return map[fsm.NodeID]failover.Sighting{"2": {Age: age}, "3": {Age: age}}
	}
	a.look(s, "1", seen(0), nil, time.Hour)
	woken := 3 * time.Hour
	for now := woken; now < woken+slotsKept; now += presentWithin {
		if away := a.look(s, "1", seen(now-time.Hour), nil, now); len(away) > 0 {
			t.Fatalf("%s after waking up %v are away", now-woken, away)
		}
	}
	if away := a.look(s, "1", seen(woken+slotsKept-time.Hour), nil, woken+slotsKept); len(away) != 2 {
		t.Errorf("half an hour after waking up %v are away", away)
	}
}

// TestAFailoverByHandIsShort: a switchover gives the primary time to end in good order, a failover does not.
func TestAFailoverByHandIsShort(t *testing.T) {
	for kind, box := range map[string]time.Duration{fsm.WishSwitchover: 0, fsm.WishFailover: 2 * time.Second} {
		s := threeNodes(3, "1")
		s.Wish = &fsm.Wish{ID: "w", Kind: kind, To: "2", Epoch: 3, Approved: true}
		w := want(situation{self: "1", state: s, handOver: true})
		if w.Role != pgctl.RoleStopped || w.Stop != pgctl.StopFast || w.StopBox != box {
			t.Errorf("%s: %s by %s within %s", kind, w.Role, w.Stop, w.StopBox)
		}
		if got := checkpointWithin(kind); got != cmp.Or(box, 30*time.Second) {
			t.Errorf("%s: its checkpoint within %s", kind, got)
		}
	}
}
