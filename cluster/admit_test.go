package cluster

import (
	"errors"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm"
)

// fourNodes is n1, primary, n2 and n3 with data and the witness w, all voters, of which those in silent are not heard.
func fourNodes(silent ...fsm.NodeID) standing {
	s := fsm.State{
		ClusterID: "c1", SystemID: 42, Epoch: 3, Primary: "1", Members: map[fsm.NodeID]fsm.Member{},
		Electorate: fsm.Electorate{Voters: []fsm.NodeID{"1", "2", "3", "w"}},
		Sync:       fsm.SyncRule{Members: []fsm.NodeID{"1", "2", "3"}, Copies: 2},
		Config:     fsm.Config{Settings: fsm.Settings{Durability: fsm.DurabilityQuorum}},
	}
	for _, m := range []fsm.Member{
		{ID: "1", Name: "n1", Role: fsm.RoleData, Addr: "a1", Major: 15}, {ID: "2", Name: "n2", Role: fsm.RoleData, Addr: "a2", Major: 15},
		{ID: "3", Name: "n3", Role: fsm.RoleData, Addr: "a3", Major: 15}, {ID: "w", Name: "w", Role: fsm.RoleWitness, Addr: "aw"},
	} {
		s.Members[m.ID] = m
	}
	return standing{state: s, heard: func(id fsm.NodeID) bool {
		for _, x := range silent {
			if x == id {
				return false
			}
		}
		return true
	}}
}

// TestWhoMayJoin: each refusal names what was found and what would work.
func TestWhoMayJoin(t *testing.T) {
	fresh := JoinRequest{ClusterID: "c1", Member: fsm.Member{ID: "4", Name: "n4", Role: fsm.RoleData, Addr: "a4", Major: 15}, Data: DataFacts{Empty: true}}
	with := func(change func(*JoinRequest)) JoinRequest { r := fresh; change(&r); return r }
	leaving := fourNodes("2")
	m := leaving.state.Members["2"]
	m.Leaving = true
	leaving.state.Members["2"] = m
	for _, c := range []struct {
		name      string
		at        standing
		req       JoinRequest
		displaced string
		want      []string // of the error; none: let in
	}{
		{"a new node", fourNodes(), fresh, "", nil},
		{"a witness, whatever is in its data directory", fourNodes(), with(func(r *JoinRequest) { r.Member.Role, r.Member.Major, r.Data = fsm.RoleWitness, 0, DataFacts{} }), "", nil},
		{"another cluster's token", fourNodes(), with(func(r *JoinRequest) { r.ClusterID = "c2" }), "", []string{"c2", "c1"}},
		{"one that asks again", fourNodes(), with(func(r *JoinRequest) { r.Member.ID, r.Member.Name = "2", "n2" }), "", nil},
		{"one that asks again as another", fourNodes(), with(func(r *JoinRequest) { r.Member.ID = "2" }), "", []string{"data n2", "data n4"}},
		{"one that was taken out", leaving, with(func(r *JoinRequest) { r.Member.ID, r.Member.Name = "2", "n2" }), "", []string{"empty its cluster.data_dir"}},
		{"the address of another", fourNodes(), with(func(r *JoinRequest) { r.Member.Addr = "a2" }), "", []string{"a2", "n2", "cluster.connect_address"}},
		{"the name of one that lives", fourNodes(), with(func(r *JoinRequest) { r.Member.Name, r.Replace = "n2", true }), "", []string{"n2 lives at a2", "quorate members remove n2"}},
		{"the name of one that is gone", fourNodes("2"), with(func(r *JoinRequest) { r.Member.Name = "n2" }), "", []string{"n2 at a2", "--replace"}},
		{"in place of one that is gone", fourNodes("2"), with(func(r *JoinRequest) { r.Member.Name, r.Replace = "n2", true }), "n2", nil},
		{"in place of one that is going", leaving, with(func(r *JoinRequest) { r.Member.Name, r.Replace = "n2", true }), "", []string{"still being removed"}},
		{"in place of a primary that nobody replaced", fourNodes("1"), with(func(r *JoinRequest) { r.Member.Name, r.Replace = "n1", true }), "n1", []string{"epoch 3", "quorate explain"}},
		{"another database", fourNodes(), with(func(r *JoinRequest) { r.Data = DataFacts{Dir: "/pg", SystemID: 7} }), "", []string{"/pg", "system 7", "42", "move it away"}},
		{"an old copy", fourNodes(), with(func(r *JoinRequest) { r.Data = DataFacts{Dir: "/pg", SystemID: 42} }), "", []string{"/pg", "earlier copy", "move it away"}},
		{"something else", fourNodes(), with(func(r *JoinRequest) { r.Data = DataFacts{Problem: "/pg holds something"} }), "", []string{"/pg holds something", "move it away"}},
		{"another PostgreSQL", fourNodes(), with(func(r *JoinRequest) { r.Member.Major = 14 }), "", []string{"PostgreSQL 14", "n1 has 15", "postgresql-15"}},
	} {
		displaced, err := c.at.judgeJoin(c.req)
		name := ""
		if displaced != nil {
			name = displaced.Name
		}
		judged(t, c.name, err, c.want)
		if name != c.displaced {
			t.Errorf("%s: displaces %q, want %q", c.name, name, c.displaced)
		}
	}
}

// TestWhoMayGo: a removal leaves a majority that lives, a primary and, unless it is meant, a second copy.
func TestWhoMayGo(t *testing.T) {
	two := fourNodes()
	delete(two.state.Members, "3")
	two.state.Electorate.Voters = []fsm.NodeID{"1", "2", "w"}
	two.state.Sync.Members = []fsm.NodeID{"1", "2"}
	cloning := fourNodes() // n3 has joined, and has no copy yet
	cloning.state.Sync.Members = []fsm.NodeID{"1", "2"}
	async := fourNodes()
	async.state.Config.Settings.Durability, async.state.Sync = fsm.DurabilityAsync, fsm.SyncRule{}
	going := fourNodes()
	m := going.state.Members["3"]
	m.Leaving = true
	going.state.Members["3"] = m
	for _, c := range []struct {
		name string
		at   standing
		req  Removal
		want []string
	}{
		{"a standby", fourNodes(), Removal{Name: "n2"}, nil},
		{"the witness", fourNodes(), Removal{Name: "w"}, nil},
		{"a dead one", fourNodes("3"), Removal{Name: "n3"}, nil},
		{"nobody", fourNodes(), Removal{Name: "n9"}, []string{"members are n1, n2, n3, w"}},
		{"the primary", fourNodes(), Removal{Name: "n1"}, []string{"epoch 3", "quorate switchover"}},
		{"a primary that is gone", fourNodes("1"), Removal{Name: "n1"}, []string{"nobody has taken over", "quorate explain"}},
		{"a majority of the rest is dead", fourNodes("3", "w"), Removal{Name: "n2", LastCopy: true}, []string{"3 voters", "2 of them must live", "1 do", "n3, w"}},
		{"one that is going does not count as living", withSilent(going, "w"), Removal{Name: "n2", LastCopy: true}, []string{"2 voters", "2 of them must live", "1 do", "not heard: w"}},
		{"the last copy", two, Removal{Name: "n2"}, []string{"--last-copy"}},
		{"the last copy, and that is meant", two, Removal{Name: "n2", LastCopy: true}, nil},
		{"the last copy beside one that has none yet", cloning, Removal{Name: "n2"}, []string{"--last-copy"}},
		{"one that has no copy yet", cloning, Removal{Name: "n3"}, nil},
		{"a standby where nobody counts copies", async, Removal{Name: "n2"}, nil},
		{"a lost one, for another of its name", fourNodes("3"), Removal{Name: "n3", Replace: true}, nil},
		{"one that lives, as if it were lost", fourNodes(), Removal{Name: "n3", Replace: true, LastCopy: true}, []string{"n3 lives, at a3", "quorate members remove n3"}},
		{"the last copy was lost", withSilent(two, "2"), Removal{Name: "n2", Replace: true}, []string{"quorate members replace n2 --last-copy"}},
		{"the last copy was lost, and that is known", withSilent(two, "2"), Removal{Name: "n2", Replace: true, LastCopy: true}, nil},
		{"the last copy beside one that is not heard", fourNodes("3"), Removal{Name: "n2"}, []string{"--last-copy"}},
	} {
		judged(t, c.name, c.at.judgeRemoval(c.req), c.want)
	}
}

func withSilent(s standing, silent ...fsm.NodeID) standing {
	s.heard = fourNodes(silent...).heard
	return s
}

func judged(t *testing.T, name string, err error, want []string) {
	t.Helper()
	if (err != nil) != (len(want) > 0) {
		t.Errorf("%s: %v", name, err)
		return
	}
	if err != nil && !errors.Is(err, ErrUnfit) && !errors.Is(err, ErrNotYet) {
		t.Errorf("%s: %v has no name on the wire", name, err)
	}
	for _, text := range want {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %q does not say %q", name, err, text)
		}
	}
}
