package api

import (
	"context"
	"encoding/json"
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

// RestartRequest is the body of POST /v1/restart. An empty Node is the one that is asked.
type RestartRequest struct {
	Node    string `json:"node,omitempty"`
	Pending bool   `json:"pending,omitempty"` // only if a setting waits for it
}

// Restarted is the answer.
type Restarted struct {
	Node      string `json:"node"`
	Restarted bool   `json:"restarted"` // false: no setting waited for it
}

// restart waits for the outcome.
func (s *Server) restart(w http.ResponseWriter, r *http.Request) {
	var req RestartRequest
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		problem(w, http.StatusBadRequest, CodeInvalid, `the body is not {"node": "NAME", "pending": false}: `+err.Error())
		return
	}
	state := s.node.State()
	id, ok := byName(state, req.Node)
	if id == "" && ok {
		id = s.node.Self()
	}
	m, member := state.Members[id]
	switch {
	case !ok || !member:
		problem(w, http.StatusNotFound, CodeRefused, fmt.Sprintf("%q is no member; members are %s", req.Node, strings.Join(names(state), ", ")))
		return
	case m.Role != fsm.RoleData:
		problem(w, http.StatusConflict, CodeRefused, m.Name+" is a witness and has no Postgres")
		return
	}
	ctx, stop := context.WithTimeout(r.Context(), longestWait)
	defer stop()
	done, err := s.opts.Restart(ctx, id, req.Pending)
	var remote Problem
	switch {
	case errors.As(err, &remote): // in the words of the node that was asked
		problem(w, remote.Status, remote.Code, remote.Detail)
	case errors.Is(err, ErrRefused):
		problem(w, http.StatusConflict, CodeRefused, err.Error())
	case err != nil:
		failed(w, err)
	default:
		answer(w, http.StatusOK, Restarted{Node: m.Name, Restarted: done})
	}
}
