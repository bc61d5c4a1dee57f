package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// FailoverRequest is the body of POST /v1/failover.
type FailoverRequest struct {
	To string `json:"to"` // a node's name
	// AcceptDataLoss is the token of an answer that said what would be lost. With it a node that lacks acknowledged commits is
	// appointed, if nothing has changed since.
	AcceptDataLoss string `json:"accept_data_loss,omitempty"`
}

// Failover is the answer when the new primary serves.
type Failover struct {
	Primary string `json:"primary"`
	Text    string `json:"text"`
}

// failover is POST /failover for the command line: the same, with its refusals as problem documents.
func (s *Server) failover(w http.ResponseWriter, r *http.Request) {
	var req FailoverRequest
	if !strict(w, r, `{"to": "NAME"}`, &req) {
		return
	}
	v := s.changePrimary(r.Context(), actFailover, succession{Candidate: req.To, Accept: req.AcceptDataLoss})
	code := CodeFailed
	switch {
	case v.status == http.StatusOK:
		now := s.node.State()
		answer(w, http.StatusOK, Failover{Primary: now.Name(now.Primary), Text: v.text})
		return
	case v.status == http.StatusBadRequest:
		code = CodeInvalid
	case v.status == http.StatusPreconditionFailed:
		code = CodeRefused
	case s.node.Leader() == "":
		code = CodeNoQuorum
	}
	problem(w, v.status, code, v.text)
}

// acceptLoss has a node appointed that lacks acknowledged commits, on the word of somebody who was shown what is lost by that.
func (s *Server) acceptLoss(ctx context.Context, before fsm.State, to fsm.NodeID, accepted string, v failover.View) verdict {
	if s.node.Leader() == "" {
		return verdict{http.StatusServiceUnavailable, noMajority}
	}
	token, against := failover.AcceptLoss(v, to)
	switch {
	case against != "":
		return unmet("no loss is accepted for %s: %s\n%s", before.Name(to), against, table(v))
	case token != accepted:
		return unmet("the token is not that of what is known now: look at it again\n%s%s", table(v), offer(v, to))
	}
	id := fmt.Sprintf("%s-%d-%s", actFailover, before.Epoch, rand.Text()[:8])
	if err := s.node.Submit(ctx, fsm.AskFailover{ID: id, To: to, Epoch: before.Epoch, Loss: token}, id); err != nil {
		status, text := unanswered(err)
		return verdict{status, text}
	}
	return s.settle(ctx, actFailover, to, s.outcomeOf(ctx, actFailover, id, before), before.Primary)
}

// offer says how to have the candidate appointed at the loss of what it lacks; empty where nobody may.
func offer(v failover.View, to fsm.NodeID) string {
	token, against := failover.AcceptLoss(v, to)
	if against != "" {
		return ""
	}
	name := v.State.Name(to)
	return fmt.Sprintf("to make %s primary all the same, and lose for good what %s has acknowledged and it lacks: quorate failover %s --accept-data-loss %s\n",
		name, v.State.Name(v.State.Primary), name, token)
}
