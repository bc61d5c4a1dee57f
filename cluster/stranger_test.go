package cluster

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// stranger calls n1 with a certificate of the cluster's own PKI, as a node with this id of this cluster.
func (p *peerNodes) stranger(certificate, clusterID, nodeID string) (call func(name string, req any) (string, error)) {
	p.t.Helper()
	creds, err := transport.NewOwnCredentials("test", certificate, nodeID, *p.certificate(certificate))
	if err == nil && clusterID != transport.NewCluster {
		err = creds.SetIdentity(clusterID, nodeID)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	mux, err := transport.NewMux(transport.MuxConfig{Network: p.net.Host(nodeID), Listen: ":7400", Credentials: creds, Logger: hclog.NewNullLogger()})
	if err != nil {
		p.t.Fatal(err)
	}
	rpc := transport.NewRPC(mux, hclog.NewNullLogger())
	p.t.Cleanup(func() { _ = rpc.Close(); _ = mux.Close() })
	return func(name string, req any) (string, error) {
		raw, err := json.Marshal(req)
		if err != nil {
			return "", err
		}
		raw, err = rpc.Call(p.t.Context(), "n1:7400", name, raw)
		return string(raw), err
	}
}

// TestACertificateIsNoMembership: who has a certificate of the own PKI is a stranger whatever he says of himself. He is held to the
// name in his certificate, is told nothing, and what he asks writes nothing.
func TestACertificateIsNoMembership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeerNodes(t, 1)
		p.secrets, p.certificate = []transport.Secret{transport.GenerateSecret()}, certificates(t)
		n1 := p.open("n1")
		stop := p.run(n1)
		waitFor(t, "n1 is primary", func() bool { return n1.State().Epoch == 1 })
		time.Sleep(10 * time.Second)
		id, before, state := n1.ClusterID(), n1.RaftInfo().Last, n1.State().Version
		join := func(cluster, node, name, proof string) JoinRequest {
			return JoinRequest{ClusterID: cluster, Proof: proof, Data: DataFacts{Empty: true},
				Member: fsm.Member{ID: fsm.NodeID(node), Name: name, Role: fsm.RoleData, Addr: name + ":7400", Postgres: name + ":5432"}}
		}
		for _, claim := range []string{transport.NewCluster, id} {
			call := p.stranger("n9", claim, "id-of-"+claim)
			own, proof := "id-of-"+claim, func(node string) string {
				return proofOf(p.secrets[0], joinProof, id, fsm.Member{ID: fsm.NodeID(node), Name: "n9"})
			}
			for _, c := range []struct {
				what string
				name string
				req  any
				want string // in the refusal
			}{
				{"another node's id", callJoin, join(id, "other", "n9", proof("other")), "asks in the name of node other"},
				{"another node's name", callJoin, join(id, own, "n2", proof(own)), "is for [n9], not for n2"},
				{"no proof", callJoin, join(id, own, "n9", ""), "has not shown that it has the secret"},
				{"another cluster's token", callJoin, join("c2", own, "n9", ""), "the token is of cluster c2"},
				{"a command", callSubmit, struct{}{}, "is not a member here"},
				{"another address of a member", callMoved, movedRequest{Addr: "x:7400"}, ""},
			} {
				if answer, err := call(c.name, c.req); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("as a node of %q, %s: %q, %v, want %q", claim, c.what, answer, err, c.want)
				}
			}
			for range 5 {
				if answer, err := call(callStanding, standingRequest{Node: fsm.NodeID(own)}); claim == id && (err != nil || !strings.Contains(answer, `"member":false`)) {
					t.Errorf("as a node of %q, whether it is a member: %q, %v", claim, answer, err)
				}
			}
			if answer, err := call(callStanding, standingRequest{Node: n1.Self()}); strings.Contains(answer, "members") || claim == id && (err != nil || !strings.Contains(answer, `"member":true`)) {
				t.Errorf("as a node of %q, whether n1 is a member: %q, %v", claim, answer, err)
			}
		}
		late := p.stranger("n9", id, "id-of-n4")
		for _, when := range []string{"before n4 is known", "on a connection of before that"} {
			if answer, err := late(callSeal, epochRequest{Epoch: 50}); err == nil {
				t.Errorf("as n4, %s: %q", when, answer)
			}
			n1.hear(state+1, []fsm.Member{{ID: "id-of-n4", Name: "n4"}})
		}
		if m := n1.members()["id-of-n4"]; m.Name != "n4" {
			t.Error("n4 is not known: this shows nothing")
		}
		if n1.isMember(transport.Peer{ClusterID: id, NodeID: "id-of-n4", Names: []string{"n9"}}) || !n1.isMember(transport.Peer{ClusterID: id, NodeID: "id-of-n4", Names: []string{"n4"}}) {
			t.Error("n4 is who has its id, not who has its name too")
		}
		if now := n1.RaftInfo().Last; now != before || n1.State().Version != state {
			t.Errorf("strangers made the log grow from entry %d to %d", before, now)
		}
		p.mustStop(stop)
	})
}

// TestWhoIsBehindSaysNothingOfMembers: a node that has not applied another one's coming must not be believed that it was removed.
func TestWhoIsBehindSaysNothingOfMembers(t *testing.T) {
	three(t, func(t *testing.T, p *peerNodes, leader, follower *Cluster) {
		s := follower.State()
		asks := func(version uint64) bool {
			gone := &Cluster{cfg: follower.cfg, rpc: follower.rpc, mux: follower.mux, gossip: follower.gossip, machine: &machine{}}
			current := follower.identity.get()
			current.NodeID, current.Founding = "gone", nil
			current.Joined = &joined{ClusterID: s.ClusterID, Members: []fsm.Member{s.Members[leader.Self()]}, Version: version}
			gone.identity = &identityStore{current: current}
			gone.published = &publisher{}
			return gone.strickenOff(t.Context())
		}
		if asks(leader.State().Version + 1) {
			t.Error("believed who does not know it yet")
		}
		if !asks(leader.State().Version) {
			t.Error("did not believe who knows that it is no member")
		}
		if asks(0) { // as of a founding node that has applied nothing
			t.Error("believed somebody without anything to compare with")
		}
	})
}

// TestRemovedBeforeItsFirstState: a node that joined and was removed before it ran learns that, though it gets no log.
func TestRemovedBeforeItsFirstState(t *testing.T) {
	three(t, func(t *testing.T, p *peerNodes, leader, _ *Cluster) {
		if err := p.joins("n4", leader.ClusterID()); err != nil {
			t.Fatal(err)
		}
		if err := leader.Remove(t.Context(), Removal{Name: "n4", LastCopy: true}); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "n4 is no member", func() bool { return len(leader.State().Members) == 3 })
		n4 := p.open("n4")
		stop := p.run(n4)
		waitFor(t, "it knows", n4.Removed)
		if initialised(n4) {
			t.Error("it has got a state: this shows nothing")
		}
		p.mustStop(stop)
	})
}
