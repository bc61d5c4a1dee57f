package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/quorate/quorate/fsm"
)

// changing are the methods and paths of all requests with a body that do something, over the unix socket.
func changing() []string {
	s := server(&fake{})
	out := []string{"POST " + discardsPath + "/d1/dismiss"}
	for route := range s.changes(true) {
		out = append(out, route)
	}
	slices.Sort(out)
	return out
}

// spied is a cluster whose node does whatever it is asked for, and counts it.
func spied(t testing.TB) (f *fake, s *Server, done *int) {
	t.Helper()
	f, done = three(t, "n2"), new(int)
	f.state.Config.Version, f.state.Config.Doc = 2, `{"a":2}`
	s = server(f)
	member := func(id fsm.NodeID) {
		if _, ok := f.State().Members[id]; !ok {
			t.Fatalf("something is asked of %q, which is no member", id)
		}
		*done++
	}
	s.opts.Restart = func(_ context.Context, id fsm.NodeID, _ bool) (bool, error) { member(id); return true, nil }
	s.opts.Reload = func(_ context.Context, id fsm.NodeID) (Reloaded, error) {
		member(id)
		return Reloaded{Node: string(id)}, nil
	}
	s.opts.Reinit = func(_ context.Context, id fsm.NodeID, _ bool) error { member(id); return nil }
	s.opts.Stop = func() { *done++ }
	s.opts.Members = Membership{
		Init:   func(context.Context, InitRequest) error { *done++; return nil },
		Join:   func(_ context.Context, r JoinRequest) error { *done++; return nil },
		Token:  func() (string, error) { return "quorate1.x", nil },
		Remove: func(context.Context, RemoveRequest) error { *done++; return nil },
	}
	s.opts.ReadConfig = func(_ context.Context, _ string, edit []byte, _ bool) (string, fsm.Settings, error) {
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(edit, &keys); err != nil || keys == nil {
			return "", fsm.Settings{}, fmt.Errorf("%w: %w", ErrDocument, err)
		}
		doc, err := json.Marshal(keys)
		return string(doc), f.state.Config.Settings, err
	}
	return f, s, done
}

// overSocket puts a request to the unix socket, as one that nobody waits long for.
func overSocket(t testing.TB, s *Server, route, query string, body []byte) *httptest.ResponseRecorder {
	t.Helper()
	method, path, _ := strings.Cut(route, " ")
	r := httptest.NewRequest(method, path, bytes.NewReader(body))
	r.URL.RawQuery = query
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Content-Length", fmt.Sprint(len(body)))
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	w := httptest.NewRecorder()
	s.unix.Handler.ServeHTTP(w, r.WithContext(ctx))
	return w
}

// Whatever body comes to whatever path, the answer is one of the known codes in the known form; one that says that the request
// makes no sense has done nothing; and what was done was asked for by one whole JSON value.
func FuzzBody(f *testing.F) {
	routes := changing()
	for n := range routes {
		for _, body := range []string{
			"", "{}", `{"to":"n3"}`, `{"leader":"n1","candidate":"n3"}`, `{"leader":"n1","scheduled_at":"2030-01-02T15:04:05+00:00"}`,
			`{"node":"n1","pending":true,"force":true}`, `{"wait":"10s","primary_is_down":true}`, `{"pause":true,"ttl":30}`, `{"pause":null}`,
			`{"name":"n3","last_copy":true,"replace":true}`, `{"token":"quorate1.x","hosts":["a"]}`, `{"adopt_from":"n1"}`,
			`{"role":"replica","postgres_version":"15.4","timeout":"10s","restart_pending":true,"schedule":"2030-01-02T15:04"}`,
			`{"b":1,"postgresql":{"parameters":{"work_mem":"4MB"}}}`, `{"to":"n3"} {"to":"n1"}`, `[]`, `null`,
		} {
			f.Add(uint8(n), "version=2", []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, n uint8, query string, body []byte) {
		if !utf8.ValidString(query) || strings.ContainsAny(query, "\x00\r\n") {
			return
		}
		route := routes[int(n)%len(routes)]
		node, s, done := spied(t)
		before := node.State()
		w := overSocket(t, s, route, query, body)
		known := []int{200, 202, 400, 404, 409, 412, 413, 422, 428, 500, 501, 502, 503}
		if !slices.Contains(known, w.Code) {
			t.Fatalf("%s %q: %d", route, body, w.Code)
		}
		inForm(t, route, w)
		changed := *done > 0 || !reflect.DeepEqual(before, node.State())
		if changed && w.Code >= 400 && w.Code < 500 && w.Code != 409 {
			t.Fatalf("%s %q: %d %s, and something was done", route, body, w.Code, w.Body)
		}
		if blank := len(bytes.TrimSpace(body)) == 0; changed && !blank && !json.Valid(body) && !bodiless(route) {
			t.Fatalf("%s %q: it was done, and the body is not one JSON value", route, body)
		}
		if after := node.State(); after.Epoch != before.Epoch || after.Primary != before.Primary {
			t.Fatalf("%s %q made a primary", route, body)
		}
	})
}

// bodiless are the requests that are complete without a body, and whatever there is of one is not looked at.
func bodiless(route string) bool {
	return slices.Contains([]string{
		"POST /v1/stop", "POST /v1/token", "POST /reload", "DELETE /switchover", "DELETE /restart", "POST " + discardsPath + "/d1/dismiss",
	}, route)
}

// inForm holds that a path below /v1 answers by JSON, a problem by a document that names it, and Patroni's by text or JSON.
func inForm(t *testing.T, route string, w *httptest.ResponseRecorder) {
	t.Helper()
	kind, _, _ := strings.Cut(w.Header().Get("Content-Type"), ";")
	v1 := strings.Contains(route, " /v1/")
	switch {
	case v1 && w.Code >= 400:
		var p Problem
		if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || kind != "application/problem+json" || p.Status != w.Code || p.Code == "" || p.Detail == "" {
			t.Fatalf("%s: %d %s %s", route, w.Code, kind, w.Body)
		}
	case kind == "application/json":
		if !json.Valid(w.Body.Bytes()) {
			t.Fatalf("%s: %d %s", route, w.Code, w.Body)
		}
	case v1 || kind != "text/plain" || w.Body.Len() == 0:
		t.Fatalf("%s: %d %s %s", route, w.Code, kind, w.Body)
	}
}

// No path, method, header or body of a stranger changes anything over TCP, nor ends in anything but a short answer.
func FuzzStranger(f *testing.F) {
	for _, route := range changing() {
		method, path, _ := strings.Cut(route, " ")
		f.Add(method, path, "", "application/json", []byte("{}"))
	}
	f.Add("GET", "/primary?lag=1MB&replication_state=streaming&tag_zone=A", "Bearer x", "", []byte{})
	f.Add("OPTIONS", "/replica", "Basic dTpw", "text/plain", []byte{})
	f.Add("GET", "/v1/history/8", "", "", []byte{})
	f.Add("GET", "/v1/switchover?id=x&epoch=8&wait=1ms", "", "", []byte{})
	f.Fuzz(func(t *testing.T, method, target, auth, kind string, body []byte) {
		r, err := http.NewRequestWithContext(t.Context(), method, "http://n1:8008"+target, bytes.NewReader(body))
		if err != nil || auth == "Bearer old" || auth == "Bearer token" || !strings.HasPrefix(target, "/") {
			return
		}
		r.RemoteAddr = "192.0.2.1:7"
		r.Header.Set("Authorization", auth)
		r.Header.Set("Content-Type", kind)
		node, s, done := spied(t)
		before := node.State()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		w := httptest.NewRecorder()
		s.tcp.Handler.ServeHTTP(w, r.WithContext(ctx))
		if *done > 0 || !reflect.DeepEqual(before, node.State()) {
			t.Fatalf("%s %q was done for a stranger: %d %s", method, target, w.Code, w.Body)
		}
		if w.Code < 200 || w.Code > 599 || w.Code == http.StatusInternalServerError {
			t.Fatalf("%s %q: %d %s", method, target, w.Code, w.Body)
		}
	})
}

// What Patroni's key pause is taken out of is the same document without it.
func FuzzSplitPause(f *testing.F) {
	for _, doc := range []string{`{"pause":true,"ttl":30}`, `{"pause":null}`, `{"ttl":30}`, `{}`, `null`, `[]`, `{"pause":"x"}`, `{"pause":false,"pause":true}`} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		rest, asked, left, err := splitPause(doc)
		if err != nil {
			return
		}
		var before, after map[string]json.RawMessage
		if json.Unmarshal(doc, &before) != nil || json.Unmarshal(rest, &after) != nil {
			t.Fatalf("%s became %s", doc, rest)
		}
		if _, there := after["pause"]; there || left != (len(after) > 0) || (asked != nil) != (len(before) > len(after)) {
			t.Fatalf("%s became %s, pause %v, left %t", doc, rest, asked, left)
		}
		shown := withPause(fsm.State{Paused: true, Config: fsm.Config{Doc: string(rest)}})
		again, paused, _, err := splitPause(shown)
		if err != nil || paused == nil || !*paused || len(after) > 0 && !sameKeys(again, after) {
			t.Fatalf("%s is shown as %s, which is %s, %v, %v", rest, shown, again, paused, err)
		}
	})
}

func sameKeys(doc []byte, keys map[string]json.RawMessage) bool {
	var got map[string]json.RawMessage
	if json.Unmarshal(doc, &got) != nil || len(got) != len(keys) {
		return false
	}
	for k := range keys {
		if _, ok := got[k]; !ok {
			return false
		}
	}
	return true
}

// A version that is taken is one, of at most six digits, and more of it is more.
func FuzzRestartFilters(f *testing.F) {
	f.Add(`{"role":"replica","postgres_version":"15.4","timeout":"10s","restart_pending":true}`)
	f.Add(`{"postgres_version":"9.6.24","timeout":1e-3}`)
	f.Add(`{"schedule":"2030-01-02 15:04","timeout":"NaN"}`)
	f.Fuzz(func(t *testing.T, body string) {
		var filters map[string]json.RawMessage
		if json.Unmarshal([]byte(body), &filters) != nil {
			return
		}
		q, v := readRestart(filters)
		if v.status != 0 {
			if v.text == "" || v.status < 400 {
				t.Fatalf("%s: %+v", body, v)
			}
			return
		}
		if q.timeout < 0 || q.timeout > longestWait || q.version < 0 || q.version > 999_999 || q.schedule != "" {
			t.Fatalf("%s: %+v", body, q)
		}
	})
}
