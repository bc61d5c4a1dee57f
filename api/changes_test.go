package api

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// obeying is a cluster that carries out what it is asked for: a switchover ends with the candidate, or the best standby, or
// whom divert names, serving.
type obeying struct {
	*fake
	divert fsm.NodeID
}

func (o obeying) Submit(ctx context.Context, c fsm.Command, by string) error {
	if err := o.fake.Submit(ctx, c, by); err != nil {
		return err
	}
	switch ask := c.(type) {
	case fsm.AskSwitchover:
		o.promote(cmp.Or(o.divert, ask.To, "n3"))
	case fsm.AskFailover:
		o.promote(cmp.Or(o.divert, ask.To))
	}
	return nil
}

// promote makes a node the serving primary of the next epoch.
func (f *fake) promote(id fsm.NodeID) {
	f.move(func(s *fsm.State) { s.Epoch, s.Primary, s.Wish = s.Epoch+1, id, nil })
	epoch := f.State().Epoch
	f.hear(id, func(s *failover.Sighting) { s.Age, s.Report.Serving, s.Report.InRecovery = 0, epoch, false })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.local.Serving = id == f.self
}

// changeStates are clusters for which somebody asks n2 to change something.
func changeStates(t *testing.T) map[string]Node {
	t.Helper()
	make := func(change func(*fake)) *fake {
		f := three(t, "n2")
		f.state.Config.Version, f.state.Config.Doc = 2, `{"a":2}`
		if change != nil {
			change(f)
		}
		return f
	}
	gone := func(f *fake) { f.hear("n1", func(s *failover.Sighting) { s.Age, s.Report.Serving = time.Minute, 0 }) }
	lone := make(func(f *fake) { // The primary is gone, and of n3 nothing is known.
		gone(f)
		f.ledger = func(v *failover.View) {
			v.SealingFor = time.Minute
			v.Seals = map[fsm.NodeID]failover.Sealed{"n2": {Epoch: 8, Age: time.Minute}, "n3": {Epoch: 8, Age: time.Minute}}
			v.Positions = map[fsm.NodeID]fsm.Position{"n2": {Node: "n2", Detached: 8, Timeline: 2, LSN: end}}
		}
		f.hear("n2", func(s *failover.Sighting) { s.Report.Sightings = []failover.Age{{Node: "n1", MS: 60000}} })
		f.hear("n3", func(s *failover.Sighting) {
			s.Report.Run, s.Report.Sightings = failover.RunHeld, []failover.Age{{Node: "n1", MS: 60000}}
		})
	})
	return map[string]Node{
		"healthy": obeying{fake: make(nil)},
		"ignored": make(nil), // The leader never gets to it.
		"astray":  obeying{make(nil), "n3"},
		"again":   obeying{make(nil), "n1"},
		"paused":  obeying{fake: make(func(f *fake) { f.state.Paused = true })},
		"behind": obeying{fake: make(func(f *fake) {
			f.hear("n1", func(s *failover.Sighting) { s.Report.Streaming[0].Flush = end - 64<<20 })
		})},
		"pending": make(func(f *fake) { f.state.Wish = &fsm.Wish{ID: "w", Kind: fsm.WishSwitchover, Epoch: 8} }),
		"begun": make(func(f *fake) {
			f.state.Wish = &fsm.Wish{ID: "w", Kind: fsm.WishSwitchover, Epoch: 8, To: "n3", Approved: true}
		}),
		"lost":       make(gone),
		"lone":       obeying{fake: lone},
		"no-quorum":  make(func(f *fake) { gone(f); f.leader, f.refuse = "", fmt.Errorf("submit: %w", ErrNoQuorum) }),
		"no-cluster": &fake{self: "n1", changed: make(nil).changed, absent: ErrNoQuorum, refuse: fmt.Errorf("submit: %w", ErrNoQuorum)},
	}
}

// changeServer has a Postgres that obeys, but for what the body's names say. A node that waits for a cluster has none, and can do
// nothing.
func changeServer(n Node) *Server {
	s := New(n, Options{Scope: "demo", Name: "n2", Version: "1.2.3", Tokens: []string{"token"}, Stop: func() {}})
	if n.State().ClusterID == "" {
		return s
	}
	s.opts.ReadConfig = func(_ context.Context, present string, edit []byte, merge bool) (string, fsm.Settings, error) {
		settings := fsm.Settings{FailoverAfterMS: 1000, Durability: fsm.DurabilityQuorum}
		if strings.Contains(string(edit), "bad") {
			return "", settings, fmt.Errorf("%w: unknown field \"bad\"", ErrDocument)
		}
		if merge {
			return strings.TrimSuffix(present, "}") + "," + strings.TrimPrefix(string(edit), "{"), settings, nil
		}
		return string(edit), settings, nil
	}
	refused := fmt.Errorf("%w: not now", ErrRefused)
	s.opts.Restart = func(ctx context.Context, _ fsm.NodeID, pending bool) (bool, error) {
		if until, _ := ctx.Deadline(); time.Until(until) < 3*time.Second {
			return false, fmt.Errorf("wait for the restart: %w", context.DeadlineExceeded)
		}
		return !pending, nil
	}
	s.opts.Reload = func(context.Context, fsm.NodeID) (Reloaded, error) { return Reloaded{Node: "n2"}, nil }
	s.opts.Reinit = func(_ context.Context, id fsm.NodeID, force bool) error {
		if id == n.State().Primary || n.State().Paused && !force {
			return refused
		}
		return nil
	}
	return s
}

// send sends a change with the token, as curl -d does.
func send(s *Server, method, path, body string, more http.Header) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer token")
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for k, v := range more {
		r.Header[k] = v
	}
	w := httptest.NewRecorder()
	s.tcp.Handler.ServeHTTP(w, r)
	return w
}

// TestChanges shows what each request, METHOD path and the body below it, is answered in every state;
// `go test ./api -rewrite` writes what is so now.
func TestChanges(t *testing.T) {
	count := 0
	datadriven.RunTest(t, "testdata/changes", func(t *testing.T, d *datadriven.TestData) string {
		method, path := strings.ToUpper(d.Cmd), d.CmdArgs[0].Key
		said := map[string][]string{}
		for name := range changeStates(t) {
			var answer string
			synctest.Test(t, func(t *testing.T) {
				w := send(changeServer(changeStates(t)[name]), method, path, d.Input, nil)
				answer = fmt.Sprintf("%d %s", w.Code, strings.TrimSpace(w.Body.String()))
			})
			count++
			said[answer] = append(said[answer], name)
		}
		var out strings.Builder
		for _, answer := range slices.Sorted(maps.Keys(said)) {
			slices.Sort(said[answer])
			fmt.Fprintf(&out, "%s:\n%s\n", strings.Join(said[answer], " "), answer)
		}
		return out.String()
	})
	t.Logf("%d cases", count)
}

// TestPatroniChanges restates the codes and texts that Patroni's clients look for.
func TestPatroniChanges(t *testing.T) {
	for _, c := range []struct {
		state, request, body string
		code                 int
		text                 string
	}{
		{"healthy", "POST /switchover", `{"leader":"n1"}`, 200, `Successfully switched over to "n3"`},
		{"healthy", "POST /switchover", `{"leader":"n1","candidate":"n2"}`, 200, `Successfully switched over to "n2"`},
		{"healthy", "POST /switchover", `{"leader":"n1","member":"n2"}`, 200, `Successfully switched over to "n2"`},
		{"astray", "POST /switchover", `{"leader":"n1","candidate":"n2"}`, 200, `Successfully switched over to "n3" instead of "n2"`},
		{"healthy", "POST /failover", `{"candidate":"n2"}`, 200, `Successfully failed over to "n2"`},
		{"healthy", "POST /failover", `{"leader":"n1","candidate":"n2"}`, 200, `Successfully switched over to "n2"`},
		{"ignored", "POST /switchover", `{"leader":"n1"}`, 503, "switchover status unknown after 20 seconds; operation may still be in progress"},
		{"lost", "POST /failover", `{"candidate":"n2"}`, 503, "failover status unknown after 20 seconds; operation may still be in progress"},
		{"again", "POST /switchover", `{"leader":"n1"}`, 503, "switchover failed"},
		{"healthy", "POST /switchover", `{"candidate":"n2"}`, 400, ""},
		{"healthy", "POST /switchover", `{"leader":"n1","candidate":"n1"}`, 400, ""},
		{"healthy", "POST /failover", `{"leader":"n1"}`, 400, ""},
		{"healthy", "POST /failover", `{"candidate":"n2","scheduled_at":"2030-01-02T15:04:05+00:00"}`, 400, ""},
		{"healthy", "POST /switchover", `{}`, 400, ""},
		{"healthy", "POST /switchover", `[]`, 400, ""},
		{"healthy", "POST /switchover", `n1`, 400, ""},
		{"healthy", "POST /switchover", ``, 411, ""},
		{"healthy", "POST /switchover", `{"leader":"n2"}`, 412, ""},
		{"healthy", "POST /switchover", `{"leader":"n1","candidate":"n9"}`, 412, ""},
		{"behind", "POST /switchover", `{"leader":"n1","candidate":"n2"}`, 412, "n3: has log to 0/5000000"},
		{"behind", "POST /switchover", `{"leader":"n1"}`, 200, `Successfully switched over to "n3"`},
		{"paused", "POST /switchover", `{"leader":"n1"}`, 412, "paused"},
		{"lone", "POST /failover", `{"candidate":"n2"}`, 412, "n3: has log to 0/5000000 on timeline 2, 0 bytes less than is known to exist; its Postgres is held"},
		{"lost", "POST /switchover", `{"leader":"n1"}`, 412, "can't hand over"},
		{"no-quorum", "POST /failover", `{"candidate":"n2"}`, 503, "no quorum"},
		{"healthy", "POST /switchover", `{"leader":"n1","scheduled_at":"2130-01-02T15:04:05"}`, 400, "zone"},
		{"healthy", "POST /switchover", `{"leader":"n1","scheduled_at":"soon"}`, 422, ""},
		{"healthy", "POST /switchover", `{"leader":"n1","scheduled_at":"1999-01-02T15:04+01:00"}`, 422, "past"},
		{"healthy", "POST /switchover", `{"leader":"n1","scheduled_at":"2130-01-02 15:04:05+00:00"}`, 501, "schedules nothing"},
		{"healthy", "DELETE /switchover", ``, 404, ""},
		{"pending", "DELETE /switchover", ``, 200, ""},
		{"begun", "DELETE /switchover", ``, 409, ""},
		{"healthy", "POST /restart", ``, 200, "restarted successfully"},
		{"healthy", "POST /restart", `{}`, 200, ""},
		{"healthy", "POST /restart", `{"role":"replica"}`, 200, ""},
		{"healthy", "POST /restart", `{"role":"primary"}`, 503, ""},
		{"healthy", "POST /restart", `{"role":"leader"}`, 400, ""},
		{"healthy", "POST /restart", `{"postgres_version":"15.19"}`, 200, ""},
		{"healthy", "POST /restart", `{"postgres_version":"15.18"}`, 503, ""},
		{"healthy", "POST /restart", `{"postgres_version":"new"}`, 400, ""},
		{"healthy", "POST /restart", `{"timeout":20}`, 200, ""},
		{"healthy", "POST /restart", `{"timeout":"2s"}`, 503, ""},
		{"healthy", "POST /restart", `{"timeout":-1}`, 400, ""},
		{"healthy", "POST /restart", `{"restart_pending":true}`, 503, ""},
		{"healthy", "POST /restart", `{"color":"red"}`, 400, ""},
		{"healthy", "POST /restart", `{"schedule":"2130-01-02T15:04:05"}`, 400, "zone"},
		{"healthy", "POST /restart", `{"schedule":"2130-01-02T15:04:05Z"}`, 501, "schedules nothing"},
		{"healthy", "DELETE /restart", ``, 404, ""},
		{"healthy", "POST /reload", ``, 202, "reload scheduled"},
		{"healthy", "POST /reinitialize", `{"force":true,"from_leader":true}`, 200, "reinitialize started"},
		{"paused", "POST /reinitialize", ``, 503, "not now"},
		{"paused", "POST /reinitialize", `{"force":true}`, 200, "reinitialize started"},
		{"paused", "POST /reinitialize", `{"force":"maybe"}`, 400, ""},
		{"healthy", "PATCH /config", `{"b":1}`, 200, `{"a":2,"b":1}`},
		{"healthy", "PATCH /config", `{"pause":true}`, 200, `{"a":2,"pause":true}`},
		{"paused", "PATCH /config", `{"pause":true}`, 200, `{"a":2,"pause":true}`},
		{"paused", "PATCH /config", `{"pause":null,"b":1}`, 200, `{"a":2,"b":1}`},
		{"paused", "PATCH /config", `{"pause":false}`, 200, `{"a":2}`},
		{"healthy", "PATCH /config", `{"pause":"yes"}`, 400, ""},
		{"healthy", "PATCH /config", `{"bad":1,"pause":true}`, 400, ""},
		{"healthy", "PATCH /config", `{}`, 400, ""},
		{"healthy", "PATCH /config", ``, 411, ""},
		{"no-cluster", "PATCH /config", `{"b":1}`, 503, ""},
		{"no-quorum", "PATCH /config", `{"b":1}`, 503, ""},
		{"no-quorum", "PUT /config", `{"b":1}`, 502, ""},
		{"healthy", "PUT /config", `{"b":1}`, 200, `{"b":1}`},
		{"healthy", "PUT /config", `{"b":1,"pause":true}`, 200, `{"b":1,"pause":true}`},
		{"paused", "PUT /config", `{"b":1}`, 200, `{"b":1}`},
		{"healthy", "PUT /config", ``, 411, ""},
		{"healthy", "POST /failsafe", `{}`, 502, ""},
		{"healthy", "POST /citus", `{}`, 501, ""},
		{"healthy", "PUT /switchover", `{}`, 501, ""},
		{"healthy", "DELETE /config", ``, 501, ""},
		{"healthy", "POST /", `{}`, 501, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			node := changeStates(t)[c.state]
			method, path, _ := strings.Cut(c.request, " ")
			w := send(changeServer(node), method, path, c.body, nil)
			if w.Code != c.code || !strings.Contains(w.Body.String(), c.text) || w.Body.Len() == 0 {
				t.Errorf("%s %s to %s: %d %s, want %d %s", c.request, c.body, c.state, w.Code, w.Body, c.code, c.text)
			}
			if c.code >= 400 && c.state == "healthy" && node.State().Version != 20 {
				t.Errorf("%s %s was refused and changed something", c.request, c.body)
			}
		})
	}
}

// TestFailoverUnderWay: a failover that is asked for while one happens is answered by its outcome.
func TestFailoverUnderWay(t *testing.T) {
	for primary, want := range map[fsm.NodeID]string{
		"n2": `200 Successfully failed over to "n2"`,
		"n3": `200 Successfully failed over to "n3" instead of "n2"`,
		"n1": `503 failover failed: n1 serves again; ask once more`,
	} {
		synctest.Test(t, func(t *testing.T) {
			f := changeStates(t)["lost"].(*fake)
			s, got := changeServer(f), make(chan string)
			go func() {
				w := send(s, http.MethodPost, "/failover", `{"candidate":"n2"}`, nil)
				got <- fmt.Sprintf("%d %s", w.Code, w.Body)
			}()
			synctest.Wait()
			f.promote(primary)
			if answer := <-got; answer != want {
				t.Errorf("%s: %s, want %s", primary, answer, want)
			}
		})
	}
}

// TestFailoverThatWaitsForAResume: what is in the way is said by its own name, and not as a loss of commits.
func TestFailoverThatWaitsForAResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := pausedAndLost(t)
		f.state.Paused, f.state.PauseRev = false, 13
		w := send(changeServer(f), http.MethodPost, "/failover", `{"candidate":"n2"}`, nil)
		const says = "failover is not possible (resume-unseen): the resume is revision 13; n1 last showed revision 12;"
		if w.Code != 412 || !strings.HasPrefix(w.Body.String(), says) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// late is a cluster in which another primary comes between the look and the request.
type late struct{ *fake }

func (l late) Submit(ctx context.Context, c fsm.Command, by string) error {
	if _, ask := c.(fsm.AskSwitchover); ask {
		l.promote("n3")
	}
	return l.fake.Submit(ctx, c, by)
}

// TestOvertaken: a switchover that would be from another primary than was meant is taken back.
func TestOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := changeStates(t)["ignored"].(*fake)
		w := send(changeServer(late{f}), http.MethodPost, "/switchover", `{"leader":"n1","candidate":"n2"}`, nil)
		if w.Code != 503 || !strings.Contains(w.Body.String(), "n3 became primary first (taken back: true)") || f.State().Wish != nil {
			t.Errorf("%d %s, %v", w.Code, w.Body, f.State().Wish)
		}
	})
}

// behind is a node that has not applied the newest epoch, in which the leader's view is.
type behind struct {
	*fake
	catchUp bool
}

func (b behind) Explain(ctx context.Context) (Explanation, error) {
	e, err := b.fake.Explain(ctx)
	e.View.State.Epoch, e.View.State.Primary = 9, "n3"
	if b.catchUp {
		go b.move(func(s *fsm.State) { s.Epoch, s.Primary = 9, "n3" })
	}
	return e, err
}

// TestLagging: a node that lags behind the leader does not judge by an epoch that is over.
func TestLagging(t *testing.T) {
	for catchUp, want := range map[bool]string{
		false: "503 the primary is changing at this moment; ask again",
		true:  "412 n1 is not the leader, n3 is",
	} {
		synctest.Test(t, func(t *testing.T) {
			n := behind{changeStates(t)["ignored"].(*fake), catchUp}
			w := send(changeServer(n), http.MethodPost, "/switchover", `{"leader":"n1","candidate":"n2"}`, nil)
			if got := fmt.Sprintf("%d %s", w.Code, w.Body); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		})
	}
}

// TestWhoMayChangePatroni: the same credentials as for /v1, any type of body where they were shown, and no page of another
// origin, whatever its browser adds.
func TestWhoMayChangePatroni(t *testing.T) {
	header := func(kv ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(kv); i += 2 {
			h[kv[i]] = []string{kv[i+1]}
		}
		return h
	}
	basic := func(user, password string) string {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.SetBasicAuth(user, password)
		return r.Header.Get("Authorization")
	}
	access := Access{Username: "admin", Password: "secret"}
	for _, c := range []struct {
		name    string
		access  Access
		open    bool
		from    string
		headers http.Header
		want    int
	}{
		{"token", Access{}, false, "10.0.0.9:1", nil, 200},
		{"token, no type", Access{}, false, "10.0.0.9:1", header("Content-Type", ""), 200},
		{"token, JSON", Access{}, false, "10.0.0.9:1", header("Content-Type", "application/json"), 200},
		{"nothing", Access{}, false, "10.0.0.9:1", header("Authorization", ""), 401},
		{"password, none configured", Access{}, false, "10.0.0.9:1", header("Authorization", basic("", "")), 401},
		{"password", access, false, "10.0.0.9:1", header("Authorization", basic("admin", "secret")), 200},
		{"password, no secret", access, true, "10.0.0.9:1", header("Authorization", basic("admin", "secret")), 200},
		{"wrong password", access, false, "10.0.0.9:1", header("Authorization", basic("admin", "secre")), 401},
		{"wrong user", access, false, "10.0.0.9:1", header("Authorization", basic("root", "secret")), 401},
		{"nothing, password configured", access, true, "127.0.0.1:1", header("Authorization", ""), 401},
		{"token beside a password", access, false, "10.0.0.9:1", nil, 200},
		{"no certificate", Access{ClientCerts: true}, false, "10.0.0.9:1", header("Authorization", ""), 403},
		{"no certificate but the token", Access{ClientCerts: true}, false, "10.0.0.9:1", nil, 200},
		{"no certificate, no secret, from here", Access{ClientCerts: true}, true, "127.0.0.1:1", header("Authorization", ""), 403},
		{"from a listed network", allow("10.0.0.0/8"), false, "10.0.0.9:1", nil, 200},
		{"from a listed network, as IPv6", allow("10.0.0.0/8"), false, "[::ffff:10.0.0.9]:1", nil, 200},
		{"from elsewhere", allow("10.1.0.0/16"), false, "10.0.0.9:1", nil, 403},
		{"open, JSON", Access{}, true, "127.0.0.1:1", header("Authorization", "", "Content-Type", "application/json"), 200},
		{"open, no type", Access{}, true, "127.0.0.1:1", header("Authorization", "", "Content-Type", ""), 200},
		{"open, a form", Access{}, true, "127.0.0.1:1", header("Authorization", ""), 415},
		{"open, another form", Access{}, true, "127.0.0.1:1", header("Authorization", "", "Content-Type", "text/plain"), 415},
		{"open, from elsewhere", Access{}, true, "10.0.0.9:1", header("Authorization", ""), 401},
		{"open, a page's script", Access{}, true, "127.0.0.1:1", header("Authorization", "", "Content-Type", "", "Origin", "http://evil.example"), 403},
		{"a page, with the token", Access{}, false, "10.0.0.9:1", header("Origin", "http://evil.example"), 403},
		{"a page of another site", Access{}, false, "10.0.0.9:1", header("Sec-Fetch-Site", "cross-site"), 403},
		{"a page of a neighbour", Access{}, false, "10.0.0.9:1", header("Sec-Fetch-Site", "same-site"), 403},
		{"a page of ours", Access{}, false, "10.0.0.9:1", header("Origin", "http://127.0.0.1:8008"), 200},
		{"a browser's address bar", Access{}, false, "10.0.0.9:1", header("Sec-Fetch-Site", "none"), 200},
	} {
		f := three(t, "n2")
		f.state.Config.Doc = `{}`
		s := changeServer(f)
		s.opts.Access, s.opts.Reinit = c.access, func(context.Context, fsm.NodeID, bool) error { return nil }
		if c.open {
			s.SetTokens(nil)
		}
		for request, body := range map[string]string{"PATCH /config": `{"pause":true}`, "POST /reload": "", "POST /reinitialize": "", "POST /restart": ""} {
			method, path, _ := strings.Cut(request, " ")
			r := httptest.NewRequest(method, path, strings.NewReader(body))
			r.Host, r.RemoteAddr = "127.0.0.1:8008", c.from
			r.Header = header("Authorization", "Bearer token", "Content-Type", "application/x-www-form-urlencoded")
			maps.Copy(r.Header, c.headers)
			for k, v := range r.Header {
				if v[0] == "" {
					delete(r.Header, k)
				}
			}
			w := httptest.NewRecorder()
			s.tcp.Handler.ServeHTTP(w, r)
			want := c.want
			if path == "/reload" && want == 200 {
				want = 202
			}
			if w.Code != want {
				t.Errorf("%s, %s: %d %s, want %d", c.name, request, w.Code, w.Body, want)
			}
			if asks := slices.Contains(w.Header().Values("WWW-Authenticate"), `Basic realm="Patroni"`); asks != (w.Code >= 401 && w.Code <= 403 && c.access.Username != "") {
				t.Errorf("%s, %s: asks for a password: %t", c.name, request, asks)
			}
		}
		if f.State().Paused != (c.want == 200) {
			t.Errorf("%s: paused %t", c.name, f.State().Paused)
		}
	}
}

// TestPauseWaits: who waits is told who has not applied it.
func TestPauseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := three(t, "n2")
		s := changeServer(f)
		json := http.Header{"Content-Type": {"application/json"}}
		got := decoded[Paused](t, send(s, http.MethodPost, "/v1/pause", `{"wait":"5s"}`, json))
		if !got.Paused || got.Rev != 13 || !slices.Equal(got.Pending, []string{"n1", "n3"}) {
			t.Errorf("%+v", got)
		}
		for _, id := range []fsm.NodeID{"n1", "n3"} {
			f.hear(id, func(s *failover.Sighting) { s.Report.Rev = 13 })
		}
		if got = decoded[Paused](t, send(s, http.MethodPost, "/v1/pause", `{}`, json)); len(got.Pending) > 0 {
			t.Errorf("%+v", got)
		}
		if got = decoded[Paused](t, send(s, http.MethodPost, "/v1/resume", ``, json)); got.Paused || got.Rev != 14 || len(got.Pending) != 2 {
			t.Errorf("%+v", got)
		}
		for _, body := range []string{`{"wait":"soon"}`, `{"wait":"-1s"}`, `{"weight":1}`} {
			if w := send(s, http.MethodPost, "/v1/pause", body, json); w.Code != http.StatusBadRequest {
				t.Errorf("%s: %d", body, w.Code)
			}
		}
	})
}

// TestReloadAndReinit go to the node that is named, and tell what it said.
func TestReloadAndReinit(t *testing.T) {
	s := changeServer(three(t, "n2"))
	var asked []fsm.NodeID
	s.opts.Reload = func(_ context.Context, id fsm.NodeID) (Reloaded, error) {
		asked = append(asked, id)
		return Reloaded{Node: string(id), Taken: []string{"postgresql.parameters"}, Restart: []string{}}, nil
	}
	for _, c := range []struct {
		path, body string
		code       int
		want       string
	}{
		{"/v1/reload", `{"node":"n3"}`, 200, `{"node":"n3","taken":["postgresql.parameters"],"restart":[]}`},
		{"/v1/reload", `{}`, 200, `{"node":"n2",`},
		{"/v1/reload", `{"node":"n9"}`, 404, `members are n1, n2, n3`},
		{"/v1/reinit", `{"node":"n3"}`, 200, `{"node":"n3","begun":true}`},
		{"/v1/reinit", `{"node":"n1"}`, 409, `refused: not now`},
		{"/v1/reinit", `{"force":true}`, 200, `{"node":"n2","begun":true}`},
		{"/v1/reinit", `{"from":"n3"}`, 400, `the body is not`},
	} {
		w := post(t, s, c.path, c.body, nil)
		if w.Code != c.code || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%s %s: %d %s, want %d %s", c.path, c.body, w.Code, w.Body, c.code, c.want)
		}
	}
	if !slices.Equal(asked, []fsm.NodeID{"n3", "n2"}) {
		t.Errorf("asked %v", asked)
	}
	s.opts.Reload = func(context.Context, fsm.NodeID) (Reloaded, error) { return Reloaded{}, errors.New("line 3: no") }
	if w := send(s, http.MethodPost, "/reload", "", nil); w.Code != 500 || !strings.Contains(w.Body.String(), "line 3") {
		t.Errorf("a file that can't be used: %d %s", w.Code, w.Body)
	}
}

func allow(networks ...string) Access {
	var a Access
	for _, n := range networks {
		a.Allow = append(a.Allow, netip.MustParsePrefix(n))
	}
	return a
}
