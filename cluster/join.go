package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

const (
	joinAnswersWithin = 5 * time.Second
	// joinAgain is the pause before a node asks again that was told to wait, or that nobody answered.
	joinAgain = time.Second
	// minHeard is the least that a sighting may be old and count as alive where people ask for something.
	minHeard = 2 * time.Second
)

// Belongs says whether dir is that of a node which belongs to a cluster already. It makes nothing.
func Belongs(dir string) (bool, error) {
	if _, err := os.Stat(dir + "/" + identityFile); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	store, err := openIdentity(dir)
	if err != nil {
		return false, err
	}
	return store.clusterID() != "", nil
}

// JoinDeps are what Join uses of the node around it.
type JoinDeps struct {
	Logger    hclog.Logger
	Network   transport.Network
	DataFacts func() DataFacts
}

// Join makes the node in cfg.Dir, which belongs to no cluster yet, a member of the cluster with this id, asking the nodes at
// addrs in turn until ctx ends. When it returns nil that is on disk here, and Open and Run go on with it. Nothing is kept after
// an error but the node's own id. ErrUnfit: it was refused, in the words of the cluster.
func Join(ctx context.Context, cfg Config, deps JoinDeps, clusterID string, addrs []string, replace bool) error {
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return fmt.Errorf("create cluster.data_dir: %w", err)
	}
	store, err := openIdentity(cfg.Dir)
	if err != nil {
		return err
	}
	if id := store.clusterID(); id != "" {
		return fmt.Errorf("%w: this node belongs to cluster %s already; to make it a new member, remove it there and empty %s", ErrUnfit, id, cfg.Dir)
	}
	c := &Cluster{
		cfg: cfg, deps: Deps{Network: deps.Network}, log: deps.Logger, identity: store,
		machine: &machine{}, published: &publisher{}, // there is no state yet
	}
	if err := c.openPort(nobody); err != nil {
		return err
	}
	req := JoinRequest{ClusterID: clusterID, Member: c.template(), Data: deps.DataFacts(), Replace: replace}
	if len(cfg.Secrets) > 0 {
		req.Proof = proofOf(cfg.Secrets[0], clusterID, req.Member.ID)
	}
	answer, err := c.askToJoin(ctx, req, addrs)
	if err = errors.Join(err, c.rpc.Close(), c.mux.Close()); err != nil {
		return err
	}
	if answer.ClusterID != clusterID {
		return fmt.Errorf("%w: it was cluster %s that let this node in, and the token is of cluster %s", ErrOtherCluster, answer.ClusterID, clusterID)
	}
	return store.join(answer)
}

// nobody is the answer of a node without a cluster to whoever wants raft or beats from it.
func nobody(_ transport.Proto, _, _ string) error { return ErrNotMember }

// askToJoin asks one after the other and again until somebody lets this node in or refuses it. ErrNobody: nobody did either.
func (c *Cluster) askToJoin(ctx context.Context, req JoinRequest, addrs []string) (joined, error) {
	var last *joinRound // the last whole one
	for said := ""; ; {
		r := c.askRound(ctx, req, addrs)
		if r.over {
			return r.answer, r.err
		}
		if text := strings.Join(r.why, "\n"); text != said {
			said = text
			c.log.Info("waiting to be let in", "because", r.why)
		}
		if ctx.Err() == nil || last == nil {
			last = &r
		}
		select {
		case <-ctx.Done():
			return joined{}, last.failure()
		case <-time.After(joinAgain):
		}
	}
}

// joinRound is what came of asking every address once.
type joinRound struct {
	over   bool // answer and err are final
	answer joined
	err    error
	why    []string // what each said that did not let this node in
	notYet bool     // somebody will, if asked again
}

func (c *Cluster) askRound(ctx context.Context, req JoinRequest, addrs []string) (r joinRound) {
	var refused, answered bool
	for _, addr := range addrs {
		r.err = c.callWithin(ctx, joinAnswersWithin, addr, callJoin, req, &r.answer)
		var door *transport.RefusedError
		var said *remoteError
		switch {
		case r.err == nil, errors.Is(r.err, ErrUnfit), errors.Is(r.err, fsm.ErrInvalid), errors.Is(r.err, fsm.ErrExists):
			r.over = true
			return r
		case errors.As(r.err, &door) && !door.Passing():
			refused = true
		case errors.As(r.err, &said):
			answered = true
		}
		r.notYet = r.notYet || errors.Is(r.err, ErrNotYet)
		r.why = append(r.why, fmt.Sprintf("%s: %v", addr, r.err))
	}
	if refused && !answered { // as with another secret: asking again is no use
		r.over, r.err = true, fmt.Errorf("%w: %s", ErrUnfit, strings.Join(r.why, "; "))
	}
	return r
}

// failure is what to say when there is no time left.
func (r *joinRound) failure() error {
	err := fmt.Errorf("%w: %s", ErrNobody, strings.Join(r.why, "; "))
	if r.notYet {
		return fmt.Errorf("%w: %w", ErrNotYet, err)
	}
	return err
}

// onJoin answers a stranger, or a member that passes on what a stranger asked.
func (c *Cluster) onJoin(ctx context.Context, peer transport.Peer, raw []byte) ([]byte, error) {
	var req JoinRequest
	if err := json.Unmarshal(raw, &req); err != nil {
		return nil, fmt.Errorf("decode request: %w", err)
	}
	if !c.isMember(peer) {
		if peer.NodeID != string(req.Member.ID) {
			return nil, toWire(fmt.Errorf("%w: node %s asks in the name of node %s", ErrUnfit, peer.NodeID, req.Member.ID))
		}
		if peer.Names != nil && !slices.Contains(peer.Names, req.Member.Name) {
			return nil, toWire(fmt.Errorf("%w: the certificate of node %s is for %v, not for %s", ErrUnfit, peer.NodeID, peer.Names, req.Member.Name))
		}
	}
	var answer joined
	err := c.atLeader(ctx, callJoin, req, &answer, func(ctx context.Context) (err error) {
		answer, err = c.letIn(ctx, req)
		return err
	})
	if err != nil {
		c.log.Warn("a node was not let in", "name", req.Member.Name, "node", peer.NodeID, "address", peer.Addr, "because", err)
		return nil, toWire(err)
	}
	return json.Marshal(answer)
}

// atLeader does here what only the leader can, or has the leader do it.
func (c *Cluster) atLeader(ctx context.Context, name string, req, resp any, here func(context.Context) error) error {
	r := c.raft.Load()
	if r == nil {
		return errNotRunning
	}
	if r.State() == raft.Leader {
		return here(ctx)
	}
	_, leader := r.LeaderWithID()
	if leader == "" || fsm.NodeID(leader) == c.Self() {
		return ErrNoLeader
	}
	return c.call(ctx, string(leader), name, req, resp)
}

// heardWithin is how old a sighting may be to count as alive: two beats may be late or lost.
func heardWithin(failoverAfter time.Duration) time.Duration {
	return max(minHeard, 3*beatEvery(failoverAfter))
}

// standing is how the leader sees its members.
func (c *Cluster) standing() standing {
	_, s := c.newest()
	seen, within := c.Sightings(), heardWithin(millis(s.Config.Settings.FailoverAfterMS))
	return standing{state: s, heard: func(id fsm.NodeID) bool {
		at, ok := seen[id]
		return id == c.Self() || ok && at.Age <= within
	}}
}

// letIn makes a node a member, on the leader. Raft's configuration follows from that (rule member-enrol).
func (c *Cluster) letIn(ctx context.Context, req JoinRequest) (joined, error) {
	if err := c.checkProof(req); err != nil { // before anything that costs the cluster a write
		return joined{}, err
	}
	if err := c.Barrier(ctx); err != nil {
		return joined{}, fmt.Errorf("%w: %w", ErrNoLeader, err)
	}
	c.membership.Lock() // what one judgement found must still be so when it is written down
	defer c.membership.Unlock()
	st := c.standing()
	displaced, err := st.judgeJoin(req)
	if err != nil {
		return joined{}, err
	}
	if displaced != nil {
		displaced.Leaving = true
		if err := c.record(ctx, *displaced, "join --replace"); err != nil {
			return joined{}, err
		}
		return joined{}, fmt.Errorf("%w: the %s before this one is being removed", ErrNotYet, displaced.Name)
	}
	m := req.Member
	if old, ok := st.state.Members[m.ID]; !ok || old != m {
		if err := c.record(ctx, m, "join"); err != nil {
			return joined{}, err
		}
	}
	_, now := c.newest()
	out := joined{ClusterID: now.ClusterID, Seed: c.identity.get().seed(), FailoverAfterMS: now.Config.Settings.FailoverAfterMS, Version: now.Version}
	for _, m := range now.Members {
		out.Members = append(out.Members, m)
	}
	return out, nil
}

// record puts a member into the replicated state.
func (c *Cluster) record(ctx context.Context, m fsm.Member, by string) error {
	id, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("draw request id: %w", err)
	}
	return c.applyHere(ctx, fsm.Envelope{ID: id.String(), By: by, Wall: time.Now().UnixMilli(), Change: fsm.SetMember{Member: m}})
}

// Remove takes a member out: when it returns nil that is decided, and the leader carries it out step by step. ErrUnfit says
// why it is refused.
func (c *Cluster) Remove(ctx context.Context, req Removal) error {
	return fromWire(c.atLeader(ctx, callRemove, req, nil, func(ctx context.Context) error { return c.removeHere(ctx, req) }))
}

func (c *Cluster) removeHere(ctx context.Context, req Removal) error {
	if err := c.Barrier(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNoLeader, err)
	}
	c.membership.Lock()
	defer c.membership.Unlock()
	st := c.standing()
	if err := st.judgeRemoval(req); err != nil {
		return err
	}
	m, _ := st.named(req.Name)
	if m.Leaving {
		return nil
	}
	m.Leaving = true
	return c.record(ctx, m, "members remove")
}
