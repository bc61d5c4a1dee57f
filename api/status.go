package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

const (
	// askLeader bounds how long an answer waits for the leader before this node answers from what it knows.
	askLeader = time.Second
	// beatsFresh is how many beats old a report may be to count as the present.
	beatsFresh = 3
)

// Status is the cluster in one document: who is primary, what may be lost, what is wrong.
type Status struct {
	Summary  string           `json:"summary"` // the answer in one line
	Scope    string           `json:"scope"`
	From     string           `json:"from"`   // whose view it is
	Asked    string           `json:"asked"`  // the node that answered
	Leader   string           `json:"leader"` // Raft leader, empty for none
	Quorum   bool             `json:"quorum"` // a leader and a majority of the voters are heard
	Epoch    fsm.Epoch        `json:"epoch"`
	Primary  string           `json:"primary"` // appointed, empty for none yet
	Serving  bool             `json:"serving"` // the primary is heard to accept writes
	Survives bool             `json:"survives"`
	Paused   bool             `json:"paused"`
	Data     Data             `json:"data"`
	Rule     string           `json:"rule"` // what the leader would do now, and why
	Verdict  failover.Verdict `json:"verdict"`
	Because  []string         `json:"because"`
	Losses   []Loss           `json:"losses"`
	Nodes    []NodeStatus     `json:"nodes"`
	Problems []string         `json:"problems"`
	Discards []Discard        `json:"discards"` // that nobody has looked at
	Degraded bool             `json:"degraded"` // something should be mended
	Fencing  *Fencing         `json:"fencing,omitempty"`
}

// Fencing is how the node that was asked stops its Postgres when the lease ends.
type Fencing struct {
	Node   string `json:"node"`
	By     string `json:"by"`     // cgroup or signals
	Reject string `json:"reject"` // "yes": while frozen it refuses new connections; "no: " and why not
	Guard  string `json:"guard"`  // version of the guard; an older one is replaced when Postgres is next started
	Locked string `json:"locked"` // "yes": the guard's memory is locked; "no: " and why not
}

// Data is the sync rule: a commit is acknowledged when Copies of Members have it.
type Data struct {
	Durability fsm.Durability `json:"durability"`
	Copies     int            `json:"copies"`
	Members    []string       `json:"members"`
	SystemID   string         `json:"system_id,omitempty"`
}

// Loss is what losing one node now would mean.
type Loss struct {
	Node     string `json:"node"`
	Survives bool   `json:"survives"`
	Because  string `json:"because,omitempty"`
}

// NodeStatus is one node as it was last heard.
type NodeStatus struct {
	Name     string      `json:"name"`
	Role     string      `json:"role"` // primary, standby or witness
	Heard    bool        `json:"heard"`
	AgeMS    int64       `json:"age_ms"` // of what follows; -1: never heard
	State    string      `json:"state"`
	Serving  bool        `json:"serving"`            // accepts writes: its lease is live, or it is
	Unleased bool        `json:"unleased,omitempty"` // serving without one, because of a pause
	Healthy  bool        `json:"healthy"`
	Timeline pg.Timeline `json:"timeline"`
	LSN      pg.LSN      `json:"lsn"`
	Lag      *int64      `json:"lag"`     // bytes behind the primary; absent: not known
	InSync   bool        `json:"in_sync"` // counts for acknowledged commits
	Leader   bool        `json:"leader"`
	Voter    bool        `json:"voter"`
	Problem  string      `json:"problem,omitempty"`
	Progress string      `json:"progress,omitempty"`
	Warnings []string    `json:"warnings,omitempty"` // what is to be mended some day
	Postgres string      `json:"postgres,omitempty"`
	API      string      `json:"api,omitempty"`
	// Config is what it has of the replicated configuration.
	Config failover.Configured `json:"config,omitzero"`
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	ctx, stop := context.WithTimeout(r.Context(), askLeader)
	defer stop()
	e, err := s.node.Explain(ctx)
	if err != nil { // It belongs to no cluster yet.
		e = Explanation{Node: s.node.Self(), Verdict: failover.Waiting, Because: []string{err.Error()}, View: failover.View{State: s.node.State()}}
	}
	out := statusOf(e, s.node.Leader())
	if out.Scope == "" {
		out.Scope, out.From = s.opts.Scope, s.opts.Name
	}
	out.Asked = s.opts.Name
	l := s.node.Local()
	if l.Fence != "" {
		out.Fencing = &Fencing{Node: s.opts.Name, By: l.Fence, Reject: l.Reject, Guard: l.Guard, Locked: l.Locked}
	}
	if l.Certificate != "" { // of this node only; it makes nothing degraded today
		out.Problems = append(out.Problems, s.opts.Name+": "+l.Certificate)
	}
	if l.Removed != "" { // All else follows from it.
		why := s.opts.Name + ": " + l.Removed
		out.Problems = append([]string{why}, slices.DeleteFunc(out.Problems, func(p string) bool { return p == why })...)
		out.Degraded = true
	}
	answer(w, http.StatusOK, out)
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	ctx, stop := context.WithTimeout(r.Context(), askLeader)
	defer stop()
	e, err := s.node.Explain(ctx)
	if err != nil {
		problem(w, http.StatusServiceUnavailable, CodeNoQuorum, err.Error())
		return
	}
	e.Losses = failover.Survivable(e.View)
	answer(w, http.StatusOK, e)
}

// statusOf is what follows from an explanation. leader is whom this node knows as the leader.
func statusOf(e Explanation, leader fsm.NodeID) Status {
	v, st := e.View, e.View.State
	out := Status{
		Scope: st.Scope, From: st.Name(e.Node), Epoch: st.Epoch, Paused: st.Paused,
		Rule: e.Rule, Verdict: e.Verdict, Because: e.Because, Losses: []Loss{}, Nodes: []NodeStatus{}, Problems: []string{},
		Data: Data{
			Durability: st.Config.Settings.Durability, Copies: st.Sync.Copies, Members: st.Names(st.Sync.Members),
			SystemID: systemID(st.SystemID),
		},
	}
	slices.Sort(out.Data.Members)
	out.Discards = discards(st, false)
	if leader != "" {
		out.Leader = st.Name(leader)
	}
	if st.Primary != "" {
		out.Primary = st.Name(st.Primary)
	}
	out.Nodes = nodes(v, leader)
	fresh := 0
	for _, n := range out.Nodes {
		if n.Voter && n.Heard {
			fresh++
		}
		out.Serving = out.Serving || n.Serving && n.Heard
	}
	out.Quorum = leader != "" && fresh >= st.Electorate.Majority()
	out.Survives = len(st.Members) > 0
	for _, l := range failover.Survivable(v) {
		out.Losses = append(out.Losses, Loss{Node: st.Name(l.Node), Survives: l.Survives, Because: l.Because})
		out.Survives = out.Survives && l.Survives
	}
	out.Problems = problems(out, st)
	// One node, or two, can't survive any loss by their number: that is no fault of the day.
	out.Degraded = !out.Serving || len(out.Problems) > 0 || !out.Survives && len(st.Electorate.Voters) > 2
	out.Problems = append(out.Problems, warned(out.Nodes)...) // of some day: they make nothing degraded
	out.Summary = summary(out)
	return out
}

// warned lists what the nodes that are heard warn of.
func warned(nodes []NodeStatus) []string {
	var list []string
	for _, n := range nodes {
		for _, w := range n.Warnings {
			if n.Heard {
				list = append(list, n.Name+": "+w)
			}
		}
	}
	return list
}

func nodes(v failover.View, leader fsm.NodeID) []NodeStatus {
	out := []NodeStatus{}
	var end pg.LSN
	if p, ok := v.Seen[v.State.Primary]; ok && !p.Report.InRecovery {
		end = p.Report.Flush
	}
	for id, m := range v.State.Members {
		n := NodeStatus{
			Name: m.Name, Role: "standby", AgeMS: -1, State: "never heard", InSync: v.State.Sync.Has(id), Leader: id == leader,
			Voter: v.State.Electorate.Has(id), Postgres: m.Postgres, API: m.API,
		}
		switch {
		case m.Role == fsm.RoleWitness:
			n.Role = "witness"
		case id == v.State.Primary:
			n.Role = "primary"
		}
		if s, ok := v.Seen[id]; ok {
			n.hear(s, v, end)
			n.fallBehind(v, v.Lost[id])
			n.lackLog(failover.NoLog(v, id))
		}
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b NodeStatus) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// hear takes over what the node said of itself.
func (n *NodeStatus) hear(s failover.Sighting, v failover.View, end pg.LSN) {
	r := s.Report
	n.Heard, n.AgeMS = s.Age <= beatsFresh*v.BeatEvery, s.Age.Milliseconds()
	n.State, n.Healthy, n.Timeline, n.LSN = string(r.Run), r.Healthy, r.Timeline, r.Flush
	n.Serving = r.Serving == v.State.Epoch && v.State.Epoch > 0 && n.Role == "primary"
	n.Unleased = n.Serving && r.Unleased
	n.Problem, n.Progress = r.Problem, r.Progress
	n.Config, n.Warnings = r.Config, r.Warnings
	if n.Role == "witness" {
		n.State = "voting"
	}
	if r.Run == failover.RunRunning && r.InRecovery && r.Upstream != "" {
		n.State = "streaming"
	}
	if n.Role == "standby" && end > 0 && r.Flush > 0 {
		lag := int64(0)
		if r.Flush < end {
			lag = int64(end - r.Flush)
		}
		n.Lag = &lag
	}
}

// fallBehind takes it that a standby is well only while it gets everything that the primary writes: for how long it has not, is lost. What
// the node says itself is better known.
func (n *NodeStatus) fallBehind(v failover.View, lost time.Duration) {
	after := time.Duration(v.State.Config.Settings.FailoverAfterMS) * time.Millisecond
	if n.Role != "standby" || !n.Heard || lost < after {
		return
	}
	n.Healthy = false
	if n.Problem != "" || n.Progress != "" {
		return
	}
	why := "does not stream from it"
	if n.State == "streaming" {
		why = "streams and gets no further"
	}
	n.Problem = fmt.Sprintf("has not kept up with %s for %s: it %s", v.State.Name(v.State.Primary), ago(lost.Milliseconds()), why)
}

// lackLog adds that a node is heard and does not get Raft's log, empty if it does: nothing fails by it before another node is lost.
func (n *NodeStatus) lackLog(why string) {
	if why == "" {
		return
	}
	if n.Problem != "" {
		n.Problem += "; "
	}
	n.Problem += why
}

func problems(out Status, st fsm.State) []string {
	list := []string{}
	if st.ClusterID == "" {
		return append(list, out.Because...)
	}
	if !out.Quorum {
		list = append(list, fmt.Sprintf("No quorum: %s hears no leader with a majority of the %d voters.", out.From, len(st.Electorate.Voters)))
	}
	if out.Paused {
		list = append(list, "Automatic failover is paused.")
	}
	for _, n := range out.Nodes {
		if n.Heard && n.Unleased {
			list = append(list, unleased(n.Name, out.Data))
		}
		switch {
		case n.AgeMS < 0:
			list = append(list, fmt.Sprintf("%s: not heard since %s looks.", n.Name, out.From))
		case !n.Heard:
			list = append(list, fmt.Sprintf("%s: last heard %s ago.", n.Name, ago(n.AgeMS)))
		case n.Problem != "":
			list = append(list, n.Name+": "+n.Problem)
		case n.Progress != "":
			list = append(list, n.Name+": "+n.Progress)
		case !n.Healthy:
			list = append(list, n.Name+": Postgres is "+n.State+".")
		}
	}
	list = append(list, unconfigured(out.Nodes, st.Config.Version)...)
	if out.Verdict == failover.Stuck {
		list = append(list, out.Because...)
	}
	return list
}

// unleased says what a primary does that has no lease in a pause. What Postgres there waits for may be more than the rule has
// it, and is never less (lease.md rule 16).
func unleased(name string, d Data) string {
	others := slices.DeleteFunc(slices.Clone(d.Members), func(m string) bool { return m == name })
	need := d.Copies - (len(d.Members) - len(others))
	acks := fmt.Sprintf("may be acknowledged by %s alone", name)
	switch {
	case need >= len(others) && need > 0:
		acks = "is acknowledged only when it is also on " + strings.Join(others, ", ")
	case need > 0:
		acks = fmt.Sprintf("is acknowledged only when it is also on %d of %s", need, strings.Join(others, ", "))
	}
	return fmt.Sprintf("%s: holds no lease, and goes on serving without one because of the pause. A commit there %s.", name, acks)
}

func ago(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// summary is the first line of `quorate status`.
func summary(s Status) string {
	if s.Primary == "" {
		return "There is no primary yet: " + sentence(s.Because)
	}
	head := fmt.Sprintf("%s is primary, epoch %d.", s.Primary, s.Epoch)
	if !s.Serving {
		return fmt.Sprintf("%s was appointed primary, epoch %d, and is not known to accept writes. %s", s.Primary, s.Epoch, sentence(s.Because))
	}
	data := fmt.Sprintf("Data: %d copies of %d.", s.Data.Copies, len(s.Data.Members))
	switch {
	case len(s.Data.Members) == 0:
		data = "Data: durability async, a lost primary may take its last commits with it."
	case s.Data.Copies == 1:
		data = fmt.Sprintf("Data: 1 copy of %d.", len(s.Data.Members))
	}
	if s.Survives {
		return head + " " + data + " You can lose any one node: yes."
	}
	for _, l := range s.Losses {
		if !l.Survives {
			return fmt.Sprintf("%s %s You can lose any one node: no, not %s (%s).", head, data, l.Node, l.Because)
		}
	}
	return head + " " + data + " You can lose any one node: no."
}

func sentence(because []string) string {
	if len(because) == 0 {
		return "nothing is known of why."
	}
	return because[0]
}
