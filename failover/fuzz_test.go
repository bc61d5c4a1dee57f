package failover

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// agreed is a state that the machine made: n1 is primary of epoch 1 and D = {n1, n2, n3}, K = 2.
func agreed(t testing.TB) fsm.State {
	t.Helper()
	s, rule := fsm.State{}, func(k int, ids ...fsm.NodeID) fsm.SyncRule { return fsm.SyncRule{Members: ids, Copies: k} }
	apply := func(c fsm.Command) {
		next, err := s.Apply(fsm.Envelope{ID: fmt.Sprint("r", s.Version), IfRev: s.Rev, By: "test", Change: c})
		if err != nil {
			t.Fatal(err)
		}
		s = next
	}
	init := fsm.Init{ClusterID: "c1", Scope: "demo", Config: fsm.Config{Version: 1, Doc: "{}", Settings: fsm.Settings{FailoverAfterMS: 1000, Durability: fsm.DurabilityQuorum}}}
	for _, id := range []fsm.NodeID{"n1", "n2", "n3"} {
		init.Members = append(init.Members, fsm.Member{ID: id, Name: string(id), Role: fsm.RoleData, Addr: string(id) + ":7400"})
	}
	apply(init)
	apply(fsm.Appoint{Node: "n1"})
	apply(fsm.Promoted{Epoch: 1, Node: "n1", Timeline: 1, SystemID: 77})
	apply(fsm.SetSync{Rule: rule(1, "n1", "n2")})
	apply(fsm.SetSync{Rule: rule(2, "n1", "n2"), Promise: &fsm.Promise{Node: "n1", Rev: s.Rev, Rule: rule(2, "n1", "n2")}})
	apply(fsm.SetSync{Rule: rule(2, "n1", "n2", "n3")})
	return s
}

// seen is what the nodes of agreed say while all is well, and the primary's silence when it is dead.
func seen(s fsm.State, dead bool) map[fsm.NodeID]Sighting {
	out := map[fsm.NodeID]Sighting{}
	for _, id := range s.Electorate.Voters {
		r := Report{Node: id, Epoch: s.Epoch, Rev: s.Rev, Run: RunRunning, Healthy: true, Timeline: 1, Flush: 0x3000060, Replay: 0x3000060, InRecovery: true, Upstream: "n1"}
		age := 40 * time.Millisecond
		if id == "n1" {
			r.InRecovery, r.Upstream, r.Serving, r.Replay = false, "", s.Epoch, 0
			r.Streaming = []StreamingMember{{Node: "n2", Flush: 0x3000060}, {Node: "n3", Flush: 0x3000060}}
		}
		if dead && id == "n1" {
			age = 2 * time.Second
		}
		r.Sightings = []Age{{Node: "n1", MS: map[bool]int64{false: 40, true: 2000}[dead]}}
		out[id] = Sighting{Age: age, Report: r}
	}
	return out
}

// Whatever a view holds, as another node tells it or as a leader gathered it, one known rule decides, twice the same, and every
// question about it is answered. What is proposed about a state that the machine made, the machine takes.
func FuzzView(f *testing.F) {
	s := agreed(f)
	position := func(id fsm.NodeID, end pg.LSN) fsm.Position {
		return fsm.Position{Node: id, Detached: 1, Timeline: 1, LSN: end}
	}
	unread := View{Seen: seen(s, false), Unapplied: map[fsm.NodeID]time.Duration{"n1": time.Hour}, Answers: map[fsm.NodeID]Answer{
		"n2": {VouchedAgo: time.Hour}, "n3": {VouchedAgo: time.Hour}}}
	p := unread.Seen["n1"]
	p.Report.Epoch, p.Report.Serving = 0, 0
	unread.Seen["n1"] = p
	for _, v := range []View{
		{Seen: seen(s, false)}, {Seen: seen(s, true)},
		{Seen: seen(s, true), Answers: map[fsm.NodeID]Answer{"n2": {VouchedAgo: 2 * time.Second}, "n3": {VouchedAgo: 2 * time.Second}}},
		{Seen: seen(s, true), SealingFor: time.Second, Seals: map[fsm.NodeID]Sealed{"n2": {Epoch: 1}, "n3": {Epoch: 1}},
			Positions: map[fsm.NodeID]fsm.Position{"n2": position("n2", 0x3000060), "n3": position("n3", 0x3000028)}},
		{Seen: seen(s, false), Servers: map[fsm.NodeID]Standing{}, CaughtUp: map[fsm.NodeID]bool{"n2": true}, Lost: map[fsm.NodeID]time.Duration{"n3": time.Hour}},
		{Seen: seen(s, false), Unapplied: map[fsm.NodeID]time.Duration{"n3": time.Hour}}, unread,
	} {
		v.State, v.Self, v.Leading, v.BeatEvery, v.LeadingFor, v.EpochAge = s, "n2", true, 125*time.Millisecond, time.Minute, time.Minute
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	var names []string
	for _, r := range Rules() {
		names = append(names, r.Name)
	}
	f.Fuzz(func(t *testing.T, told []byte) {
		var v View
		if json.Unmarshal(told, &v) != nil {
			return
		}
		answers(t, v, names)
		v.State, v.Self, v.Leading, v.BeatEvery, v.FirstNode = s, "n2", true, 125*time.Millisecond, "n1"
		d := answers(t, v, names)
		if p, ok := d.Do.(Propose); ok {
			_, err := s.Apply(fsm.Envelope{ID: "next", IfRev: p.IfRev, By: d.Rule, Change: p.Command})
			if err != nil {
				t.Fatalf("%s: %+v is proposed, and the machine refuses it: %v", d.Rule, p.Command, err)
			}
		}
	})
}

func answers(t *testing.T, v View, names []string) Decision {
	t.Helper()
	d := Decide(v)
	if !slices.Contains(names, d.Rule) || d.Do == nil || d.Verdict == "" || len(d.Because) == 0 || d.Again < 0 {
		t.Fatalf("decided %+v", d)
	}
	if again := Decide(v); !reflect.DeepEqual(again, d) {
		t.Fatalf("decided %+v, and then %+v", d, again)
	}
	for _, l := range Survivable(v) {
		if _, member := v.State.Members[l.Node]; !member {
			t.Fatalf("losing %q is thought about, which is no member", l.Node)
		}
	}
	for _, c := range Candidates(v) {
		HandOver(v, c.Node)
	}
	HandOver(v, "")
	NextSync(v)
	return d
}
