package cluster

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// TestNobodyDialsWhoWasRemoved: connections for calls are kept to members only.
func TestNobodyDialsWhoWasRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n1 := newPeerNodes(t, 1).open("n1")
		var dials atomic.Int64
		n1.rpc.DialBy(func(context.Context, string) (*transport.Conn, error) { dials.Add(1); return nil, errors.New("down") })
		shows := func(index uint64, others ...fsm.NodeID) int64 {
			members := map[fsm.NodeID]fsm.Member{n1.Self(): n1.template()}
			for _, id := range others {
				members[id] = fsm.Member{ID: id}
			}
			n1.published.offer(index, fsm.State{ClusterID: "c1", Members: members})
			if _, err := n1.published.flush(); err != nil {
				t.Fatal(err)
			}
			n1.warm()
			time.Sleep(time.Second) // for a dial under way
			dials.Store(0)
			time.Sleep(10 * time.Second)
			return dials.Load()
		}
		if n := shows(1, "gone"); n == 0 {
			t.Error("no connection is kept to a member")
		}
		if n := shows(2); n != 0 {
			t.Errorf("who was removed is dialled %d times in 10 s", n)
		}
		if n := shows(3, "gone"); n == 0 {
			t.Error("no connection is kept to a member that is known again")
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if err := n1.Run(ended); !errors.Is(err, ErrRaftDamaged) { // what was shown is in no log
			t.Error(err)
		}
	})
}
