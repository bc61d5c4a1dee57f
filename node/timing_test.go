package node

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// founded is the directory of a node that made a cluster with this failover_after, and has ended.
func founded(t *testing.T, failoverAfter time.Duration) string {
	t.Helper()
	dir := t.TempDir()
	start := time.Now()
	c, err := cluster.Open(cluster.Config{
		Dir: dir, Scope: "test", Listen: "n1:7400", Member: fsm.Member{Name: "n1", Role: fsm.RoleData, Addr: "n1:7400", Postgres: "n1:5432"},
		Settings: fsm.Settings{FailoverAfterMS: failoverAfter.Milliseconds(), Durability: fsm.DurabilityQuorum},
	}, cluster.Deps{
		Boot: func() time.Duration { return time.Since(start) + time.Hour }, Logger: hclog.NewNullLogger(), Network: transport.NewMemory().Host("n1"),
		DataFacts: func() cluster.DataFacts { return cluster.DataFacts{Empty: true} },
		MayHold:   func(fsm.Epoch) bool { return true },
		Detach:    func(context.Context, fsm.Epoch) (fsm.Position, error) { return fsm.Position{}, errors.New("no data") },
		OnLease:   func(fsm.Epoch, time.Duration) {}, OnHigher: func(fsm.Epoch) {}, Exit: func(r string) { t.Errorf("exit: %s", r) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	for changed := c.Changed(); c.State().ClusterID == ""; changed = c.Changed() {
		<-changed
	}
	end()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestTheTimingIsNotTheNodeFiles: guard, fence, agent and prober go by the failover_after of the cluster.
func TestTheTimingIsNotTheNodeFiles(t *testing.T) {
	belongs, alone := founded(t, 10*time.Second), t.TempDir()
	for _, c := range []struct {
		name            string
		dir             string
		file, killAfter time.Duration
		says            bool
		want            time.Duration // 0: refused
		logged          string
	}{
		{"the file says the same", belongs, 10 * time.Second, 0, true, 10 * time.Second, ""},
		{"the file says nothing", belongs, time.Second, 0, false, 10 * time.Second, ""},
		{"the file says something else", belongs, 2 * time.Second, 0, true, 10 * time.Second, "node_file=2s cluster=10s"},
		{"frozen for longer than the cluster waits", belongs, 60 * time.Second, 20 * time.Second, true, 0, ""},
		{"there is no cluster yet", alone, 2 * time.Second, 0, true, 2 * time.Second, ""},
	} {
		var log bytes.Buffer
		n := &Node{log: hclog.New(&hclog.LoggerOptions{Output: &log})}
		n.cfg.Cluster.DataDir, n.cfg.Fencing.KillAfter = c.dir, config.Duration(c.killAfter)
		n.cfg.Bootstrap.DCS.FailoverAfter, n.cfg.Bootstrap.SaysFailoverAfter = config.Duration(c.file), c.says
		err := n.takeTiming()
		if (err != nil) != (c.want == 0) || err != nil && !(errors.Is(err, ErrNodeFile) && strings.Contains(err.Error(), "10s of the cluster")) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && n.timing != config.TimingOf(c.want) {
			t.Errorf("%s: %+v, want that of %s", c.name, n.timing, c.want)
		}
		if (c.logged == "") != (log.Len() == 0 || err != nil) || !strings.Contains(log.String(), c.logged) {
			t.Errorf("%s: logged %q, want %q", c.name, log.String(), c.logged)
		}
	}
}
