package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/fsm"
)

// TestRefusedBy: what the cluster refuses is the API's refusal, and says so once.
func TestRefusedBy(t *testing.T) {
	for _, c := range []struct {
		err  error
		is   error
		says string
	}{
		{fmt.Errorf("%w: n1 is the primary", cluster.ErrUnfit), api.ErrRefused, "refused: n1 is the primary"},
		{fmt.Errorf("%w: no name", fsm.ErrInvalid), api.ErrRefused, "refused: " + fsm.ErrInvalid.Error() + ": no name"},
		{fmt.Errorf("%w: n1 does not answer", cluster.ErrNobody), api.ErrNoQuorum, api.ErrNoQuorum.Error() + ": nobody let this node in: n1 does not answer"},
		{cluster.ErrNoLeader, api.ErrNoQuorum, api.ErrNoQuorum.Error() + ": " + cluster.ErrNoLeader.Error()},
	} {
		if err := refusedBy(c.err); !errors.Is(err, c.is) || !errors.Is(err, c.err) || err.Error() != c.says {
			t.Errorf("%v became %v, want %q", c.err, err, c.says)
		}
	}
	busy := fmt.Errorf("%w: %w: n1 is busy", cluster.ErrNotYet, cluster.ErrNobody)
	if err := refusedBy(busy); err != busy {
		t.Errorf("what may work in a moment became %v", err)
	}
	if err := refusedBy(nil); err != nil {
		t.Errorf("nothing became %v", err)
	}
}

// waitingAt serves what a node with that node file, which waits for a cluster, answers over TCP and by its unix socket.
func waitingAt(t *testing.T, change func(*config.Config)) (tcp string, unix *http.Client) {
	t.Helper()
	n := &Node{cfg: config.Default(), log: hclog.NewNullLogger(), stop: make(chan struct{})}
	n.cfg.Cluster.DataDir = t.TempDir()
	change(&n.cfg)
	s, err := (&waiting{Node: n, told: make(chan struct{}, 1)}).server(nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(n.cfg.Cluster.DataDir, api.SocketName)
	u, err := api.ListenUnix(socket)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 2)
	go func() { ended <- s.Serve(l) }()
	go func() { ended <- s.ServeUnix(u) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(), <-ended, <-ended); err != nil {
			t.Error(err)
		}
	})
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	return l.Addr().String(), &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
}

// asked returns the status and the text of an answer.
func asked(t *testing.T, c *http.Client, method, url, password string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(`{"x":1}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if password != "" {
		r.SetBasicAuth("admin", password)
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	text, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(text)
}

// A node that waits for a cluster can do none of what changes one, and says so.
func TestWaitingNodeAnswers(t *testing.T) {
	_, unix := waitingAt(t, func(*config.Config) {})
	for _, request := range []string{
		"POST /restart", "POST /reload", "POST /reinitialize", "PATCH /config", "PUT /config", "POST /switchover", "POST /failover",
		"POST /v1/restart", "POST /v1/reload", "POST /v1/reinit", "PATCH /v1/config", "PUT /v1/config?version=*", "POST /v1/pause",
		"POST /v1/resume", "POST /v1/switchover", "POST /v1/members/remove", "POST /v1/discards/1/dismiss",
	} {
		method, path, _ := strings.Cut(request, " ")
		if code, text := asked(t, unix, method, "http://n"+path, ""); code != http.StatusServiceUnavailable || !strings.Contains(text, "quorate init") {
			t.Errorf("%s: %d %s", request, code, text)
		}
	}
}

// It asks the same of strangers as it will as a member.
func TestWaitingNodeIsGuarded(t *testing.T) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	addr, _ := waitingAt(t, func(c *config.Config) {
		c.RestAPI.Authentication = config.HTTPBasic{Username: "admin", Password: "hunter2"}
	})
	for password, want := range map[string]int{"": 401, "hunter3": 401, "hunter2": 503} {
		if code, text := asked(t, client, "POST", "http://"+addr+"/reload", password); code != want {
			t.Errorf("password %q: %d %s, want %d", password, code, text, want)
		}
	}
	addr, _ = waitingAt(t, func(c *config.Config) { c.RestAPI.AllowList = config.AllowList{"10.9.9.9"} })
	if code, text := asked(t, client, "POST", "http://"+addr+"/reload", ""); code != http.StatusForbidden {
		t.Errorf("from an address that is not listed: %d %s", code, text)
	}
}
