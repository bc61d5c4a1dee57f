package pgctl

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/pg"
)

// SetSync makes Postgres enforce rule and returns nil only when that is in force (DETAILS 21): a fresh session shows it;
// unless commits were already waiting, a checkpoint issued after that has returned; and every walsender of a member of
// the old or the new rule has passed on two replies since. On a standby there are no walsenders that count, and a rule
// that only asks for fewer copies is no danger while one has not noticed. The wait is outside the lock that Detach needs;
// on an error the rule may or may not be in force, and Status says that it isn't proved, so call again.
func (i *Instance) SetSync(ctx context.Context, rule Sync) error {
	defer i.lookAgain()
	before, err := i.applySync(ctx, rule)
	if err != nil {
		return fmt.Errorf("set the synchronous standbys: %w", err)
	}
	s, err := i.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if rule.SSN() != "" && !before.waiting {
		if err := i.publish(ctx, s, before.postmaster); err != nil {
			return err
		}
	}
	owed := before.members
	if before.recovering || !rule.fewerThan(before.ssn) {
		if owed = nil; !before.recovering {
			if err := i.repliesTwice(ctx, s, before.members); err != nil {
				return err
			}
		}
	}
	i.note(func() {
		if i.seen.run == before.run {
			i.seen.proved, i.seen.isProved, i.seen.owed = rule.SSN(), true, owed
		}
	})
	i.log.Info("synchronous standbys in force", "rule", rule.SSN(), "before", before.ssn)
	return nil
}

// earlier is what held before a change of the rule.
type earlier struct {
	run        uint64
	ssn        string
	waiting    bool // sessions are known to wait for whatever synchronous_standby_names says
	recovering bool
	members    []string // of the new rule and of all since the last that was proved
	postmaster string   // when it started
}

// fewerThan reports whether s asks for less than the synchronous_standby_names before did, of the same members.
func (s Sync) fewerThan(before string) bool {
	k, names, err := pg.ParseSSN(before)
	return s.SSN() == "" || err == nil && s.K < k && sameNames(s.Names, names)
}

// waitingMark is the content of waiting.bin: the sessions of the postmaster that started then wait for the members that
// synchronous_standby_names lists. It lets an agent that was restarted do without a checkpoint, which may take long and
// for which an appointment would have to wait.
type waitingMark struct {
	Postmaster string `json:"postmaster"` // empty: not known of any
}

const waitingRecord = "waiting.bin"

// publish makes sessions begin to wait: they learn from the checkpointer that there is anything to wait for.
func (i *Instance) publish(ctx context.Context, s *session, postmaster string) error {
	if _, err := s.rows(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint so that sessions begin to wait: %w", err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if l, _, _ := i.snapshot(); l.Sync.SSN() == "" { // changed meanwhile
		return nil
	}
	return i.markWaiting(waitingMark{Postmaster: postmaster})
}

func (i *Instance) markWaiting(m waitingMark) error {
	if err := durable.Save(i.cfg.own(waitingRecord), recordVersion, m); err != nil {
		return fmt.Errorf("record that sessions wait: %w", err)
	}
	return nil
}

// applySync changes the setting.
func (i *Instance) applySync(ctx context.Context, rule Sync) (earlier, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.running() {
		return earlier{}, ErrNotRunning
	}
	out, err := i.exec(ctx, "SELECT current_setting('synchronous_standby_names'), pg_is_in_recovery(), pg_postmaster_start_time()::text")
	if err != nil {
		return earlier{}, err
	}
	l, _, seen := i.snapshot()
	before := earlier{run: seen.run, ssn: out[0][0][0], recovering: out[0][0][1] == "t", postmaster: out[0][0][2]}
	mark, err := loadOr(i.cfg.own(waitingRecord), waitingMark{})
	if err != nil {
		return earlier{}, err
	}
	before.waiting = before.ssn != "" && mark.Postmaster == before.postmaster
	if rule.SSN() == "" && mark.Postmaster != "" {
		// Before it is told to wait for nobody: from then on it is not known any more.
		if err := i.markWaiting(waitingMark{}); err != nil {
			return earlier{}, err
		}
	}
	if _, names, err := pg.ParseSSN(before.ssn); err == nil {
		before.members = names
	}
	before.members = slices.Compact(slices.Sorted(slices.Values(slices.Concat(before.members, rule.Names, seen.owed))))
	i.note(func() { i.seen.isProved, i.seen.owed = false, before.members })
	l.Sync = Sync{K: rule.K, Names: slices.Sorted(slices.Values(rule.Names))}
	if err := i.setLive(l); err != nil {
		return earlier{}, err
	}
	if err := i.apply(ctx); err != nil {
		return earlier{}, err
	}
	return before, i.shown(ctx, "synchronous_standby_names")
}

// repliesTwice waits until each walsender that streams to one of members has recorded two replies. A walsender takes
// notice of a reload before it looks for replies, so the second was handled under the new rule. One that ends meanwhile
// needs no proof: its successor starts with the new rule.
func (i *Instance) repliesTwice(ctx context.Context, s *session, members []string) error {
	if len(members) == 0 {
		return nil
	}
	quoted := make([]string, len(members))
	for n, m := range members {
		quoted[n] = pg.QuoteLiteral(strings.ToLower(m))
	}
	question := `SELECT pg_logical_emit_message(true, 'quorate', '');
SELECT pid, coalesce(reply_time::text, '') FROM pg_stat_replication WHERE lower(application_name) IN (` + strings.Join(quoted, ",") + `) AND state = 'streaming'`
	type progress struct {
		last    string
		changes int
	}
	var open map[string]*progress
	for {
		out, err := s.rows(ctx, question)
		if err != nil {
			return fmt.Errorf("look at the walsenders' replies: %w", err)
		}
		now := map[string]string{}
		for _, r := range out[1] {
			now[r[0]] = r[1]
		}
		if open == nil {
			open = map[string]*progress{}
			for pid, at := range now {
				open[pid] = &progress{last: at}
			}
		}
		for pid, p := range open {
			at, connected := now[pid]
			if connected && at != p.last {
				p.last, p.changes = at, p.changes+1
			}
			if !connected || p.changes >= 2 {
				delete(open, pid)
			}
		}
		if len(open) == 0 {
			return nil
		}
		if err := pause(ctx, pollEvery); err != nil {
			return fmt.Errorf("wait for replies to %d walsenders under the new rule: %w", len(open), err)
		}
	}
}

// FlushLSN is the primary's flushed position, the barrier B of lease.md rule 18b.
func (i *Instance) FlushLSN(ctx context.Context) (pg.LSN, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	text, err := i.execValue(ctx, "SELECT pg_current_wal_flush_lsn()")
	if err != nil {
		return 0, fmt.Errorf("read the flush position: %w", err)
	}
	return lsnField(text)
}

// Checkpoint writes one, so that a shutdown or a rejoin has little left to do. It may take long and holds no lock.
func (i *Instance) Checkpoint(ctx context.Context) error {
	s, err := i.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := s.rows(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// CheckpointOf has one written on timeline, unless there is one.
func (i *Instance) CheckpointOf(ctx context.Context, timeline pg.Timeline) error {
	s, err := i.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	text, err := s.value(ctx, "SELECT timeline_id FROM pg_control_checkpoint()")
	if err != nil {
		return fmt.Errorf("ask for the last checkpoint: %w", err)
	}
	if text == fmt.Sprint(uint32(timeline)) {
		return nil
	}
	if _, err := s.rows(ctx, "CHECKPOINT"); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return nil
}

// SetSlots makes the slots with these names and drops those that quorate made for others, whose walsenders it ends. With
// keep they keep log from now on, as those of a primary shall; without, they are spare: they cost nothing until a
// walreceiver uses them, and are there when this node is promoted.
func (i *Instance) SetSlots(ctx context.Context, slots []string, keep bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	wrong := "restart_lsn IS NOT NULL"
	if keep {
		wrong = "restart_lsn IS NULL"
	}
	if err := i.dropSlots(ctx, slots, wrong); err != nil {
		return err
	}
	return i.createSlots(ctx, slots, keep)
}

// dropSlots drops all slots of quorate's but these, and of these those that are wrong and that nobody uses. What streams from another
// is the Postgres of a removed member whose agent is dead: it is ended, and comes back in vain. Until that is so no new member
// of its name gets a slot, without which it never counts.
func (i *Instance) dropSlots(ctx context.Context, slots []string, wrong string) error {
	names := []string{"''"}
	for _, s := range slots {
		names = append(names, pg.QuoteLiteral(s))
	}
	const ours = " FROM pg_replication_slots WHERE slot_type = 'physical' AND starts_with(slot_name, '" + slotPrefix + "')"
	others := "slot_name NOT IN (" + strings.Join(names, ",") + ")"
	sql := "SELECT pg_terminate_backend(active_pid)" + ours + " AND active AND " + others +
		";SELECT pg_drop_replication_slot(slot_name)" + ours + " AND NOT active AND (" + wrong + " OR " + others + ")" +
		";SELECT slot_name" + ours + " AND " + others
	for began := time.Now(); ; {
		out, err := i.exec(ctx, sql)
		switch {
		case err != nil && sqlState(err) != stateInUse: // a walsender has just begun to use one
			return fmt.Errorf("drop slots: %w", err)
		case err == nil && len(out[2]) == 0:
			return nil
		case time.Since(began) >= proofLimit && err == nil:
			return fmt.Errorf("drop the slot %s of a node that is no member: its walsender was told to end and has not yet", out[2][0][0])
		case time.Since(began) >= proofLimit:
			return fmt.Errorf("drop slots: %w", err)
		}
		if err := pause(ctx, pollEvery); err != nil {
			return fmt.Errorf("drop slots: %w", err)
		}
	}
}

// createSlots makes missing slots.
func (i *Instance) createSlots(ctx context.Context, slots []string, keep bool) error {
	if len(slots) == 0 {
		return nil
	}
	// One that kept more log than it may is of no use to anybody any more.
	sql := []string{`SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
 WHERE slot_type = 'physical' AND NOT active AND starts_with(slot_name, '` + slotPrefix + `') AND wal_status = 'lost'`}
	for _, slot := range slots {
		name := pg.QuoteLiteral(slot)
		sql = append(sql, fmt.Sprintf("SELECT pg_create_physical_replication_slot(%s, %t) WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = %s)", name, keep, name))
	}
	if _, err := i.exec(ctx, strings.Join(sql, ";")); err != nil {
		return fmt.Errorf("make slots: %w", err)
	}
	return nil
}
