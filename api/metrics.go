package api

import (
	"net/http"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// metrics shows what this node knows to Prometheus: under Patroni's names for the dashboards that there are, and under our
// own. It asks nobody, so it answers while Postgres, the leader or the network hangs.
func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	f := s.facts()
	e := newExposition(s.opts.Scope, s.opts.Name)
	f.patroniMetrics(e, time.Now())
	f.metrics(e, s.node.Leader())
	here, err := s.node.ExplainHere()
	if err == nil {
		survival(e, here.View)
	}
	e.head("quorate_build_info", "The version of the daemon and of the guard.", "gauge")
	e.sample("quorate_build_info", ","+label("version", s.opts.Version)+","+label("guard", f.local.Guard), 1)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(e.b.String())) // As in problem.
}

// patroniMetrics are Patroni's, with its meanings: patroni_primary is what Postgres is, not who holds the lease.
func (f facts) patroniMetrics(e *exposition, now time.Time) {
	l, r := f.local, f.local.Report
	primary, standby := f.running() && !r.InRecovery, f.running() && r.InRecovery
	seconds := func(t time.Time) float64 {
		if t.IsZero() || !f.running() {
			return 0
		}
		return float64(t.UnixMicro()) / 1e6
	}
	position := func(is bool, at uint64) float64 {
		if !is {
			return 0
		}
		return float64(at)
	}
	e.gauge("patroni_version", "Patroni version whose API is spoken, without periods.", 40000)
	e.gauge("patroni_postgres_running", "1 if Postgres runs.", one(f.running()))
	e.gauge("patroni_postmaster_start_time", "Start of Postgres in unix seconds.", seconds(l.PostmasterStart))
	e.gauge("patroni_primary", "1 if Postgres is out of recovery.", one(primary))
	e.counter("patroni_xlog_location", "Position of the primary's log, 0 on others.", position(primary, uint64(r.Flush)))
	e.gauge("patroni_standby_leader", "1 on the leader of a standby cluster; there is none.", 0)
	e.gauge("patroni_replica", "1 if Postgres is a standby.", one(standby))
	e.gauge("patroni_sync_standby", "1 on a synchronous standby that is no quorum standby; there is none.", 0)
	e.gauge("patroni_quorum_standby", "1 if a commit may count on this standby.", one(standby && f.inQuorum()))
	e.counter("patroni_xlog_received_location", "Position of the received log, 0 on the primary.", position(standby, uint64(r.Flush)))
	e.counter("patroni_xlog_replayed_location", "Position of the replayed log, 0 on the primary.", position(standby, uint64(r.Replay)))
	e.gauge("patroni_xlog_replayed_timestamp", "Time of the last replayed transaction, in unix seconds.", seconds(l.ReplayTimestamp))
	e.gauge("patroni_xlog_paused", "1 if replay is paused.", one(standby && l.ReplayPaused))
	e.gauge("patroni_postgres_streaming", "1 if the standby streams.", one(standby && l.Streaming))
	e.gauge("patroni_postgres_in_archive_recovery", "1 if the standby replays from an archive; none does.", 0)
	e.gauge("patroni_postgres_server_version", "Version of Postgres, if it runs.", position(f.running(), uint64(l.ServerVersion)))
	e.gauge("patroni_cluster_unlocked", "1 if no primary is known to hold the lease.", one(!f.locked()))
	e.gauge("patroni_failsafe_mode_is_active", "1 while the failsafe mode is active; there is none.", 0)
	e.gauge("patroni_failsafe_mode_enabled", "1 if the failsafe mode is on; there is none.", 0)
	e.gauge("patroni_postgres_timeline", "Timeline of Postgres.", float64(r.Timeline))
	e.gauge("patroni_dcs_last_seen", "When a majority of the voters was last heard, in unix seconds.", float64(f.lastSeen(now)))
	e.gauge("patroni_pending_restart", "1 if a setting waits for a restart.", one(len(r.Config.Pending) > 0))
	e.gauge("patroni_is_paused", "1 while automatic failover is paused.", one(f.state.Paused))
	e.gauge("patroni_postgres_state",
		"State of Postgres: 4 creating replica, 5 running, 6 starting, 8 start failed, 12 stopped, -1 unknown.", f.stateNumber())
	e.gauge("patroni_failover_priority", "Priority in elections at equal positions.", float64(f.state.Members[f.self].Priority))
}

// stateNumber is Patroni's number of the state word.
func (f facts) stateNumber() float64 {
	for word, n := range map[string]float64{"running": 5, "starting": 6, "creating replica": 4, "start failed": 8, "stopped": 12} {
		if f.stateWord() == word {
			return n
		}
	}
	return -1
}

func (f facts) metrics(e *exposition, leader fsm.NodeID) {
	st, l := f.state, f.local
	e.gauge("quorate_epoch", "Present epoch: how many primaries were appointed.", float64(st.Epoch))
	e.gauge("quorate_is_primary", "1 on the node that is appointed primary.", one(st.Primary == f.self && st.Epoch > 0))
	e.gauge("quorate_serving", "1 if this node accepts writes now.", one(l.Serving))
	e.gauge("quorate_lease_left_seconds", "What is left of this node's lease, 0 without one.", l.LeaseLeft.Seconds())
	e.gauge("quorate_leader", "1 on the Raft leader.", one(leader == f.self && leader != ""))
	e.gauge("quorate_leader_known", "1 if a Raft leader is known.", one(leader != ""))
	e.gauge("quorate_voters", "Voters of the cluster.", float64(len(st.Electorate.Voters)))
	e.gauge("quorate_quorum", "1 if a majority of the voters was heard within failover_after.", one(f.current() && st.ClusterID != ""))
	e.gauge("quorate_gated", "1 while Postgres runs and clients are kept out.", one(l.Gated))
	e.gauge("quorate_frozen", "1 while Postgres is frozen.", one(l.Report.Run == failover.RunFrozen))
	e.gauge("quorate_healthy", "1 if this node reports nothing wrong with its Postgres.", one(l.Report.Healthy && f.looked()))
	e.gauge("quorate_look_age_seconds", "Age of the last look at Postgres.", l.Age.Seconds())
	e.gauge("quorate_fence_late_seconds", "Longest time by which a fence came after the end of its lease.", l.FenceLate.Seconds())
	e.counter("quorate_fence_late_total", "Fences that came later after the end of their lease than is allowed for.", float64(l.FencesLate))
	e.gauge("quorate_warnings", "What this node warns of; quorate status says it.", float64(len(l.Report.Warnings)))
	e.gauge("quorate_paused", "1 while automatic failover is paused.", one(st.Paused))
	e.gauge("quorate_config_version", "Version of the replicated configuration.", float64(st.Config.Version))
	e.gauge("quorate_config_taken", "Version of it that Postgres has taken.", float64(l.Report.Config.Version))
	e.gauge("quorate_sync_members", "Nodes whose copies count for commits, the primary's too; 0 with durability async.",
		float64(len(st.Sync.Members)))
	e.gauge("quorate_sync_copies", "Copies of a commit before it is acknowledged.", float64(st.Sync.Copies))
	open := 0
	for _, d := range st.Discards {
		if !d.Dismissed {
			open++
		}
	}
	e.gauge("quorate_discards", "Discarded logs and directories that nobody has looked at.", float64(open))
	ages, lags := map[string]float64{}, map[string]float64{}
	for id, m := range st.Members {
		s, heard := f.seen[id]
		if id == f.self || !heard {
			continue
		}
		ages[m.Name] = s.Age.Seconds()
		if m.Role == fsm.RoleData && id != st.Primary && s.Report.Flush > 0 && f.end() > 0 {
			lags[m.Name] = float64(f.lag(s.Report.Flush))
		}
	}
	e.each("quorate_beat_age_seconds", "Time since another node was last heard here.", "node", ages)
	e.each("quorate_lag_bytes", "How far another node's log was behind the primary's when last heard here.", "node", lags)
}

// survival says which losses the cluster would survive now, as this node sees it.
func survival(e *exposition, v failover.View) {
	each, all := map[string]float64{}, len(v.State.Members) > 0
	for _, l := range failover.Survivable(v) {
		each[v.State.Name(l.Node)] = one(l.Survives)
		all = all && l.Survives
	}
	e.gauge("quorate_survivable_failures", "1 if any one node may be lost now, else 0.", one(all))
	e.each("quorate_survives_loss", "1 if writes go on when this node is lost now.", "node", each)
}
