package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// What Patroni does with the Postgres of the node that is asked: restart, reload, reinitialize.

// unsatisfied is the answer to a restart whose conditions the server does not meet.
const unsatisfied = "restart conditions are not satisfied"

// restartHere answers Patroni's POST /restart and waits for the outcome.
func (s *Server) restartHere(w http.ResponseWriter, r *http.Request) {
	var filters map[string]json.RawMessage
	if !object(w, r, true, &filters) {
		return
	}
	q, v := readRestart(filters)
	if v.status == 0 {
		v = s.tryRestart(r.Context(), q)
	}
	say(w, v.status, v.text)
}

// restartFilters say under which conditions to restart.
type restartFilters struct {
	schedule, role string
	version        int // restart only what is older, as server_version_num; 0: anything
	timeout        time.Duration
	pending        bool
}

func readRestart(filters map[string]json.RawMessage) (restartFilters, verdict) {
	q := restartFilters{timeout: longestWait}
	bad := func(format string, args ...any) (restartFilters, verdict) {
		return q, verdict{http.StatusBadRequest, fmt.Sprintf(format, args...)}
	}
	keys := make([]string, 0, len(filters))
	for key := range filters {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		value := filters[key]
		switch key {
		case "restart_pending":
			if err := json.Unmarshal(value, &q.pending); err != nil {
				return bad("restart_pending is %s, it is true or false", value)
			}
		case "schedule":
			if err := json.Unmarshal(value, &q.schedule); err != nil {
				return bad("schedule is %s, it is a time", value)
			}
		case "role":
			known := []string{"primary", "master", "replica", "standby_leader"}
			if err := json.Unmarshal(value, &q.role); err != nil || !slices.Contains(known, q.role) {
				return bad("role is %s, it is primary, standby_leader or replica", value)
			}
		case "postgres_version":
			if q.version = versionNumber(unquoted(value)); q.version == 0 {
				return bad("postgres_version is %s, it is a version like 15.4", value)
			}
		case "timeout":
			n, err := strconv.ParseFloat(strings.TrimSuffix(unquoted(value), "s"), 64)
			if err != nil || !(n > 0 && n < 1e6) {
				return bad("timeout is %s, it is a number of seconds above 0", value)
			}
			q.timeout = min(q.timeout, time.Duration(n*float64(time.Second)))
		default:
			return bad("a restart has no filter %q; there are schedule, role, postgres_version, timeout and restart_pending", key)
		}
	}
	if q.schedule != "" {
		status, text := scheduled(q.schedule, "restart", time.Now())
		return q, verdict{status, text}
	}
	return q, verdict{}
}

// unquoted is a JSON string's or number's text.
func unquoted(value json.RawMessage) string {
	var text string
	if err := json.Unmarshal(value, &text); err == nil {
		return text
	}
	return string(value)
}

// versionNumber turns 15.4 into 150004 and 9.6.24 into 90624; 0: it is no version.
func versionNumber(text string) int {
	parts := strings.Split(text, ".")
	n := make([]int, 3)
	for i, p := range parts {
		v, err := strconv.Atoi(p)
		if err != nil || i > 2 || v < 0 || v > 99 {
			return 0
		}
		n[i] = v
	}
	if n[0] >= 10 && len(parts) <= 2 {
		return n[0]*10000 + n[1]
	}
	return n[0]*10000 + n[1]*100 + n[2]
}

func (s *Server) tryRestart(ctx context.Context, q restartFilters) verdict {
	f := s.facts()
	role := roleWord(f)
	if q.role == "master" {
		q.role = "primary"
	}
	if q.role != "" && q.role != role || q.version != 0 && f.local.ServerVersion >= q.version {
		return verdict{http.StatusServiceUnavailable, unsatisfied}
	}
	ctx, stop := context.WithTimeout(ctx, q.timeout)
	defer stop()
	done, err := s.opts.Restart(ctx, s.node.Self(), q.pending)
	switch {
	case err != nil:
		return verdict{http.StatusServiceUnavailable, "restart failed: " + err.Error()}
	case !done:
		return verdict{http.StatusServiceUnavailable, unsatisfied}
	}
	return verdict{http.StatusOK, "restarted successfully"}
}

// reloadHere answers Patroni's POST /reload. What the file says now and can't be used is said instead of being logged only.
func (s *Server) reloadHere(w http.ResponseWriter, r *http.Request) {
	_, err := s.opts.Reload(r.Context(), s.node.Self())
	if err != nil {
		say(w, http.StatusInternalServerError, "reload failed: "+err.Error())
		return
	}
	say(w, http.StatusAccepted, "reload scheduled")
}

// reinitialize answers Patroni's POST /reinitialize. A copy is always taken from the primary, so its key from_leader changes
// nothing.
func (s *Server) reinitialize(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Force bool `json:"force"`
	}
	if !object(w, r, true, &req) {
		return
	}
	ctx, stop := context.WithTimeout(r.Context(), longestWait)
	defer stop()
	err := s.opts.Reinit(ctx, s.node.Self(), req.Force)
	switch {
	case err == nil:
		say(w, http.StatusOK, "reinitialize started")
	case errors.Is(err, ErrRefused):
		say(w, http.StatusServiceUnavailable, err.Error())
	default:
		say(w, http.StatusServiceUnavailable, "reinitialize failed: "+err.Error())
	}
}
