package client_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// one is a node alone, which is primary and takes whatever is submitted.
type one struct {
	submitted atomic.Int32
	paused    atomic.Bool
}

func (*one) Self() fsm.NodeID                            { return "n1" }
func (*one) Leader() fsm.NodeID                          { return "n1" }
func (*one) Sightings() map[fsm.NodeID]failover.Sighting { return nil }
func (*one) Local() api.Local                            { return api.Local{Serving: true} }
func (*one) Changed() <-chan struct{}                    { return nil }

func (o *one) State() fsm.State {
	return fsm.State{
		ClusterID: "c", Scope: "demo", Epoch: fsm.Epoch(3 + o.submitted.Load()), Primary: "n1", Paused: o.paused.Load(),
		Members: map[fsm.NodeID]fsm.Member{"n1": {ID: "n1", Name: "n1", Role: fsm.RoleData}},
	}
}

func (o *one) Explain(context.Context) (api.Explanation, error) { return o.ExplainHere() }

func (o *one) ExplainHere() (api.Explanation, error) {
	return api.Explanation{Node: "n1", Rule: "healthy", View: failover.View{
		State: o.State(), Seen: map[fsm.NodeID]failover.Sighting{"n1": {Age: time.Second, Report: failover.Report{Flush: 77}}},
	}}, nil
}

func (o *one) Submit(_ context.Context, c fsm.Command, _ string) error {
	switch c.(type) {
	case fsm.Pause:
		o.paused.Store(true)
	case fsm.Resume:
		o.paused.Store(false)
	default:
		o.submitted.Add(1)
	}
	return nil
}

// serve runs a server on both kinds of listener.
func serve(t *testing.T, token string) (overUnix, overTCP *client.Client, stops *atomic.Int32) {
	t.Helper()
	dir, err := os.MkdirTemp("", "qapi") // Short: a socket's path has a limit.
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, client.SocketName)
	stops = &atomic.Int32{}
	s := api.New(&one{}, api.Options{
		Scope: "demo", Name: "n1", Tokens: []string{"secret"}, Stop: func() { stops.Add(1) },
		Reload: func(context.Context, fsm.NodeID) (api.Reloaded, error) {
			return api.Reloaded{Node: "n1", Taken: []string{"x"}}, nil
		},
		Reinit: func(_ context.Context, _ fsm.NodeID, force bool) error {
			if force {
				return nil
			}
			return api.ErrRefused
		},
	})
	unix, err := api.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v %v", info.Mode(), err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() { ended <- s.ServeUnix(unix) }()
	go func() { ended <- s.Serve(tcp) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-ended, <-ended); err != nil {
			t.Error(err)
		}
		if _, err := overUnix.Status(context.Background()); !errors.Is(err, client.ErrUnreachable) {
			t.Errorf("after the end: %v", err)
		}
	})
	return client.Unix(path), client.TCP(tcp.Addr().String(), token), stops
}

func TestClient(t *testing.T) {
	ctx := context.Background()
	unix, tcp, stops := serve(t, "secret")
	for name, c := range map[string]*client.Client{"unix": unix, "tcp": tcp} {
		s, err := c.Status(ctx)
		if err != nil || s.Scope != "demo" || len(s.Nodes) != 1 || s.Nodes[0].LSN != 77 {
			t.Errorf("%s: status %+v %v", name, s, err)
		}
		e, err := c.Explain(ctx)
		if err != nil || e.Rule != "healthy" || e.View.Seen["n1"].Age != time.Second || len(e.Losses) != 1 {
			t.Errorf("%s: explain %+v %v", name, e, err)
		}
		if code, err := c.Health(ctx, "/primary"); err != nil || code != 200 {
			t.Errorf("%s: primary %d %v", name, code, err)
		}
		asked, err := c.AskSwitchover(ctx, "")
		if err != nil || asked.From != "n1" {
			t.Errorf("%s: ask %+v %v", name, asked, err)
		}
		done, err := c.Switchover(ctx, asked, time.Second)
		if err != nil || done.Stage != client.SwitchoverDone || done.From != "n1" {
			t.Errorf("%s: outcome %+v %v", name, done, err)
		}
		if r, err := c.Reload(ctx, "n1"); err != nil || len(r.Taken) != 1 {
			t.Errorf("%s: reload %+v %v", name, r, err)
		}
		if r, err := c.Reinit(ctx, "n1", true); err != nil || !r.Begun {
			t.Errorf("%s: reinit %+v %v", name, r, err)
		}
		if p, err := c.Pause(ctx, time.Millisecond); err != nil || len(p.Pending) > 0 {
			t.Errorf("%s: pause %+v %v", name, p, err)
		}
		if _, err := c.Resume(ctx, 0, false); err != nil {
			t.Errorf("%s: resume %v", name, err)
		}
		var p client.Problem
		if _, err := c.Reinit(ctx, "", false); !errors.As(err, &p) || p.Code != client.CodeRefused {
			t.Errorf("%s: reinit refused %v", name, err)
		}
		if _, err := c.AskSwitchover(ctx, "n9"); !errors.As(err, &p) || p.Code != client.CodeRefused {
			t.Errorf("%s: stranger %v", name, err)
		}
	}
	if err := tcp.Stop(ctx); err == nil || stops.Load() != 0 {
		t.Errorf("stop over TCP: %v, %d stops", err, stops.Load())
	}
	if err := unix.Stop(ctx); err != nil || stops.Load() != 1 {
		t.Errorf("stop: %v, %d stops", err, stops.Load())
	}
}

func TestWithoutToken(t *testing.T) {
	_, tcp, _ := serve(t, "")
	if _, err := tcp.Status(context.Background()); err != nil {
		t.Errorf("reading is free: %v", err)
	}
	var p client.Problem
	if _, err := tcp.AskSwitchover(context.Background(), ""); !errors.As(err, &p) || p.Status != 401 {
		t.Errorf("changing is not: %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client.Client{client.TCP(addr, ""), client.Unix(filepath.Join(t.TempDir(), "s"))} {
		if _, err := c.Status(context.Background()); !errors.Is(err, client.ErrUnreachable) {
			t.Errorf("%v", err)
		}
	}
}

func TestListenUnix(t *testing.T) {
	dir, err := os.MkdirTemp("", "qapi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	first, err := api.ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.ListenUnix(path); err == nil || !strings.Contains(err.Error(), "another quorate daemon") {
		t.Errorf("beside a live one: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // As a kill leaves it.
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := api.ListenUnix(path)
	if err != nil {
		t.Fatalf("after a killed one: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := api.ListenUnix(filepath.Join(dir, strings.Repeat("x", 100))); err == nil || !strings.Contains(err.Error(), "cluster.data_dir") {
		t.Errorf("a path too long: %v", err)
	}
}
