package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// configured serves a cluster whose document is at version 2, and reads documents by a rule that is easy to see.
func configured(t *testing.T) (*fake, *Server) {
	f := three(t, "n2")
	f.state.Config.Version, f.state.Config.Doc = 2, `{"a":2}`
	f.state.Config.Earlier = []fsm.ConfigVersion{{Version: 1, Doc: `{"a":1}`}}
	s := server(f)
	s.opts.ReadConfig = func(_ context.Context, present string, edit []byte, merge bool) (string, fsm.Settings, error) {
		if strings.Contains(string(edit), "bad") {
			return "", fsm.Settings{}, fmt.Errorf("%w: [1:2] unknown field \"bad\"", ErrDocument)
		}
		if merge {
			return strings.TrimSuffix(present, "}") + "," + strings.TrimPrefix(string(edit), "{"), f.state.Config.Settings, nil
		}
		return string(edit), f.state.Config.Settings, nil
	}
	return f, s
}

func call(t *testing.T, s *Server, method, path, match, body string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer token")
	if match != "" {
		r.Header.Set("If-Match", match)
	}
	w := httptest.NewRecorder()
	s.tcp.Handler.ServeHTTP(w, r)
	return w
}

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		name, method, path, match, body string
		code                            int
		want                            string
	}{
		{"the present one", "GET", "/v1/config", "", "", 200, `{"version":2,"doc":{"a":2},"settings":{"failover_after_ms":1000,`},
		{"an earlier one", "GET", "/v1/config?version=1", "", "", 200, `{"version":1,"doc":{"a":1}}`},
		{"one too early", "GET", "/v1/config?version=7", "", "", 404, `version 7 is not remembered; versions 1 to 2 are`},
		{"no number", "GET", "/v1/config?version=x", "", "", 400, `not a number`},
		{"all", "GET", "/v1/config/history", "", "", 200, `[{"version":1,"doc":{"a":1}},{"version":2,"doc":{"a":2}`},
		{"as Patroni shows it", "GET", "/config", "", "", 200, `{"a":2}`},
		{"replace", "PUT", "/v1/config", `"2"`, `{"a":3}`, 200, `{"version":3,"doc":{"a":3}`},
		{"replace, by the address", "PUT", "/v1/config?version=2", ``, `{"a":3}`, 200, `{"version":3,`},
		{"replace an older one, by the address", "PUT", "/v1/config?version=1", ``, `{"a":3}`, 412, `now it is 2`},
		{"replace whatever is there", "PUT", "/v1/config", `*`, `{"a":3}`, 200, `{"version":3,`},
		{"replace, not saying what", "PUT", "/v1/config", ``, `{"a":3}`, 428, `If-Match`},
		{"replace an older one", "PUT", "/v1/config", `"1"`, `{"a":3}`, 412, `version 1 was edited, now it is 2`},
		{"a version that is none", "PUT", "/v1/config", `"x"`, `{"a":3}`, 400, `If-Match`},
		{"no change", "PUT", "/v1/config", `"2"`, `{"a":2}`, 200, `{"version":2,`},
		{"a change", "PATCH", "/v1/config", ``, `{"b":1}`, 200, `{"version":3,"doc":{"a":2,"b":1}`},
		{"a change of an older one", "PATCH", "/v1/config", `1`, `{"b":1}`, 412, `now it is 2`},
		{"a mistake", "PATCH", "/v1/config", ``, `{"bad":1}`, 400, `unknown field`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, s := configured(t)
			w := call(t, s, c.method, c.path, c.match, c.body)
			if w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("%d %s\nwant %d %s", w.Code, w.Body, c.code, c.want)
			}
			if kind := w.Header().Get("Content-Type"); c.code >= 400 && kind != "application/problem+json" {
				t.Errorf("an error came as %s", kind)
			}
		})
	}
}

func TestConfigIsGuarded(t *testing.T) {
	_, s := configured(t)
	r := httptest.NewRequest(http.MethodPut, "/v1/config", strings.NewReader("{}"))
	w := httptest.NewRecorder()
	s.tcp.Handler.ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("without a token: %d", w.Code)
	}
}

func TestRestart(t *testing.T) {
	refused := fmt.Errorf("%w: n3 does not stream", ErrRefused)
	for _, c := range []struct {
		name, body string
		done       bool
		err        error
		code       int
		want       string
	}{
		{"another node", `{"node":"n3"}`, true, nil, 200, `{"node":"n3","restarted":true}`},
		{"this node, nothing pending", `{"pending":true}`, false, nil, 200, `{"node":"n2","restarted":false}`},
		{"refused here", `{"node":"n2"}`, false, refused, 409, "n3 does not stream"},
		{"refused there", `{"node":"n3"}`, false, Problem{Status: 409, Code: CodeRefused, Detail: "not now"}, 409, `"not now","code":"refused"`},
		{"failed", `{"node":"n3"}`, false, errors.New("it broke"), 500, "it broke"},
		{"a stranger", `{"node":"n9"}`, false, nil, 404, "members are n1, n2, n3"},
		{"nonsense", `{"nodes":"n9"}`, false, nil, 400, "the body is not"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, s := configured(t)
			s.opts.Restart = func(context.Context, fsm.NodeID, bool) (bool, error) { return c.done, c.err }
			w := post(t, s, "/v1/restart", c.body, nil)
			if w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
				t.Errorf("%d %s\nwant %d %s", w.Code, w.Body, c.code, c.want)
			}
		})
	}
}

// A certificate that ends soon is said by its node, and is no reason for an exit code today.
func TestStatusTellsOfTheCertificate(t *testing.T) {
	f, s := configured(t)
	var before, after Status
	read := func(into *Status) {
		t.Helper()
		w := httptest.NewRecorder()
		s.tcp.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/status", nil))
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatal(err)
		}
	}
	read(&before)
	f.local.Certificate = "the certificate ends"
	read(&after)
	want := append(slices.Clone(before.Problems), s.opts.Name+": the certificate ends")
	if !slices.Equal(after.Problems, want) || after.Degraded != before.Degraded {
		t.Errorf("problems %q, degraded %v; want %q, %v", after.Problems, after.Degraded, want, before.Degraded)
	}
}

func TestStatusTellsWhatIsNotConfigured(t *testing.T) {
	f, _ := configured(t)
	f.hear("n1", func(s *failover.Sighting) {
		s.Report.Config = failover.Configured{Version: 2, Hot: pg.HotStandby{100, 8, 0, 64}, Held: []string{"max_connections stays 100 here until n3 runs with 200"}}
	})
	f.hear("n3", func(s *failover.Sighting) {
		s.Report.Config = failover.Configured{Version: 1, Pending: []string{"max_connections", "shared_buffers"}, Refused: "no such setting"}
	})
	e, err := f.Explain(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Join(statusOf(e, "n2").Problems, "\n")
	want := `n1: max_connections stays 100 here until n3 runs with 200
n3: has configuration version 1, not 2: no such setting
n3: a restart is pending for max_connections, shared_buffers: quorate restart n3 --pending`
	for line := range strings.Lines(want) {
		if !strings.Contains(got+"\n", strings.TrimRight(line, "\n")+"\n") {
			t.Errorf("problems are\n%s\nwant\n%s", got, line)
		}
	}
}
