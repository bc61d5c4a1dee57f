package api

import (
	"io"
	"net/http"
	"strings"
)

// routes is the map of all paths. local: the listener is the unix socket.
func (s *Server) routes(local bool) http.Handler {
	get, change := s.reads(), s.changes(local)
	dismiss := s.guarded(local, s.joined(s.dismiss))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := "/" + strings.Trim(r.URL.Path, "/")
		switch r.Method {
		case http.MethodGet:
			s.pick(get, path)(w, r)
			return
		case http.MethodHead, http.MethodOptions:
			s.pick(get, path)(headOnly{w}, r)
			return
		}
		if _, ok := discardOf(path); ok && r.Method == http.MethodPost {
			dismiss(w, r)
			return
		}
		if h, ok := change[r.Method+" "+path]; ok {
			h(w, r)
			return
		}
		problem(w, http.StatusNotImplemented, CodeNoSuchAPI, r.Method+" "+path+" does nothing here")
	})
}

// reads are the paths of GET, HEAD and OPTIONS.
func (s *Server) reads() map[string]http.HandlerFunc {
	get := map[string]http.HandlerFunc{
		"/patroni":           s.patroni,
		"/cluster":           s.cluster,
		"/history":           s.history,
		"/config":            s.dynamicConfig,
		"/failsafe":          s.failsafe,
		"/metrics":           s.metrics,
		"/v1/config":         s.config,
		"/v1/config/history": s.configHistory,
		"/v1/status":         s.status,
		"/v1/explain":        s.explain,
		"/v1/switchover":     s.switchover,
		"/v1/members":        s.members,
		historyPath:          s.epochs,
		discardsPath:         s.listDiscards,
	}
	for path, rule := range healthPaths() {
		get[path] = s.health(rule)
	}
	return get
}

// changes are the methods and paths that change something, each behind the guard that its callers need.
func (s *Server) changes(local bool) map[string]http.HandlerFunc {
	out := map[string]http.HandlerFunc{}
	for path, h := range map[string]http.HandlerFunc{
		"POST /v1/switchover":     s.askSwitchover,
		"POST /v1/failover":       s.failover,
		"POST /v1/members/remove": s.removeMember,
		"POST /v1/restart":        s.restart,
		"POST /v1/reload":         s.reload,
		"POST /v1/reinit":         s.reinit,
		"POST /v1/pause":          s.setPause(true),
		"POST /v1/resume":         s.setPause(false),
		"PUT /v1/config":          s.editConfig,
		"PATCH /v1/config":        s.editConfig,
	} {
		out[path] = s.guarded(local, s.joined(h))
	}
	if local { // what makes a member, tells the secret, or ends the daemon
		for path, h := range map[string]http.HandlerFunc{
			"POST /v1/init": s.initCluster, "POST /v1/join": s.joinCluster, "POST /v1/token": s.token, "POST /v1/stop": s.stop,
		} {
			out[path] = s.guarded(local, h)
		}
	}
	for path, h := range map[string]http.HandlerFunc{
		"POST /switchover":   s.succeed(actSwitchover),
		"POST /failover":     s.succeed(actFailover),
		"DELETE /switchover": s.dropSwitchover,
		"POST /restart":      s.restartHere,
		"DELETE /restart":    s.deleteRestart,
		"POST /reload":       s.reloadHere,
		"POST /reinitialize": s.reinitialize,
		"PATCH /config":      s.editDynamicConfig,
		"PUT /config":        s.editDynamicConfig,
		"POST /failsafe":     s.failsafe,
	} {
		out[path] = s.guardedPatroni(local, s.joinedPatroni(h))
	}
	return out
}

// noCluster is the answer where there is no cluster that could be changed.
const noCluster = "this node belongs to no cluster yet: quorate init makes one, quorate join HOST --token T joins one; quorate status says " +
	"what it waits for"

// joined lets nothing through to next while there is no cluster: a node that waits for one has none of the functions in Options
// that would do it.
func (s *Server) joined(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.node.State().ClusterID == "" {
			problem(w, http.StatusServiceUnavailable, CodeNoQuorum, noCluster)
			return
		}
		next(w, r)
	}
}

// joinedPatroni is joined for Patroni's paths.
func (s *Server) joinedPatroni(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.node.State().ClusterID == "" {
			say(w, http.StatusServiceUnavailable, noCluster)
			return
		}
		next(w, r)
	}
}

// pick returns the handler of path. As with Patroni, a path that nobody knows is a health check that fails; below /v1 it
// is a mistake.
func (s *Server) pick(paths map[string]http.HandlerFunc, path string) http.HandlerFunc {
	if h, ok := paths[path]; ok {
		return h
	}
	if strings.HasPrefix(path, historyPath+"/") {
		return s.epoch
	}
	if path == "/v1" || strings.HasPrefix(path, "/v1/") {
		return func(w http.ResponseWriter, _ *http.Request) {
			problem(w, http.StatusNotFound, CodeNoSuchAPI, "there is no "+path)
		}
	}
	return s.health(func(facts, query) bool { return false })
}

// headOnly answers with the status alone.
type headOnly struct{ w http.ResponseWriter }

func (h headOnly) Header() http.Header            { return h.w.Header() }
func (h headOnly) WriteHeader(status int)         { h.w.WriteHeader(status) }
func (h headOnly) Write(body []byte) (int, error) { return io.Discard.Write(body) }
