package api

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm"
)

func TestDiscardOf(t *testing.T) {
	for path, want := range map[string]string{
		"/v1/discards/n1-2-1-AB-CD/dismiss": "n1-2-1-AB-CD", "/v1/discards//dismiss": "", "/v1/discards/a/b/dismiss": "",
		"/v1/discards/a": "", "/v1/discards": "", "/v1/discardsa/dismiss": "",
	} {
		id, ok := discardOf(path)
		if ok != (want != "") || ok && id != want {
			t.Errorf("%s: %q, %t", path, id, ok)
		}
	}
}

// What was discarded shows in the status until somebody says that it was looked at, and in the list for ever.
func TestDiscards(t *testing.T) {
	n := three(t, "n1")
	one := fsm.Discard{ID: "n2-2-1-100-200", Node: n.self, Epoch: 1, Timeline: 1, From: 0x100, To: 0x200, Commits: 3, Way: "rewind", Path: "/somewhere", SHA256: "00"}
	if err := n.Submit(t.Context(), fsm.RecordDiscard{Discard: one}, "test"); err != nil {
		t.Fatal(err)
	}
	h := New(n, Options{Scope: "test", Name: "n1"}).routes(true)
	ask := func(method, path string, status int, out any) {
		t.Helper()
		w := httptest.NewRecorder()
		r := httptest.NewRequest(method, path, strings.NewReader(""))
		r.Header.Set("Content-Type", "application/json")
		h.ServeHTTP(w, r)
		if w.Code != status {
			t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
		}
		if out != nil {
			if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
				t.Fatal(err)
			}
		}
	}
	var s Status
	ask(http.MethodGet, "/v1/status", http.StatusOK, &s)
	if len(s.Discards) != 1 || s.Discards[0].ID != one.ID || s.Discards[0].Commits != 3 || s.Discards[0].Path != one.Path {
		t.Errorf("status has %+v", s.Discards)
	}
	ask(http.MethodPost, "/v1/discards/other/dismiss", http.StatusNotFound, nil)
	ask(http.MethodPost, "/v1/discards/"+one.ID+"/dismiss", http.StatusOK, nil)
	var after Status
	ask(http.MethodGet, "/v1/status", http.StatusOK, &after)
	var list []Discard
	ask(http.MethodGet, "/v1/discards", http.StatusOK, &list)
	if len(after.Discards) != 0 || len(list) != 1 || !list[0].Dismissed {
		t.Errorf("after it was dismissed: %+v, listed %+v", after.Discards, list)
	}
}
