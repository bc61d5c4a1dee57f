package lab

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// askLimit bounds one question to one daemon.
const askLimit = 2 * time.Second

// glanceLimit bounds one where those that do not answer do not matter: they may be stopped.
const glanceLimit = 500 * time.Millisecond

// tailLines is how much of each log stands in an error.
const tailLines = 50

// State is the cluster as one of its nodes told it. Nodes are called by their names.
type State struct {
	Epoch   uint64
	Primary string
	Leader  string // Raft's
	Rule    string
	Verdict string
	Because []string
	Members []string // of the synchronous set, sorted
	Copies  int
	Nodes   map[string]NodeState
	Phases  []Phase
	Events  []Event
	Kept    []Kept
}

// Kept is evidence: log that was no part of the cluster's history and was put aside, as the replicated state records it.
type Kept struct {
	ID      string `json:"id"`
	Node    string `json:"node"`
	Epoch   uint64 `json:"epoch"`
	Way     string `json:"way"`
	Commits int    `json:"commits"` // -1: not counted
	Path    string `json:"path"`
	Lossy   bool   `json:"lossy"`
}

// NodeState is what a node said of itself in its last beat to the one that was asked.
type NodeState struct {
	Age        time.Duration
	Epoch      uint64
	Run        string
	InRecovery bool
	Healthy    bool
	Serving    uint64
	Timeline   uint32
	Problem    string
	Progress   string
	Streaming  []string // primary: who streams from it, sorted
}

// Phase is a step of a failover; At is time since boot.
type Phase struct {
	Epoch uint64 // the one that ended
	Name  string
	At    time.Duration
}

// Event is a line of the cluster's history.
type Event struct {
	Epoch uint64
	Wall  time.Time
	By    string
	Text  string
}

// missing says what keeps the cluster of these data nodes and witnesses from being whole; "" if nothing does.
func (s State) missing(nodes, witnesses []string, durability string) string {
	if s.Epoch == 0 || s.Primary == "" {
		return "no primary yet"
	}
	p := s.Nodes[s.Primary]
	if p.Serving != s.Epoch {
		return fmt.Sprintf("primary %s does not serve epoch %d yet", s.Primary, s.Epoch)
	}
	for _, n := range slices.Concat(nodes, witnesses) {
		r, ok := s.Nodes[n]
		switch {
		case !ok:
			return n + " was not heard of yet"
		case r.Age > time.Second:
			return fmt.Sprintf("%s was last heard of %s ago", n, r.Age.Round(time.Millisecond))
		case r.Epoch != s.Epoch:
			return fmt.Sprintf("%s is at epoch %d, the cluster at %d", n, r.Epoch, s.Epoch)
		case n == s.Primary || slices.Contains(witnesses, n):
		case r.Run != "running":
			return strings.TrimSpace(fmt.Sprintf("Postgres on %s is %s %s", n, cmp.Or(r.Progress, r.Run), r.Problem))
		case !r.InRecovery || r.Timeline != p.Timeline:
			return fmt.Sprintf("%s is no standby on timeline %d", n, p.Timeline)
		case !slices.Contains(p.Streaming, n):
			return n + " does not stream"
		}
		if !r.Healthy {
			return fmt.Sprintf("%s is not well: %s", n, r.Problem)
		}
	}
	if durability == "quorum" && (len(s.Members) != len(nodes) || s.Copies != copies(len(nodes))) {
		return fmt.Sprintf("commits are kept by %d of %v, not yet by %d of all", s.Copies, s.Members, copies(len(nodes)))
	}
	if s.Verdict != "healthy" && !s.mended() {
		return fmt.Sprintf("the leader is not done: rule %s, %s: %s", s.Rule, s.Verdict, strings.Join(s.Because, "; "))
	}
	return ""
}

// mended says whether all that is left is the report of a change by somebody else that was put back. It is told for a minute,
// so that somebody sees it, and lacks nothing: the slow restore_command makes such a change.
func (s State) mended() bool {
	wrong := func(why string) bool { return !strings.HasSuffix(why, "it was put back") }
	return s.Verdict == "at-risk" && len(s.Because) > 0 && !slices.ContainsFunc(s.Because, wrong)
}

// copies is how many nodes keep a commit before it is acknowledged, of n.
func copies(n int) int {
	if n == 1 {
		return 1
	}
	return max(2, int(math.Ceil(float64(n)/2)))
}

// namesOf lists the nodes' names.
func namesOf(nodes []*Node) []string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.Name)
	}
	return all
}

// witnesses lists the names of the nodes without Postgres.
func (l *Lab) witnesses() []string {
	return namesOf(slices.DeleteFunc(slices.Clone(l.Nodes), func(n *Node) bool { return !n.Witness }))
}

// Look asks all daemons at once and returns the answers by name, and why the others gave none.
func (l *Lab) Look(ctx context.Context) (map[string]State, map[string]error) {
	return l.look(ctx, askLimit)
}

func (l *Lab) look(ctx context.Context, within time.Duration) (map[string]State, map[string]error) {
	ctx, stop := context.WithTimeout(ctx, within)
	defer stop()
	var mu sync.Mutex
	states, errs := map[string]State{}, map[string]error{}
	var wg sync.WaitGroup
	for _, n := range l.Nodes {
		wg.Go(func() {
			s, err := n.ask(ctx)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				errs[n.Name] = err
				return
			}
			states[n.Name] = s
		})
	}
	wg.Wait()
	return states, errs
}

// whole returns the state all members agree on, or what is missing.
func (l *Lab) whole(ctx context.Context) (State, string) {
	states, errs := l.Look(ctx)
	var data, witnesses []string
	members := l.members()
	for _, n := range members {
		if n.Witness {
			witnesses = append(witnesses, n.Name)
		} else {
			data = append(data, n.Name)
		}
	}
	var first State
	for _, n := range members {
		if err := errs[n.Name]; err != nil {
			return State{}, fmt.Sprintf("%s does not answer: %v", n.Name, err)
		}
		s := states[n.Name]
		if why := s.missing(data, witnesses, l.Durability); why != "" {
			return s, fmt.Sprintf("asked %s: %s", n.Name, why)
		}
		if n == members[0] {
			first = s
		}
		if s.Epoch != first.Epoch || s.Primary != first.Primary {
			return s, fmt.Sprintf("%s and %s do not agree", members[0].Name, n.Name)
		}
	}
	if len(members) == 0 {
		return first, "no node belongs to a cluster"
	}
	return first, ""
}

// AwaitHealthy waits until every node says that the cluster is whole. When the context ends first, the error has what was
// missing last, what every node said last and the last 50 lines of its log.
func (l *Lab) AwaitHealthy(ctx context.Context) (State, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	said, saidAt, why := "", time.Now(), ""
	for {
		s, now := l.whole(ctx)
		if now == "" {
			return s, nil
		}
		if why == "" || ctx.Err() == nil { // what is missing when the context ends in the middle of a look says nothing
			why = now
		}
		if why != said && time.Since(saidAt) > 2*time.Second {
			l.say("  waiting: %s", why)
			said, saidAt = why, time.Now()
		}
		select {
		case <-ctx.Done():
			return s, fmt.Errorf("wait for a whole cluster: %w; missing: %s\n%s", context.Cause(ctx), why, l.Report())
		case <-tick.C:
		}
	}
}

// newest is the answer with the highest epoch, and of those the Raft leader's; the zero State if there is none.
func newest(states map[string]State) State {
	var best State
	for _, s := range states {
		if s.Epoch > best.Epoch || s.Epoch == best.Epoch && best.Leader == "" && s.Leader != "" {
			best = s
		}
	}
	return best
}

// await waits, with the limit for healing, for a state of the lab that done accepts, as the node with the newest tells it.
func (l *Lab) await(ctx context.Context, what string, done func(State) bool) (State, error) {
	ctx, stop := context.WithTimeout(ctx, healLimit)
	defer stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		states, _ := l.look(ctx, glanceLimit)
		if s := newest(states); done(s) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return State{}, fmt.Errorf("wait until %s: %w\n%s", what, context.Cause(ctx), l.Report())
		case <-tick.C:
		}
	}
}

// Report is the last state and the end of the log of every node.
func (l *Lab) Report() string {
	ctx, stop := context.WithTimeout(context.Background(), askLimit)
	defer stop()
	states, errs := l.Look(ctx)
	var b strings.Builder
	for _, n := range l.Nodes {
		if err := errs[n.Name]; err != nil {
			fmt.Fprintf(&b, "== %s does not answer: %v\n", n.Name, err)
		} else {
			fmt.Fprintf(&b, "== %s says: %+v\n", n.Name, states[n.Name])
		}
		fmt.Fprintf(&b, "-- end of %s\n%s\n", n.Log(), tail(n.Log(), tailLines))
	}
	return b.String()
}

// tail returns the last lines of a file, or why there are none.
func tail(file string, lines int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Sprint(err)
	}
	all := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], []byte("\n")))
}
