package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/cluster/lead"
	"github.com/quorate/quorate/cluster/lease"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// The calls between nodes.
const (
	callHello    = "hello"
	callForm     = "form"
	callSubmit   = "submit"
	callAsk      = "ask"
	callSeal     = "seal"
	callDetach   = "detach"
	callExplain  = "explain"
	callJoin     = "join"
	callRemove   = "remove"
	callStanding = "standing"
)

// detachLimit bounds a Detach on this node, whoever asked and however long he waits.
const detachLimit = 10 * time.Second

type epochRequest struct {
	Epoch fsm.Epoch `json:"epoch"`
}

// handle registers all calls.
func (c *Cluster) handle() {
	for name, h := range c.handlers() {
		c.rpc.HandleRPC(name, h)
	}
}

// handlers are all calls by name. Hello and Form are for strangers too: there is no cluster yet when they are made.
func (c *Cluster) handlers() map[string]transport.Handler {
	return map[string]transport.Handler{
		callHello: func(context.Context, transport.Peer, []byte) ([]byte, error) { return json.Marshal(c.hello()) },
		callForm: func(_ context.Context, peer transport.Peer, req []byte) ([]byte, error) {
			return nil, toWire(c.onForm(peer, req))
		},
		callJoin: c.onJoin,
		callStanding: func(_ context.Context, peer transport.Peer, raw []byte) ([]byte, error) {
			var req standingRequest
			if err := json.Unmarshal(raw, &req); err != nil {
				return nil, fmt.Errorf("decode request: %w", err)
			}
			answer, err := c.onStanding(peer, req)
			if err != nil {
				return nil, toWire(err)
			}
			return json.Marshal(answer)
		},
		callRemove: c.forMembers(func(ctx context.Context, raw []byte) (any, error) {
			var req Removal
			if err := json.Unmarshal(raw, &req); err != nil {
				return nil, fmt.Errorf("decode request: %w", err)
			}
			return nil, c.removeHere(ctx, req)
		}),
		callSubmit: c.forMembers(func(ctx context.Context, req []byte) (any, error) {
			env, err := fsm.DecodeCommand(req)
			if err != nil {
				return nil, err
			}
			return nil, c.applyHere(ctx, env)
		}),
		callAsk:     c.forMembers(onEpoch(func(ctx context.Context, e fsm.Epoch) (any, error) { return c.ask(ctx, e) })),
		callSeal:    c.forMembers(onEpoch(func(ctx context.Context, e fsm.Epoch) (any, error) { return c.seal(ctx, e) })),
		callDetach:  c.forMembers(onEpoch(func(ctx context.Context, e fsm.Epoch) (any, error) { return c.detach(ctx, e) })),
		callStop:    c.forMembers(onEpoch(func(_ context.Context, e fsm.Epoch) (any, error) { return nil, c.stop(e) })),
		callMoved:   c.onMoved,
		callExplain: c.forMembers(func(context.Context, []byte) (any, error) { return c.explainHere(), nil }),
	}
}

// isMember says whether the peer is a member of this node's cluster. Anybody may say that he is of it, and with a certificate of an own
// PKI also that he is any node of it: the handshake holds him to the name of a member, if it was one by then.
func (c *Cluster) isMember(peer transport.Peer) bool {
	m, member := c.members()[fsm.NodeID(peer.NodeID)]
	named := !c.credentials.Own() || slices.Contains(peer.Names, m.Name)
	return member && named && peer.ClusterID == c.identity.clusterID()
}

// forMembers handles a call that only members of this node's cluster may make.
func (c *Cluster) forMembers(do func(ctx context.Context, req []byte) (any, error)) transport.Handler {
	return func(ctx context.Context, peer transport.Peer, req []byte) ([]byte, error) {
		if !c.isMember(peer) {
			return nil, toWire(fmt.Errorf("%w: node %s of cluster %s is not a member here", ErrOtherCluster, peer.NodeID, peer.ClusterID))
		}
		result, err := do(ctx, req)
		if err != nil {
			return nil, toWire(err)
		}
		return json.Marshal(result)
	}
}

func onEpoch(do func(context.Context, fsm.Epoch) (any, error)) func(context.Context, []byte) (any, error) {
	return func(ctx context.Context, raw []byte) (any, error) {
		var req epochRequest
		if err := json.Unmarshal(raw, &req); err != nil {
			return nil, fmt.Errorf("decode request: %w", err)
		}
		return do(ctx, req.Epoch)
	}
}

// call makes a call with JSON in both directions; resp may be nil. to is a member's id, and then that member answers or
// nobody does; or it is an address, where it may be anybody.
func (c *Cluster) call(ctx context.Context, to, name string, req, resp any) error {
	raw, err := json.Marshal(req)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	raw, err = c.rpc.Call(ctx, to, name, raw)
	if err != nil {
		return fromWire(err)
	}
	if resp == nil {
		return nil
	}
	if err := json.Unmarshal(raw, resp); err != nil {
		return fmt.Errorf("decode answer to %s: %w", name, err)
	}
	return nil
}

func (c *Cluster) callWithin(ctx context.Context, limit time.Duration, to, name string, req, resp any) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return c.call(ctx, to, name, req, resp)
}

// dialBeat connects to a member for beats.
func (c *Cluster) dialBeat(ctx context.Context, to fsm.Member) (net.Conn, error) {
	conn, err := c.dialFor(transport.ProtoBeat)(ctx, string(to.ID))
	if err != nil {
		return nil, err // not conn: a nil *Conn is not a nil net.Conn
	}
	return conn, nil
}

func (c *Cluster) ask(ctx context.Context, e fsm.Epoch) (lease.AskReply, error) {
	b := c.beat.Load()
	if b == nil {
		return lease.AskReply{}, ErrNotMember
	}
	return b.Ask(ctx, e)
}

func (c *Cluster) seal(ctx context.Context, e fsm.Epoch) (lease.SealReply, error) {
	b := c.beat.Load()
	if b == nil {
		return lease.SealReply{}, ErrNotMember
	}
	return b.Seal(ctx, e)
}

// detach seals first, so that a position is never told without the promise that nobody of this epoch is vouched for or
// followed again, and then has the node cut its Postgres off.
func (c *Cluster) detach(ctx context.Context, e fsm.Epoch) (fsm.Position, error) {
	if _, err := c.seal(ctx, e); err != nil {
		return fsm.Position{}, fmt.Errorf("seal epoch %d before detaching: %w", e, err)
	}
	if s := c.State(); s.Epoch > e {
		return fsm.Position{}, fmt.Errorf("%w: epoch %d has passed, this node is at %d", lead.ErrRefused, e, s.Epoch)
	} else if s.Epoch == e && s.Primary == c.Self() {
		return fsm.Position{}, fmt.Errorf("%w: this node is the primary of epoch %d", lead.ErrRefused, e)
	}
	return c.detaching.do(ctx, e, func(ctx context.Context) (fsm.Position, error) {
		p, err := c.deps.Detach(ctx, e)
		if err != nil {
			return p, fmt.Errorf("%w: %w", lead.ErrRefused, err)
		}
		p.Node = c.Self()
		return p, nil
	})
}

// detaching runs one Detach at a time. Who asks for an epoch while its Detach runs gets that one's outcome.
type detaching struct {
	closing context.Context // ends the one that runs
	ended   sync.WaitGroup

	mu      sync.Mutex
	running *detachRun
}

type detachRun struct {
	epoch    fsm.Epoch
	done     chan struct{}
	position fsm.Position
	err      error
}

func (d *detaching) do(ctx context.Context, e fsm.Epoch, detach func(context.Context) (fsm.Position, error)) (fsm.Position, error) {
	d.mu.Lock()
	run := d.running
	if run != nil && run.epoch != e {
		d.mu.Unlock()
		return fsm.Position{}, fmt.Errorf("detach from epoch %d: still busy with epoch %d", e, run.epoch)
	}
	if run == nil {
		run = &detachRun{epoch: e, done: make(chan struct{})}
		d.running = run
		d.ended.Go(func() { d.run(run, detach) })
	}
	d.mu.Unlock()
	select {
	case <-run.done:
		return run.position, run.err
	case <-ctx.Done():
		return fsm.Position{}, ctx.Err()
	}
}

// run doesn't end with the asker's context: half a detach helps nobody, and he asks again.
func (d *detaching) run(run *detachRun, detach func(context.Context) (fsm.Position, error)) {
	ctx, cancel := context.WithTimeout(d.closing, detachLimit)
	defer cancel()
	run.position, run.err = detach(ctx)
	d.mu.Lock()
	d.running = nil
	d.mu.Unlock()
	close(run.done)
}

// remoteVoters asks nodes for the leader's loop; this node asks itself without a connection.
type remoteVoters struct{ *Cluster }

var _ lead.Voters = remoteVoters{}

func (v remoteVoters) Ask(ctx context.Context, to fsm.NodeID, e fsm.Epoch) (r lease.AskReply, err error) {
	if to == v.Self() {
		return v.ask(ctx, e)
	}
	err = v.callNode(ctx, to, callAsk, e, &r)
	return r, err
}

func (v remoteVoters) Seal(ctx context.Context, to fsm.NodeID, e fsm.Epoch) (r lease.SealReply, err error) {
	if to == v.Self() {
		return v.seal(ctx, e)
	}
	err = v.callNode(ctx, to, callSeal, e, &r)
	return r, err
}

func (v remoteVoters) Detach(ctx context.Context, to fsm.NodeID, e fsm.Epoch) (p fsm.Position, err error) {
	if to == v.Self() {
		return v.detach(ctx, e)
	}
	err = v.callNode(ctx, to, callDetach, e, &p)
	return p, err
}

func (v remoteVoters) callNode(ctx context.Context, to fsm.NodeID, name string, e fsm.Epoch, resp any) error {
	if _, ok := v.members()[to]; !ok {
		return fmt.Errorf("call %s: %w: %s", name, fsm.ErrNotMember, to)
	}
	return v.call(ctx, string(to), name, epochRequest{Epoch: e}, resp)
}
