package cluster

import (
	"context"
	"net"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/cluster/gossip"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

const (
	gossipFile = "gossip.bin"
	gossipKey  = "quorate/gossip/1" // what the gossip key is derived with
)

// raftAddress is what Raft calls a member: its id. Raft writes down for which address it voted and takes two candidates
// with one address for one: a node that comes to a former candidate's address would be given that one's vote, in the
// same term. An id never moves. So a member's address is no business of Raft's configuration, and where the member is now
// is looked up for every connection.
func raftAddress(id fsm.NodeID) raft.ServerAddress { return raft.ServerAddress(id) }

// byID makes Raft's transport use raftAddress whatever address the configuration has.
type byID struct{}

// ServerAddr never fails.
func (byID) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	return raftAddress(fsm.NodeID(id)), nil
}

// dialFor gives the way to members for a protocol. A target is a member's id: the connection is with that member or there
// is none, wherever it has moved. Any other target is an address, where it may be anybody.
func (c *Cluster) dialFor(proto transport.Proto) func(ctx context.Context, target string) (*transport.Conn, error) {
	return func(ctx context.Context, target string) (*transport.Conn, error) {
		m, member := c.members()[fsm.NodeID(target)]
		if !member {
			return c.mux.Dial(ctx, proto, target)
		}
		return c.mux.DialAny(ctx, proto, target, c.addresses(m))
	}
}

// addresses are where a member may be: where the replicated state has it and, if it says otherwise itself, there.
func (c *Cluster) addresses(m fsm.Member) []string {
	if said, ok := c.gossip.Announced(string(m.ID)); ok && said.Addr != m.Addr {
		return []string{m.Addr, said.Addr}
	}
	return []string{m.Addr}
}

// newGossip prepares this node's part in gossip.
func (c *Cluster) newGossip() (*gossip.Gossip, error) {
	me := c.cfg.Member
	dial := c.dialFor(transport.ProtoGossip)
	return gossip.New(gossip.Config{
		Self: gossip.Node{ID: string(c.Self()), Addr: me.Addr, API: me.API, Postgres: me.Postgres},
		File: filepath.Join(c.cfg.Dir, gossipFile), Logger: c.log.Named("gossip"), Peers: c.cfg.Peers,
		Members: func() map[string]string {
			addrs := map[string]string{}
			for id, m := range c.members() {
				addrs[string(id)] = m.Addr
			}
			return addrs
		},
		Open:   func() (gossip.Packets, error) { return c.mux.ListenPacket() },
		Accept: func() net.Listener { return c.mux.Accept(transport.ProtoGossip) },
		Dial: func(ctx context.Context, target string) (net.Conn, error) {
			conn, err := dial(ctx, target)
			if err != nil {
				return nil, err // not conn: a nil *Conn is not a nil net.Conn
			}
			return conn, nil
		},
		OnChange: func() { c.loop.Wake(); c.Kick() },
	}, gossipKeys(c.cfg.Secrets))
}

func gossipKeys(secrets []transport.Secret) [][]byte {
	var keys [][]byte
	for _, s := range secrets {
		keys = append(keys, transport.DeriveKey(s, gossipKey))
	}
	return keys
}

// SetSecrets makes this node prove itself by the first of secrets and accept all of them, from now on. Connections that
// stand are kept, but for those with peers that proved themselves by a secret that is left out: they end one by one.
func (c *Cluster) SetSecrets(secrets []transport.Secret) error {
	if !c.credentials.Own() {
		if err := c.credentials.SetSecrets(secrets...); err != nil {
			return err
		}
	}
	if err := c.gossip.SetKeys(gossipKeys(secrets)); err != nil {
		return err
	}
	c.secrets.Store(&secrets)
	c.retiring.Go(func() { c.mux.Retire(c.detaching.closing) })
	return nil
}

// SetCertificate is SetSecrets for the files of an own PKI.
func (c *Cluster) SetCertificate(files transport.PEM) error {
	if err := c.credentials.SetFiles(files); err != nil {
		return err
	}
	c.retiring.Go(func() { c.mux.Retire(c.detaching.closing) })
	return nil
}

// CertificateEnds is when this node's certificate does, in an own PKI; false where it is derived and never does.
func (c *Cluster) CertificateEnds() (time.Time, bool) {
	return c.credentials.NotAfter(), c.credentials.Own()
}
