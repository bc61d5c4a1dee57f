package api

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/quorate/quorate/failover"
)

func ask(t *testing.T, s *Server, method, target string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	s.tcp.Handler.ServeHTTP(w, httptest.NewRequest(method, target, nil))
	return w
}

// situations are nodes to ask, by a name that says what is the matter with them.
func situations(t *testing.T) map[string]*fake {
	t.Helper()
	report := func(f *fake, change func(*failover.Report)) { change(&f.local.Report) }
	all := map[string]*fake{"primary": three(t, "n1"), "standby": three(t, "n2")}

	frozen := three(t, "n1") // The lease ran out.
	frozen.local.LeaseLeft, frozen.local.Serving = 0, false
	report(frozen, func(r *failover.Report) { r.Run, r.Serving = failover.RunFrozen, 0 })
	all["frozen"] = frozen

	promoting := three(t, "n1") // It has the lease and is still in recovery.
	promoting.local.Serving = false
	report(promoting, func(r *failover.Report) { r.InRecovery, r.Serving, r.Replay = true, 0, end })
	all["promoting"] = promoting

	released := three(t, "n1")
	released.local.LeaseLeft, released.local.Serving = 0, false
	report(released, func(r *failover.Report) { r.Run, r.Serving = failover.RunStopped, 0 })
	all["released"] = released

	behind := three(t, "n2") // 2 MiB received, 16 MiB not replayed.
	report(behind, func(r *failover.Report) { r.Flush, r.Replay = end-2<<20, end-16<<20 })
	all["behind"] = behind

	gated := three(t, "n2") // It keeps clients out.
	gated.local.Gated = true
	all["gated"] = gated

	broken := three(t, "n2")
	broken.local.Streaming = false
	all["not streaming"] = broken

	cloning := three(t, "n2")
	report(cloning, func(r *failover.Report) { r.Run = failover.RunCloning })
	all["cloning"] = cloning

	hung := three(t, "n2")
	hung.local.Age = time.Minute
	all["hung"] = hung

	alone := three(t, "n2") // It never heard the primary: nothing is known of a lag.
	delete(alone.seen, "n1")
	all["alone"] = alone
	return all
}

func TestHealth(t *testing.T) {
	table := []struct {
		path string
		ok   []string // the situations in which it is 200; in all others it is 503
	}{
		{"/", []string{"primary"}},
		{"/primary", []string{"primary"}},
		{"/primary/", []string{"primary"}},
		{"/primary?tag_zone=B", []string{"primary"}}, // Patroni ignores tags there.
		{"/primary?lag=0", []string{"primary"}},
		{"/master", []string{"primary"}},
		{"/read-write", []string{"primary"}},
		{"/leader", []string{"primary", "promoting"}},
		{"/replica", []string{"standby", "promoting", "behind", "not streaming", "alone"}},
		{"/replica?lag=10MB", []string{"standby", "promoting", "not streaming", "alone"}},
		{"/replica?lag=16777216", []string{"standby", "promoting", "behind", "not streaming", "alone"}},
		{"/replica?lag=16777215", []string{"standby", "promoting", "not streaming", "alone"}},
		{"/replica?lag=much", []string{"standby", "promoting", "behind", "not streaming", "alone"}},
		{"/replica?replication_state=streaming", []string{"standby", "behind", "alone"}},
		{"/replica?tag_zone=A", []string{"standby", "promoting", "behind", "not streaming", "alone"}},
		{"/replica?tag_nofailover=true", []string{"standby", "promoting", "behind", "not streaming", "alone"}},
		{"/replica?tag_nofailover=True", nil},
		{"/replica?tag_zone=B", nil},
		{"/replica?tag_rack=1", nil},
		{"/read-only", []string{"primary", "standby", "promoting", "behind", "not streaming", "alone"}},
		{"/read-only?lag=1MB", []string{"primary", "standby", "promoting", "not streaming", "alone"}},
		{"/read-only?tag_zone=B", nil},
		{"/health", []string{"primary", "standby", "promoting", "behind", "not streaming", "alone", "gated"}},
		{"/health?tag_zone=B", nil},
		{"/liveness", []string{"primary", "standby", "frozen", "promoting", "released", "behind", "not streaming", "cloning", "alone", "gated"}},
		{"/readiness", []string{"primary", "standby", "promoting"}},
		{"/readiness?lag=20MB", []string{"primary", "standby", "promoting", "behind"}},
		{"/readiness?lag=3MB&mode=write", []string{"primary", "standby", "promoting", "behind"}},
		{"/readiness?lag=3MB&mode=apply", []string{"primary", "standby", "promoting"}},
		{"/standby-leader", nil},
		{"/nonsense", nil},
	}
	for name, f := range situations(t) {
		s := server(f)
		for _, c := range table {
			want := http.StatusServiceUnavailable
			for _, ok := range c.ok {
				if ok == name {
					want = http.StatusOK
				}
			}
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions} {
				w := ask(t, s, method, c.path)
				if w.Code != want {
					t.Errorf("%s %s of %s: %d, want %d", method, c.path, name, w.Code, want)
				}
				if has := w.Body.Len() > 0; has != (method == http.MethodGet) {
					t.Errorf("%s %s of %s: a body: %t", method, c.path, name, has)
				}
			}
		}
	}
}

func TestPausedNodeIsAlive(t *testing.T) {
	f := three(t, "n1")
	f.local.Age, f.state.Paused = time.Hour, true
	if w := ask(t, server(f), http.MethodGet, "/liveness"); w.Code != http.StatusOK {
		t.Errorf("%d", w.Code)
	}
}

func TestNoLoadBalance(t *testing.T) {
	s := server(three(t, "n2"))
	s.opts.Tags = map[string]any{"noloadbalance": true}
	for path, want := range map[string]int{"/replica": 503, "/read-only": 503, "/health": 200} {
		if w := ask(t, s, http.MethodGet, path); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}

func TestDocumentsAreAlwaysThere(t *testing.T) {
	for name, f := range situations(t) {
		for _, path := range []string{"/patroni", "/cluster", "/history", "/v1/status", "/v1/explain", "/v1/switchover"} {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions} {
				if w := ask(t, server(f), method, path); w.Code != http.StatusOK {
					t.Errorf("%s %s of %s: %d %s", method, path, name, w.Code, w.Body)
				}
			}
		}
	}
}

func TestUnknown(t *testing.T) {
	s := server(three(t, "n1"))
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/v1/nothing", http.StatusNotFound},
		{http.MethodPost, "/nothing", http.StatusNotImplemented},
		{http.MethodPost, "/v1/stop", http.StatusNotImplemented}, // The unix socket only.
		{http.MethodGet, "/v1/stop", http.StatusNotFound},
		{http.MethodPut, "/primary", http.StatusNotImplemented},
		{http.MethodDelete, "/v1/switchover", http.StatusNotImplemented},
	} {
		if w := ask(t, s, c.method, c.path); w.Code != c.want {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.want)
		}
	}
}
