package fsm

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// apply1 applies one command at the present Rev.
func apply1(s State, c Command) (State, error) {
	return s.Apply(Envelope{ID: fmt.Sprint("one-", s.Version), IfRev: s.Rev, By: "test", Change: c})
}

func TestEditConfig(t *testing.T) {
	s := three(t)
	settings := s.Config.Settings
	slower, async, none := settings, settings, settings
	slower.FailoverAfterMS *= 2
	async.Durability, none.Durability = DurabilityAsync, "some"
	for _, c := range []struct {
		name string
		edit EditConfig
		want error
	}{
		{"of another version", EditConfig{IfVersion: s.Config.Version + 1, Settings: settings}, ErrStaleConfig},
		{"too long", EditConfig{IfVersion: s.Config.Version, Doc: strings.Repeat("x", maxDoc+1), Settings: settings}, ErrInvalid},
		{"other timing", EditConfig{IfVersion: s.Config.Version, Settings: slower}, ErrInvalid},
		{"a durability that does not exist", EditConfig{IfVersion: s.Config.Version, Settings: none}, ErrInvalid},
		{"durability async", EditConfig{IfVersion: s.Config.Version, Doc: "b", Settings: async}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, err := apply1(s, c.edit)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && (next.Config.Version != s.Config.Version+1 || next.Config.Doc != "b" || next.Config.Earlier[0].Doc != s.Config.Doc || next.Rev != s.Rev) {
				t.Errorf("got %+v", next.Config)
			}
			if err == nil && !next.Sync.Equal(s.Sync) {
				t.Error("an edit changed the sync rule")
			}
		})
	}
	for range maxConfigs + 3 {
		s = must(t, s, EditConfig{IfVersion: s.Config.Version, Settings: settings})
	}
	if first := s.Config.Earlier[0].Version; len(s.Config.Earlier) != maxConfigs || first != s.Config.Version-maxConfigs {
		t.Errorf("%d earlier versions from %d on, now is %d", len(s.Config.Earlier), first, s.Config.Version)
	}
}

func TestDiscards(t *testing.T) {
	s := must(t, three(t), RecordDiscard{Discard: discard("d")})
	bare, stranger := discard("e"), discard("e")
	bare.Path, stranger.Node = "", "n9"
	for _, c := range []struct {
		name   string
		change Command
		want   error
	}{
		{"said again", RecordDiscard{Discard: discard("d")}, ErrExists},
		{"without evidence", RecordDiscard{Discard: bare}, ErrInvalid},
		{"by a stranger", RecordDiscard{Discard: stranger}, ErrNotMember},
		{"dismiss what is not there", DismissDiscard{ID: "x"}, ErrNoDiscard},
		{"dismiss", DismissDiscard{ID: "d"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, err := apply1(s, c.change)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if s.Discards[0].Dismissed || err == nil && !next.Discards[0].Dismissed {
				t.Error("it was dismissed in the wrong state")
			}
		})
	}
	s = must(t, s, RecordDiscard{Discard: discard("seen")}, DismissDiscard{ID: "seen"})
	first := s.Discards[0].ID
	for i := range maxDiscards - 1 {
		s = must(t, s, RecordDiscard{Discard: discard(fmt.Sprint("more", i))})
	}
	// One that nobody has looked at stays, and makes room as soon as somebody has.
	if len(s.Discards) != maxDiscards || s.Discards[0].ID != first || s.Discards[1].ID != "more0" {
		t.Errorf("%d discards, the first are %s and %s", len(s.Discards), s.Discards[0].ID, s.Discards[1].ID)
	}
	if _, err := apply1(s, RecordDiscard{Discard: discard("last")}); !errors.Is(err, ErrInvalid) {
		t.Errorf("one more than there is room for: %v", err)
	}
	s = must(t, s, DismissDiscard{ID: first}, RecordDiscard{Discard: discard("last")})
	if len(s.Discards) != maxDiscards || s.Discards[0].ID != "more0" {
		t.Errorf("%d discards, the first is %s", len(s.Discards), s.Discards[0].ID)
	}
}

func TestRecordFailover(t *testing.T) {
	s := must(t, three(t), RecordFailover{Failover: Failover{Epoch: 1, From: "n3", To: "n3", Rule: "first-primary"}})
	if f := s.Failovers[0]; f.To != "n1" || f.From != "" {
		t.Errorf("the lineage says from nobody to n1, the report from %q to %q", f.From, f.To)
	}
	for _, c := range []struct {
		name   string
		report Failover
		want   error
	}{
		{"twice", Failover{Epoch: 1}, ErrExists},
		{"of an epoch to come", Failover{Epoch: 2}, ErrStaleEpoch},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := apply1(s, RecordFailover{Failover: c.report}); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	bad := must(t, three(t))
	if _, err := apply1(bad, RecordFailover{Failover: Failover{Epoch: 1, Phases: []Phase{{Name: "silent", MS: -1}}}}); !errors.Is(err, ErrInvalid) {
		t.Errorf("a phase before the beginning: %v", err)
	}
}

func TestReportsStayInOrder(t *testing.T) {
	s := three(t)
	for e := range Epoch(MaxFailovers + 9) {
		s = must(t, s, Appoint{IfEpoch: e + 1, Node: "n1"})
	}
	report := func(e Epoch) RecordFailover { return RecordFailover{Failover: Failover{Epoch: e, Async: true}} }
	s = must(t, s, report(9), report(7), report(8))
	for i, f := range s.Failovers {
		if f.Epoch != Epoch(7+i) || f.Async {
			t.Errorf("report %d is of epoch %d, async %t: one of the same node under quorum never is", i, f.Epoch, f.Async)
		}
	}
	for e := Epoch(10); len(s.Failovers) < MaxFailovers-1; e++ {
		s = must(t, s, report(e))
	}
	s = must(t, s, report(6), report(1)) // the second one is too old
	if n := len(s.Failovers); n != MaxFailovers || s.Failovers[0].Epoch != 6 {
		t.Errorf("%d reports from epoch %d on, want %d from 6", n, s.Failovers[0].Epoch, MaxFailovers)
	}
}

func TestAppointment(t *testing.T) {
	s := must(t, three(t), Appoint{IfEpoch: 1, Node: "n1"}, Pause{})
	if e, ok := s.Appointment(2); !ok || e.By != "test" || !strings.Contains(e.Text, "appointed again") {
		t.Errorf("%+v, %t", e, ok)
	}
	s.Events = s.Events[len(s.Events)-1:]
	for _, epoch := range []Epoch{0, 1, 2, 3} {
		if e, ok := s.Appointment(epoch); ok {
			t.Errorf("epoch %d: %+v, though only the pause is remembered", epoch, e)
		}
	}
}
