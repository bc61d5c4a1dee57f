package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

const (
	// askPeersEvery is the pause between two rounds of questions while the cluster does not exist yet.
	askPeersEvery = 500 * time.Millisecond
	// peerAnswersWithin bounds one question; a handshake alone may take a second.
	peerAnswersWithin = 2 * time.Second
	// sayWaitingEvery is how often an unchanged reason to wait is logged again, sayChangeEvery a changing one.
	sayWaitingEvery = 15 * time.Second
	sayChangeEvery  = 2 * time.Second
)

// helloAnswer is what a node says of itself to whoever asks.
type helloAnswer struct {
	NodeID fsm.NodeID `json:"node_id"`
	Member fsm.Member `json:"member"`
	Peers  []string   `json:"peers"`
	// FailoverAfterMS is what its file says. Its guard is set up by it before there is a cluster.
	FailoverAfterMS int64     `json:"failover_after_ms"`
	Data            DataFacts `json:"data"` // of a node that belongs to no cluster
	Cluster         string    `json:"cluster,omitempty"`
	Founding        *founding `json:"founding,omitempty"` // of the cluster it belongs to, without the seed
}

func (c *Cluster) hello() helloAnswer {
	id := c.identity.get()
	answer := helloAnswer{NodeID: id.NodeID, Member: c.template(), Peers: c.peers(), FailoverAfterMS: c.cfg.Settings.FailoverAfterMS}
	if answer.Cluster = c.identity.clusterID(); answer.Cluster == "" {
		answer.Data = c.deps.DataFacts()
	}
	if id.Founding == nil {
		return answer
	}
	founding := *id.Founding
	founding.Seed = "" // not for strangers: in an own PKI anybody may have a certificate
	answer.Founding = &founding
	return answer
}

// template is this node as a member.
func (c *Cluster) template() fsm.Member {
	m := c.cfg.Member
	m.ID = c.Self()
	return m
}

// peers is the list of initial nodes; a node without one is its own cluster.
func (c *Cluster) peers() []string {
	if len(c.cfg.Peers) == 0 {
		return []string{c.cfg.Member.Addr}
	}
	return c.cfg.Peers
}

// bootstrap returns once this node belongs to a cluster whose founding it has on disk, and, on the first node, once every
// other initial node has it too.
//
// The first node of the list founds the cluster, once, when all of the list said that they have no state and the same list,
// and their data directories allow it (judgeData). A node that can't be reached is not a node that agrees: then everybody waits, for ever if need be.
func (c *Cluster) bootstrap(ctx context.Context) error {
	peers := c.peers()
	if !slices.Contains(peers, c.cfg.Member.Addr) {
		return fmt.Errorf("cluster.peers %v does not contain this node's own address %s", peers, c.cfg.Member.Addr)
	}
	if len(peers) > fsm.MaxVoters {
		return fmt.Errorf("cluster.peers names %d nodes; at most %d can be voters", len(peers), fsm.MaxVoters)
	}
	first := peers[0] == c.cfg.Member.Addr
	var said waitingFor
	for {
		done, why, err := c.bootstrapRound(ctx, first, peers)
		if done || err != nil {
			return err
		}
		if said.changed(c.deps.Boot(), why) {
			c.log.Info("waiting for the cluster to begin", "first", peers[0], "because", why)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.identity.learned:
			if first { // the founding must still be told to the others
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(askPeersEvery):
				}
			}
		case <-time.After(askPeersEvery):
		}
	}
}

// bootstrapRound does one round. done means that this node may begin Raft.
func (c *Cluster) bootstrapRound(ctx context.Context, first bool, peers []string) (done bool, why []string, err error) {
	if c.identity.get().Founding == nil {
		answers, missing := c.askPeers(ctx, peers)
		why = append(missing, judgePeers(c.cfg.Member.Addr, peers, answers)...)
		data := dataVerdict{}
		if len(why) == 0 {
			data = c.data(peers, answers)
			why = data.against
		}
		if !first {
			return false, append(why, notFounded(peers[0], answers)...), nil
		}
		if len(why) > 0 {
			return false, why, nil
		}
		if err := c.found(peers, answers, data); err != nil {
			return false, nil, err
		}
	}
	if !first {
		return true, nil, nil
	}
	why = c.tellFounding(ctx, peers)
	return len(why) == 0, why, nil
}

func notFounded(first string, answers map[string]helloAnswer) []string {
	if _, ok := answers[first]; !ok {
		return nil // said already
	}
	return []string{first + " is the first of cluster.peers and begins the cluster when all agree"}
}

// askPeers puts Hello to every peer at once. missing says who did not answer.
func (c *Cluster) askPeers(ctx context.Context, peers []string) (answers map[string]helloAnswer, missing []string) {
	answers = make(map[string]helloAnswer, len(peers))
	type outcome struct {
		addr   string
		answer helloAnswer
		err    error
	}
	out := make(chan outcome, len(peers))
	for _, addr := range peers {
		if addr == c.cfg.Member.Addr {
			out <- outcome{addr: addr, answer: c.hello()}
			continue
		}
		go func() {
			var a helloAnswer
			err := c.callWithin(ctx, peerAnswersWithin, addr, callHello, struct{}{}, &a)
			out <- outcome{addr, a, err}
		}()
	}
	for range peers {
		o := <-out
		if o.err != nil {
			missing = append(missing, fmt.Sprintf("%s does not answer: %v", o.addr, o.err))
			continue
		}
		answers[o.addr] = o.answer
	}
	slices.Sort(missing)
	return answers, missing
}

// judgePeers lists what speaks against founding a cluster of those that answered.
func judgePeers(self string, peers []string, answers map[string]helloAnswer) []string {
	var against []string
	byID, byName := map[fsm.NodeID]string{}, map[string]string{}
	for _, addr := range peers {
		a, ok := answers[addr]
		if !ok {
			continue
		}
		if other, taken := byID[a.NodeID]; taken {
			against = append(against, fmt.Sprintf("%s and %s are one node: name each node once in cluster.peers", other, addr))
		}
		if other, taken := byName[a.Member.Name]; taken {
			against = append(against, fmt.Sprintf("%s and %s are both named %q: names must be unique", other, addr, a.Member.Name))
		}
		byID[a.NodeID], byName[a.Member.Name] = addr, addr
		switch {
		case a.Cluster != "" && addr != self:
			against = append(against, fmt.Sprintf("%s (%s) belongs to cluster %s already: take cluster.peers out of this node's file, restart the daemon and join it there (quorate token, quorate join)",
				addr, a.Member.Name, a.Cluster))
		case a.Member.Addr != addr:
			against = append(against, fmt.Sprintf("the node at %s calls itself %s: cluster.peers and its connect address must agree", addr, a.Member.Addr))
		case !slices.Equal(a.Peers, peers):
			against = append(against, fmt.Sprintf("%s (%s) has other cluster.peers: %s", addr, a.Member.Name, strings.Join(a.Peers, " ")))
		case a.FailoverAfterMS != answers[self].FailoverAfterMS:
			against = append(against, fmt.Sprintf("%s (%s) has failover_after %s and this node %s: write the same bootstrap.dcs.failover_after into the files of all initial nodes",
				addr, a.Member.Name, millis(a.FailoverAfterMS), millis(answers[self].FailoverAfterMS)))
		}
	}
	return against
}

func millis(ms int64) time.Duration { return time.Duration(ms) * time.Millisecond }

// found makes the cluster, on this node's disk first.
func (c *Cluster) found(peers []string, answers map[string]helloAnswer, data dataVerdict) error {
	random, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("draw cluster id: %w", err)
	}
	f := founding{First: c.Self(), Init: fsm.Init{
		ClusterID: random.String(),
		Scope:     c.cfg.Scope,
		Config:    fsm.Config{Version: 1, Doc: c.cfg.ConfigDoc, Settings: c.cfg.Settings},
		Adopted:   data.adopt,
	}, Seed: transport.GenerateSecret().Hex()}
	if data.config != nil {
		f.Init.Config = *data.config
	}
	for _, addr := range peers {
		f.Init.Members = append(f.Init.Members, answers[addr].Member)
	}
	if err := c.adopt(f); err != nil {
		return err
	}
	c.log.Info("founded the cluster", "cluster", f.Init.ClusterID, "nodes", len(peers))
	if a := f.Init.Adopted; a != nil {
		c.log.Info("the cluster begins with data that were there", "node", string(a.Node), "system", a.SystemID.String(),
			"timeline", uint32(a.Timeline), "kept", len(a.Keep), "set_aside", len(a.Aside))
	}
	return nil
}

// adopt makes f this node's founding and tells the transport who it is now.
func (c *Cluster) adopt(f founding) error {
	if err := c.identity.found(f); err != nil {
		return err
	}
	if err := c.credentials.SetIdentity(f.Init.ClusterID, string(c.Self())); err != nil {
		return fmt.Errorf("take the cluster's identity: %w", err)
	}
	return nil
}

// tellFounding sends the founding to every other initial node and returns who has not confirmed it. It may be repeated.
func (c *Cluster) tellFounding(ctx context.Context, peers []string) []string {
	f := c.identity.get().Founding
	out := make(chan string, len(peers))
	for _, addr := range peers {
		if addr == c.cfg.Member.Addr {
			out <- ""
			continue
		}
		go func() {
			if err := c.callWithin(ctx, peerAnswersWithin, addr, callForm, f, nil); err != nil {
				out <- fmt.Sprintf("%s has not confirmed cluster %s: %v", addr, f.Init.ClusterID, err)
				return
			}
			out <- ""
		}()
	}
	var why []string
	for range peers {
		if w := <-out; w != "" {
			why = append(why, w)
		}
	}
	slices.Sort(why)
	return why
}

// onForm is the handler of a founding. Only a node of the very list may send one, and only its first.
func (c *Cluster) onForm(peer transport.Peer, req []byte) error {
	var f founding
	if err := json.Unmarshal(req, &f); err != nil {
		return fmt.Errorf("decode founding: %w", err)
	}
	if peer.ClusterID != f.Init.ClusterID || peer.NodeID != string(f.First) {
		return fmt.Errorf("%w: node %s of cluster %s may not found cluster %s", ErrOtherCluster, peer.NodeID, peer.ClusterID, f.Init.ClusterID)
	}
	var named []string
	for _, m := range f.Init.Members {
		named = append(named, m.Addr)
	}
	if !slices.Equal(named, c.peers()) {
		return fmt.Errorf("%w: its nodes are %v, cluster.peers here %v", ErrOtherCluster, named, c.peers())
	}
	if c.identity.get().Founding == nil {
		if theirs, own := f.Init.Config.Settings.FailoverAfterMS, c.cfg.Settings.FailoverAfterMS; theirs != own {
			return fmt.Errorf("%w: its failover_after is %s, and this node runs with %s", ErrOtherCluster, millis(theirs), millis(own))
		}
		if err := c.deps.DataFacts().fits(c.Self(), f.Init.Adopted); err != nil {
			return err
		}
	}
	return c.adopt(f)
}

// waitingFor logs a reason when it changes, and now and then while it doesn't.
type waitingFor struct {
	text string
	at   time.Duration
}

func (w *waitingFor) changed(now time.Duration, why []string) bool {
	text := strings.Join(why, "\n")
	pause := sayChangeEvery
	if text == w.text {
		pause = sayWaitingEvery
	}
	if w.text != "" && now-w.at < pause {
		return false
	}
	w.text, w.at = text, now
	return true
}
