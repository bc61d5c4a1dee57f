package hostile

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

const (
	scope = "hostile"
	// failoverAfter is so long that a busy machine doesn't lose the lease by itself.
	failoverAfter = 5 * time.Second
	beat          = failoverAfter / 8
	patience      = 60 * time.Second
)

// world is three nodes on loopback, the first of which is primary, with its API over plain HTTP and over TLS.
type world struct {
	t      *testing.T
	start  time.Time
	secret transport.Secret
	peers  []string
	nodes  []*cluster.Cluster
	plain  string // addresses of n1's API
	secure string
	logs   logs

	mu    sync.Mutex
	until time.Duration // the end of the lease, as n1 was told last
	// How often it was extended, how often too late, and how often there was a later epoch.
	extended, lapsed, higher int
	served                   atomic.Int64 // health checks that said 200
	failed                   atomic.Int64 // and those that did not
}

// logs collects the lines of all nodes.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (w *world) boot() time.Duration { return time.Since(w.start) + time.Hour }

// open runs story on a cluster with a primary, a lease and a leader off the primary's node.
func open(t *testing.T, story func(w *world)) {
	w := &world{t: t, start: time.Now(), secret: transport.GenerateSecret()}
	for range 3 {
		w.peers = append(w.peers, free(t))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	dir := t.TempDir()
	for i := range w.peers {
		c := w.open(i, filepath.Join(dir, fmt.Sprintf("n%d", i+1)))
		w.nodes = append(w.nodes, c)
		running.Go(func() {
			if err := c.Run(ctx); err != nil {
				t.Errorf("n%d: %v", i+1, err)
			}
		})
		running.Go(func() { w.agent(ctx, c) })
	}
	w.wait("a primary that serves, known to all, and a leader on another node", func() bool {
		for _, c := range w.nodes {
			if s := c.State(); s.Epoch != 1 || c.Sightings()[w.nodes[0].Self()].Report.Serving != 1 {
				return false
			}
		}
		return w.leader() != nil && w.leader() != w.nodes[0]
	})
	defer w.serveAPI()()
	story(w)
}

// free is an address whose TCP and UDP ports nobody has.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (w *world) open(i int, dir string) *cluster.Cluster {
	w.t.Helper()
	name := fmt.Sprintf("n%d", i+1)
	d := cluster.Deps{
		Boot: w.boot, Network: transport.TCP(time.Second),
		Logger:    hclog.New(&hclog.LoggerOptions{Name: name, Level: hclog.Info, Output: &w.logs}),
		DataFacts: func() cluster.DataFacts { return cluster.DataFacts{Empty: true} },
		MayHold:   func(fsm.Epoch) bool { return true },
		Detach: func(context.Context, fsm.Epoch) (fsm.Position, error) {
			return fsm.Position{}, errors.New("not asked for")
		},
		OnLease: func(fsm.Epoch, time.Duration) {}, OnHigher: func(fsm.Epoch) {},
		Exit: func(r string) { w.t.Errorf("%s ended itself: %s", name, r) },
	}
	if i == 0 {
		d.OnLease, d.OnHigher = w.onLease, w.onHigher
	}
	c, err := cluster.Open(cluster.Config{
		Dir: dir, Scope: scope, Listen: w.peers[i], Peers: w.peers, Secrets: []transport.Secret{w.secret},
		Member:   fsm.Member{Name: name, Role: fsm.RoleData, Addr: w.peers[i], Postgres: "127.0.0.1:1"},
		Settings: fsm.Settings{FailoverAfterMS: failoverAfter.Milliseconds(), Durability: fsm.DurabilityQuorum},
	}, d)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// onLease finds every gap: an extension that comes when the lease before has run out.
func (w *world) onLease(_ fsm.Epoch, until time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.until != 0 && w.until < w.boot() {
		w.lapsed++
	}
	w.until = until
	w.extended++
}

func (w *world) onHigher(fsm.Epoch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.higher++
}

// agent says of a node what that of a healthy one would.
func (w *world) agent(ctx context.Context, c *cluster.Cluster) {
	for ctx.Err() == nil {
		changed, s := c.Changed(), c.State()
		r := failover.Report{
			Epoch: s.Epoch, Rev: s.Rev, Run: failover.RunRunning, Healthy: true, Timeline: 1, Flush: 0x1000000, InRecovery: true,
		}
		if epoch, until := c.Lease(); s.Primary == c.Self() && epoch == s.Epoch && until > w.boot() {
			r.Serving, r.InRecovery = epoch, false
		}
		c.SetReport(r)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (w *world) leader() *cluster.Cluster {
	for _, c := range w.nodes {
		if c.RaftInfo().State == "leader" {
			return c
		}
	}
	return nil
}

// wait polls until ok holds.
func (w *world) wait(what string, ok func() bool) {
	w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			lines := strings.Split(w.logs.String(), "\n")
			w.t.Fatalf("not within %s: %s\n%s", patience, what, strings.Join(lines[max(0, len(lines)-50):], "\n"))
		}
	}
}

// face is n1 as its API sees it.
type face struct {
	*cluster.Cluster
	w *world
}

func (f face) Local() api.Local {
	s := f.State()
	l := api.Local{Report: f.Sightings()[f.Self()].Report}
	if epoch, until := f.Lease(); epoch == s.Epoch && s.Primary == f.Self() {
		l.LeaseLeft = max(0, until-f.w.boot())
	}
	l.Serving = l.LeaseLeft > 0
	return l
}

func (f face) Explain(context.Context) (api.Explanation, error) { return f.ExplainHere() }

func (f face) ExplainHere() (api.Explanation, error) {
	e, err := f.Cluster.ExplainHere()
	return api.Explanation{Node: e.Node, Rule: e.Rule, Verdict: e.Verdict, Because: e.Because, View: e.View}, err
}

func (f face) Submit(ctx context.Context, c fsm.Command, by string) error {
	return f.Cluster.Submit(ctx, c, 0, by)
}

// serveAPI opens both APIs and asks them for the primary's health, all the time, until the function returned is called.
func (w *world) serveAPI() (end func()) {
	var servers []*api.Server
	var running sync.WaitGroup
	for _, o := range []api.Options{
		{Scope: scope, Name: "n1", Tokens: []string{"token"}, Stop: func() {}},
		{Scope: scope, Name: "n1", Tokens: []string{"token"}, Stop: func() {}, TLS: &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{w.certificate("x", "x")},
		}},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			w.t.Fatal(err)
		}
		s := api.New(face{w.nodes[0], w}, o)
		servers = append(servers, s)
		running.Go(func() {
			if err := s.Serve(l); err != nil {
				w.t.Error(err)
			}
		})
		if o.TLS == nil {
			w.plain = l.Addr().String()
		} else {
			w.secure = l.Addr().String()
		}
	}
	ctx, stop := context.WithCancel(w.t.Context())
	for _, url := range []string{"http://" + w.plain + "/primary", "https://" + w.secure + "/primary"} {
		running.Go(func() { w.askHealth(ctx, url) })
	}
	return func() {
		stop()
		for _, s := range servers {
			if err := s.Close(); err != nil {
				w.t.Error(err)
			}
		}
		running.Wait()
	}
}

// askHealth asks over a new connection each time, as checkers do.
func (w *world) askHealth(ctx context.Context, url string) {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	for ctx.Err() == nil {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			w.t.Error(err)
			return
		}
		resp, err := client.Do(r)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = resp.Body.Close()
		}
		if err != nil || resp.StatusCode != http.StatusOK {
			if w.failed.Add(1) < 5 {
				w.t.Errorf("%s: %v %v", url, resp, err)
			}
		} else {
			w.served.Add(1)
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}
