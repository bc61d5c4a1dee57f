package cluster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/cluster/lead"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// three runs a whole cluster for the length of story.
func three(t *testing.T, story func(t *testing.T, p *peerNodes, leader, follower *Cluster)) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeerNodes(t, 3)
		all := []*Cluster{p.open("n1"), p.open("n2"), p.open("n3")}
		var stops []func() error
		for _, c := range all {
			stops = append(stops, p.run(c))
		}
		defer func() { p.mustStop(stops...) }()
		var leader, follower *Cluster
		waitFor(t, "state, first primary and a leader off its node", func() bool {
			leader, follower = nil, nil
			for _, c := range all {
				if s := c.State(); s.Epoch == 0 {
					return false
				} else if c.RaftInfo().State == "leader" {
					leader = c
				} else if s.Primary != c.Self() {
					follower = c
				}
			}
			return leader != nil && follower != nil && leader.State().Primary != leader.Self()
		})
		story(t, p, leader, follower)
	})
}

func TestSubmitAnswersInTheStatesOwnErrors(t *testing.T) {
	three(t, func(t *testing.T, _ *peerNodes, leader, follower *Cluster) {
		for name, c := range map[string]*Cluster{"leader": leader, "follower": follower} {
			if err := c.Submit(t.Context(), fsm.Pause{}, 9999, "test"); !errors.Is(err, fsm.ErrStaleRev) {
				t.Errorf("stale revision through the %s: %v, want ErrStaleRev", name, err)
			}
		}
		if err := follower.Submit(t.Context(), fsm.Pause{}, 0, "test"); err != nil {
			t.Errorf("Pause through a follower: %v", err)
		}
		if err := leader.Submit(t.Context(), fsm.Resume{}, 0, "test"); err != nil {
			t.Errorf("Resume through the leader: %v", err)
		}
	})
}

func TestSubmitWithoutALeader(t *testing.T) {
	three(t, func(t *testing.T, p *peerNodes, _, follower *Cluster) {
		p.net.Isolate(follower.cfg.Member.Name)
		waitFor(t, "the follower knows no leader", func() bool { return follower.Leader() == "" })
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if err := follower.Submit(ctx, fsm.Pause{}, 0, "test"); !errors.Is(err, ErrNoLeader) {
			t.Errorf("Submit while cut off: %v, want ErrNoLeader", err)
		}
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("gave up after %s, want as long as it was told", d)
		}
		p.net.Rejoin(follower.cfg.Member.Name)
	})
}

// What the leader knows crosses the wire whole.
func TestTheLeaderExplains(t *testing.T) {
	three(t, func(t *testing.T, _ *peerNodes, leader, follower *Cluster) {
		e, err := follower.LeaderExplain(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !e.Leading || e.Node != leader.Self() || e.Rule == "" || e.View.State.Rev != leader.State().Rev {
			t.Errorf("the leader's explanation: %+v", e)
		}
		v, d, err := follower.Explain(t.Context())
		if err != nil || v.Leading || d.Rule == "" || len(v.Seen) != 3 {
			t.Errorf("an observer's: leading %v, rule %q, seen %d, %v", v.Leading, d.Rule, len(v.Seen), err)
		}
	})
}

func TestDetachSealsFirst(t *testing.T) {
	three(t, func(t *testing.T, _ *peerNodes, leader, follower *Cluster) {
		s := follower.State()
		var sealedBefore fsm.Epoch
		follower.deps.Detach = func(ctx context.Context, e fsm.Epoch) (fsm.Position, error) {
			r, err := follower.ask(ctx, e)
			sealedBefore = r.Sealed
			return fsm.Position{Detached: e, Timeline: 1, LSN: 77}, err
		}
		pos, err := remoteVoters{leader}.Detach(t.Context(), follower.Self(), s.Epoch)
		if err != nil || pos.Node != follower.Self() || pos.LSN != 77 {
			t.Errorf("Detach = %+v, %v", pos, err)
		}
		if sealedBefore != s.Epoch {
			t.Errorf("Postgres was detached when epoch %d was sealed, want %d", sealedBefore, s.Epoch)
		}
		if _, err := (remoteVoters{leader}).Detach(t.Context(), s.Primary, s.Epoch); !errors.Is(err, lead.ErrRefused) {
			t.Errorf("Detach of the primary itself: %v, want ErrRefused", err)
		}
		waitFor(t, "the seal is made good by a new epoch", func() bool { return follower.State().Epoch > s.Epoch })
		if _, err := (remoteVoters{leader}).Detach(t.Context(), follower.Self(), s.Epoch); !errors.Is(err, lead.ErrRefused) {
			t.Errorf("Detach from an epoch that has passed: %v, want ErrRefused", err)
		}
	})
}

func TestStrangersMayOnlySayHello(t *testing.T) {
	three(t, func(t *testing.T, p *peerNodes, leader, _ *Cluster) {
		creds, err := transport.Insecure("test", "stranger")
		if err != nil {
			t.Fatal(err)
		}
		mux, err := transport.NewMux(transport.MuxConfig{Network: p.net.Host("s"), Listen: "s:7400", Credentials: creds, Logger: hclog.NewNullLogger()})
		if err != nil {
			t.Fatal(err)
		}
		rpc := transport.NewRPC(mux, hclog.NewNullLogger())
		defer mux.Close()
		defer rpc.Close()
		for _, name := range []string{callSubmit, callAsk, callSeal, callDetach, callExplain, callMoved} {
			_, err := rpc.Call(t.Context(), leader.cfg.Member.Addr, name, []byte(`{"epoch":1}`))
			if err := fromWire(err); !errors.Is(err, ErrOtherCluster) {
				t.Errorf("%s from a stranger: %v, want ErrOtherCluster", name, err)
			}
		}
		if _, err := rpc.Call(t.Context(), leader.cfg.Member.Addr, callHello, []byte(`{}`)); err != nil {
			t.Errorf("hello from a stranger: %v", err)
		}
		if _, err := rpc.Call(t.Context(), leader.cfg.Member.Addr, callForm, []byte(`{}`)); err == nil {
			t.Error("a stranger founded a cluster on a member")
		}
	})
}
