package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

const (
	// settleWithin is how long Patroni's requests wait for their outcome: 2 * max(10, loop_wait) seconds there.
	settleWithin = 20 * time.Second
	lookEvery    = 50 * time.Millisecond
)

// The two ways to another primary, as Patroni names them.
const (
	actSwitchover = "switchover" // the primary hands over
	actFailover   = "failover"   // the same if there is one, else whoever holds everything takes over
)

// succession is the body of Patroni's POST /switchover and /failover.
type succession struct {
	Leader    string `json:"leader"` // the primary that is to be replaced
	Candidate string `json:"candidate"`
	Member    string `json:"member"` // the older name of candidate
	At        string `json:"scheduled_at"`
	Accept    string `json:"accept_data_loss"` // ours: see FailoverRequest
}

// verdict is an answer in the making: a status code with its text.
type verdict struct {
	status int
	text   string
}

// succeed answers Patroni's POST /switchover or /failover.
func (s *Server) succeed(act string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var req succession
		if !object(w, r, false, &req) {
			return
		}
		v := s.changePrimary(r.Context(), act, req)
		say(w, v.status, v.text)
	}
}

// mistake is what is wrong with the request itself; status 0: nothing.
func (q succession) mistake(act, candidate string) verdict {
	switch {
	case q.Accept != "" && (act == actSwitchover || q.Leader != ""):
		return verdict{http.StatusBadRequest, "accept_data_loss is for a failover, from a primary that is gone, and names no leader"}
	case act == actFailover && candidate == "":
		return verdict{http.StatusBadRequest, "a failover needs the candidate it is to"}
	case act == actSwitchover && q.Leader == "":
		return verdict{http.StatusBadRequest, "a switchover needs the leader it is from"}
	case act == actFailover && q.At != "":
		return verdict{http.StatusBadRequest, "a failover can't be scheduled"}
	case q.At != "":
		status, text := scheduled(q.At, act, time.Now())
		return verdict{status, text}
	case q.Leader == candidate:
		return verdict{http.StatusBadRequest, fmt.Sprintf("%s is both where the %s is from and where it is to", candidate, act)}
	}
	return verdict{}
}

func (s *Server) changePrimary(ctx context.Context, act string, q succession) verdict {
	candidate := cmp.Or(q.Candidate, q.Member)
	if v := q.mistake(act, candidate); v.status != 0 {
		return v
	}
	if act == actFailover && q.Leader != "" {
		act = actSwitchover
	}
	state, view, v := s.present(ctx)
	if v.status != 0 {
		return v
	}
	to, v := lookUp(state, act, q.Leader, candidate)
	if v.status != 0 {
		return v
	}
	ctx, stop := context.WithTimeout(ctx, settleWithin)
	defer stop()
	switch {
	case q.Accept != "":
		return s.acceptLoss(ctx, state, to, q.Accept, view)
	case primaryServes(view):
		return s.switchTo(ctx, act, state, to, view)
	case act == actSwitchover:
		return unmet("%s, the leader, does not serve, so it can't hand over; ask for a failover to a candidate\n%s",
			q.Leader, table(view))
	}
	return s.awaitFailover(ctx, state, to)
}

func unmet(format string, args ...any) verdict {
	return verdict{http.StatusPreconditionFailed, fmt.Sprintf(format, args...)}
}

// present is the state that this node has applied and the leader's view of the same epoch. What is judged by the one must
// not be watched in the other: a node that lags would take a change of before for the one that is asked for.
func (s *Server) present(ctx context.Context) (fsm.State, failover.View, verdict) {
	ask, stop := context.WithTimeout(ctx, askLeader)
	defer stop()
	e, err := s.node.Explain(ask)
	if err != nil {
		return fsm.State{}, failover.View{}, verdict{http.StatusServiceUnavailable, err.Error()}
	}
	catchUp, stop := context.WithTimeout(ctx, applied)
	defer stop()
	state := s.await(catchUp, func(now fsm.State) bool { return now.Epoch >= e.View.State.Epoch })
	if state.Epoch != e.View.State.Epoch {
		return state, e.View, verdict{http.StatusServiceUnavailable, "the primary is changing at this moment; ask again"}
	}
	return state, e.View, verdict{}
}

// lookUp checks the names of a request against the members.
func lookUp(state fsm.State, act, leader, candidate string) (fsm.NodeID, verdict) {
	to, known := byName(state, candidate)
	switch {
	case state.Primary == "":
		return "", unmet("there is no primary yet")
	case act == actSwitchover && leader != state.Name(state.Primary):
		return "", unmet("%s is not the leader, %s is", leader, state.Name(state.Primary))
	case !known:
		return "", unmet("the candidate %q does not exist; members are %s", candidate, strings.Join(names(state), ", "))
	case state.Paused:
		return "", unmet("the cluster is paused: quorate resume comes first")
	}
	return to, verdict{}
}

// primaryServes says that the primary was heard to serve within the beats that make a report the present.
func primaryServes(v failover.View) bool {
	p, heard := v.Seen[v.State.Primary]
	return heard && v.State.Epoch > 0 && p.Report.Serving == v.State.Epoch && p.Age <= beatsFresh*v.BeatEvery
}

// table says of every node that could be primary instead what is known of its log and what speaks against it.
func table(v failover.View) string {
	var b strings.Builder
	for _, c := range failover.Candidates(v) {
		fmt.Fprintf(&b, "%s: %s; %s\n", v.State.Name(c.Node), logOf(c), cmp.Or(c.Against, "it would do"))
	}
	if b.Len() == 0 {
		return "there is no other node with a Postgres\n"
	}
	return b.String()
}

// logOf says what is known of a candidate's log. What it lacks is never said to be nothing where that is only not known.
func logOf(c failover.Candidate) string {
	if c.LSN == 0 {
		return "nothing is known of its log"
	}
	has := fmt.Sprintf("has log to %s on timeline %d", c.LSN, c.Timeline)
	switch {
	case c.Known:
		return fmt.Sprintf("%s, %d bytes less than is known to exist", has, uint64(c.Lacks))
	case c.Lacks > 0:
		return fmt.Sprintf("%s, at least %d bytes less than existed; how much less is not known", has, uint64(c.Lacks))
	}
	return has + "; how much less than existed is not known"
}

// switchTo has a serving primary hand over and waits until its successor serves.
func (s *Server) switchTo(ctx context.Context, act string, before fsm.State, to fsm.NodeID, v failover.View) verdict {
	if _, against := failover.HandOver(v, to); against != "" {
		return verdict{http.StatusPreconditionFailed, fmt.Sprintf("%s is not possible: %s\n%s", act, against, table(v))}
	}
	id := fmt.Sprintf("%s-%d-%s", act, before.Epoch, rand.Text()[:8])
	var ask fsm.Command = fsm.AskSwitchover{ID: id, To: to}
	if act == actFailover {
		ask = fsm.AskFailover{ID: id, To: to, Epoch: before.Epoch}
	}
	if err := s.node.Submit(ctx, ask, id); err != nil {
		status, text := unanswered(err)
		return verdict{status, text}
	}
	return s.settle(ctx, act, to, s.outcomeOf(ctx, act, id, before), before.Primary)
}

// outcomeOf says of a state how the wish with that id has failed; status 0: it has not.
func (s *Server) outcomeOf(ctx context.Context, act, id string, before fsm.State) func(fsm.State) verdict {
	return func(now fsm.State) verdict {
		out := outcome(now, id, before.Epoch)
		switch {
		case now.Wish != nil && now.Wish.ID == id && now.Wish.Epoch != before.Epoch:
			// Somebody else became primary first; handing over from there is not what was asked for.
			err := s.node.Submit(ctx, fsm.EndWish{ID: id, Because: "another primary came first"}, "operator")
			return verdict{http.StatusServiceUnavailable, fmt.Sprintf("%s failed: %s became primary first (taken back: %v)",
				act, now.Name(now.Primary), err == nil)}
		case out.Stage == Dropped:
			return verdict{http.StatusServiceUnavailable, fmt.Sprintf("%s failed: %s", act, out.Because)}
		case out.Stage == Done && now.Primary == before.Primary:
			return verdict{http.StatusServiceUnavailable,
				fmt.Sprintf("%s failed: %s was appointed again", act, now.Name(now.Primary))}
		}
		return verdict{}
	}
}

// noMajority is why nothing can be done by anybody.
const noMajority = "there is no quorum: nobody may be appointed before a majority is back"

// awaitFailover waits for what the leader does by itself about a primary that is gone. What nobody can take over without
// losing acknowledged commits is not forced: the answer says who would be needed, and how somebody accepts the loss.
func (s *Server) awaitFailover(ctx context.Context, before fsm.State, to fsm.NodeID) verdict {
	if s.node.Leader() == "" {
		return verdict{http.StatusServiceUnavailable, noMajority}
	}
	if before.Primary == to {
		return verdict{http.StatusPreconditionFailed, before.Name(to) + " is the primary that was appointed"}
	}
	return s.settle(ctx, actFailover, to, func(now fsm.State) verdict {
		if now.Primary == before.Primary && s.serves(now) {
			return verdict{http.StatusServiceUnavailable,
				fmt.Sprintf("failover failed: %s serves again; ask once more", now.Name(now.Primary))}
		}
		ask, stop := context.WithTimeout(ctx, askLeader)
		defer stop()
		if e, err := s.node.Explain(ask); err == nil && e.View.State.Epoch == before.Epoch && e.Verdict == failover.Stuck {
			return unmet("failover is not possible%s (%s): %s\n%s%s", atTheCost(e.Rule), e.Rule, strings.Join(e.Because, "; "), table(e.View), offer(e.View, to))
		}
		return verdict{}
	}, before.Primary)
}

// atTheCost says what a failover in spite of a rule would cost, for the one of which that is known.
func atTheCost(rule string) string {
	if rule == "nobody-qualifies" {
		return " without losing acknowledged commits"
	}
	return ""
}

// settle waits until another node than from serves, or failed says why that won't be.
func (s *Server) settle(ctx context.Context, act string, to fsm.NodeID, failed func(fsm.State) verdict, from fsm.NodeID) verdict {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		changed, now := s.node.Changed(), s.node.State()
		if v := failed(now); v.status != 0 {
			return v
		}
		if now.Primary != from && s.serves(now) {
			text := fmt.Sprintf("Successfully %sed over to %q", strings.TrimSuffix(act, "over"), now.Name(now.Primary))
			if to != "" && to != now.Primary {
				text += fmt.Sprintf(" instead of %q", now.Name(to))
			}
			return verdict{http.StatusOK, text}
		}
		select {
		case <-ctx.Done():
			return verdict{http.StatusServiceUnavailable, fmt.Sprintf(
				"%s status unknown after %d seconds; operation may still be in progress", act, int(settleWithin.Seconds()))}
		case <-changed:
		case <-tick.C:
		}
	}
}

// serves says that the primary of the present epoch is heard to serve.
func (s *Server) serves(now fsm.State) bool {
	if now.Primary == s.node.Self() {
		return s.node.Local().Serving
	}
	f := facts{state: now}
	p, heard := s.node.Sightings()[now.Primary]
	return heard && now.Epoch > 0 && p.Report.Serving == now.Epoch && f.heard(p)
}

// dropSwitchover answers DELETE /switchover: a request that waits for its candidate is taken back; one that has begun goes
// its way.
func (s *Server) dropSwitchover(w http.ResponseWriter, r *http.Request) {
	wish := s.node.State().Wish
	switch {
	case wish == nil:
		say(w, http.StatusNotFound, "no switchover is scheduled")
		return
	case wish.Approved:
		say(w, http.StatusConflict, "the switchover has begun")
		return
	}
	err := s.node.Submit(r.Context(), fsm.EndWish{ID: wish.ID, Because: "it was taken back"}, "operator")
	switch {
	case err == nil:
		say(w, http.StatusOK, "scheduled switchover deleted")
	case errors.Is(err, fsm.ErrNoWish):
		say(w, http.StatusConflict, err.Error())
	default:
		status, text := unanswered(err)
		say(w, status, text)
	}
}
