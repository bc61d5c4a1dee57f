package lab

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/api/client"
)

// ask asks the node's daemon how things are. It answers with the leader's view if it can reach a leader.
func (n *Node) ask(ctx context.Context) (State, error) {
	e, err := client.Unix(n.Socket()).Explain(ctx)
	if err != nil {
		return State{}, fmt.Errorf("ask the daemon of %s: %w", n.Name, err)
	}
	return stateOf(e), nil
}

// stateOf takes what the lab needs out of an answer.
func stateOf(e client.Explanation) State {
	members := e.View.State.Members
	name := func(id client.NodeID) string { return members[id].Name }
	s := State{
		Epoch: uint64(e.View.State.Epoch), Primary: name(e.View.State.Primary), Rule: e.Rule, Verdict: string(e.Verdict),
		Because: e.Because, Copies: e.View.State.Sync.Copies, Nodes: map[string]NodeState{},
	}
	if e.Leading {
		s.Leader = name(e.Node)
	}
	for _, id := range e.View.State.Sync.Members {
		s.Members = append(s.Members, name(id))
	}
	slices.Sort(s.Members)
	for id, seen := range e.View.Seen {
		r := seen.Report
		ns := NodeState{
			Age: seen.Age, Epoch: uint64(r.Epoch), Run: string(r.Run), InRecovery: r.InRecovery, Healthy: r.Healthy,
			Serving: uint64(r.Serving), Timeline: uint32(r.Timeline), Problem: r.Problem, Progress: r.Progress,
		}
		for _, m := range r.Streaming {
			ns.Streaming = append(ns.Streaming, name(m.Node))
		}
		slices.Sort(ns.Streaming)
		if name(id) != "" {
			s.Nodes[name(id)] = ns
		}
	}
	for _, p := range e.Timeline {
		s.Phases = append(s.Phases, Phase{Epoch: uint64(p.Epoch), Name: p.Name, At: p.At})
	}
	for _, ev := range e.View.State.Events {
		s.Events = append(s.Events, Event{Epoch: uint64(ev.Epoch), Wall: time.UnixMilli(ev.Wall), By: ev.By, Text: ev.Text})
	}
	for _, d := range e.View.State.Discards {
		s.Kept = append(s.Kept, Kept{ID: d.ID, Node: name(d.Node), Epoch: uint64(d.Epoch), Way: d.Way, Commits: d.Commits, Path: d.Path, Lossy: d.Lossy})
	}
	return s
}
