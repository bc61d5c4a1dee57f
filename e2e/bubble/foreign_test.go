package bubble

import (
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/transport"
)

// TestForeignRaftHistoryAtAReusedAddress: a cluster had two of these addresses before, with the same scope and secret, and has
// counted more terms. One of its nodes comes back where a member is down, and each side finds the other where its own were.
// Both refuse, and no term, state or lease is touched by it.
func TestForeignRaftHistoryAtAReusedAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		defer w.stop()
		secrets := []transport.Secret{transport.GenerateSecret()}
		old := make([]*node, 2)
		for i, host := range []string{"n1", "n3"} {
			old[i] = &node{
				w: w, name: "old" + host, host: host, dir: filepath.Join(filepath.Dir(w.nodes[0].dir), "old"+host),
				peers: []string{"n1:7400", "n3:7400"}, secrets: secrets,
			}
		}
		for range 8 { // each time somebody has to be elected anew
			for _, n := range old {
				n.run()
			}
			w.wait("the old cluster has a leader", func() bool {
				return old[0].running().Leader() != "" && old[0].running().State().Epoch > 0 && old[1].running().State().Epoch > 0
			})
			for _, n := range old {
				n.halt()
			}
		}
		time.Sleep(2 * time.Second) // the leases of that cluster are over
		for _, n := range w.nodes {
			n.secrets = secrets
			n.run()
		}
		primary, leader := w.settle()
		w.nodes[2].halt()
		if primary == w.nodes[2] || leader == w.nodes[2] {
			w.wait("the two others go on", func() bool {
				p, l := w.primary(), w.leader()
				return p != nil && l != nil && p.serving() == w.epoch()
			})
		}
		time.Sleep(20 * time.Second) // until the others have settled without it
		primary, leader = w.primary(), w.leader()
		term := leader.running().RaftInfo().Term
		stranger := old[1]
		stranger.run()
		before := stranger.running().State()
		w.undisturbed(primary, func() { time.Sleep(30 * time.Second) })
		foreign := stranger.running()
		if got := foreign.RaftInfo().Term; got <= term {
			t.Errorf("the foreign term is %d and ours %d: it could not have been taken over", got, term)
		}
		for _, n := range w.nodes[:2] {
			if info := n.running().RaftInfo(); info.Term != term || info.Leader != leader.id() {
				t.Errorf("%s is in term %d under %s, want %d under %s", n.name, info.Term, info.Leader, term, leader.id())
			}
		}
		s := foreign.State()
		if s.ClusterID != before.ClusterID || s.Rev != before.Rev || foreign.Leader() != "" || stranger.serving() != 0 {
			t.Errorf("the foreign node: %+v, leader %q, serving %d", s, foreign.Leader(), stranger.serving())
		}
		for _, said := range []string{"oldn3.net: refused a connection", "n1.net: refused a connection"} {
			if !strings.Contains(w.logs.tail(1<<20), said) {
				t.Errorf("the log does not say %q", said)
			}
		}
		stranger.halt()
		w.nodes[2].run()
		w.settle()
		w.checkOneWriter()
	})
}
