package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/cluster/lead"
	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/guard"
	"github.com/quorate/quorate/transport"
)

// explainBox is how long the leader may take to explain before this node speaks for itself.
const explainBox = 500 * time.Millisecond

// removedWords is what a node that is no member any more says of itself.
const removedWords = "this node was removed from the cluster; to use it again, empty cluster.data_dir and join it"

// view is the node as the API sees it.
type view struct{ n *Node }

func (v view) Self() fsm.NodeID                            { return v.n.cluster.Self() }
func (v view) State() fsm.State                            { return v.n.cluster.State() }
func (v view) Changed() <-chan struct{}                    { return v.n.cluster.Changed() }
func (v view) Leader() fsm.NodeID                          { return v.n.cluster.Leader() }
func (v view) Sightings() map[fsm.NodeID]failover.Sighting { return v.n.cluster.Sightings() }

// Local is the newest look at Postgres with the lease as it is at this moment: the look may be a beat old, the lease is not.
func (v view) Local() api.Local {
	have, rep, at := v.n.last.get()
	l := api.Local{Report: rep}
	if end, own := v.n.cluster.CertificateEnds(); own {
		_, l.Certificate = expiry(time.Until(end))
	}
	if v.n.cluster.Removed() {
		l.Removed = removedWords
	}
	if v.n.postgres == nil {
		return l
	}
	now := guard.Now()
	l.Age = now - at
	epoch, deadline := v.n.fence.Held()
	state := v.n.cluster.State()
	released := v.n.records.ReleasedEpoch() >= state.Epoch
	if fsm.Epoch(epoch) == state.Epoch && deadline > now && state.Primary == v.Self() && !released {
		l.LeaseLeft = deadline - now
	}
	record := v.n.guard.Record()
	leased := l.LeaseLeft > 0 && record.Verdict == guard.VerdictServe
	l.Serving = (leased || v.n.fence.unleased(state, v.n.records.ReleasedEpoch())) && rep.Serving == state.Epoch &&
		record.State == guard.StateRunning && !have.Gated && !v.n.closing.Load()
	l.Gated = have.Gated
	l.Streaming = have.Run == pg.RunStandby && have.Receiver == "streaming"
	l.ReplayPaused = have.ReplayPaused
	l.ServerVersion, l.PostmasterStart, l.ReplayTimestamp = have.ServerVersion, have.Started, have.ReplayedAt
	for _, s := range have.Senders {
		l.Replication = append(l.Replication, api.ReplicationRow{
			Username: s.User, ApplicationName: s.Name, ClientAddr: s.Addr, State: s.State, SyncState: s.SyncState, SyncPriority: s.SyncPriority,
		})
	}
	if pending := v.n.pending.Load(); pending != nil {
		l.PendingRestart = *pending
	}
	told := v.n.guard.told.Load()
	l.Fence, l.Guard, l.Reject, l.Locked = told.Fence, told.Version, told.Reject, told.Locked
	l.FenceLate, l.FencesLate = record.WorstLateness, record.FenceLate
	return l
}

// Explain prefers the leader, whose ledger alone is complete.
func (v view) Explain(ctx context.Context) (api.Explanation, error) {
	ask, stop := context.WithTimeout(ctx, explainBox)
	defer stop()
	if e, err := v.n.cluster.LeaderExplain(ask); err == nil {
		return explanation(e), nil
	}
	return v.ExplainHere()
}

func (v view) ExplainHere() (api.Explanation, error) {
	here, err := v.n.cluster.ExplainHere()
	return explanation(here), err
}

func explanation(e cluster.Explanation) api.Explanation {
	out := api.Explanation{
		Node: e.Node, Leading: e.Leading, Rule: e.Rule, Verdict: e.Verdict, Do: e.Do, Because: e.Because, Again: e.Again, View: e.View,
	}
	for _, p := range e.Timeline {
		out.Timeline = append(out.Timeline, phase(p))
	}
	return out
}

func phase(p lead.Phase) api.Phase {
	return api.Phase{Epoch: p.Epoch, Name: p.Name, At: p.At, SinceBeat: p.SinceBeat}
}

// Submit puts a person's command into the log. Only commands that need no Rev come this way.
func (v view) Submit(ctx context.Context, c fsm.Command, by string) error {
	err := v.n.cluster.Submit(ctx, c, 0, by)
	if errors.Is(err, cluster.ErrNoLeader) || errors.Is(err, cluster.ErrNotMember) {
		return fmt.Errorf("%w: %w", api.ErrNoQuorum, err)
	}
	return err
}

// apiOptions are those of any node, whether it belongs to a cluster or waits for one.
func (n *Node) apiOptions(secrets []transport.Secret) (api.Options, error) {
	o := api.Options{Scope: n.cfg.Scope, Name: n.cfg.Name, Version: n.opts.Version, Tags: tags(n), Stop: n.stopOnce()}
	n.tokens.Store(tokensOf(secrets))
	o.Tokens = *n.tokens.Load()
	var err error
	o.Access, o.TLS, err = n.access()
	return o, err
}

// openAPI listens on restapi.listen and on the unix socket in cluster.data_dir. The function returned closes both.
func (n *Node) openAPI(secrets []transport.Secret) (func(), error) {
	o, err := n.apiOptions(secrets)
	if err != nil {
		return nil, err
	}
	others := peers{n: n, tls: o.TLS}
	o.ReadConfig, o.Restart, o.Reload, o.Reinit = n.readConfig, others.restart, others.reload, others.reinit
	o.Members = api.Membership{Init: n.initHere, Token: n.token, Remove: n.removeMember}
	n.api = api.New(view{n}, o)
	return n.listenAPI(n.api)
}

// initHere is init on a node that has peers: they begin the cluster by themselves, but for the choice of the data.
func (n *Node) initHere(_ context.Context, r api.InitRequest) error {
	if id := n.cluster.ClusterID(); id != "" {
		return fmt.Errorf("%w: this node belongs to cluster %s (%s) already", api.ErrRefused, n.cfg.Scope, id)
	}
	if r.AdoptFrom == "" {
		return fmt.Errorf("%w: cluster.peers begin the cluster by themselves when all agree; quorate status says what they wait for", api.ErrRefused)
	}
	if err := n.cluster.AdoptFrom(r.AdoptFrom); err != nil {
		return fmt.Errorf("%w: %w", api.ErrRefused, err)
	}
	return nil
}

// token is what others join with.
func (n *Node) token() (string, error) {
	secrets, err := readSecrets(n.cfg.Cluster)
	if err != nil {
		return "", err
	}
	state := n.cluster.State()
	var addrs []string
	for _, m := range state.Members {
		addrs = append(addrs, m.Addr)
	}
	slices.Sort(addrs)
	t, err := cluster.NewToken(state.ClusterID, n.cfg.Scope, addrs, secrets)
	if err != nil {
		return "", err
	}
	return t.Encode()
}

func (n *Node) removeMember(ctx context.Context, r api.RemoveRequest) error {
	return refusedBy(n.cluster.Remove(ctx, cluster.Removal{Name: r.Name, LastCopy: r.LastCopy, Replace: r.Replace}))
}

// listenAPI has s answer on restapi.listen and on the unix socket in cluster.data_dir. The function returned closes both.
func (n *Node) listenAPI(s *api.Server) (func(), error) {
	tcp, err := net.Listen("tcp", n.cfg.RestAPI.Listen)
	if err != nil {
		return nil, fmt.Errorf("open the API: %w", portTaken("restapi.listen", n.cfg.RestAPI.Listen, err))
	}
	unix, err := api.ListenUnix(filepath.Join(n.cfg.Cluster.DataDir, api.SocketName))
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	for _, serve := range []func() error{func() error { return s.Serve(tcp) }, func() error { return s.ServeUnix(unix) }} {
		go func() {
			if err := serve(); err != nil {
				n.log.Error("the API ended", "error", err)
			}
		}()
	}
	return func() {
		if err := s.Close(); err != nil {
			n.log.Warn("closing the API", "error", err)
		}
	}, nil
}

// portTaken says of a port that another process has which key it is of and what to do.
func portTaken(key, addr string, err error) error {
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	_, port, _ := net.SplitHostPort(addr)
	return fmt.Errorf("%s %s is in use by another process (ss -ltnp 'sport = :%s' shows which): end that one, or set another port: %w",
		key, addr, port, err)
}

// access is who may change something over TCP, and by which TLS; nil for plain HTTP.
func (n *Node) access() (api.Access, *tls.Config, error) {
	r := n.cfg.RestAPI
	nets, err := r.AllowList.Prefixes()
	if err != nil {
		return api.Access{}, nil, err
	}
	a := api.Access{Username: r.Authentication.Username, Password: r.Authentication.Password, Allow: nets}
	if r.CertFile == "" {
		return a, nil, nil
	}
	c := api.Certificate{CertFile: r.CertFile, KeyFile: r.KeyFile, CAFile: r.CAFile, Failed: func(err error) {
		n.log.Error("the new certificate of restapi can't be used; the one before stays", "error", err)
	}}
	switch r.VerifyClient {
	case config.VerifyOptional:
		a.ClientCerts, c.Client = true, tls.VerifyClientCertIfGiven
	case config.VerifyRequired:
		a.ClientCerts, c.Client = true, tls.RequireAndVerifyClientCert
	}
	serve, err := c.Config()
	return a, serve, err
}

// apiAddress is where others reach this node's API, with https:// before it if that is needed.
func apiAddress(r config.RestAPI) string {
	if r.CertFile != "" {
		return "https://" + r.ConnectAddress
	}
	return r.ConnectAddress
}

func tags(n *Node) map[string]any {
	t := map[string]any{}
	maps.Copy(t, n.cfg.Tags.Other)
	if n.cfg.Tags.NoLoadBalance {
		t["noloadbalance"] = true
	}
	if n.cfg.Tags.NoFailover {
		t["nofailover"] = true
	}
	if p := preference(n.cfg.Tags); p != 0 {
		t["failover_priority"] = p
	}
	return t
}

// preference is the priority among standbys that hold as much, 0 for a node like any other.
func preference(t config.Tags) int {
	if t.FailoverPriority <= 1 {
		return 0
	}
	return t.FailoverPriority
}

// stopOnce makes the API's stop request the same as the signal's.
func (n *Node) stopOnce() func() {
	var once sync.Once
	return func() { once.Do(func() { close(n.stop) }) }
}
