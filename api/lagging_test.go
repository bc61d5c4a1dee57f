package api

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/fsm"
)

// lagging is a node that shows an older state than the cluster's until it hears of a newer one.
type lagging struct {
	*fake   // the cluster
	mu      sync.Mutex
	shown   fsm.State
	changed chan struct{}
}

func (l *lagging) State() fsm.State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.shown
}

func (l *lagging) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}

// Submit lets the node hear of the newest state a moment later, whatever became of the command.
func (l *lagging) Submit(ctx context.Context, c fsm.Command, by string) error {
	defer time.AfterFunc(500*time.Millisecond, l.catchUp)
	return l.fake.Submit(ctx, c, by)
}

func (l *lagging) Explain(ctx context.Context) (Explanation, error) {
	defer time.AfterFunc(500*time.Millisecond, l.catchUp)
	return l.fake.Explain(ctx)
}

func (l *lagging) catchUp() {
	now := l.fake.State()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shown = now
	close(l.changed)
	l.changed = make(chan struct{})
}

// A change that is asked of a node that lags is made of what the cluster has, or it is refused: never is it said that all is well
// by a state that is over.
func TestConfigOfALaggingNode(t *testing.T) {
	for _, c := range []struct {
		name, request, match, body string
		code                       int
		doc                        string // that the cluster has then
		says                       string
	}{
		{"a patch over news", "PATCH /config", ``, `{"b":1}`, 200, `{"a":3,"b":1}`, `{"a":3,"b":1}`},
		{"a patch over news, by v1", "PATCH /v1/config", ``, `{"b":1}`, 200, `{"a":3,"b":1}`, `{"version":4,`},
		{"back to what it still shows", "PUT /config", ``, `{"a":2}`, 200, `{"a":2}`, `{"a":2}`},
		{"back to that, by v1", "PUT /v1/config", `*`, `{"a":2}`, 200, `{"a":2}`, `{"version":4,`},
		{"what it still shows, of its version", "PUT /v1/config", `"2"`, `{"a":2}`, 412, `{"a":3}`, "version 2 was edited, now it is 3"},
		{"what the cluster has", "PUT /config", ``, `{"a":3}`, 200, `{"a":3}`, `{"a":3}`},
		{"of a version that it hears of later", "PUT /v1/config", `"3"`, `{"a":9}`, 200, `{"a":9}`, `{"version":4,`},
		{"the end of a pause that it never saw", "PUT /config", ``, `{"a":3}`, 200, `{"a":3}`, `{"a":3}`},
		{"nothing new, a silent leader", "PATCH /v1/config", ``, `{"a":2}`, 503, `{"a":3}`, "there may be a newer configuration"},
	} {
		t.Run(c.name, bubble(func(t *testing.T) {
			f := three(t, "n2")
			f.state.Config.Version, f.state.Config.Doc = 2, `{"a":2}`
			l := &lagging{fake: f, shown: f.State(), changed: make(chan struct{})}
			f.move(func(s *fsm.State) { s.Config.Version, s.Config.Doc = 3, `{"a":3}` })
			if strings.Contains(c.name, "pause") {
				l.shown = f.State()
				f.move(func(s *fsm.State) { s.Paused = true })
			}
			if strings.Contains(c.name, "silent") {
				f.leader = ""
			}
			s := changeServer(l)
			s.opts.ReadConfig = func(_ context.Context, present string, edit []byte, merge bool) (string, fsm.Settings, error) {
				settings := f.State().Config.Settings
				if merge && !strings.Contains(present, strings.Trim(string(edit), "{}")) {
					return strings.TrimSuffix(present, "}") + "," + strings.TrimPrefix(string(edit), "{"), settings, nil
				} else if merge {
					return present, settings, nil
				}
				return string(edit), settings, nil
			}
			if c.match == `"3"` {
				time.AfterFunc(300*time.Millisecond, l.catchUp)
			}
			more := http.Header{"Content-Type": {"application/json"}}
			if c.match != "" {
				more.Set("If-Match", c.match)
			}
			method, path, _ := strings.Cut(c.request, " ")
			w := send(s, method, path, c.body, more)
			if w.Code != c.code || !strings.Contains(w.Body.String(), c.says) {
				t.Errorf("%d %s; want %d %s", w.Code, w.Body, c.code, c.says)
			}
			if now := f.State(); now.Config.Doc != c.doc || now.Paused {
				t.Errorf("the cluster has %s, paused: %t; want %s", now.Config.Doc, now.Paused, c.doc)
			}
		}))
	}
}

func bubble(test func(*testing.T)) func(*testing.T) {
	return func(t *testing.T) { synctest.Test(t, test) }
}

// A node that never hears of the news gives up, and says why.
func TestConfigOfANodeThatStaysBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := three(t, "n2")
		f.state.Config.Version, f.state.Config.Doc = 2, `{"a":2}`
		n := stuck{f, f.State()}
		f.move(func(s *fsm.State) { s.Config.Version, s.Config.Doc = 3, `{"a":3}` })
		began := time.Now()
		for _, body := range []string{`{"b":1}`, `{"a":2}`} {
			w := send(changeServer(n), http.MethodPut, "/config", body, nil)
			if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), "now it is 3") || f.State().Config.Doc != `{"a":3}` {
				t.Errorf("%s: %d %s", body, w.Code, w.Body)
			}
		}
		if took := time.Since(began); took != 2*applied {
			t.Errorf("it waited for %s", took)
		}
	})
}

// stuck shows the same state for ever.
type stuck struct {
	*fake
	shown fsm.State
}

func (s stuck) State() fsm.State { return s.shown }
