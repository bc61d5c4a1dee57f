package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm"
)

// post sends body to the TCP handler with the right token and type unless headers say otherwise.
func post(t *testing.T, s *Server, path, body string, headers map[string]string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer token")
	for k, v := range headers {
		switch k {
		case "Host":
			r.Host = v
		case "From":
			r.RemoteAddr = v
		default:
			r.Header.Set(k, v)
		}
	}
	w := httptest.NewRecorder()
	s.tcp.Handler.ServeHTTP(w, r)
	return w
}

func decoded[T any](t *testing.T, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("%v in %s", err, w.Body)
	}
	return v
}

func TestWhoMayChange(t *testing.T) {
	for _, c := range []struct {
		name    string
		open    bool // no secret
		headers map[string]string
		want    int
	}{
		{"token", false, nil, 202},
		{"the older secret's token", false, map[string]string{"Authorization": "Bearer old"}, 202},
		{"no token", false, map[string]string{"Authorization": ""}, 401},
		{"wrong token", false, map[string]string{"Authorization": "Bearer toke"}, 401},
		{"empty token", false, map[string]string{"Authorization": "Bearer "}, 401},
		{"token in another scheme", false, map[string]string{"Authorization": "Basic token"}, 401},
		{"loopback without token", false, map[string]string{"Authorization": "", "From": "127.0.0.1:1", "Host": "127.0.0.1:8008"}, 401},
		{"open, from here", true, map[string]string{"From": "127.0.0.1:1", "Host": "127.0.0.1:8008"}, 202},
		{"open, from here, v6", true, map[string]string{"From": "[::1]:1", "Host": "[::1]"}, 202},
		{"open, localhost", true, map[string]string{"From": "127.0.0.1:1", "Host": "localhost:8008"}, 202},
		{"open, from elsewhere", true, map[string]string{"From": "10.0.0.9:1", "Host": "127.0.0.1:8008"}, 401},
		{"open, by a page whose name was pointed here", true, map[string]string{"From": "127.0.0.1:1", "Host": "evil.example:8008"}, 401},
		{"a form of a page", true, map[string]string{"From": "127.0.0.1:1", "Host": "127.0.0.1:8008", "Content-Type": "text/plain"}, 415},
		{"type with parameter", false, map[string]string{"Content-Type": "application/json; charset=utf-8"}, 202},
	} {
		f := three(t, "n2")
		s := server(f)
		if c.open {
			s.SetTokens(nil)
		}
		w := post(t, s, "/v1/switchover", `{"to":"n3"}`, c.headers)
		if w.Code != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.want)
		}
		if asked := f.State().Wish != nil; asked != (c.want == 202) {
			t.Errorf("%s: asked %t", c.name, asked)
		}
	}
}

func TestSwitchoverRefused(t *testing.T) {
	for _, c := range []struct {
		name, body string
		refuse     error
		change     func(*fsm.State)
		want       int
		code       string
	}{
		{"stranger", `{"to":"n9"}`, nil, nil, 404, CodeRefused},
		{"no JSON", `to n3`, nil, nil, 400, CodeInvalid},
		{"misspelt", `{"target":"n3"}`, nil, nil, 400, CodeInvalid},
		{"too long", `{"to":"` + strings.Repeat("x", maxBody) + `"}`, nil, nil, 400, CodeInvalid},
		{"the primary", `{"to":"n1"}`, nil, nil, 409, CodeRefused},
		{"paused", `{}`, nil, func(s *fsm.State) { s.Paused = true }, 409, CodeRefused},
		{"one is pending", `{}`, nil, func(s *fsm.State) { s.Wish = &fsm.Wish{ID: "x", Kind: fsm.WishSwitchover, Epoch: 8} }, 409, CodeRefused},
		{"no primary yet", `{}`, nil, func(s *fsm.State) { s.Primary = "" }, 409, CodeRefused},
		{"no leader", `{}`, fmt.Errorf("submit: %w", ErrNoQuorum), nil, 503, CodeNoQuorum},
		{"nobody knows", `{}`, fmt.Errorf("the outcome is unknown"), nil, 500, CodeFailed},
	} {
		f := three(t, "n2")
		f.refuse = c.refuse
		if c.change != nil {
			f.move(c.change)
		}
		w := post(t, server(f), "/v1/switchover", c.body, nil)
		p := decoded[Problem](t, w)
		if w.Code != c.want || p.Code != c.code || p.Status != c.want || p.Detail == "" {
			t.Errorf("%s: %d %s, want %d %s", c.name, w.Code, w.Body, c.want, c.code)
		}
		if kind := w.Header().Get("Content-Type"); kind != "application/problem+json" {
			t.Errorf("%s: %s", c.name, kind)
		}
	}
}

// TestSwitchoverOutcome follows a wish through the real rules of the state.
func TestSwitchoverOutcome(t *testing.T) {
	f := three(t, "n3")
	s := server(f)
	asked := decoded[Switchover](t, post(t, s, "/v1/switchover", "", nil))
	if asked.Stage != Asked || asked.From != "n1" || asked.To != "" || asked.Epoch != 8 {
		t.Fatalf("asked: %+v", asked)
	}
	look := func(id string) Switchover {
		t.Helper()
		return decoded[Switchover](t, ask(t, s, http.MethodGet, "/v1/switchover?epoch=8&id="+id))
	}
	submit := func(c fsm.Command) {
		t.Helper()
		if err := f.Submit(context.Background(), c, "rule"); err != nil {
			t.Fatal(err)
		}
	}
	submit(fsm.BeginSwitchover{ID: asked.ID, To: "n2"})
	if got := look(asked.ID); got.Stage != Begun || got.To != "n2" {
		t.Errorf("begun: %+v", got)
	}
	if got := decoded[Switchover](t, ask(t, s, http.MethodGet, "/v1/switchover")); got.ID != asked.ID || got.Stage != Begun {
		t.Errorf("pending: %+v", got)
	}
	submit(fsm.EndWish{ID: asked.ID, Because: "n2 fell behind"})
	if got := look(asked.ID); got.Stage != Dropped || got.Because != "switchover to n2 dropped: n2 fell behind" || got.Primary != "n1" {
		t.Errorf("dropped: %+v", got)
	}
	again := decoded[Switchover](t, post(t, s, "/v1/switchover", `{"to":"n3"}`, nil))
	if got := look(again.ID); got.Stage != Asked || got.To != "n3" {
		t.Errorf("asked again: %+v", got)
	}
	if got := look(asked.ID); got.Stage != Dropped { // The first one is not taken for the second.
		t.Errorf("the first: %+v", got)
	}
	if got := look("never"); got.Stage != Unknown {
		t.Errorf("never asked: %+v", got)
	}
	f.move(func(s *fsm.State) { s.Epoch, s.Primary, s.Wish = 9, "n3", nil })
	if got := look(again.ID); got.Stage != Done || got.Primary != "n3" || got.Now != 9 {
		t.Errorf("done: %+v", got)
	}
	for _, path := range []string{"/v1/switchover?id=x", "/v1/switchover?id=x&epoch=8&wait=soon"} {
		if w := ask(t, s, http.MethodGet, path); w.Code != http.StatusBadRequest {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

// TestAReplacedSwitchoverIsNotToldAnothersEnd: an accepted loss takes the place of a switchover that is pending. Why that one is dropped
// is not why the switchover was.
func TestAReplacedSwitchoverIsNotToldAnothersEnd(t *testing.T) {
	f := three(t, "n3")
	s := server(f)
	asked := decoded[Switchover](t, post(t, s, "/v1/switchover", `{"to":"n3"}`, nil))
	for _, c := range []fsm.Command{
		fsm.AskFailover{ID: "loss", To: "n2", Epoch: 8, Loss: "00ff"}, fsm.EndWish{ID: "loss", Because: "n1 is heard again"},
	} {
		if err := f.Submit(context.Background(), c, "rule"); err != nil {
			t.Fatal(err)
		}
		got := decoded[Switchover](t, ask(t, s, http.MethodGet, "/v1/switchover?epoch=8&id="+asked.ID))
		if got.Stage != Dropped || !strings.HasPrefix(got.Because, "another wish took its place: failover to n2 asked for") {
			t.Errorf("after %s: %+v", c.Kind(), got)
		}
	}
}

func TestSwitchoverWait(t *testing.T) {
	f := three(t, "n3")
	s := server(f)
	asked := decoded[Switchover](t, post(t, s, "/v1/switchover", "", nil))
	path := "/v1/switchover?epoch=8&id=" + asked.ID
	if got := decoded[Switchover](t, ask(t, s, http.MethodGet, path+"&wait=1ms")); got.Stage != Asked {
		t.Errorf("not yet: %+v", got)
	}
	answers := make(chan Switchover)
	go func() {
		w := httptest.NewRecorder()
		s.tcp.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path+"&wait=30s", nil))
		var got Switchover
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Error(err)
		}
		answers <- got
	}()
	f.move(func(s *fsm.State) { s.Version++ })
	f.move(func(s *fsm.State) { s.Epoch, s.Primary, s.Wish = 9, "n2", nil })
	if got := <-answers; got.Stage != Done || got.Primary != "n2" {
		t.Errorf("%+v", got)
	}
}
