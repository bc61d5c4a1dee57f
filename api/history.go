package api

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// The kinds of an Assignment.
const (
	KindFirst      = "first"      // there was no primary before
	KindFailover   = "failover"   // another node took over
	KindSwitchover = "switchover" // the same, because somebody asked for it
	KindAgain      = "again"      // the same node got the next epoch
)

// History is how every epoch that is remembered came to be, oldest first, and the newest events.
type History struct {
	Epochs []Assignment `json:"epochs"`
	Events []Event      `json:"events"`
}

// Assignment is the report of one epoch.
type Assignment struct {
	Epoch    fsm.Epoch `json:"epoch"`
	At       string    `json:"at,omitempty"` // RFC 3339, when it was appointed; absent: too long ago
	Kind     string    `json:"kind"`
	From     string    `json:"from,omitempty"`
	To       string    `json:"to"`
	Why      string    `json:"why"`     // in a few words
	Rule     string    `json:"rule"`    // that appointed
	Comment  string    `json:"comment"` // what the rule says of itself
	Cause    string    `json:"cause"`   // why the epoch before had to end; empty: not known
	Reported bool      `json:"reported"`
	// Phases are in ms after the last sign of the old primary; none: the leader that saw them is gone.
	Phases   []fsm.Phase `json:"phases"`
	AckMS    *int64      `json:"ack_ms"` // when commits were acknowledged again; null: not known
	Lost     *int        `json:"lost"`   // acknowledged commits; null: not known, because of durability async or an accepted loss
	Discards []Discard   `json:"discards"`
	Timeline pg.Timeline `json:"timeline"`
	Parent   pg.Timeline `json:"parent,omitempty"`
	Switch   pg.LSN      `json:"switch_lsn"`
	Now      []string    `json:"now"` // what to do about it, for who is on call; "Nothing." if there is nothing
}

// Event is one line of what happened.
type Event struct {
	At    string    `json:"at"`
	Epoch fsm.Epoch `json:"epoch"`
	By    string    `json:"by"`
	Text  string    `json:"text"`
}

// RuleAcceptedLoss is the rule by which an operator had a node appointed that lacks acknowledged commits.
const RuleAcceptedLoss = failover.RuleAcceptedLoss

const historyPath = "/v1/history"

func (s *Server) epochs(w http.ResponseWriter, _ *http.Request) {
	f := s.facts()
	out := History{Epochs: []Assignment{}, Events: []Event{}}
	for i := max(0, len(f.state.Lineage)-fsm.MaxFailovers); i < len(f.state.Lineage); i++ {
		out.Epochs = append(out.Epochs, f.assignment(i))
	}
	for _, e := range f.state.Events {
		out.Events = append(out.Events, Event{At: wall(e.Wall), Epoch: e.Epoch, By: e.By, Text: e.Text})
	}
	answer(w, http.StatusOK, out)
}

func (s *Server) epoch(w http.ResponseWriter, r *http.Request) {
	f, text := s.facts(), strings.TrimPrefix(strings.TrimRight(r.URL.Path, "/"), historyPath+"/")
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		problem(w, http.StatusBadRequest, CodeInvalid, fmt.Sprintf("%q is no epoch: it is a number, and now is %d", text, f.state.Epoch))
		return
	}
	i := slices.IndexFunc(f.state.Lineage, func(l fsm.Lineage) bool { return l.Epoch == fsm.Epoch(number) })
	if i < 0 {
		problem(w, http.StatusNotFound, CodeNotFound, fmt.Sprintf("nothing is known of epoch %d; now is %d", number, f.state.Epoch))
		return
	}
	answer(w, http.StatusOK, f.assignment(i))
}

// assignment is what is known of the i-th assignment: its report, and before there is one what the log says.
func (f facts) assignment(i int) Assignment {
	l := f.state.Lineage[i]
	r, reported := f.reportOf(l.Epoch)
	if r.To, r.From, r.Async = l.Node, "", l.Async; i > 0 {
		r.From = f.state.Lineage[i-1].Node
	}
	a := Assignment{
		Epoch: l.Epoch, At: wall(r.Wall), Kind: kind(r), To: f.state.Name(r.To), Rule: r.Rule, Comment: comment(r.Rule), Cause: r.Cause,
		Reported: reported, Phases: append([]fsm.Phase{}, r.Phases...), Discards: f.discardsOf(l.Epoch),
		Timeline: l.Timeline, Parent: l.Parent, Switch: l.SwitchLSN,
	}
	if r.From != "" {
		a.From = f.state.Name(r.From)
	}
	for _, p := range r.Phases {
		if p.Name == fsm.PhaseStreaming {
			a.AckMS = &p.MS
		}
	}
	if !r.Async {
		a.Lost = new(int) // Else the Appoint would have been refused.
	}
	a.Why = why(a, r.Wish)
	a.Now = f.advice(a, r)
	return a
}

// reportOf is the report of an epoch, or as much of one as the events tell.
func (f facts) reportOf(epoch fsm.Epoch) (r fsm.Failover, reported bool) {
	for _, r := range f.state.Failovers {
		if r.Epoch == epoch {
			return r, true
		}
	}
	e, _ := f.state.Appointment(epoch)
	return fsm.Failover{Epoch: epoch, Rule: e.By, Wall: e.Wall}, false
}

func (f facts) discardsOf(epoch fsm.Epoch) []Discard {
	return slices.DeleteFunc(discards(f.state, true), func(d Discard) bool { return d.Epoch != epoch })
}

func kind(r fsm.Failover) string {
	switch {
	case r.From == "":
		return KindFirst
	case r.From == r.To:
		return KindAgain
	case r.Wish != "":
		return KindSwitchover
	}
	return KindFailover
}

// comment is what the rule of this name says of itself, empty if it is none.
func comment(rule string) string {
	for _, r := range failover.Rules() {
		if r.Name == rule {
			return r.Comment
		}
	}
	return ""
}

// wall renders unix milliseconds; 0 is no time.
func wall(ms int64) string {
	if ms == 0 {
		return ""
	}
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

// why says in a few words what happened.
func why(a Assignment, wish string) string {
	began, _, _ := strings.Cut(a.Cause, ": ")
	switch {
	case a.Kind == KindFirst:
		return "the first primary"
	case a.Kind == KindSwitchover && wish == "stop":
		return a.From + " was told to stop"
	case a.Kind == KindSwitchover:
		return "switchover, asked for"
	case a.Rule == RuleAcceptedLoss:
		return a.From + " was lost, and an operator accepted to go on without its last commits"
	case a.Rule == "re-appoint":
		return a.To + " seemed gone and was not"
	case a.Rule == "restart-in-place":
		return a.To + " had stopped, nobody else could take over"
	case a.Kind == KindAgain:
		return a.To + " was appointed again, the cause is not known any more"
	case began == "ask-first" || began == "primary-silent":
		return a.From + " fell silent"
	case began == "ask-unread" || began == "appointment-unread":
		return a.From + " did not learn of its appointment"
	case began == "primary-sick":
		return a.From + " was sick"
	case began == "primary-released":
		return a.From + " stopped and said so"
	}
	return a.From + " was replaced, the cause is not known any more"
}
