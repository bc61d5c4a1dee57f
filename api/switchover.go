package api

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
)

const (
	longestWait = 30 * time.Second
	// applied bounds how long this node waits to see what the leader has accepted.
	applied = 2 * time.Second
)

// The stages of a switchover.
const (
	Asked   = "asked"   // the leader waits for the candidate to be ready
	Begun   = "begun"   // the primary may stop for the candidate
	Done    = "done"    // another epoch has begun; Primary says whose
	Dropped = "dropped" // it was given up; Because says why
	Idle    = "idle"    // none is pending
	Unknown = "unknown" // this node has not seen it, or it is too long ago
)

// SwitchoverRequest is the body of POST /v1/switchover. To is a node's name; empty: the best standby.
type SwitchoverRequest struct {
	To string `json:"to,omitempty"`
}

// Switchover is how far a planned change of the primary is. From the answer to POST, ID and Epoch ask for its outcome.
type Switchover struct {
	ID      string    `json:"id,omitempty"`
	Stage   string    `json:"stage"`
	From    string    `json:"from,omitempty"` // primary when it was asked for; in the answer to POST
	To      string    `json:"to,omitempty"`   // empty while the leader has not chosen
	Epoch   fsm.Epoch `json:"epoch"`          // the epoch that it ends
	Primary string    `json:"primary"`        // now
	Now     fsm.Epoch `json:"now"`            // the epoch now
	Because string    `json:"because,omitempty"`
}

// askSwitchover records the wish. Its answer is 202: GET tells the outcome.
func (s *Server) askSwitchover(w http.ResponseWriter, r *http.Request) {
	var req SwitchoverRequest
	if !strictOr(w, r, `{"to": "NAME"}`, &req, true) {
		return
	}
	before := s.node.State()
	to, ok := byName(before, req.To)
	if !ok {
		problem(w, http.StatusNotFound, CodeRefused, fmt.Sprintf("%q is no member; members are %s", req.To, strings.Join(names(before), ", ")))
		return
	}
	id := fmt.Sprintf("switchover-%d-%s", before.Epoch, rand.Text()[:8])
	// Who asked is the wish itself: so its line in the events is found again.
	if err := s.node.Submit(r.Context(), fsm.AskSwitchover{ID: id, To: to}, id); err != nil {
		failed(w, err)
		return
	}
	ctx, stop := context.WithTimeout(r.Context(), applied)
	defer stop()
	state := s.await(ctx, func(now fsm.State) bool { return outcome(now, id, before.Epoch).Stage != Unknown })
	out := outcome(state, id, before.Epoch)
	out.From = before.Name(before.Primary)
	if out.Stage == Unknown { // The leader has it; this node only lags.
		out.Stage = Asked
	}
	answer(w, http.StatusAccepted, out)
}

// switchover tells the outcome of ?id=…&epoch=…, or what is pending. With wait= it waits so long for the outcome.
func (s *Server) switchover(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	state, id := s.node.State(), q.Get("id")
	if id == "" {
		out := Switchover{Stage: Idle, Epoch: state.Epoch, Now: state.Epoch, Primary: state.Name(state.Primary)}
		if state.Wish != nil {
			out = outcome(state, state.Wish.ID, state.Wish.Epoch)
		}
		answer(w, http.StatusOK, out)
		return
	}
	epoch, err := strconv.ParseUint(q.Get("epoch"), 10, 64)
	if err != nil {
		problem(w, http.StatusBadRequest, CodeInvalid, "epoch= is missing: give the one of the answer to POST")
		return
	}
	if text := q.Get("wait"); text != "" {
		wait, err := time.ParseDuration(text)
		if err != nil {
			problem(w, http.StatusBadRequest, CodeInvalid, "wait= is not a duration like 10s")
			return
		}
		ctx, stop := context.WithTimeout(r.Context(), min(wait, longestWait))
		defer stop()
		state = s.await(ctx, func(now fsm.State) bool { return ended(outcome(now, id, fsm.Epoch(epoch))) })
	}
	answer(w, http.StatusOK, outcome(state, id, fsm.Epoch(epoch)))
}

// ended says that waiting for more is vain.
func ended(s Switchover) bool { return s.Stage == Done || s.Stage == Dropped }

// await returns the first state that is so, or the newest when ctx ends.
func (s *Server) await(ctx context.Context, so func(fsm.State) bool) fsm.State {
	for {
		changed := s.node.Changed()
		state := s.node.State()
		if so(state) {
			return state
		}
		select {
		case <-ctx.Done():
			return state
		case <-changed:
		}
	}
}

// outcome is what the state says about the wish id that was made in epoch.
func outcome(s fsm.State, id string, epoch fsm.Epoch) Switchover {
	out := Switchover{ID: id, Epoch: epoch, Now: s.Epoch, Primary: s.Name(s.Primary)}
	switch {
	case s.Epoch > epoch:
		out.Stage, out.To = Done, out.Primary
	case s.Wish != nil && s.Wish.ID == id:
		out.Stage = Asked
		if s.Wish.Approved {
			out.Stage = Begun
		}
		if s.Wish.To != "" {
			out.To = s.Name(s.Wish.To)
		}
	default:
		out.Stage, out.Because = whatBecame(s.Events, id)
	}
	return out
}

// whatBecame looks for the wish and its end in the events. What is dropped after another wish was asked for is that one: an accepted
// loss takes the place of a wish that was pending, without a word of its end.
func whatBecame(events []fsm.Event, id string) (stage, because string) {
	asked := slices.IndexFunc(events, func(e fsm.Event) bool { return e.By == id })
	if asked < 0 {
		return Unknown, ""
	}
	for _, e := range events[asked+1:] {
		switch {
		case fsm.WishDropped(e.Text):
			return Dropped, e.Text
		case fsm.WishAsked(e.Text):
			return Dropped, "another wish took its place: " + e.Text
		}
	}
	return Dropped, "it is not pending any more"
}

// byName finds a member; the empty name is nobody, which is allowed.
func byName(s fsm.State, name string) (fsm.NodeID, bool) {
	if name == "" {
		return "", true
	}
	for id, m := range s.Members {
		if m.Name == name {
			return id, true
		}
	}
	return "", false
}

func (s *Server) stop(w http.ResponseWriter, _ *http.Request) {
	s.opts.Stop()
	answer(w, http.StatusAccepted, struct {
		Stage string `json:"stage"`
	}{"stopping"})
}

func names(s fsm.State) []string {
	var out []string
	for _, m := range s.Members {
		out = append(out, m.Name)
	}
	slices.Sort(out)
	return out
}
