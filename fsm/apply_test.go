package fsm

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// commands is one of every kind, each acceptable to a three-node cluster with a pending wish where it needs one.
func commands(s State) map[string]Command {
	return map[string]Command{
		"init": initOf(DurabilityQuorum, dataMember("n1")), "appoint": Appoint{IfEpoch: 1, Node: "n1"},
		"promoted": Promoted{Epoch: 1, Node: "n1", Timeline: 1, SystemID: 77},
		"set-sync": SetSync{Rule: s.Sync}, "set-electorate": SetElectorate{Voters: []NodeID{"n1", "n2"}},
		"set-member": SetMember{Member: dataMember("n4")}, "ask-switchover": AskSwitchover{ID: "w2"},
		"ask-failover":     AskFailover{ID: "w2", To: "n2", Epoch: 1},
		"begin-switchover": BeginSwitchover{ID: "w", To: "n2"}, "end-wish": EndWish{ID: "w", Because: "no time"},
		"edit-config":     EditConfig{IfVersion: s.Config.Version, Settings: s.Config.Settings},
		"record-discard":  RecordDiscard{Discard: discard("d2")},
		"dismiss-discard": DismissDiscard{ID: "d"},
		"record-failover": RecordFailover{Failover: Failover{Epoch: 1, Rule: "first-primary"}},
		"pause":           Pause{}, "resume": Resume{},
	}
}

// prepare brings the three-node cluster into the state in which the kind is acceptable.
func prepare(t testing.TB, kind string) State {
	t.Helper()
	switch kind {
	case "init":
		return State{}
	case "resume":
		return must(t, three(t), Pause{})
	case "dismiss-discard":
		return must(t, three(t), RecordDiscard{Discard: discard("d")})
	case "begin-switchover", "end-wish":
		return must(t, three(t), AskSwitchover{ID: "w"})
	}
	return three(t)
}

func TestRevAndVersion(t *testing.T) {
	bumps := map[string]bool{"init": true, "appoint": true, "set-sync": true, "set-electorate": true, "pause": true, "resume": true}
	bound := map[string]bool{"appoint": true, "set-sync": true, "set-electorate": true}
	for kind := range commands(State{}) {
		t.Run(kind, func(t *testing.T) {
			s := prepare(t, kind)
			c := commands(s)[kind]
			if c.Kind() != kind {
				t.Fatalf("kind %s", c.Kind())
			}
			next, err := s.Apply(Envelope{ID: "x", IfRev: s.Rev, Change: c})
			if err != nil {
				t.Fatal(err)
			}
			if next.Version != s.Version+1 || (next.Rev != s.Rev) != bumps[kind] || next.Rev > s.Rev+1 {
				t.Fatalf("rev %d to %d, version %d to %d", s.Rev, next.Rev, s.Version, next.Version)
			}
			if last := next.Events[len(next.Events)-1]; last.Rev != next.Rev || last.Epoch != next.Epoch || last.Text == "" {
				t.Fatalf("event %+v", last)
			}
			_, err = s.Apply(Envelope{ID: "x", IfRev: s.Rev + 1, Change: c})
			if !errors.Is(err, ErrStaleRev) {
				t.Fatalf("a command decided under another revision got %v", err)
			}
			if s.Rev == 0 {
				return
			}
			_, err = s.Apply(Envelope{ID: "x", Change: c})
			if bound[kind] != errors.Is(err, ErrStaleRev) || (!bound[kind] && err != nil) {
				t.Fatalf("without a revision: %v", err)
			}
			_, err = State{}.Apply(Envelope{ID: "x", Change: c})
			if kind != "init" && !errors.Is(err, ErrNoCluster) {
				t.Fatalf("before Init: %v", err)
			}
		})
	}
}

func TestRefusedWithoutLookingAtTheCommand(t *testing.T) {
	s := three(t)
	var nobody *Appoint
	type stranger struct{ Pause }
	for _, c := range []struct {
		name string
		e    Envelope
		want error
	}{
		{"nothing at all", Envelope{ID: "x"}, ErrUnknownCommand},
		{"a nil pointer to a command", Envelope{ID: "x", Change: nobody}, ErrUnknownCommand},
		{"a pointer to a command", Envelope{ID: "x", Change: &Pause{}}, ErrUnknownCommand},
		{"a foreign type that embeds a command", Envelope{ID: "x", Change: stranger{}}, ErrUnknownCommand},
		{"no request id", Envelope{Change: Pause{}}, ErrInvalid},
		{"a request id without end", Envelope{ID: strings.Repeat("x", maxText+1), Change: Pause{}}, ErrInvalid},
		{"a name without end", Envelope{ID: "x", By: strings.Repeat("x", maxText+1), Change: Pause{}}, ErrInvalid},
		{"a request id that was applied", Envelope{ID: s.Seen[0], Change: Pause{}}, ErrDuplicate},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, err := s.Apply(c.e)
			if !errors.Is(err, c.want) || !reflect.DeepEqual(next, s) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestRingsAreBounded(t *testing.T) {
	s := three(t)
	for i := range 3 * maxSeen {
		next, err := s.Apply(Envelope{ID: fmt.Sprint("m", i), Change: SetMember{Member: dataMember("n1")}})
		if err != nil {
			t.Fatal(err)
		}
		s = next
	}
	if len(s.Events) != maxEvents || len(s.Seen) != maxSeen {
		t.Fatalf("%d events, %d ids", len(s.Events), len(s.Seen))
	}
	apply := func(id string) error {
		_, err := s.Apply(Envelope{ID: id, Change: Pause{}})
		return err
	}
	oldest, newest := 3*maxSeen-maxSeen, 3*maxSeen-1
	if !errors.Is(apply(fmt.Sprint("m", oldest)), ErrDuplicate) || !errors.Is(apply(fmt.Sprint("m", newest)), ErrDuplicate) {
		t.Error("one of the last 128 ids was forgotten")
	}
	if err := apply(fmt.Sprint("m", oldest-1)); err != nil {
		t.Errorf("the 129th last id is still known: %v", err)
	}
}

func TestApplySharesNothing(t *testing.T) {
	for kind := range commands(State{}) {
		t.Run(kind, func(t *testing.T) {
			s := prepare(t, kind)
			before := encoded(t, s)
			c := commands(s)[kind]
			next, err := try(s, c)
			if err != nil {
				t.Fatal(err)
			}
			scribble(&next)
			if string(encoded(t, s)) != string(before) {
				t.Error("writing to the new state changed the old one")
			}
			again, err := try(s, c)
			if err != nil {
				t.Fatal(err)
			}
			kept := encoded(t, again)
			scribble(&s)
			switch c := c.(type) {
			case Init:
				c.Members[0].Name = "scribbled"
			case SetSync:
				c.Rule.Members[0] = "scribbled"
			case SetElectorate:
				c.Voters[0] = "scribbled"
			}
			if string(encoded(t, again)) != string(kept) {
				t.Error("writing to the old state or the command changed the new state")
			}
		})
	}
}

func scribble(s *State) {
	for i := range s.Lineage {
		s.Lineage[i].Node = "scribbled"
	}
	for i := range s.Electorate.Voters {
		s.Electorate.Voters[i] = "scribbled"
	}
	for i := range s.Sync.Members {
		s.Sync.Members[i] = "scribbled"
	}
	for i := range s.Events {
		s.Events[i].Text = "scribbled"
	}
	for i := range s.Seen {
		s.Seen[i] = "scribbled"
	}
	for id := range s.Members {
		delete(s.Members, id)
	}
	if s.Wish != nil {
		s.Wish.ID = "scribbled"
	}
}
