package gossip

import (
	"fmt"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist asks and tells. It calls the Notify methods with its own lock held: nothing here may wait
// or call it back.
type delegate struct{ g *Gossip }

// NodeMeta is what this node says of itself.
func (d delegate) NodeMeta(int) []byte { return d.g.cfg.Self.meta() }

// NotifyAlive keeps out whom the replicated state does not know and who says nothing that can be read.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	if _, ok := d.g.cfg.Members()[n.Name]; !ok && n.Name != d.g.cfg.Self.ID {
		return fmt.Errorf("node %s is not a member", n.Name)
	}
	_, err := nodeOf(n.Name, n.Meta)
	return err
}

// NotifyJoin notes where a node is.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.note(n) }

// NotifyUpdate notes where a node has moved.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.note(n) }

// NotifyLeave wakes who may want to know; where the node was stays noted.
func (d delegate) NotifyLeave(*memberlist.Node) { d.g.poke() }

func (d delegate) note(n *memberlist.Node) {
	said, err := nodeOf(n.Name, n.Meta)
	if err != nil || n.Name == d.g.cfg.Self.ID {
		return // NotifyAlive has refused the first
	}
	d.g.book.put(said)
	d.g.poke()
}

// NotifyMsg ignores messages: quorate sends none this way.
func (delegate) NotifyMsg([]byte) {}

// GetBroadcasts has nothing to send.
func (delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState has nothing to add.
func (delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState takes nothing in.
func (delegate) MergeRemoteState([]byte, bool) {}
