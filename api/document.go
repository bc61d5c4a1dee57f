package api

import (
	"cmp"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// spokenVersion is the Patroni whose fields and codes are spoken; monitoring wants three numbers, at least 3.0.4.
const spokenVersion = "4.0.0"

// document is Patroni's status document.
type document struct {
	State            string                    `json:"state"`
	PostmasterStart  string                    `json:"postmaster_start_time,omitempty"`
	Role             string                    `json:"role"`
	ServerVersion    int                       `json:"server_version,omitempty"`
	XLog             any                       `json:"xlog,omitempty"`
	QuorumStandby    bool                      `json:"quorum_standby,omitempty"`
	Timeline         pg.Timeline               `json:"timeline,omitempty"`
	ReplicationState string                    `json:"replication_state,omitempty"`
	Replication      []ReplicationRow          `json:"replication,omitempty"`
	PendingRestart   bool                      `json:"pending_restart,omitempty"`
	PendingReason    map[string]PendingRestart `json:"pending_restart_reason,omitempty"`
	Pause            bool                      `json:"pause,omitempty"`
	Unlocked         bool                      `json:"cluster_unlocked,omitempty"`
	LastSeen         int64                     `json:"dcs_last_seen,omitempty"`
	Tags             map[string]any            `json:"tags,omitempty"`
	SystemID         string                    `json:"database_system_identifier,omitempty"`
	Patroni          about                     `json:"patroni"`
	Quorate          aboutQuorate              `json:"quorate"`
}

type about struct {
	Version string `json:"version"`
	Scope   string `json:"scope"`
	Name    string `json:"name"`
}

type aboutQuorate struct {
	Version string    `json:"version"`
	Epoch   fsm.Epoch `json:"epoch"`
	LeaseMS int64     `json:"lease_ms"` // what is left of it; 0: none
	Fence   string    `json:"fence,omitempty"`
	Guard   string    `json:"guard_version,omitempty"`
	Reject  string    `json:"reject,omitempty"` // whether a frozen Postgres refuses new connections, or why not
}

type primaryLog struct {
	Location uint64 `json:"location"`
}

type standbyLog struct {
	Received uint64  `json:"received_location"`
	Replayed uint64  `json:"replayed_location"`
	At       *string `json:"replayed_timestamp"`
	Paused   bool    `json:"paused"`
}

func (s *Server) patroni(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, s.document(s.facts()))
}

func (s *Server) document(f facts) document {
	d := document{
		State: f.stateWord(), Role: roleWord(f), Timeline: f.local.Report.Timeline, Pause: f.state.Paused,
		Unlocked: !f.locked(), LastSeen: f.lastSeen(time.Now()), Tags: f.tags, SystemID: systemID(f.state.SystemID),
		Patroni: about{Version: spokenVersion, Scope: s.opts.Scope, Name: s.opts.Name},
		Quorate: aboutQuorate{Version: s.opts.Version, Epoch: f.state.Epoch, LeaseMS: f.local.LeaseLeft.Milliseconds(), Fence: f.local.Fence, Guard: f.local.Guard, Reject: f.local.Reject},
	}
	if !f.running() {
		return d
	}
	l := f.local
	d.PostmasterStart, d.ServerVersion, d.Replication = stamp(l.PostmasterStart), l.ServerVersion, l.Replication
	d.ReplicationState = f.replicationState()
	d.PendingRestart, d.PendingReason = len(l.Report.Config.Pending) > 0, l.PendingRestart
	if !l.Report.InRecovery {
		d.XLog = primaryLog{Location: uint64(l.Report.Flush)}
		return d
	}
	log := standbyLog{Received: uint64(l.Report.Flush), Replayed: uint64(l.Report.Replay), Paused: l.ReplayPaused}
	if at := stamp(l.ReplayTimestamp); at != "" {
		log.At = &at
	}
	d.XLog, d.QuorumStandby = log, f.inQuorum()
	return d
}

// stamp renders a time as Postgres' Python clients do, empty for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05.000000-07:00")
}

func systemID(id pg.SystemID) string {
	if id == 0 {
		return ""
	}
	return id.String()
}

// stateWord is of this node: that of its run, as long as that is known.
func (f facts) stateWord() string {
	if f.looked() {
		return stateWord(f.local.Report.Run)
	}
	return stateWord("")
}

// stateWord is the nearest of Patroni's words.
func stateWord(r failover.Run) string {
	switch r {
	case failover.RunRunning:
		return "running"
	case failover.RunStarting:
		return "starting"
	case failover.RunCloning:
		return "creating replica"
	case failover.RunHeld:
		return "start failed"
	case failover.RunStopped, failover.RunNone:
		return "stopped"
	}
	return "unknown" // Frozen: it runs and can't be asked.
}

func roleWord(f facts) string {
	r := f.local.Report
	switch {
	case r.Run == failover.RunNone || r.Run == "": // Nothing there, or not looked at yet.
		return "uninitialized"
	case r.Run == failover.RunRunning && !r.InRecovery:
		return "primary"
	case !r.InRecovery && f.state.Primary == f.self && f.state.Epoch > 0:
		return "demoted"
	}
	return "replica"
}

// locked says that some primary was heard to serve the present epoch, within the time that its lease could last.
func (f facts) locked() bool {
	if f.state.Primary == f.self {
		return f.holds()
	}
	s, ok := f.seen[f.state.Primary]
	return ok && f.heard(s) && s.Report.Serving == f.state.Epoch && f.state.Epoch > 0
}

// heard says that a node was heard within failover_after.
func (f facts) heard(s failover.Sighting) bool { return s.Age <= f.failoverAfter() }

// lastSeen is when this node last heard a majority of the voters, in unix seconds; 0: never.
func (f facts) lastSeen(now time.Time) int64 {
	age, ok := f.majorityAge()
	if !ok {
		return 0
	}
	return now.Add(-age).Unix()
}

// majorityAge is how long ago this node last heard a majority of the voters, itself counted; false: never.
func (f facts) majorityAge() (time.Duration, bool) {
	var ages []time.Duration
	for _, id := range f.state.Electorate.Voters {
		if id == f.self {
			ages = append(ages, 0)
		} else if s, ok := f.seen[id]; ok {
			ages = append(ages, s.Age)
		}
	}
	slices.Sort(ages)
	majority := f.state.Electorate.Majority()
	if len(ages) < majority {
		return 0, false
	}
	return ages[majority-1], true
}

// member is one line of /cluster. The positions are absent for the leader.
type member struct {
	Name       string         `json:"name"`
	Role       string         `json:"role"`
	State      string         `json:"state"`
	APIURL     string         `json:"api_url"`
	Host       string         `json:"host,omitempty"`
	Port       int            `json:"port,omitempty"`
	Timeline   pg.Timeline    `json:"timeline,omitempty"`
	Pending    bool           `json:"pending_restart,omitempty"`
	Tags       map[string]any `json:"tags,omitempty"`
	ReceiveLSN string         `json:"receive_lsn,omitempty"`
	ReceiveLag any            `json:"receive_lag,omitempty"`
	ReplayLSN  string         `json:"replay_lsn,omitempty"`
	ReplayLag  any            `json:"replay_lag,omitempty"`
	LSN        string         `json:"lsn,omitempty"`
	Lag        any            `json:"lag,omitempty"` // bytes, or "unknown"
}

func (s *Server) cluster(w http.ResponseWriter, _ *http.Request) {
	f := s.facts()
	doc := struct {
		Members []member `json:"members"`
		Scope   string   `json:"scope"`
		Pause   bool     `json:"pause,omitempty"`
	}{Members: []member{}, Scope: s.opts.Scope, Pause: f.state.Paused}
	for id, m := range f.state.Members {
		if m.Role == fsm.RoleData {
			doc.Members = append(doc.Members, f.member(id, m))
		}
	}
	slices.SortFunc(doc.Members, func(a, b member) int { return cmp.Compare(a.Name, b.Name) })
	answer(w, http.StatusOK, doc)
}

func (f facts) member(id fsm.NodeID, m fsm.Member) member {
	out := member{Name: m.Name, Role: "replica", State: "unknown", APIURL: apiURL(m.API) + "/patroni", Tags: map[string]any{}}
	if host, port, err := net.SplitHostPort(m.Postgres); err == nil {
		out.Host = host
		out.Port, _ = strconv.Atoi(port)
	}
	if m.NoFailover {
		out.Tags["nofailover"] = true
	}
	if m.Priority != 0 {
		out.Tags["failover_priority"] = m.Priority
	}
	r, heard := f.report(id)
	out.Pending = heard && len(r.Config.Pending) > 0
	if id == f.state.Primary && f.locked() {
		out.Role, out.State, out.Timeline = "leader", stateWord(r.Run), r.Timeline
		return out
	}
	if f.state.Sync.Has(id) && id != f.state.Primary {
		out.Role = "quorum_standby"
	}
	out.ReceiveLag, out.ReplayLag, out.Lag = "unknown", "unknown", "unknown"
	if !heard {
		return out
	}
	out.State, out.Timeline = stateWord(r.Run), r.Timeline
	if r.InRecovery && r.Run == failover.RunRunning && r.Upstream != "" {
		out.State = "streaming"
	}
	if r.Flush > 0 {
		out.ReceiveLSN, out.ReceiveLag = r.Flush.String(), f.lag(r.Flush)
		out.LSN, out.Lag = out.ReceiveLSN, out.ReceiveLag
	}
	if r.Replay > 0 {
		out.ReplayLSN, out.ReplayLag = r.Replay.String(), f.lag(r.Replay)
	}
	return out
}

// apiURL is where a member's API answers. Its address says https:// where that is needed.
func apiURL(address string) string {
	if strings.HasPrefix(address, "https://") {
		return address
	}
	return "http://" + address
}

// report is what a node last said, if that is recent.
func (f facts) report(id fsm.NodeID) (failover.Report, bool) {
	if id == f.self {
		return f.local.Report, true
	}
	s, ok := f.seen[id]
	return s.Report, ok && f.heard(s)
}

// history lists the ends of timelines: [timeline, position, reason, time, new leader].
func (s *Server) history(w http.ResponseWriter, _ *http.Request) {
	f := s.facts()
	state := f.state
	lines := [][]any{}
	for i, l := range state.Lineage {
		if l.Parent == 0 || i > 0 && state.Lineage[i-1].Timeline == l.Timeline || !l.Promoted {
			continue
		}
		line := []any{l.Parent, uint64(l.SwitchLSN), "no recovery target specified"}
		if r, _ := f.reportOf(l.Epoch); r.Rule != "" {
			line[2] = r.Rule
			line = append(line, time.UnixMilli(r.Wall).UTC().Format("2006-01-02T15:04:05.000000-07:00"), state.Name(l.Node))
		}
		lines = append(lines, line)
	}
	answer(w, http.StatusOK, lines)
}
