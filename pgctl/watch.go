package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/guard"
)

// Status says what is, within ctx. It waits for no step and changes nothing. It never fails: what can't be found out
// shows as a state (unresponsive, starting) or in Dir.Problem. 8 calls per second are cheap; bound each by ctx, since a
// server that hangs is found out by waiting.
func (i *Instance) Status(ctx context.Context) Status {
	i.statusMu.Lock()
	defer i.statusMu.Unlock()
	view := i.deps.Guard.Record()
	i.note(func() {
		if view.Run != i.seen.run && !view.Gone() {
			i.seen = seen{run: view.Run, followed: time.Now()}
		}
	})
	s := Status{GuardRun: view.Run, PID: view.PID}
	s.Dir = i.readDir()
	i.judge()
	i.recorded(&s)
	switch {
	case view.Gone():
		s.Run = pg.RunStopped
		if s.Dir.Empty {
			s.Run = pg.RunAbsent
		}
	case view.State == guard.StateFrozen:
		s.Run = pg.RunFrozen
	case view.State == guard.StateKilling || view.Exited:
		s.Run = pg.RunStopping
	default:
		s = i.look(ctx, s)
	}
	_, _, seen := i.snapshot()
	s.Answered = seen.run == view.Run && seen.answered
	switch {
	case seen.run != view.Run:
	case seen.crashed:
		s.Died = "the crash of one of its processes"
	case view.Exited && !seen.asked:
		s.Died = view.Exit()
	}
	if s.Run != pg.RunStandby && s.Run != pg.RunPrimary {
		i.watch.close()
		i.watch = nil
	}
	return s
}

// lookHolds is for how long what SQL said counts as the present, unless a step was taken: events come in bursts, and each
// would ask the same again while the machine has better to do.
const lookHolds = 20 * time.Millisecond

// look completes s with what a session shows, from the last look if that was a moment ago.
func (i *Instance) look(ctx context.Context, s Status) Status {
	var last looked
	i.note(func() { last = i.looked })
	if last.status.GuardRun == s.GuardRun && time.Since(last.at) < lookHolds && i.again(&s) {
		return s
	}
	i.ask(ctx, &s)
	if s.Run == pg.RunStandby || s.Run == pg.RunPrimary {
		s.Drift = i.drift()
	}
	i.note(func() { i.looked = looked{status: s, at: time.Now()} })
	return s
}

// again completes s with what the server showed last, and is false when it has shown nothing in this run.
func (i *Instance) again(s *Status) bool {
	var last looked
	i.note(func() { last = i.looked })
	if last.status.GuardRun != s.GuardRun {
		return false
	}
	dir := s.Dir
	*s = last.status
	s.Dir, s.Position, s.Clone, s.Rewind = dir, nil, nil, nil
	i.recorded(s)
	return true
}

// lookAgain makes the next Status ask the server, because something was done to it.
func (i *Instance) lookAgain() { i.note(func() { i.looked.at = time.Time{} }) }

// recorded fills in what the durable records say.
func (i *Instance) recorded(s *Status) {
	i.facts.Lock()
	defer i.facts.Unlock()
	s.Upstream = i.live.upstream(i.marks.detached)
	s.Configured = i.seen.configured && i.seen.applied == s.Upstream
	s.Detached, s.Rebuilding = i.marks.detached, i.marks.rebuild
	s.WALGone = i.seen.walGone
	s.Gated, s.Opened, s.Own = i.live.Gated, i.seen.opened, i.live.Own
	s.Admitted = i.live.Admitted || i.seen.answered
	if i.drifts.last != "" && time.Since(i.drifts.at) < driftShown {
		s.Corrected = i.drifts.last
	}
	if s.Promoting = !i.seen.promoting.IsZero(); s.Promoting {
		s.PromotingFor = time.Since(i.seen.promoting)
	}
	if i.cached != nil {
		p := *i.cached
		s.Position = &p
	}
	s.Evidence = i.pending
	if i.marks.rewind != nil {
		s.Rewind = i.marks.rewind.state(i.rewind != nil)
	}
	if i.clone != nil {
		s.Clone = i.clone.state()
	} else if i.marks.plan != nil {
		s.Clone = &CloneState{Source: i.marks.plan.Source, Note: i.marks.plan.Note}
	}
}

// readDir looks at the data directory without a server.
func (i *Instance) readDir() Dir {
	if i.dirEmpty() {
		return Dir{Empty: true, Gone: i.gone()}
	}
	d := Dir{Foreign: i.foreign()}
	if d.Foreign {
		d.Server = i.stranger().PID
	}
	_, err := os.Stat(i.signalFile())
	d.StandbySignal = err == nil
	_, err = os.Stat(filepath.Join(i.cfg.DataDir, "backup_label"))
	d.BackupLabel = err == nil
	if d.Control, err = i.readControl(); err != nil {
		d.Problem, d.Corrupt = err.Error(), errors.Is(err, pg.ErrControlDamaged)
		return d
	}
	content, err := os.ReadFile(filepath.Join(i.cfg.DataDir, "PG_VERSION"))
	if err != nil {
		d.Problem = fmt.Sprintf("read PG_VERSION: %v", err)
		return d
	}
	if major, err := pg.ParseVersionFile(string(content)); err != nil {
		d.Problem = err.Error()
	} else if major != i.major {
		d.Mismatch = fmt.Sprintf("the data directory is of PostgreSQL %d and %s has PostgreSQL %d", major, i.cfg.BinDir, i.major)
	}
	return d
}

// dirEmpty reports whether there is nothing in PGDATA. A directory that can't be read is not empty.
func (i *Instance) dirEmpty() bool {
	entries, err := os.ReadDir(i.cfg.DataDir)
	return errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0
}

// readControl reads pg_control.
func (i *Instance) readControl() (pg.Control, error) {
	_, c, err := i.controlFile()
	return c, err
}

// controlFile also returns the file as it is. A server that is writing it can be caught in the middle, so damage is looked
// at twice.
func (i *Instance) controlFile() ([]byte, pg.Control, error) {
	path := filepath.Join(i.cfg.DataDir, "global", "pg_control")
	var c pg.Control
	var err error
	for range 3 {
		var content []byte
		if content, err = os.ReadFile(path); err != nil {
			return nil, c, fmt.Errorf("read pg_control: %w", err)
		}
		if c, err = pg.ParseControl(content); err == nil {
			return content, c, nil
		}
	}
	return nil, c, fmt.Errorf("read %s: %w", path, err)
}

// watchPrepare and watchQuery are everything in one round trip, planned once per session: several looks fall into one
// failover, and planning costs more than looking. CASE keeps the functions of the other role from being called. A walsender takes
// its slot before it says that it streams; the subquery looks for it afterwards.
const (
	watchPrepare = `PREPARE quorate_server AS SELECT r, system_identifier,
 CASE WHEN r THEN greatest(c.timeline_id, m.min_recovery_end_timeline, coalesce(w.received_tli, 0))::text
  ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int::text END,
 CASE WHEN r THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_flush_lsn() END,
 CASE WHEN r THEN NULL ELSE pg_current_wal_insert_lsn() END,
 CASE WHEN r THEN pg_last_wal_replay_lsn() END,
 CASE WHEN r THEN pg_is_wal_replay_paused() ELSE false END,
 current_setting('synchronous_standby_names'),
 w.status, current_setting('server_version_num'),
 (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint,
 (extract(epoch FROM CASE WHEN r THEN pg_last_xact_replay_timestamp() END) * 1000000)::bigint, w.pid
 FROM (SELECT pg_is_in_recovery() AS r) AS x, pg_control_system(), pg_control_checkpoint() AS c, pg_control_recovery() AS m
 LEFT JOIN pg_stat_wal_receiver AS w ON true;
PREPARE quorate_slots AS SELECT slot_name,
 CASE WHEN pg_is_in_recovery() THEN restart_lsn IS NOT NULL AND NOT active ELSE restart_lsn IS NOT NULL OR active END FROM pg_replication_slots WHERE slot_type = 'physical' AND starts_with(slot_name, 'quorate_')
 AND wal_status IS DISTINCT FROM 'lost';
PREPARE quorate_senders AS SELECT application_name, usename, host(client_addr), pid, state, flush_lsn, replay_lsn, sync_state, sync_priority,
 (SELECT slot_name FROM pg_replication_slots WHERE active_pid = pid) FROM pg_stat_replication`
	watchQuery = "EXECUTE quorate_server; EXECUTE quorate_slots; EXECUTE quorate_senders"
)

// ask fills in what a session shows.
func (i *Instance) ask(ctx context.Context, s *Status) {
	out, err := i.query(ctx)
	if err == nil {
		err = i.fill(s, out)
	}
	if err == nil {
		i.remember(s)
		return
	}
	i.watch.close()
	i.watch = nil
	_, _, before := i.snapshot()
	switch {
	case before.crashed && before.run == s.GuardRun:
		s.Run = pg.RunStopping
	case sqlState(err) == stateTooMany && before.answered && i.again(s):
		// The standing session was lost while clients hold every slot. That is their business: the server serves.
	case before.asked, before.answered && sqlState(err) == stateCannotConnect:
		s.Run = pg.RunStopping
	case !before.answered:
		s.Run, s.Unstreamed = pg.RunStarting, time.Since(before.followed)
	default:
		s.Run = pg.RunUnresponsive
		s.Dir.Problem = err.Error()
	}
}

func (i *Instance) query(ctx context.Context) ([][][]string, error) {
	if i.outstays(i.watch) {
		i.watch.close()
		i.watch = nil
	}
	if i.watch == nil {
		w, err := i.connect(ctx)
		if err != nil {
			return nil, err
		}
		i.watch = w
		if _, err := w.rows(ctx, watchPrepare); err != nil {
			return nil, fmt.Errorf("prepare the questions: %w", err)
		}
	}
	return i.watch.rows(ctx, watchQuery)
}

func (i *Instance) fill(s *Status, out [][][]string) error {
	if len(out) != 3 || len(out[0]) != 1 {
		return fmt.Errorf("read the server's state: %d results", len(out))
	}
	row := out[0][0]
	id, e1 := intField(row[1])
	tli, e2 := intField(row[2])
	var e3, e4, e5 error
	s.Flush, e3 = lsnField(row[3])
	s.Insert, e4 = lsnField(row[4])
	s.Replay, e5 = lsnField(row[5])
	if err := errors.Join(e1, e2, e3, e4, e5); err != nil {
		return fmt.Errorf("read the server's state: %w", err)
	}
	s.Run = pg.RunPrimary
	if row[0] == "t" {
		s.Run = pg.RunStandby
	}
	s.SystemID, s.Timeline, s.ReplayPaused = pg.SystemID(id), pg.Timeline(tli), row[6] == "t"
	if k, names, err := pg.ParseSSN(row[7]); err != nil {
		s.ForeignSSN = row[7]
	} else {
		s.Sync = Sync{K: k, Names: names}
	}
	s.Receiver, s.receiverPID = row[8], row[12]
	version, e1 := intField(row[9])
	started, e2 := intField(row[10])
	if err := errors.Join(e1, e2); err != nil {
		return fmt.Errorf("read the server's version and start: %w", err)
	}
	s.ServerVersion, s.Started = int(version), time.UnixMicro(int64(started))
	if row[11] != "" {
		replayed, err := intField(row[11])
		if err != nil {
			return fmt.Errorf("read the time of the last replayed transaction: %w", err)
		}
		s.ReplayedAt = time.UnixMicro(int64(replayed))
	}
	for _, r := range out[1] {
		if r[1] == "t" {
			s.Slots = append(s.Slots, r[0])
		} else {
			s.SpareSlots = append(s.SpareSlots, r[0])
		}
	}
	return i.fillSenders(s, out[2])
}

// fillSenders sorts the walsenders into members and those that only say they are.
func (i *Instance) fillSenders(s *Status, rows [][]string) error {
	i.facts.Lock()
	defer i.facts.Unlock()
	for _, r := range rows {
		name := strings.ToLower(r[0]) // synchronous_standby_names ignores case
		addrs, member := i.names[name]
		if !member || len(addrs) == 0 {
			continue // of a member whose host can't be looked up nothing is known: it neither counts nor is an impostor
		}
		pid, e1 := intField(r[3])
		flush, e2 := lsnField(r[5])
		replay, e3 := lsnField(r[6])
		if err := errors.Join(e1, e2, e3); err != nil {
			return fmt.Errorf("read the walsenders: %w", err)
		}
		priority, err := intField(r[8])
		if err != nil {
			return fmt.Errorf("read the walsenders: %w", err)
		}
		sender := Sender{
			Name: name, PID: int(pid), User: r[1], Addr: r[2], State: r[4], Streaming: r[4] == "streaming", Flush: flush, Replay: replay,
			SyncState: r[7], SyncPriority: int(priority), Slot: r[9],
		}
		if sender.State == "startup" {
			continue // it has not taken its slot yet, and is sent nothing
		}
		if ours := r[1] == i.cfg.Replication.Name; !ours || !slices.Contains(addrs, r[2]) {
			sender.Elsewhere = ours && r[2] != ""
			s.Impostors = append(s.Impostors, sender)
			continue
		}
		if sender.Slot != i.members[name].Slot {
			sender.Stray = true
			s.Impostors = append(s.Impostors, sender)
			continue
		}
		s.Senders = append(s.Senders, sender)
	}
	return nil
}

// remember keeps what later steps need of this look.
func (i *Instance) remember(s *Status) {
	now := time.Now()
	i.facts.Lock()
	defer i.facts.Unlock()
	if i.seen.run != s.GuardRun {
		return
	}
	i.seen.answered = true
	s.SyncInForce = i.seen.isProved && i.seen.proved == s.Sync.SSN() && s.ForeignSSN == ""
	if s.Run == pg.RunPrimary && i.seen.opened == 0 {
		i.seen.opened = s.Flush
	}
	s.Opened = i.seen.opened
	// What is flushed or replayed on this node is certainly in its files. The receive position of a standby is not:
	// after a restart it reads as the beginning of a segment.
	if s.Run == pg.RunPrimary {
		i.seen.lsn, i.seen.replayed = s.Flush, false
	} else {
		i.seen.lsn, i.seen.replayed = s.Replay, true
	}
	// The same walreceiver in two looks: one that is refused the log streams for a moment, again and again.
	steady := s.Receiver == "streaming" && s.receiverPID == i.seen.receiver
	i.seen.receiver = s.receiverPID
	if steady || s.Upstream.Name == "" || s.Run == pg.RunPrimary {
		i.seen.followed = now
	}
	s.Unstreamed = now.Sub(i.seen.followed)
}

// SetMembers tells who the other nodes are: they may replicate from here, and only their walsenders count as theirs.
// Names are looked up here; a host that can't be resolved keeps what was known of it, but not of another member of the same name, and
// is an error.
func (i *Instance) SetMembers(ctx context.Context, members []Member) error {
	names, told, failed := i.lookUp(ctx, members)
	i.mu.Lock()
	defer i.mu.Unlock()
	before := i.hba()
	i.note(func() { i.names, i.members, i.looked.at = names, told, time.Time{} })
	if i.hba() == before {
		return failed
	}
	if err := i.writeServerFiles(); err != nil {
		return errors.Join(failed, err)
	}
	if !i.running() {
		return failed
	}
	return errors.Join(failed, i.deps.Guard.Signal("SIGHUP"))
}

// lookUp finds the members' addresses.
func (i *Instance) lookUp(ctx context.Context, members []Member) (names map[string][]string, told map[string]Member, failed error) {
	names, told = map[string][]string{}, map[string]Member{}
	for _, m := range members {
		addrs, err := resolve(ctx, m.Host)
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("member %s: %w", m.Name, err))
			i.note(func() {
				if i.members[m.Name] == m {
					addrs = i.names[m.Name]
				}
			})
		}
		names[m.Name], told[m.Name] = addrs, m
	}
	return names, told, failed
}
