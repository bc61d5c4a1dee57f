package api

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

const (
	beat  = 125 * time.Millisecond
	end   = pg.LSN(0x5000000)
	start = int64(1_700_000_000_000)
)

// fake is a node whose state only moves by what the tests submit.
type fake struct {
	mu      sync.Mutex
	self    fsm.NodeID
	state   fsm.State
	changed chan struct{}
	leader  fsm.NodeID
	seen    map[fsm.NodeID]failover.Sighting
	local   Local
	refuse  error
	absent  error                // of Explain
	ledger  func(*failover.View) // what the leader knows besides
	ids     int
}

func (f *fake) Self() fsm.NodeID   { return f.self }
func (f *fake) Leader() fsm.NodeID { return f.leader }

// Sightings are never changed: hear replaces them.
func (f *fake) Sightings() map[fsm.NodeID]failover.Sighting {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen
}

func (f *fake) Local() Local {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.local
}

func (f *fake) State() fsm.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

func (f *fake) Changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.changed
}

func (f *fake) Explain(context.Context) (Explanation, error) { return f.ExplainHere() }

func (f *fake) ExplainHere() (Explanation, error) {
	if f.absent != nil {
		return Explanation{}, f.absent
	}
	v := failover.View{State: f.State(), Self: f.self, Leading: f.leader != "", Seen: f.Sightings(), BeatEvery: beat, LeadingFor: time.Minute, EpochAge: time.Minute}
	if f.ledger != nil {
		f.ledger(&v)
	}
	d := failover.Decide(v)
	from := f.leader
	if from == "" {
		from = f.self
	}
	return Explanation{Node: from, Leading: from == f.leader, Rule: d.Rule, Verdict: d.Verdict, Do: "nothing", Because: d.Because, View: v}, nil
}

// Submit applies what is submitted, as a cluster that is in agreement does.
func (f *fake) Submit(_ context.Context, c fsm.Command, by string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	f.ids++
	next, err := f.state.Apply(fsm.Envelope{ID: fmt.Sprintf("r%d", f.ids), By: by, Wall: start, Change: c})
	if err != nil {
		return err
	}
	f.publish(next)
	return nil
}

// publish wants the lock held.
func (f *fake) publish(next fsm.State) {
	f.state = next
	close(f.changed)
	f.changed = make(chan struct{})
}

// move changes the state from outside.
func (f *fake) move(change func(*fsm.State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	next := f.state
	change(&next)
	f.publish(next)
}

// three is a healthy cluster of n1 (primary), n2 (leader of Raft) and n3, seen from self.
func three(t testing.TB, self fsm.NodeID) *fake {
	t.Helper()
	state := fsm.State{
		ClusterID: "c", Scope: "demo", SystemID: 7_000_000_000_000_000_001, Rev: 12, Version: 20, Epoch: 8, Primary: "n1",
		Electorate: fsm.Electorate{Voters: []fsm.NodeID{"n1", "n2", "n3"}, Version: 1},
		Sync:       fsm.SyncRule{Members: []fsm.NodeID{"n1", "n2", "n3"}, Copies: 2},
		Config:     fsm.Config{Settings: fsm.Settings{FailoverAfterMS: 1000, Durability: fsm.DurabilityQuorum}},
		Members:    map[fsm.NodeID]fsm.Member{},
		Lineage: []fsm.Lineage{
			{Epoch: 6, Node: "n2", Timeline: 1, Promoted: true},
			{Epoch: 7, Node: "n2", Timeline: 1, Promoted: true},
			{Epoch: 8, Node: "n1", Timeline: 2, Parent: 1, SwitchLSN: 0x3000148, Promoted: true},
		},
		Events: []fsm.Event{
			{Rev: 11, Epoch: 7, Wall: start, By: "re-appoint", Text: "n2 appointed again, timeline unchanged"},
			{Rev: 12, Epoch: 8, Wall: start + 1000, By: "best-standby", Text: "n1 appointed in place of n2, timeline 2 from 0/3000148"},
		},
	}
	seen := map[fsm.NodeID]failover.Sighting{}
	for i, id := range []fsm.NodeID{"n1", "n2", "n3"} {
		state.Members[id] = fsm.Member{
			ID: id, Name: string(id), Role: fsm.RoleData, Addr: fmt.Sprintf("10.0.0.%d:7400", i+1),
			Postgres: fmt.Sprintf("10.0.0.%d:5432", i+1), API: fmt.Sprintf("10.0.0.%d:8008", i+1),
		}
		r := failover.Report{
			Node: id, Epoch: 8, Rev: 12, Run: failover.RunRunning, Healthy: true, Timeline: 2, Flush: end, Replay: end, InRecovery: true, Upstream: "n1",
			Sightings: []failover.Age{{Node: "n1", MS: 40}},
		}
		if id == "n1" {
			r.InRecovery, r.Upstream, r.Replay, r.Serving, r.Sightings = false, "", 0, 8, nil
			r.Streaming = []failover.StreamingMember{{Node: "n2", Flush: end}, {Node: "n3", Flush: end}}
		}
		seen[id] = failover.Sighting{Age: 40 * time.Millisecond, Report: r}
	}
	f := &fake{self: self, state: state, changed: make(chan struct{}), leader: "n2", seen: seen}
	f.local = Local{Report: seen[self].Report, Age: 20 * time.Millisecond, ServerVersion: 150018, PostmasterStart: time.UnixMilli(start), Fence: "cgroup", Guard: "1.2.3", Reject: "yes", Locked: "yes"}
	if self == "n1" {
		f.local.LeaseLeft, f.local.Serving = 600*time.Millisecond, true
		f.local.Replication = []ReplicationRow{{"replicator", "n2", "10.0.0.2", "streaming", "quorum", 1}}
	} else {
		f.local.Streaming = true
	}
	return f
}

// hear changes what a node says of itself, here and everywhere.
func (f *fake) hear(id fsm.NodeID, change func(*failover.Sighting)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.seen[id]
	change(&s)
	f.seen = maps.Clone(f.seen)
	f.seen[id] = s
	if id == f.self {
		f.local.Report = s.Report
	}
}

func server(f *fake) *Server {
	return New(f, Options{
		Scope: "demo", Name: string(f.self), Version: "1.2.3", Tags: map[string]any{"nofailover": true, "zone": "A"},
		Tokens: []string{"old", "token"}, Stop: func() {},
	})
}
