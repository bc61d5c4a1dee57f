package cluster

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// TestACertificateFoundsNothing: who has a certificate of the own PKI and not the secret can't found a cluster of his on a node that
// waits for its peers, whatever he has overheard.
func TestACertificateFoundsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeerNodes(t, 2)
		p.secrets, p.certificate = []transport.Secret{transport.GenerateSecret()}, certificates(t)
		n1 := p.open("n1")
		stop := p.run(n1)
		me := fsm.Member{ID: "me", Name: "n8", Addr: "n1:7400"}
		form := func(first fsm.Member, proof string) formRequest {
			f := founding{First: "me", Init: fsm.Init{ClusterID: "evil", Config: fsm.Config{Settings: n1.cfg.Settings}}, Seed: strings.Repeat("ab", 32)}
			f.Init.Members = []fsm.Member{first, {ID: n1.Self(), Name: "n1", Addr: "n2:7400"}}
			return formRequest{Founding: f, Proof: proof}
		}
		other, named := me, me
		other.ID, named.Name = "other", "n2"
		call := p.stranger("n8", "evil", "me")
		for _, c := range []struct {
			what string
			req  formRequest
			want string
		}{
			{"no proof", form(me, ""), "n8 has not shown that it has this cluster's secret"},
			{"another secret's proof", form(me, proofOf(transport.GenerateSecret(), formProof, "evil", me)), "has not shown"},
			{"the proof of a Hello", form(me, proofOf(p.secrets[0], helloProof, "", me)), "has not shown"},
			{"another first node", form(other, proofOf(p.secrets[0], formProof, "evil", other)), "node me founds it, and the first of its nodes is other"},
			{"another node's name", form(named, proofOf(p.secrets[0], formProof, "evil", named)), "is for [n8], not for n2"},
		} {
			if _, err := call(callForm, c.req); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.what, err, c.want)
			}
		}
		if id := n1.ClusterID(); id != "" {
			t.Errorf("n1 belongs to cluster %q", id)
		}
		p.mustStop(stop)
	})
}

// impostor answers at n2's address with a certificate for n8, and counts the foundings that it is told.
func (p *peerNodes) impostor(as fsm.NodeID, hello helloAnswer) (told *atomic.Int32) {
	p.t.Helper()
	creds, err := transport.NewOwnCredentials("test", "n8", string(as), *p.certificate("n8"))
	if err != nil {
		p.t.Fatal(err)
	}
	mux, err := transport.NewMux(transport.MuxConfig{Network: p.net.Host("n2"), Listen: "n2:7400", Credentials: creds, Logger: hclog.NewNullLogger()})
	if err != nil {
		p.t.Fatal(err)
	}
	rpc := transport.NewRPC(mux, hclog.NewNullLogger())
	p.t.Cleanup(func() { _ = rpc.Close(); _ = mux.Close() })
	told = &atomic.Int32{}
	rpc.HandleRPC(callHello, func(context.Context, transport.Peer, []byte) ([]byte, error) { return json.Marshal(hello) })
	rpc.HandleRPC(callForm, func(context.Context, transport.Peer, []byte) ([]byte, error) { told.Add(1); return nil, nil })
	return told
}

// TestWhoAnswersAtAPeersAddressIsNotBelieved: a certificate makes nobody an initial node, and he is not told the passwords' seed.
func TestWhoAnswersAtAPeersAddressIsNotBelieved(t *testing.T) {
	secret := transport.GenerateSecret()
	n2 := fsm.Member{ID: "id2", Name: "n2", Role: fsm.RoleData, Addr: "n2:7400", Postgres: "n2:5432"}
	n8 := n2
	n8.Name = "n8"
	for _, c := range []struct {
		what  string
		as    fsm.NodeID
		says  fsm.Member
		proof string
		want  string
	}{
		{"its own name", "id2", n8, "", "has not shown that it has this cluster's secret"},
		{"another secret", "id2", n8, proofOf(transport.GenerateSecret(), helloProof, "", n8), "has not shown"},
		{"n2's name and proof", "id2", n2, proofOf(secret, helloProof, "", n2), "is for [n8], not for n2"},
		{"n2's proof under its own id", "id8", n2, proofOf(secret, helloProof, "", n2), "node id8 asks in the name of node id2"},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPeerNodes(t, 2)
				p.secrets, p.certificate = []transport.Secret{secret}, certificates(t)
				n1 := p.open("n1")
				told := p.impostor(c.as, helloAnswer{NodeID: c.says.ID, Member: c.says, Peers: p.peers, FailoverAfterMS: 1000,
					Data: DataFacts{Empty: true}, Proof: c.proof})
				stop := p.run(n1)
				time.Sleep(10 * time.Second)
				if _, missing := n1.askPeers(t.Context(), p.peers); len(missing) != 1 || !strings.Contains(missing[0], c.want) {
					t.Errorf("who is missing: %q, want %q", missing, c.want)
				}
				if id := n1.ClusterID(); id != "" || told.Load() > 0 {
					t.Errorf("n1 founded cluster %q and told it %d times", id, told.Load())
				}
				p.mustStop(stop)
			})
		})
	}
}

// TestTheFoundingIsToldToItsMembersOnly: who came to a member's address after the founding was made is not told it.
func TestTheFoundingIsToldToItsMembersOnly(t *testing.T) {
	for as, want := range map[fsm.NodeID]string{"id2": "the certificate is for n8", "id8": "it is node id8, not id2"} {
		synctest.Test(t, func(t *testing.T) {
			p := newPeerNodes(t, 2)
			p.secrets, p.certificate = []transport.Secret{transport.GenerateSecret()}, certificates(t)
			n1 := p.open("n1")
			told := p.impostor(as, helloAnswer{})
			f := founding{First: n1.Self(), Init: fsm.Init{ClusterID: "c1", Config: fsm.Config{Settings: n1.cfg.Settings}}, Seed: strings.Repeat("ab", 32)}
			f.Init.Members = []fsm.Member{n1.template(), {ID: "id2", Name: "n2", Role: fsm.RoleData, Addr: "n2:7400"}}
			if err := n1.adopt(f); err != nil {
				t.Fatal(err)
			}
			if why := n1.tellFounding(t.Context()); len(why) != 1 || !strings.Contains(why[0], want) || told.Load() > 0 {
				t.Errorf("as %s: told %d times, %q, want %q", as, told.Load(), why, want)
			}
			stopped, cancel := context.WithCancel(t.Context())
			cancel()
			if err := n1.Run(stopped); err != nil {
				t.Error(err)
			}
		})
	}
}
