package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/quorate/quorate/fsm"
)

// ErrRefused says that a request can't be granted now; the text says why and what would help. Nothing was changed.
var ErrRefused = errors.New("refused")

// Restart restarts the Postgres of a node and returns when it serves its role again. With pending it does so only if a
// setting waits for that, and says whether it did. ErrRefused: it would have blocked commits.
type Restart func(ctx context.Context, node fsm.NodeID, pending bool) (done bool, err error)

// Reload has a node read its file again. ErrRefused: the file can't be used; nothing was changed.
type Reload func(ctx context.Context, node fsm.NodeID) (Reloaded, error)

// Reinit begins to replace the data directory of a standby by a new copy of the primary's; the old one is kept. It returns
// when that has begun. ErrRefused: the node is primary, or, unless force is set, commits depend on its log meanwhile.
type Reinit func(ctx context.Context, node fsm.NodeID, force bool) error

// RestartRequest is the body of POST /v1/restart. An empty Node is the one that is asked.
type RestartRequest struct {
	Node    string `json:"node,omitempty"`
	Pending bool   `json:"pending,omitempty"` // only if a setting waits for it
}

// ReloadRequest is the body of POST /v1/reload. An empty Node is the one that is asked.
type ReloadRequest struct {
	Node string `json:"node,omitempty"`
}

// ReinitRequest is the body of POST /v1/reinit. An empty Node is the one that is asked.
type ReinitRequest struct {
	Node  string `json:"node,omitempty"`
	Force bool   `json:"force,omitempty"` // though commits may depend on the log there
}

// Restarted is the answer.
type Restarted struct {
	Node      string `json:"node"`
	Restarted bool   `json:"restarted"` // false: no setting waited for it
}

// Reloaded is the answer to POST /v1/reload.
type Reloaded struct {
	Node string `json:"node"`
	// Taken are the parts of the file that have changed and hold from now on, Restart those that wait for a restart of the
	// daemon.
	Taken   []string `json:"taken"`
	Restart []string `json:"restart"`
}

// Reinited is the answer to POST /v1/reinit.
type Reinited struct {
	Node  string `json:"node"`
	Begun bool   `json:"begun"`
}

// restart waits for the outcome.
func (s *Server) restart(w http.ResponseWriter, r *http.Request) {
	var req RestartRequest
	if !strict(w, r, `{"node": "NAME", "pending": false}`, &req) {
		return
	}
	s.at(w, r, req.Node, func(ctx context.Context, id fsm.NodeID, name string) (any, error) {
		done, err := s.opts.Restart(ctx, id, req.Pending)
		return Restarted{Node: name, Restarted: done}, err
	})
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	var req ReloadRequest
	if !strict(w, r, `{"node": "NAME"}`, &req) {
		return
	}
	s.at(w, r, req.Node, func(ctx context.Context, id fsm.NodeID, _ string) (any, error) { return s.opts.Reload(ctx, id) })
}

func (s *Server) reinit(w http.ResponseWriter, r *http.Request) {
	var req ReinitRequest
	if !strict(w, r, `{"node": "NAME", "force": false}`, &req) {
		return
	}
	s.at(w, r, req.Node, func(ctx context.Context, id fsm.NodeID, name string) (any, error) {
		return Reinited{Node: name, Begun: true}, s.opts.Reinit(ctx, id, req.Force)
	})
}

// act is done at a node, id, of a name. It returns what to answer.
type act func(ctx context.Context, id fsm.NodeID, name string) (any, error)

// at does something at the data node of that name, the one that is asked for "", and answers with the outcome.
func (s *Server) at(w http.ResponseWriter, r *http.Request, node string, do act) {
	state := s.node.State()
	id, ok := byName(state, node)
	if id == "" && ok {
		id = s.node.Self()
	}
	m, member := state.Members[id]
	if !ok || !member {
		problem(w, http.StatusNotFound, CodeRefused,
			fmt.Sprintf("%q is no member; members are %s", node, strings.Join(names(state), ", ")))
		return
	}
	ctx, stop := context.WithTimeout(r.Context(), longestWait)
	defer stop()
	out, err := do(ctx, id, m.Name)
	var remote Problem
	switch {
	case errors.As(err, &remote): // in the words of the node that was asked
		problem(w, remote.Status, remote.Code, remote.Detail)
	case errors.Is(err, ErrRefused):
		problem(w, http.StatusConflict, CodeRefused, err.Error())
	case err != nil:
		failed(w, err)
	default:
		answer(w, http.StatusOK, out)
	}
}
