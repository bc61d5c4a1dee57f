package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
)

// PauseRequest is the body of POST /v1/pause and /v1/resume. Wait, such as 10s, is how long to wait until all have it.
type PauseRequest struct {
	Wait string `json:"wait,omitempty"`
	// PrimaryDown, with resume: the primary's PostgreSQL runs nowhere, so nobody need wait until it shows the resume.
	PrimaryDown bool `json:"primary_is_down,omitempty"`
}

// Paused is the answer. Pending are the nodes that are not known to have it yet.
type Paused struct {
	Paused  bool     `json:"paused"`
	Rev     uint64   `json:"rev"` // from which on a node has it
	Pending []string `json:"pending"`
}

// setPause answers POST /v1/pause and /v1/resume. Asking for what is so already is no error.
func (s *Server) setPause(pause bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req PauseRequest
		d := json.NewDecoder(r.Body)
		d.DisallowUnknownFields()
		if err := d.Decode(&req); err != nil && !errors.Is(err, io.EOF) {
			problem(w, http.StatusBadRequest, CodeInvalid, `the body is not {"wait": "10s"}: `+err.Error())
			return
		}
		wait := time.Duration(0)
		if req.Wait != "" {
			var err error
			if wait, err = time.ParseDuration(req.Wait); err != nil || wait < 0 {
				problem(w, http.StatusBadRequest, CodeInvalid, fmt.Sprintf("wait: %q is not a duration like 10s", req.Wait))
				return
			}
		}
		var resume fsm.Resume
		if !pause && req.PrimaryDown {
			f := s.facts()
			if why := f.mayLive(); why != "" {
				problem(w, http.StatusConflict, CodeRefused, why)
				return
			}
			resume = fsm.Resume{Down: f.state.Primary, Epoch: f.state.Epoch}
		}
		if err := s.pause(r.Context(), pause, resume); err != nil {
			failed(w, err)
			return
		}
		answer(w, http.StatusOK, s.awaitPause(r.Context(), min(wait, longestWait)))
	}
}

// mayLive says why nobody should take the primary for dead, empty if nothing speaks against it: this node hears a majority, and
// neither it nor anybody that it hears has heard the primary within failover_after. One node alone may be cut off from a
// primary that writes on.
func (f facts) mayLive() string {
	p := f.state.Name(f.state.Primary)
	if s, ok := f.seen[f.state.Primary]; f.state.Primary == f.self || ok && f.heard(s) {
		return fmt.Sprintf("%s was heard just now, so its PostgreSQL may run. Resume without --primary-is-down: it will show that it knows", p)
	}
	if by := f.hearers(f.state.Primary); len(by) > 0 {
		return fmt.Sprintf("%s is heard by %s, though not by this node, so its PostgreSQL may run. Resume without --primary-is-down: "+
			"it will show that it knows. If that can't reach it, stop its PostgreSQL or its host first", p, strings.Join(by, ", "))
	}
	heard := 0
	for _, id := range f.state.Electorate.Voters {
		if s, ok := f.seen[id]; id == f.self || ok && f.heard(s) {
			heard++
		}
	}
	if need := f.state.Electorate.Majority(); heard < need {
		return fmt.Sprintf("this node hears %d of %d voters, a majority is %d: ask a node that hears more, %s may be heard there", heard,
			len(f.state.Electorate.Voters), need, p)
	}
	return ""
}

// hearers are the names of the nodes by whose reports id was heard within failover_after.
func (f facts) hearers(id fsm.NodeID) []string {
	var out []string
	for by, s := range f.seen {
		for _, a := range s.Report.Sightings {
			if a.Node == id && s.Age+time.Duration(a.MS)*time.Millisecond <= f.failoverAfter() {
				out = append(out, f.state.Name(by))
			}
		}
	}
	slices.Sort(out)
	return out
}

// pause puts the cluster into that state and returns when this node shows it, or lags for long. resume is how a pause ends: the
// primary that an operator says is down is the one of the state that it was judged by, since another may have come meanwhile.
func (s *Server) pause(ctx context.Context, pause bool, resume fsm.Resume) error {
	c := fsm.Command(resume)
	if pause {
		c = fsm.Pause{}
	}
	if err := s.node.Submit(ctx, c, "operator"); err != nil && !errors.Is(err, fsm.ErrExists) {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, applied)
	defer stop()
	s.await(ctx, func(st fsm.State) bool { return st.Paused == pause })
	return nil
}

// awaitPause waits until all have applied the last pause or resume, and says who has not.
func (s *Server) awaitPause(ctx context.Context, wait time.Duration) Paused {
	ctx, stop := context.WithTimeout(ctx, wait)
	defer stop()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		st := s.node.State()
		out := Paused{Paused: st.Paused, Rev: st.PauseRev, Pending: s.behindPause(st)}
		if len(out.Pending) == 0 {
			return out
		}
		select {
		case <-ctx.Done():
			return out
		case <-tick.C:
		}
	}
}

func (s *Server) behindPause(st fsm.State) []string {
	seen, out := s.node.Sightings(), []string{}
	for id, m := range st.Members {
		if id != s.node.Self() && seen[id].Report.Rev < st.PauseRev {
			out = append(out, m.Name)
		}
	}
	slices.Sort(out)
	return out
}

// splitPause takes Patroni's key pause out of a configuration document. asked is nil if it is not there; null asks for the
// end of a pause. left says whether anything else is.
func splitPause(doc []byte) (rest []byte, asked *bool, left bool, err error) {
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(doc, &keys); err != nil {
		return nil, nil, false, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	value, given := keys["pause"]
	if !given {
		return doc, nil, len(keys) > 0, nil
	}
	var pause bool
	if err := json.Unmarshal(value, &pause); err != nil {
		return nil, nil, false, fmt.Errorf("%w: pause is %s, it is true, false or null", ErrDocument, value)
	}
	delete(keys, "pause")
	rest, err = json.Marshal(keys)
	return rest, &pause, len(keys) > 0, err
}

// withPause is the document with Patroni's key pause while the cluster is paused.
func withPause(s fsm.State) json.RawMessage {
	doc := raw(s.Config.Doc)
	if !s.Paused {
		return doc
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(doc, &keys); err != nil || keys == nil {
		keys = map[string]json.RawMessage{}
	}
	keys["pause"] = json.RawMessage("true")
	out, err := json.Marshal(keys)
	if err != nil {
		return doc
	}
	return out
}
