package cluster

import (
	"maps"
	"slices"
	"testing"

	"github.com/quorate/quorate/fsm"
)

// TestWhatIsToldOfMembers: what was told counts until a state that is as new does, and strikes nobody off.
func TestWhatIsToldOfMembers(t *testing.T) {
	state := func(version uint64, ids ...fsm.NodeID) fsm.State {
		s := fsm.State{Version: version, Members: map[fsm.NodeID]fsm.Member{}}
		for _, id := range ids {
			s.Members[id] = fsm.Member{ID: id, Name: "as applied"}
		}
		return s
	}
	c := &Cluster{identity: &identityStore{}, machine: &machine{}, published: &publisher{}}
	for _, step := range []struct {
		what    string
		told    uint64 // with n2 and n3
		kept    bool
		applied fsm.State
		want    []fsm.NodeID
	}{
		{"nobody said anything", 0, false, state(4, "n1", "n2"), []fsm.NodeID{"n1", "n2"}},
		{"of a state that is applied here", 4, false, state(4, "n1", "n2"), []fsm.NodeID{"n1", "n2"}},
		{"of a newer one, for which nobody came", 5, false, state(4, "n1", "n2", "n3"), []fsm.NodeID{"n1", "n2", "n3"}},
		{"of a newer one", 7, true, state(4, "n1", "n2"), []fsm.NodeID{"n1", "n2", "n3"}},
		{"of an older one than was told before", 6, false, state(6, "n1"), []fsm.NodeID{"n1", "n2", "n3"}},
		{"that one is applied", 0, false, state(7, "n2", "n3"), []fsm.NodeID{"n2", "n3"}},
		{"n3 went", 0, false, state(8, "n2"), []fsm.NodeID{"n2"}},
	} {
		c.published = &publisher{state: step.applied}
		kept := step.told > 0 && c.learn(step.told, []fsm.Member{{ID: "n2", Name: "as told"}, {ID: "n3", Name: "as told"}})
		if kept != step.kept {
			t.Errorf("%s: kept %t", step.what, kept)
		}
		got := c.members()
		if ids := slices.Sorted(maps.Keys(got)); !slices.Equal(ids, step.want) {
			t.Errorf("%s: %v, want %v", step.what, ids, step.want)
		}
		if m, applied := step.applied.Members["n2"]; applied && got["n2"] != m {
			t.Errorf("%s: n2 is %+v, and the state has %+v", step.what, got["n2"], m)
		}
	}
}
