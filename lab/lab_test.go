package lab

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/lab/load"
	"github.com/quorate/quorate/lab/netns"
)

// sleeper is a quorate program that does nothing for a long time, with a child, whatever it is told.
func sleeper(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "quorate")
	if err := os.WriteFile(file, []byte("#!/bin/sh\nsleep 600 &\nsleep 600\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return file
}

// skeleton makes a lab whose daemons only sleep.
func skeleton(t *testing.T) *Lab {
	t.Helper()
	l, err := create(Options{Exe: sleeper(t), Out: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := os.Stat(l.dir); errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(l.makeNetwork(t.Context()), l.writeFiles(t.Context())); err != nil {
		t.Fatal(err)
	}
	for _, n := range l.Nodes {
		if err := l.start(n); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestUpAndDownLeaveNothing(t *testing.T) {
	l := skeleton(t)
	if !l.Namespaces {
		t.Fatal("no namespaces: run this as root")
	}
	names, err := netns.List("q" + l.ID + "-")
	if err != nil || len(names) != 5 {
		t.Fatalf("namespaces %v, %v", names, err)
	}
	for _, n := range l.Nodes {
		if !l.running(n) {
			t.Fatalf("%s does not run: %s", n.Name, tail(n.Log(), 5))
		}
	}
	if err := l.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone(t, l)
}

// gone fails if anything with the lab's id is left.
func gone(t *testing.T, l *Lab) {
	t.Helper()
	if left := l.Left(); len(left) > 0 {
		t.Fatalf("left of lab %s: %v", l.ID, left)
	}
}

func TestHostKillTakesOneHostOnly(t *testing.T) {
	l := skeleton(t)
	n := l.Nodes[0]
	g, err := l.nodeGroup(n)
	if err != nil {
		t.Fatal(err)
	}
	// Twice, for a group that was killed must be made anew.
	for range 2 {
		if _, err := l.killHosts([]*Node{n}); err != nil {
			t.Fatal(err)
		}
		limit, stop := context.WithTimeout(t.Context(), healLimit)
		defer stop()
		if err := g.AwaitEmpty(limit); err != nil {
			t.Fatal(err)
		}
		if l.running(n) || !l.running(l.Nodes[1]) || !l.running(l.Nodes[2]) {
			t.Fatal("not the host that was meant")
		}
		if err := errors.Join(netns.Plug(l.hub(), n.Name), l.start(n)); err != nil {
			t.Fatal(err)
		}
		if !l.running(n) {
			t.Fatalf("%s does not run again", n.Name)
		}
	}
}

func TestSweepTakesOnlyWhatHasNoOwner(t *testing.T) {
	dead := exec.Command("true")
	if err := dead.Start(); err != nil {
		t.Fatal(err)
	}
	o, err := owner(dead.Process.Pid)
	if err != nil {
		o = Owner{PID: dead.Process.Pid, Start: "0"}
	}
	_ = dead.Wait()
	orphan, kept := skeleton(t), skeleton(t)
	orphan.Owner = &o
	kept.Owner = nil
	if err := errors.Join(orphan.save(), kept.save()); err != nil {
		t.Fatal(err)
	}
	stranger, err := os.MkdirTemp("", "q")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(stranger) })
	if err := Sweep(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	gone(t, orphan)
	for _, n := range kept.Nodes {
		if !kept.running(n) {
			t.Fatalf("the sweep hit %s of a lab that a person keeps", n.Name)
		}
	}
	if _, err := os.Stat(stranger); err != nil {
		t.Fatal(err)
	}
	if found, err := Find(kept.ID, io.Discard); err != nil || found.Password != kept.Password {
		t.Fatalf("found %v, %v", found, err)
	}
}

// TestNodesThatWait: their files tell them nothing of a cluster, and until somebody does nobody waits for them.
func TestNodesThatWait(t *testing.T) {
	l, err := create(Options{Nodes: 2, Waiting: true, Out: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(l.dir) })
	if err := l.writeFiles(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, n := range l.Nodes {
		c, err := config.Load(n.Config(), nil)
		if err != nil || len(c.Cluster.Peers) > 0 || c.Cluster.Secret != "" || c.Cluster.SecretFile != "" {
			t.Errorf("%s: cluster %+v, %v", n.Name, c.Cluster, err)
		}
	}
	if _, err := os.Stat(l.secretFile()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the secret: %v", err)
	}
	if _, why := l.whole(t.Context()); why != "no node belongs to a cluster" {
		t.Errorf("missing: %q", why)
	}
	l.Nodes[1].Outside = false
	if _, why := l.whole(t.Context()); !strings.HasPrefix(why, "n2 does not answer") {
		t.Errorf("missing: %q", why)
	}
}

func TestMissing(t *testing.T) {
	const back = "n2: somebody else changed restore_command, which quorate owns; it was put back"
	whole := func() State {
		s := State{Epoch: 2, Primary: "n1", Leader: "n2", Verdict: "healthy", Members: []string{"n1", "n2", "n3"}, Copies: 2, Nodes: map[string]NodeState{}}
		s.Nodes["n1"] = NodeState{Epoch: 2, Run: "running", Healthy: true, Serving: 2, Timeline: 2, Streaming: []string{"n2", "n3"}}
		s.Nodes["n2"] = NodeState{Epoch: 2, Run: "running", Healthy: true, InRecovery: true, Timeline: 2}
		s.Nodes["n3"] = s.Nodes["n2"]
		return s
	}
	node := func(s *State, name string, change func(*NodeState)) {
		n := s.Nodes[name]
		change(&n)
		s.Nodes[name] = n
	}
	for _, c := range []struct {
		name   string
		change func(*State)
		want   string
	}{
		{"whole", func(*State) {}, ""},
		{"nothing", func(s *State) { *s = State{} }, "no primary"},
		{"not serving", func(s *State) { node(s, "n1", func(n *NodeState) { n.Serving = 1 }) }, "does not serve"},
		{"unheard", func(s *State) { delete(s.Nodes, "n3") }, "not heard"},
		{"old news", func(s *State) { node(s, "n3", func(n *NodeState) { n.Age = 2 * time.Second }) }, "ago"},
		{"behind", func(s *State) { node(s, "n3", func(n *NodeState) { n.Epoch = 1 }) }, "epoch 1"},
		{"cloning", func(s *State) { node(s, "n3", func(n *NodeState) { n.Run = "cloning" }) }, "cloning"},
		{"other timeline", func(s *State) { node(s, "n3", func(n *NodeState) { n.Timeline = 1 }) }, "timeline"},
		{"not streaming", func(s *State) { node(s, "n1", func(n *NodeState) { n.Streaming = []string{"n2"} }) }, "n3 does not stream"},
		{"sick", func(s *State) { node(s, "n2", func(n *NodeState) { n.Healthy = false }) }, "not well"},
		{"degraded", func(s *State) { s.Members = []string{"n1", "n2"} }, "commits are kept"},
		{"handing off", func(s *State) { s.Verdict = "acting" }, "not done"},
		{"a setting was put back", func(s *State) { s.Verdict, s.Because = "at-risk", []string{back} }, ""},
		{"and more", func(s *State) { s.Verdict, s.Because = "at-risk", []string{back, "n3 does not stream"} }, "n3 does not stream"},
		{"at risk", func(s *State) { s.Verdict = "at-risk" }, "not done"},
	} {
		s := whole()
		c.change(&s)
		got := s.missing([]string{"n1", "n2", "n3"}, nil, "quorum")
		if (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestTimeline(t *testing.T) {
	const boot = int64(1_000_000_000_000)
	wall := time.Date(2026, 11, 23, 4, 0, 0, 0, time.UTC)
	offset := wall.UnixNano() - boot
	log := "2026-11-23T04:00:00.500Z [INFO]  n2.lead: decided: rule=primary-silent verdict=acting epoch=1 because=[x]\n" +
		"not a line of the log\n" +
		"2026-11-23T04:00:00.600Z [INFO]  n2.lead: decided: rule=healthy verdict=healthy epoch=2 because=[x]\n" +
		"2026-11-23T04:00:00.700Z [INFO]  n2.postgres: promoted: epoch=2 timeline=2\n"
	lines := parseLog("n2", log, offset)
	if len(lines) != 3 || lines[2].at != boot+700_000_000 {
		t.Fatalf("lines %+v", lines)
	}
	writes := []byte(`{"id":1,"node":"n2","tli":2,"start":1000800000000,"end":1000900000000,"outcome":"ok"}`)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "e"), writes, 0o644); err != nil {
		t.Fatal(err)
	}
	tr := Trial{Kind: HostKill, Durability: "quorum", Nodes: 3, Fault: boot, Old: "n1", New: "n2", EpochBefore: 1, EpochAfter: 2, Present: []int64{1}, Events: "e"}
	read, err := load.Read(filepath.Join(dir, "e"))
	if err != nil {
		t.Fatal(err)
	}
	after := State{Phases: []Phase{{1, "silent", time.Duration(boot + 450_000_000)}, {1, "asked", time.Duration(boot - 5)}, {2, "silent", time.Duration(boot + 1)}}}
	steps, rules := timeline(tr, after, lines, computeOf(tr, read))
	if want := []Step{{"silent", 450}, {"promoted", 700}, {"first try", 800}, {"first write", 900}}; !slices.Equal(steps, want) {
		t.Errorf("steps %v, want %v", steps, want)
	}
	if want := []Step{{"primary-silent", 500}}; !slices.Equal(rules, want) {
		t.Errorf("rules %v, want %v", rules, want)
	}
	// And what is kept can be computed again.
	b, err := json.Marshal(tr)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "run-001.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	bench, err := Recompute(dir)
	if err != nil || len(bench.Runs) != 1 || bench.Fault != HostKill || bench.Summary.Lost != 0 {
		t.Fatalf("recomputed %+v, %v", bench, err)
	}
	tr.Present = nil
	if b, err = json.Marshal(tr); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "run-002.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if bench, err = Recompute(dir); !errors.Is(err, ErrUnsafe) || bench.Summary.Lost != 1 {
		t.Fatalf("a lost write: %+v, %v", bench.Summary, err)
	}
	if _, err := Recompute(t.TempDir()); err == nil {
		t.Fatal("figures of nothing")
	}
}

func TestMissingWithAWitness(t *testing.T) {
	whole := func() State {
		s := State{Epoch: 2, Primary: "n1", Leader: "w1", Verdict: "healthy", Members: []string{"n1", "n2"}, Copies: 2, Nodes: map[string]NodeState{}}
		s.Nodes["n1"] = NodeState{Epoch: 2, Run: "running", Healthy: true, Serving: 2, Timeline: 2, Streaming: []string{"n2"}}
		s.Nodes["n2"] = NodeState{Epoch: 2, Run: "running", Healthy: true, InRecovery: true, Timeline: 2}
		s.Nodes["w1"] = NodeState{Epoch: 2, Run: "absent", Healthy: true}
		return s
	}
	missing := func(s State) string { return s.missing([]string{"n1", "n2"}, []string{"w1"}, "quorum") }
	if why := missing(whole()); why != "" {
		t.Errorf("whole: %q", why)
	}
	s := whole()
	delete(s.Nodes, "w1")
	if why := missing(s); !strings.Contains(why, "w1 was not heard") {
		t.Errorf("without the witness: %q", why)
	}
	s = whole()
	s.Nodes["w1"] = NodeState{Epoch: 1, Run: "absent", Healthy: true}
	if why := missing(s); !strings.Contains(why, "w1 is at epoch 1") {
		t.Errorf("the witness is behind: %q", why)
	}
}

func TestTheNewestAnswerCounts(t *testing.T) {
	states := map[string]State{"n1": {Epoch: 3, Primary: "n1"}, "n2": {Epoch: 4, Primary: "n2"}, "n3": {Epoch: 4, Primary: "n2", Leader: "n3"}}
	if s := newest(states); s.Epoch != 4 || s.Leader != "n3" {
		t.Errorf("%+v", s)
	}
	if s := newest(nil); s.Epoch != 0 {
		t.Errorf("of nothing: %+v", s)
	}
}
