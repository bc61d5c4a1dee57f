package node

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// own is what a report is made of besides Postgres' status.
type own struct {
	self      fsm.NodeID
	state     fsm.State
	leaseLive bool // Postgres here may accept writes
	unleased  bool // and only because of a pause
	released  *fsm.Release
	promise   *fsm.Promise
	ending    bool   // the daemon was asked to end in order
	held      string // why the agent can't go on, empty if it can
	flushed   pg.LSN // as primary, when that was last known
	trouble   string // why Postgres does not come up, though it goes on trying
}

// report turns the local Postgres into what the node says of itself in its beats.
func report(have pgctl.Status, o own) failover.Report {
	r := failover.Report{
		Node: o.self, Epoch: o.state.Epoch, Rev: o.state.Rev, Version: o.state.Version, Run: run(have), Timeline: have.Timeline,
		Flush: have.Flush, Replay: have.Replay, InRecovery: have.Run == pg.RunStandby,
		Released: o.released, Promise: o.promise, Problem: o.held,
	}
	if have.Position != nil && !have.Dir.Foreign {
		r.Timeline, r.Flush = have.Position.Timeline, max(have.Position.LSN, have.Flush)
	}
	if r.Flush == 0 && o.state.Primary == o.self {
		r.Flush = o.flushed // with durability async the lag of others is counted from it
	}
	if have.Clone != nil {
		r.Progress = fmt.Sprintf("cloning from %s: %d MiB", have.Clone.Source.Name, have.Clone.Bytes>>20)
		if have.Clone.Note != "" {
			r.Problem = "the clone failed and is tried again: " + have.Clone.Note
		}
	}
	rewinding(&r, have.Rewind)
	released := o.released != nil && o.released.Epoch >= o.state.Epoch
	if r.Problem == "" {
		r.Problem = cmp.Or(o.trouble, notice(have))
	}
	if r.Problem == "" && released && o.state.Primary == o.self && have.Run == pg.RunStandby {
		r.Problem = reading(have)
	}
	if have.Receiver != "" {
		r.Upstream = byName(o.state)[have.Upstream.Name]
	}
	if have.Run == pg.RunPrimary && o.leaseLive && o.state.Primary == o.self && (o.released == nil || o.released.Epoch < o.state.Epoch) {
		r.Serving, r.Unleased = o.state.Epoch, o.unleased
		r.Streaming = streaming(have, bySlot(o.state))
	}
	// One that serves reads meanwhile is stopped for that in good order, also while it starts.
	alone := have.Upstream.Name == "" && (have.Run == pg.RunStandby || have.Run == pg.RunStarting)
	down := have.Run == pg.RunStopped || alone && o.state.Primary == o.self
	r.Restartable = released && !o.ending && down && have.Dir.Problem == "" && have.Dir.Mismatch == "" && have.Clone == nil
	r.Healthy = o.held == "" && r.Run == failover.RunRunning
	return r
}

func byName(s fsm.State) map[string]fsm.NodeID {
	ids := make(map[string]fsm.NodeID, len(s.Members))
	for id, m := range s.Members {
		ids[strings.ToLower(m.Name)] = id
	}
	return ids
}

// bySlot tells the members that stream from here. By name it could be an earlier one of that name, as long as Postgres was not told of
// the present one.
func bySlot(s fsm.State) map[string]fsm.NodeID {
	ids := make(map[string]fsm.NodeID, len(s.Members))
	for id, m := range s.Members {
		ids[slot(m)] = id
	}
	return ids
}

func streaming(have pgctl.Status, ids map[string]fsm.NodeID) []failover.StreamingMember {
	var out []failover.StreamingMember
	for _, s := range have.Senders {
		if id, ok := ids[s.Slot]; ok && s.Streaming {
			out = append(out, failover.StreamingMember{Node: id, Flush: s.Flush})
		}
	}
	return out
}

// run names the state of Postgres in the words of the rules. A log that is being rebuilt is no log to count on, whatever
// runs on it.
func run(have pgctl.Status) failover.Run {
	if have.Clone != nil || have.Rebuilding {
		return failover.RunCloning
	}
	if have.Dir.Foreign {
		return failover.RunNone // of this cluster there is nothing here
	}
	switch have.Run {
	case pg.RunAbsent:
		return failover.RunNone
	case pg.RunStopped:
		return failover.RunStopped
	case pg.RunFrozen:
		return failover.RunFrozen
	case pg.RunStandby, pg.RunPrimary:
		return failover.RunRunning
	}
	return failover.RunStarting
}

// changed says whether a report differs from the one before in what others decide by, so that it is worth a beat at once.
func changed(a, b failover.Report) bool {
	return a.Run != b.Run || a.Serving != b.Serving || a.Epoch != b.Epoch || a.Rev != b.Rev || a.Problem != b.Problem ||
		(a.Released == nil) != (b.Released == nil) || a.Released != nil && a.Released.Epoch != b.Released.Epoch ||
		(a.Promise == nil) != (b.Promise == nil) || len(a.Streaming) != len(b.Streaming)
}
