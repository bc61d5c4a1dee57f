package fsm

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/quorate/quorate/internal/pg"
)

// dataMember is a data node whose id is its name, so that tables read well.
func dataMember(name string) Member {
	return Member{ID: NodeID(name), Name: name, Role: RoleData, Addr: name + ":7400", Postgres: name + ":5432"}
}

func initOf(durability Durability, members ...Member) Init {
	return Init{ClusterID: "c1", Scope: "demo", Members: members,
		Config: Config{Version: 1, Doc: "{}", Settings: Settings{FailoverAfterMS: 1000, Durability: durability}}}
}

// must applies changes one after the other under the Rev that each finds, and fails the test at the first refusal.
func must(t testing.TB, s State, changes ...Command) State {
	t.Helper()
	for _, c := range changes {
		next, err := s.Apply(Envelope{ID: fmt.Sprintf("r%d", s.Version+1), IfRev: s.Rev, By: "test", Wall: int64(s.Version), Change: c})
		if err != nil {
			t.Fatalf("%#v was refused: %v", c, err)
		}
		s = next
	}
	return s
}

// try applies one change under the present Rev.
func try(s State, c Command) (State, error) {
	return s.Apply(Envelope{ID: fmt.Sprintf("t%d", s.Version+1), IfRev: s.Rev, Change: c})
}

// three is a healthy cluster of n1, n2 and n3 with n1 primary at epoch 1 on timeline 1 and R = ({n1,n2,n3}, 2).
func three(t testing.TB) State {
	t.Helper()
	s := must(t, State{}, initOf(DurabilityQuorum, dataMember("n1"), dataMember("n2"), dataMember("n3")),
		Appoint{Node: "n1"}, Promoted{Epoch: 1, Node: "n1", Timeline: 1, SystemID: 77},
		SetSync{Rule: rule(1, "n1", "n2")})
	s = must(t, s, SetSync{Rule: rule(2, "n1", "n2"), Promise: &Promise{Node: "n1", Rev: s.Rev, Rule: rule(2, "n1", "n2")}})
	return must(t, s, SetSync{Rule: rule(2, "n1", "n2", "n3")})
}

func rule(copies int, ids ...NodeID) SyncRule { return SyncRule{Members: ids, Copies: copies} }

func seal(node NodeID, epoch Epoch, left, waited int64) Seal {
	return Seal{Node: node, Epoch: epoch, LeftMS: left, WaitedMS: waited}
}

func at(node NodeID, detached Epoch, tli pg.Timeline, lsn pg.LSN) Position {
	return Position{Node: node, Detached: detached, Timeline: tli, LSN: lsn}
}

// encoded is how states are compared: equal states have equal bytes.
func encoded(t testing.TB, s State) []byte {
	t.Helper()
	out, err := EncodeState(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sameState(t testing.TB, a, b State) bool {
	t.Helper()
	return bytes.Equal(encoded(t, a), encoded(t, b))
}

// discard is one by n1.
func discard(id string) Discard {
	return Discard{ID: id, Node: "n1", Epoch: 1, Timeline: 1, From: 0x100, To: 0x200, Commits: 3, Way: "clone", Path: "/evidence/" + id, SHA256: "ab"}
}
