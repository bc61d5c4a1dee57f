package bubble

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// move ends the node's process and starts it at another host, as a changed cluster.connect_address does.
func (n *node) move(host string) {
	n.halt()
	n.moveTo(host)
	n.run()
}

func (n *node) moveTo(host string) {
	was, is := n.host+":7400", host+":7400"
	n.host, n.peers = host, slices.Clone(n.peers)
	if i := slices.Index(n.peers, was); i >= 0 {
		n.peers[i] = is
	}
}

// writtenDown says whether every node's state has every node where it is.
func (w *world) writtenDown() bool {
	for _, n := range w.nodes {
		s := n.running().State()
		for _, o := range w.nodes {
			m := s.Members[o.id()]
			if m.Addr != o.host+":7400" || m.Postgres != o.host+":5432" {
				return false
			}
		}
	}
	return true
}

// undisturbed runs do and fails if the primary ceases to serve meanwhile or the epoch changes.
func (w *world) undisturbed(primary *node, do func()) {
	w.t.Helper()
	epoch, stop, watched := w.epoch(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			if primary.serving() != epoch {
				w.t.Errorf("the primary serves epoch %d, want %d without interruption", primary.serving(), epoch)
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	do()
	close(stop)
	<-watched
	if e := w.epoch(); e != epoch {
		w.t.Errorf("epoch %d, want %d still", e, epoch)
	}
}

// A node comes back at another address: it is found, its member record follows, and nobody else notices.
func TestANodeMoves(t *testing.T) {
	for name, which := range map[string]func(w *world, primary, leader *node) *node{
		"follower": func(w *world, primary, leader *node) *node { return w.other(primary, leader) },
		"leader":   func(_ *world, _, leader *node) *node { return leader },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, 3, func(w *world) {
				primary, leader := w.settle()
				moved := which(w, primary, leader)
				w.undisturbed(primary, func() {
					moved.move("elsewhere")
					took := w.wait("everybody has it where it is", w.writtenDown)
					t.Logf("written down after %s", took)
				})
				w.settle()
			})
		})
	}
}

// The primary comes back at another address. Its lease was lost with its process, so it is replaced or appointed again;
// but it is a full member at once.
func TestThePrimaryMoves(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		primary, _ := w.settle()
		primary.move("elsewhere")
		w.wait("everybody has it where it is", w.writtenDown)
		w.settle()
	})
}

// One after the other every node gets another address, until nothing of the founding is true any more.
func TestAllNodesMoveInTurn(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		w.settle()
		for _, n := range w.nodes {
			n.move(n.name + "-new")
			w.wait("everybody has it where it is", w.writtenDown)
			w.settle()
		}
	})
}

// All nodes are down, and all but one come back elsewhere: what they remember leads them to the one that stayed, and by
// it to each other.
func TestAllAddressesButOneChange(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		w.settle()
		for _, n := range w.nodes {
			n.halt()
		}
		w.nodes[1].moveTo("n2-new")
		w.nodes[2].moveTo("n3-new")
		for _, n := range w.nodes {
			n.run()
		}
		took := w.wait("everybody has everybody where he is", w.writtenDown)
		t.Logf("written down after %s", took)
		w.settle()
	})
}

// Addresses change hands while all nodes are down. Who is at an address is not who was there before, and has to prove it.
func TestAddressesChangeHands(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		w.settle()
		for _, n := range w.nodes {
			n.halt()
		}
		for i, n := range w.nodes {
			n.moveTo(w.nodes[(i+1)%3].name)
			n.peers = []string{"n1:7400", "n2:7400", "n3:7400"}
		}
		for _, n := range w.nodes {
			n.run()
		}
		took := w.wait("everybody has everybody where he is", w.writtenDown)
		t.Logf("written down after %s", took)
		w.settle()
	})
}

// A node that was cut off while the others moved finds them by gossip when it is back.
func TestTheOthersMoveMeanwhile(t *testing.T) {
	inBubble(t, 5, func(w *world) {
		primary, leader := w.settle()
		lost := w.other(primary, leader)
		w.isolate(lost)
		for _, n := range w.nodes {
			if n != lost && n != primary && n != leader {
				n.move(n.name + "-new")
			}
		}
		time.Sleep(5 * time.Second)
		w.rejoin(lost)
		w.wait("everybody has everybody where he is", w.writtenDown)
		w.settle()
	})
}

// A secret is replaced by the steps of the manual on a running cluster: the primary serves all the time, and afterwards
// nodes restart with the new one alone.
func TestASecretIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, next := transport.GenerateSecret(), transport.GenerateSecret()
		w := newWorld(t, 3)
		defer w.stop()
		for _, n := range w.nodes {
			n.secrets = []transport.Secret{old}
			n.run()
		}
		primary, leader := w.settle()
		w.undisturbed(primary, func() {
			for _, secrets := range [][]transport.Secret{{old, next}, {next, old}, {next}} {
				for _, n := range w.nodes {
					n.secrets = secrets
					if err := n.running().SetSecrets(secrets); err != nil {
						t.Fatal(err)
					}
					time.Sleep(2 * time.Second)
				}
			}
			time.Sleep(2 * time.Minute) // the connections that the old one proved end one by one
			other := w.other(primary, leader)
			other.halt()
			other.run()
			time.Sleep(5 * time.Second)
			if err := other.running().Submit(t.Context(), fsm.Pause{}, 0, "test"); err != nil {
				t.Errorf("a node that restarted with the new secret: %v", err)
			}
		})
		w.checkOneWriter()
	})
}
