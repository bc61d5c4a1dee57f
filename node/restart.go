package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

const (
	restartPatience = 5 * time.Second  // how long a restart that may not begin is waited for
	restartBox      = 25 * time.Second // from its beginning; a standby may replay for long and is then left alone
	// openBox is how long the primary's epoch stays with a node whose Postgres is down for a restart. Then it is released,
	// and somebody else may serve.
	openBox = 5 * time.Second
	// ownRestarts is the least time between two restarts that nobody asked for, ownTries that between two tries: what is in the way of
	// one, another node's restart mostly, is soon over.
	ownRestarts = time.Minute
	ownTries    = 15 * time.Second
)

// restartRequest is one wish to restart the local Postgres, or to replace its data directory by a copy.
type restartRequest struct {
	ctx     context.Context
	pending bool // only if a setting waits for it
	reinit  bool // a copy is wanted
	force   bool // though commits may depend on the log here
	grown   bool // nobody asked: the log needs more than this standby runs with
	done    chan restartOutcome
}

type restartOutcome struct {
	restarted bool
	err       error
}

// restarting is the planned restart under way. A standby's lets the commits go on; a primary's is in place: the epoch and
// the lease stay, a clean shutdown is followed by a start for writing (DETAILS 23), and no log is lost in between.
type restarting struct {
	req       *restartRequest // nil for none
	since     time.Duration   // when it was taken
	announced time.Duration   // since when the beats say so; 0: they don't
	run       uint64          // the run that it ends, once it has begun
	epoch     fsm.Epoch       // in which it was begun
	gone      bool            // there was no data directory then, so that nothing spoke against a copy
	downAt    time.Duration   // since when that run is over
	ownAt     time.Duration   // not before this is one tried that nobody asked for
}

func (n *Node) restartHere(ctx context.Context, pending bool) (bool, error) {
	if n.postgres == nil {
		return false, fmt.Errorf("%w: %w", api.ErrRefused, errNoPostgres)
	}
	return n.ask(&restartRequest{ctx: ctx, pending: pending, done: make(chan restartOutcome, 1)})
}

// ask hands a request to the agent and waits for what becomes of it.
func (n *Node) ask(r *restartRequest) (bool, error) {
	select {
	case n.restarts <- r:
	default:
		return false, fmt.Errorf("%w: another restart of this node is under way", api.ErrRefused)
	}
	n.poke()
	select {
	case out := <-r.done:
		return out.restarted, out.err
	case <-r.ctx.Done():
		return false, fmt.Errorf("wait for the agent, the outcome is not known: %w", r.ctx.Err())
	}
}

// restartStep takes what was asked for further: down while Postgres shall be down for a restart, renew while its data
// directory shall be replaced by a copy.
func (a *agent) restartStep(state fsm.State) (down, renew bool) {
	if r := &a.restart; r.req == nil && !a.takeRestart(state, guard.Now()) {
		return false, false
	}
	if a.restart.req.reinit {
		return false, a.reinitStep(state)
	}
	return a.restartFurther(state), false
}

func (a *agent) restartFurther(state fsm.State) bool {
	r, now := &a.restart, guard.Now()
	running := a.have.Run == pg.RunStandby || a.have.Run == pg.RunPrimary
	switch {
	case r.run == 0:
		return a.beginRestart(state, now, running)
	case a.have.GuardRun != r.run && running:
		a.log.Info("restarted", "took", (now - r.since).Round(time.Millisecond).String())
		a.endRestart(true, nil)
	case state.Epoch != r.epoch:
		a.endRestart(false, fmt.Errorf("epoch %d began before the restart was over; quorate status says what is", state.Epoch))
	case now-r.since > restartBox:
		a.endRestart(false, fmt.Errorf("not back after %s; quorate status says what it does", restartBox))
	case a.have.GuardRun != r.run || a.have.Run == pg.RunStopped:
		if r.downAt == 0 {
			r.downAt = now
		}
		if state.Primary == a.cluster.Self() && a.have.Run == pg.RunStopped && a.have.Dir.Control.State != pg.ControlShutDown {
			a.endRestart(false, errors.New("the shutdown was not clean; it starts again as after a crash"))
		}
	default:
		return true
	}
	return false
}

// takeRestart takes the next request, or makes one for a standby whose settings the log has outgrown: replay stands still
// there, so that it could not be promoted.
func (a *agent) takeRestart(state fsm.State, now time.Duration) bool {
	r := &a.restart
	select {
	case req := <-a.restarts:
		*r = restarting{req: req, since: now, ownAt: r.ownAt}
		return true
	default:
	}
	grown := pgctl.Outgrown(a.conf.surveyed(a.have.GuardRun), a.have.Dir.Control.HotStandby())
	if grown == "" || now < r.ownAt || a.have.Run != pg.RunStandby || state.Primary == a.cluster.Self() {
		return false
	}
	a.log.Warn("restarting: the log needs more than this standby runs with", "setting", grown)
	req := &restartRequest{ctx: context.Background(), grown: true, done: make(chan restartOutcome, 1)}
	*r = restarting{req: req, since: now, ownAt: now + ownTries}
	return true
}

// beginRestart announces the restart and begins it when nobody else does one and the commits can go on.
func (a *agent) beginRestart(state fsm.State, now time.Duration, running bool) bool {
	r := &a.restart
	if r.req.ctx.Err() != nil {
		a.endRestart(false, r.req.ctx.Err())
		return false
	}
	if r.req.pending && running && len(a.configured().Pending) == 0 {
		a.endRestart(false, nil)
		return false
	}
	why := "Postgres does not run"
	switch self, seen := a.cluster.Self(), a.cluster.Sightings(); {
	case r.req.reinit:
		why = a.againstReinit(state, self, seen)
	case running:
		insists := r.req.grown && now-r.since > restartPatience
		why = mayRestart(state, self, a.have.Run == pg.RunPrimary && a.fence.live(state.Epoch, now), r.announced > 0, insists, seen)
	}
	if why != "" {
		r.announced = 0
		if now-r.since > restartPatience {
			a.endRestart(false, fmt.Errorf("%w: %s", api.ErrRefused, why))
		}
		return false
	}
	if r.announced == 0 {
		r.announced = now
	}
	if now-r.announced < 3*a.timing.Beat {
		return false // the others may be about to announce one too
	}
	if r.req.grown {
		r.ownAt = now + ownRestarts
	}
	r.run, r.epoch, r.gone = a.have.GuardRun, state.Epoch, a.have.Dir.Gone != ""
	a.log.Info("restarting Postgres", "epoch", r.epoch, "for a new copy", r.req.reinit, "pending", fmt.Sprint(a.configured().Pending))
	return true
}

// againstReinit says what speaks against the copy that is asked for. Nobody has any use of log that is not there.
func (a *agent) againstReinit(state fsm.State, self fsm.NodeID, seen map[fsm.NodeID]failover.Sighting) string {
	return mayReinit(state, self, a.restart.req.force || a.have.Dir.Gone != "", a.restart.announced > 0, seen)
}

func (a *agent) endRestart(restarted bool, err error) {
	r := &a.restart
	if err != nil {
		a.log.Warn("restart not done", "error", err)
	}
	r.req.done <- restartOutcome{restarted, err}
	*r = restarting{ownAt: r.ownAt}
}

// downForRestart says that Postgres is down by plan and that this node, the primary, goes on in the same epoch.
func (a *agent) downForRestart(state fsm.State) bool {
	r := &a.restart
	return r.run != 0 && r.epoch == state.Epoch && (r.downAt == 0 || guard.Now()-r.downAt < openBox)
}

// mayRestart says what speaks against a restart now, empty for nothing. One node at a time, the lowest id first, and
// only while as many others stream as each commit waits for (DETAILS 31): a primary's clients then find all that was
// written on enough others, and a standby's absence holds up nobody. insists: commits may wait for it (docs/decisions/0021).
func mayRestart(s fsm.State, self fsm.NodeID, serves, announced, insists bool, seen map[fsm.NodeID]failover.Sighting) string {
	if why := inTheWay(s, self, serves, announced, seen); why != "" || insists {
		return why
	}
	why := missingCopies(s, self, seen)
	if why != "" && s.Primary != self {
		why += "; a switchover to this node and back restarts both"
	}
	return why
}

// mayReinit is mayRestart for the replacement of a standby's data directory, whose log then counts for nothing until it has
// caught up. force: though commits, or an election, may need it meanwhile.
func mayReinit(s fsm.State, self fsm.NodeID, force, announced bool, seen map[fsm.NodeID]failover.Sighting) string {
	if s.Primary == self {
		return "it is the primary, of which the copies are made"
	}
	if why := inTheWay(s, self, false, announced, seen); why != "" || force {
		return why
	}
	return missingCopies(s, self, seen)
}

// inTheWay says what else is going on.
func inTheWay(s fsm.State, self fsm.NodeID, serves, announced bool, seen map[fsm.NodeID]failover.Sighting) string {
	if s.Wish != nil {
		return fmt.Sprintf("a %s is pending", s.Wish.Kind)
	}
	fresh := time.Duration(s.Config.Settings.FailoverAfterMS) * time.Millisecond
	for id, m := range s.Members {
		other := seen[id]
		if id != self && other.Report.Config.Restart && other.Age <= fresh && (!announced || id < self) {
			return m.Name + " is being restarted; one at a time"
		}
	}
	p := seen[s.Primary]
	if s.Primary == self && !serves {
		return "it is primary and does not serve"
	}
	if s.Primary != self && (p.Age > fresh || p.Report.Serving != s.Epoch) {
		return "the primary is not heard to serve"
	}
	return ""
}

// missingCopies says that commits depend on this node.
func missingCopies(s fsm.State, self fsm.NodeID, seen map[fsm.NodeID]failover.Sighting) string {
	others := 0
	for _, m := range seen[s.Primary].Report.Streaming {
		if m.Node != self && s.Sync.Has(m.Node) {
			others++
		}
	}
	if need := s.Sync.Copies - 1; others < need && (s.Sync.Has(self) || s.Primary == self) {
		return fmt.Sprintf("commits need %d other nodes that stream and only %d would", need, others)
	}
	return ""
}
