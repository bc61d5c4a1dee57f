package cluster

import (
	"errors"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
)

// Saying where one is makes nobody a member and changes nothing but addresses.
func TestOnlyMembersMove(t *testing.T) {
	three(t, func(t *testing.T, _ *peerNodes, leader, follower *Cluster) {
		before := leader.State()
		to := movedRequest{Addr: "x:7400", Postgres: "x:5432", API: "x:8008"}
		if err := leader.move(t.Context(), "nobody", to); !errors.Is(err, fsm.ErrNotMember) {
			t.Errorf("a node that is no member: %v, want ErrNotMember", err)
		}
		if err := follower.move(t.Context(), follower.Self(), to); !errors.Is(err, errNotLeader) {
			t.Errorf("without the leader: %v, want errNotLeader", err)
		}
		third := leader.State().Primary // neither of the two
		if err := leader.move(t.Context(), third, to); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "they are written down, and then what the member itself says", func() bool {
			updates := 0
			for _, e := range follower.State().Events {
				if strings.Contains(e.Text, "updated") && e.By == before.Members[third].Name {
					updates++
				}
			}
			return updates == 2 && follower.State().Members[third] == before.Members[third]
		})
		if s := leader.State(); len(s.Members) != 3 || s.Rev != before.Rev {
			t.Errorf("%d members, revision %d after the move, before %d", len(s.Members), s.Rev, before.Rev)
		}
	})
}

// Raft writes down for which address it voted, so that addresses which change hands must mean nothing to it.
func TestRaftKnowsMembersByTheirIDs(t *testing.T) {
	three(t, func(t *testing.T, _ *peerNodes, leader, follower *Cluster) {
		for _, c := range []*Cluster{leader, follower} {
			addr, id := c.raft.Load().LeaderWithID()
			if string(addr) != string(id) || id != raft.ServerID(leader.Self()) {
				t.Errorf("the leader %s is at %q for Raft", id, addr)
			}
		}
		for _, s := range leader.raft.Load().GetConfiguration().Configuration().Servers {
			if string(s.Address) != string(s.ID) {
				t.Errorf("server %s has address %q in Raft's configuration", s.ID, s.Address)
			}
		}
	})
}
