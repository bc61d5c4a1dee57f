package fsm

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestInitRefusals(t *testing.T) {
	whole := func() Init { return initOf(DurabilityQuorum, dataMember("n1"), dataMember("n2")) }
	for _, c := range []struct {
		name   string
		change func(*Init)
		want   error
	}{
		{"no cluster id", func(c *Init) { c.ClusterID = "" }, ErrInvalid},
		{"no scope", func(c *Init) { c.Scope = "" }, ErrInvalid},
		{"no failover_after", func(c *Init) { c.Config.Settings.FailoverAfterMS = 0 }, ErrInvalid},
		{"an unknown durability", func(c *Init) { c.Config.Settings.Durability = "maybe" }, ErrInvalid},
		{"no members", func(c *Init) { c.Members = nil }, ErrElectorate},
		{"nobody who votes", func(c *Init) { c.Members[0].NoVote, c.Members[1].NoVote = true, true }, ErrElectorate},
		{"a member twice", func(c *Init) { c.Members[1].ID = "n1" }, ErrInvalid},
		{"a name twice", func(c *Init) { c.Members[1].Name = "n1" }, ErrExists},
		{"more voters than beats can go to", func(c *Init) {
			for i := range 6 {
				c.Members = append(c.Members, dataMember(fmt.Sprint("x", i)))
			}
		}, ErrElectorate},
	} {
		change := whole()
		c.change(&change)
		if _, err := try(State{}, change); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := try(three(t), whole()); !errors.Is(err, ErrExists) {
		t.Errorf("a second Init: %v", err)
	}
}

func TestInitMakesVoters(t *testing.T) {
	quiet := dataMember("n0")
	quiet.NoVote = true
	s := must(t, State{}, initOf(DurabilityQuorum, dataMember("n3"), quiet, Member{ID: "w1", Name: "w1", Role: RoleWitness}, dataMember("n1")))
	if !slices.Equal(s.Electorate.Voters, []NodeID{"n1", "n3", "w1"}) || s.Electorate.Version != 1 || s.Rev != 1 || s.Generation != 1 {
		t.Fatalf("%+v", s)
	}
}

func TestSetElectorate(t *testing.T) {
	for _, c := range []struct {
		name   string
		voters []NodeID
		want   error
	}{
		{"a voter fewer", []NodeID{"n3", "n1"}, nil},
		{"a voter more", []NodeID{"n1", "n2", "n3", "n4"}, nil},
		{"one out and one in: the majorities need not meet", []NodeID{"n1", "n2", "n4"}, ErrElectorate},
		{"two out", []NodeID{"n1"}, ErrElectorate},
		{"two in", []NodeID{"n1", "n2", "n3", "n4", "w1"}, ErrElectorate},
		{"no change", []NodeID{"n1", "n2", "n3"}, ErrElectorate},
		{"nobody left", nil, ErrElectorate},
		{"a voter twice", []NodeID{"n1", "n2", "n3", "n3"}, ErrElectorate},
		{"a stranger", []NodeID{"n1", "n2", "n3", "n9"}, ErrNotMember},
		{"a node that shall not vote", []NodeID{"n1", "n2", "n3", "n5"}, ErrElectorate},
	} {
		t.Run(c.name, func(t *testing.T) {
			quiet := dataMember("n5")
			quiet.NoVote = true
			s := must(t, three(t), SetMember{dataMember("n4")}, SetMember{quiet}, SetMember{Member{ID: "w1", Name: "w1", Role: RoleWitness}})
			next, err := try(s, SetElectorate{Voters: c.voters})
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && (next.Electorate.Version != 2 || !slices.IsSorted(next.Electorate.Voters) || len(next.Electorate.Voters) != len(c.voters)) {
				t.Fatalf("%+v", next.Electorate)
			}
		})
	}
	s := must(t, three(t), SetElectorate{[]NodeID{"n1", "n2"}}, SetElectorate{[]NodeID{"n1"}})
	if _, err := try(s, SetElectorate{}); !errors.Is(err, ErrElectorate) {
		t.Errorf("the last voter left: %v", err)
	}
}

func TestMajority(t *testing.T) {
	for n, want := range []int{1, 1, 2, 2, 3, 3, 4, 4} {
		if got := (Electorate{Voters: make([]NodeID, n)}).Majority(); got != want {
			t.Errorf("%d voters: %d, want %d", n, got, want)
		}
	}
}

func TestSetMember(t *testing.T) {
	for _, c := range []struct {
		name   string
		member Member
		want   error
	}{
		{"new addresses", Member{ID: "n1", Name: "n1", Role: RoleData, Addr: "elsewhere:1"}, nil},
		{"a new node", dataMember("n4"), nil},
		{"another name", Member{ID: "n1", Name: "n7", Role: RoleData}, ErrExists},
		{"another role", Member{ID: "n1", Name: "n1", Role: RoleWitness}, ErrExists},
		{"the name of another node", Member{ID: "n4", Name: "n1", Role: RoleData}, ErrExists},
		{"no id", Member{Name: "n4", Role: RoleData}, ErrInvalid},
		{"an id without end", Member{ID: NodeID(strings.Repeat("x", maxText+1)), Name: "n4", Role: RoleData}, ErrInvalid},
		{"no role", Member{ID: "n4", Name: "n4"}, ErrInvalid},
	} {
		s := three(t)
		next, err := try(s, SetMember{c.member})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
		if err == nil && (next.Members[c.member.ID] != c.member || len(next.Electorate.Voters) != 3) {
			t.Errorf("%s: %+v", c.name, next)
		}
	}
}

func TestNodeNames(t *testing.T) {
	for name, want := range map[string]bool{
		"n1": true, "a": true, "pg-a_1": true, "a" + strings.Repeat("b", 62): true,
		"": false, "N1": false, "nA": false, "1n": false, "-n": false, "n.1": false, "n 1": false, "né": false, `n"`: false,
		"a" + strings.Repeat("b", 63): false,
	} {
		if got := validName(name); got != want {
			t.Errorf("%q: %t, want %t", name, got, want)
		}
	}
}

func TestWishes(t *testing.T) {
	for _, c := range []struct {
		name    string
		changes []Command
		last    Command
		want    error
	}{
		{"asked for anybody, approved for one", []Command{AskSwitchover{ID: "w"}}, BeginSwitchover{ID: "w", To: "n2"}, nil},
		{"approved twice for the same is one approval", []Command{AskSwitchover{ID: "w"}, BeginSwitchover{ID: "w", To: "n2"}}, BeginSwitchover{ID: "w", To: "n2"}, nil},
		{"approved, then for another: the primary may have stopped for the first", []Command{AskSwitchover{ID: "w"}, BeginSwitchover{ID: "w", To: "n2"}}, BeginSwitchover{ID: "w", To: "n3"}, ErrExists},
		{"asked for one, approved for another", []Command{AskSwitchover{ID: "w", To: "n2"}}, BeginSwitchover{ID: "w", To: "n3"}, ErrExists},
		{"approved for the primary", []Command{AskSwitchover{ID: "w"}}, BeginSwitchover{ID: "w", To: "n1"}, ErrExists},
		{"approved for nobody", []Command{AskSwitchover{ID: "w"}}, BeginSwitchover{ID: "w"}, ErrNotMember},
		{"approved without being asked", nil, BeginSwitchover{ID: "w", To: "n2"}, ErrNoWish},
		{"another one approved", []Command{AskSwitchover{ID: "w"}}, BeginSwitchover{ID: "v", To: "n2"}, ErrNoWish},
		{"asked twice", []Command{AskSwitchover{ID: "w"}}, AskSwitchover{ID: "v"}, ErrExists},
		{"asked again after it was dropped", []Command{AskSwitchover{ID: "w"}, EndWish{ID: "w"}}, AskSwitchover{ID: "v"}, nil},
		{"asked for the primary", nil, AskSwitchover{ID: "w", To: "n1"}, ErrExists},
		{"asked for a stranger", nil, AskSwitchover{ID: "w", To: "n9"}, ErrNotMember},
		{"asked without an id", nil, AskSwitchover{}, ErrInvalid},
		{"asked in a pause", []Command{Pause{}}, AskSwitchover{ID: "w"}, ErrPaused},
		{"approved in a pause: the pause dropped it", []Command{AskSwitchover{ID: "w"}, Pause{}}, BeginSwitchover{ID: "w", To: "n2"}, ErrNoWish},
		{"approved after another appointment", []Command{AskSwitchover{ID: "w"}, Appoint{IfEpoch: 1, Node: "n1"}}, BeginSwitchover{ID: "w", To: "n2"}, ErrNoWish},
		{"another one dropped", []Command{AskSwitchover{ID: "w"}}, EndWish{ID: "v"}, ErrNoWish},
		{"a failover to nobody: it is the one wish that needs a name", nil, AskFailover{ID: "w", Epoch: 1}, ErrNotMember},
		{"a failover to the primary", nil, AskFailover{ID: "w", To: "n1", Epoch: 1}, ErrExists},
		{"a failover in a pause", []Command{Pause{}}, AskFailover{ID: "w", To: "n2", Epoch: 1}, ErrPaused},
		{"a failover asked for in another epoch", nil, AskFailover{ID: "w", To: "n2", Epoch: 2}, ErrStaleEpoch},
		{"a failover beside a switchover", []Command{AskSwitchover{ID: "w"}}, AskFailover{ID: "v", To: "n2", Epoch: 1}, ErrExists},
		{"an accepted loss takes the place of a switchover that has begun", []Command{AskSwitchover{ID: "w"}, BeginSwitchover{ID: "w", To: "n2"}},
			AskFailover{ID: "v", To: "n3", Epoch: 1, Loss: "00ff"}, nil},
		{"an accepted loss without end", nil, AskFailover{ID: "w", To: "n2", Epoch: 1, Loss: strings.Repeat("x", maxText+1)}, ErrInvalid},
		{"a failover approved as a switchover is", []Command{AskFailover{ID: "w", To: "n2", Epoch: 1}}, BeginSwitchover{ID: "w", To: "n2"}, nil},
		{"an accepted loss approved: nobody is there to hand over", []Command{AskFailover{ID: "w", To: "n2", Epoch: 1, Loss: "00ff"}},
			BeginSwitchover{ID: "w", To: "n2"}, ErrExists},
		{"a reason without end", []Command{AskSwitchover{ID: "w"}}, EndWish{ID: "w", Because: strings.Repeat("x", maxText+1)}, ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := must(t, three(t), c.changes...)
			if _, err := try(s, c.last); !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
	s := must(t, State{}, initOf(DurabilityQuorum, dataMember("n1"), dataMember("n2")))
	if _, err := try(s, AskSwitchover{ID: "w"}); !errors.Is(err, ErrStaleEpoch) {
		t.Errorf("asked before the first primary: %v", err)
	}
	s = must(t, three(t), AskSwitchover{ID: "w"}, BeginSwitchover{ID: "w", To: "n2"})
	if *s.Wish != (Wish{ID: "w", Kind: WishSwitchover, To: "n2", Epoch: 1, Approved: true}) {
		t.Errorf("%+v", s.Wish)
	}
}

func TestPauseTwice(t *testing.T) {
	s := must(t, three(t), Pause{})
	if !s.Paused || s.PauseRev != s.Rev {
		t.Fatalf("%+v", s)
	}
	if _, err := try(s, Pause{}); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	s = must(t, s, Resume{})
	if s.Paused || s.PauseRev != s.Rev {
		t.Fatalf("%+v", s)
	}
	if _, err := try(s, Resume{}); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
}

func TestOrders(t *testing.T) {
	s := must(t, three(t), SetMember{Member{ID: "w1", Name: "w1", Role: RoleWitness}}, AskSwitchover{ID: "w"})
	primary, standby := s.OrdersFor("n1"), s.OrdersFor("n3")
	if primary.Role != AssignPrimary || primary.Upstream != (Member{}) || !slices.Equal(primary.WaitFor, []string{"n2", "n3"}) || primary.WaitCount != 1 {
		t.Errorf("%+v", primary)
	}
	if standby.Role != AssignStandby || standby.Upstream.Name != "n1" || !slices.Equal(standby.WaitFor, []string{"n1", "n2"}) || standby.SystemID != 77 {
		t.Errorf("%+v", standby)
	}
	if standby.Lineage.Timeline != 1 || len(standby.History) != 0 || standby.Epoch != 1 || standby.Rev != s.Rev {
		t.Errorf("%+v", standby)
	}
	standby.Wish.ID, standby.Sync.Members[0] = "scribbled", "scribbled"
	if s.Wish.ID != "w" || s.Sync.Members[0] != "n1" {
		t.Error("orders share memory with the state")
	}
	for _, id := range []NodeID{"w1", "n9"} {
		if o := s.OrdersFor(id); o.Role != AssignNone {
			t.Errorf("%s: %+v", id, o)
		}
	}
	if o := must(t, State{}, initOf(DurabilityQuorum, dataMember("n1"))).OrdersFor("n1"); o.Role != AssignNone {
		t.Errorf("before the first primary: %+v", o)
	}
}
