package api

import (
	"io"
	"net/http"
	"strings"
)

// routes is the map of all paths. local: the listener is the unix socket.
func (s *Server) routes(local bool) http.Handler {
	get := map[string]http.HandlerFunc{
		"/patroni":           s.patroni,
		"/cluster":           s.cluster,
		"/history":           s.history,
		"/config":            s.dynamicConfig,
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
	post := map[string]http.HandlerFunc{"/v1/switchover": s.guarded(local, s.askSwitchover), "/v1/restart": s.guarded(local, s.restart)}
	post["/v1/members/remove"] = s.guarded(local, s.removeMember)
	edit := s.guarded(local, s.editConfig)
	dismiss := s.guarded(local, s.dismiss)
	if local { // what makes a member, or tells the secret
		post["/v1/init"] = s.guarded(local, s.initCluster)
		post["/v1/join"] = s.guarded(local, s.joinCluster)
		post["/v1/token"] = s.guarded(local, s.token)
		post["/v1/stop"] = s.guarded(local, s.stop)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := "/" + strings.Trim(r.URL.Path, "/")
		switch r.Method {
		case http.MethodGet:
			s.pick(get, path)(w, r)
		case http.MethodHead, http.MethodOptions:
			s.pick(get, path)(headOnly{w}, r)
		default:
			if path == "/v1/config" && (r.Method == http.MethodPut || r.Method == http.MethodPatch) {
				edit(w, r)
				return
			}
			if _, ok := discardOf(path); ok && r.Method == http.MethodPost {
				dismiss(w, r)
				return
			}
			if h, ok := post[path]; ok && r.Method == http.MethodPost {
				h(w, r)
				return
			}
			problem(w, http.StatusNotImplemented, CodeNoSuchAPI, r.Method+" "+path+" does nothing here")
		}
	})
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
