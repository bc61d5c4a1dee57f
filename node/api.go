package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/cluster/lead"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/guard"
	"github.com/quorate/quorate/transport"
)

// explainBox is how long the leader may take to explain before this node speaks for itself.
const explainBox = 500 * time.Millisecond

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
	l.Serving = l.LeaseLeft > 0 && rep.Serving == state.Epoch && record.State == guard.StateRunning && !have.Gated &&
		record.Verdict == guard.VerdictServe && !v.n.closing.Load()
	l.Gated = have.Gated
	l.Streaming = have.Run == pg.RunStandby && have.Receiver == "streaming"
	l.ReplayPaused = have.ReplayPaused
	l.ServerVersion, l.PostmasterStart, l.ReplayTimestamp = have.ServerVersion, have.Started, have.ReplayedAt
	for _, s := range have.Senders {
		l.Replication = append(l.Replication, api.ReplicationRow{
			Username: s.User, ApplicationName: s.Name, ClientAddr: s.Addr, State: s.State, SyncState: s.SyncState, SyncPriority: s.SyncPriority,
		})
	}
	told := v.n.guard.told.Load()
	l.Fence, l.Guard, l.Reject = told.Fence, told.Version, told.Reject
	return l
}

// Explain prefers the leader, whose ledger alone is complete.
func (v view) Explain(ctx context.Context) (api.Explanation, error) {
	ask, stop := context.WithTimeout(ctx, explainBox)
	defer stop()
	if e, err := v.n.cluster.LeaderExplain(ask); err == nil {
		return explanation(e), nil
	}
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

// openAPI listens on restapi.listen and on the unix socket in cluster.data_dir. The function returned closes both.
func (n *Node) openAPI(secrets []transport.Secret) (func(), error) {
	o := api.Options{Scope: n.cfg.Scope, Name: n.cfg.Name, Version: n.opts.Version, Tags: tags(n), Stop: n.stopOnce()}
	n.tokens.Store(tokensOf(secrets))
	o.Tokens = *n.tokens.Load()
	o.ReadConfig, o.Restart = n.readConfig, n.restartAt
	tcp, err := net.Listen("tcp", n.cfg.RestAPI.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on restapi.listen: %w", err)
	}
	unix, err := api.ListenUnix(filepath.Join(n.cfg.Cluster.DataDir, "quorate.sock"))
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	s := api.New(view{n}, o)
	n.api = s
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

func tags(n *Node) map[string]any {
	t := map[string]any{}
	if n.cfg.Tags.NoFailover {
		t["nofailover"] = true
	}
	if n.cfg.Tags.FailoverPriority != 0 {
		t["failover_priority"] = n.cfg.Tags.FailoverPriority
	}
	return t
}

// stopOnce makes the API's stop request the same as the signal's.
func (n *Node) stopOnce() func() {
	var once sync.Once
	return func() { once.Do(func() { close(n.stop) }) }
}
