package pgctl

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/internal/pg/wal"
	"github.com/quorate/quorate/pgctl/guard"
	"github.com/quorate/quorate/pgctl/rejoin"
)

const (
	// recoverStalled is how long crash recovery may show no progress before it is given up.
	recoverStalled = time.Minute
	// recoverStop bounds the shutdown after it: its checkpoint may have much to write.
	recoverStop = 5 * time.Minute
	// sourceBox bounds what is asked of the primary: one that was stopped takes a connection and never answers.
	sourceBox = time.Minute
)

// recoverForRewind has Postgres replay its own log to the end, read-only and with nobody to follow, and shut down in order:
// pg_rewind takes no directory that crashed. The checkpoint before the shutdown makes the one at shutdown record how far
// replay came; without that pg_rewind may think that nothing diverged.
func (i *Instance) recoverForRewind(ctx context.Context, p *rewindPlan) error {
	control, err := i.readControl()
	if err != nil {
		return err
	}
	if !i.running() && endsKnown(control, p.Discard.From) {
		return nil
	}
	if err := i.startAlone(ctx, p.Source.Epoch); err != nil {
		return err
	}
	if err := i.awaitReplay(ctx, p.Discard.To); err != nil {
		return err
	}
	if err := i.StopFast(ctx, recoverStop); err != nil {
		return err
	}
	if control, err = i.readControl(); err != nil {
		return err
	}
	if !endsKnown(control, p.Discard.From) {
		return fmt.Errorf("after its shutdown pg_control is %q with a minimum recovery point of %s, not past %s", control.State, control.MinRecoveryPoint, p.Discard.From)
	}
	return nil
}

// endsKnown says that a directory was shut down in order and that pg_control tells that its log goes past fork.
func endsKnown(c pg.Control, fork pg.LSN) bool {
	return c.State == pg.ControlShutDown || c.State == pg.ControlShutDownInRecovery && c.MinRecoveryPoint > fork
}

// startAlone starts it read-only with nobody to follow, unless it runs since an agent before this one.
func (i *Instance) startAlone(ctx context.Context, epoch uint64) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.running() {
		return nil
	}
	control, err := i.readControl()
	if err != nil {
		return err
	}
	l, _, _ := i.snapshot()
	l.Upstream = Upstream{}
	l.Gated = true // What it shows is about to be discarded; the start that follows the primary decides anew.
	if err := errors.Join(i.prepare(l), i.clearTimelines(control), i.putSignal()); err != nil {
		return err
	}
	return i.start(ctx, Upstream{}, guard.VerdictStandby, epoch, 0)
}

// awaitReplay returns when all up to end is replayed and a restartpoint is made. Replay that stands still is an error, and
// so is a server that ends.
func (i *Instance) awaitReplay(ctx context.Context, end pg.LSN) error {
	var last pg.LSN
	moved := time.Now()
	for {
		if !i.running() {
			return fmt.Errorf("postgres ended while it recovered; %s says why: %s", i.cfg.LogFile(), i.LastWords())
		}
		at, err := i.checkpointAt(ctx, end)
		if err == nil && at >= end {
			return nil
		}
		if at > last {
			last, moved = at, time.Now()
		}
		if stalled := time.Since(moved); stalled > recoverStalled {
			return fmt.Errorf("recovery stands at %s of %s for %s: %w", last, end, stalled.Round(time.Second), err)
		}
		if err := pause(ctx, 25*pollEvery); err != nil {
			return fmt.Errorf("wait until %s is replayed: %w", end, err)
		}
	}
}

// checkpointAt returns how far replay is, and has a restartpoint made when that is end.
func (i *Instance) checkpointAt(ctx context.Context, end pg.LSN) (pg.LSN, error) {
	s, err := i.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer s.close()
	text, err := s.value(ctx, "SELECT pg_last_wal_replay_lsn()")
	if err != nil {
		return 0, fmt.Errorf("read the replay position: %w", err)
	}
	at, err := lsnField(text)
	if err != nil || at < end {
		return at, err
	}
	if _, err := s.rows(ctx, "CHECKPOINT"); err != nil {
		return 0, fmt.Errorf("make a restartpoint: %w", err)
	}
	return at, nil
}

// startReader follows from the start when the step names an upstream.
func (i *Instance) startReader(ctx context.Context, s Step) error {
	if s.Upstream.Name != "" {
		if err := i.followAtStart(s.Upstream); err != nil {
			return err
		}
	}
	return i.StartReadOnly(ctx, s.Epoch)
}

func (i *Instance) followAtStart(u Upstream) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	l, _, _ := i.snapshot()
	l.Upstream = u
	return i.setLive(l)
}

// prepareSource looks whether the primary can be rewound to. Up to PostgreSQL 15 pg_rewind reads its timeline from its
// pg_control, where it stands only after the first checkpoint, which a promotion leaves to be written at leisure. Beginning
// a base backup is what makes one at once and needs no more than replication.
func (i *Instance) prepareSource(ctx context.Context, p *rewindPlan) error {
	ctx, cancel := context.WithTimeout(ctx, sourceBox)
	defer cancel()
	if i.major >= 16 {
		return nil
	}
	tli, err := i.sourceTimeline(ctx, p.Source)
	if err == nil && tli != p.Target {
		if err = i.hurryCheckpoint(ctx, p.Source); err == nil {
			tli, err = i.sourceTimeline(ctx, p.Source)
		}
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errSourceAway, p.Source.Name, err)
	}
	if tli != p.Target {
		return fmt.Errorf("%w: %s is on timeline %d, not %d", errSourceAway, p.Source.Name, tli, p.Target)
	}
	return nil
}

// sourceTimeline is the timeline in the primary's pg_control.
func (i *Instance) sourceTimeline(ctx context.Context, u Upstream) (pg.Timeline, error) {
	cfg, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s dbname=postgres sslmode=prefer", pg.QuoteConninfo(u.Host), u.Port, pg.QuoteConninfo(i.cfg.Replication.Name)))
	if err != nil {
		return 0, fmt.Errorf("describe the connection: %w", err)
	}
	cfg.Password = i.cfg.Replication.password()
	cfg.RuntimeParams = map[string]string{"application_name": i.cfg.besides("rewind")}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return 0, fmt.Errorf("connect: %w", err)
	}
	s := &session{conn: conn}
	defer s.close()
	text, err := s.value(ctx, "SELECT timeline_id FROM pg_control_checkpoint()")
	if err != nil {
		return 0, fmt.Errorf("ask for its timeline: %w", err)
	}
	n, err := intField(text)
	return pg.Timeline(n), err
}

// hurryCheckpoint begins a base backup, which begins with a checkpoint, and leaves.
func (i *Instance) hurryCheckpoint(ctx context.Context, u Upstream) error {
	s, err := i.dialUpstream(ctx, u)
	if err != nil {
		return err
	}
	defer func() { _ = s.conn.Conn().Close() }() // in the middle of the backup: there is no good order to end it in
	command := "BASE_BACKUP (CHECKPOINT 'fast', WAIT false)"
	if i.major < 15 {
		command = "BASE_BACKUP FAST NOWAIT"
	}
	s.conn.Frontend().Send(&pgproto3.Query{String: command})
	if err := s.conn.Frontend().Flush(); err != nil {
		return fmt.Errorf("ask for a checkpoint: %w", err)
	}
	for {
		m, err := s.conn.ReceiveMessage(ctx)
		if err != nil {
			return fmt.Errorf("wait for a checkpoint: %w", err)
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			return fmt.Errorf("ask for a checkpoint: %s", m.Message)
		case *pgproto3.RowDescription:
			return nil
		}
	}
}

// findCommonCheckpoint looks for the last checkpoint before the fork, from which pg_rewind reads the log. It goes back
// segment by segment.
func (i *Instance) findCommonCheckpoint(ctx context.Context, d discard) error {
	control, err := i.readControl()
	if err != nil {
		return err
	}
	size := pg.LSN(control.WalSegmentSize)
	log := i.logOf(control, rejoin.Branch{Timeline: d.Timeline, History: d.History})
	limit := d.From
	for limit > size {
		if err := ctx.Err(); err != nil {
			return err
		}
		begin := pg.SegmentStart(limit-1, control.WalSegmentSize)
		first, ok, err := log.FirstRecord(begin)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		var last pg.LSN
		end, err := log.Walk(first, func(r wal.Record) bool {
			if r.Start >= limit {
				return false
			}
			if r.Checkpoint() {
				last = r.Start
			}
			return true
		})
		switch {
		case err != nil:
			return err
		case first < limit && end.LSN < limit:
			return fmt.Errorf("%w: its log before %s ends at %s: %s", ErrNoRewind, limit, end.LSN, end.Detail)
		case last > 0:
			i.log.Info("last common checkpoint", "at", last.String(), "fork", d.From.String())
			return nil
		}
		limit = begin
	}
	return fmt.Errorf("%w: its log does not reach back to a checkpoint before %s, only to %s", ErrNoRewind, d.From, limit)
}

// tryRewind runs pg_rewind without letting it change anything: what can fail at all mostly fails here. A failure is no word
// on the directory if the primary can't be asked afterwards either. Where pg_rewind can't be run at all the next try may well
// end like it, and a clone needs none.
func (i *Instance) tryRewind(ctx context.Context, p *rewindPlan) error {
	said, err := i.pgRewind(ctx, p.Source, "--dry-run")
	switch {
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil && !errors.As(err, new(*exec.ExitError)):
		return against{err}
	case err != nil:
		ask, cancel := context.WithTimeout(ctx, sourceBox)
		defer cancel()
		if _, away := i.sourceTimeline(ask, p.Source); away != nil {
			return fmt.Errorf("%w: %s: %w: %w", errSourceAway, p.Source.Name, away, err)
		}
		return against{fmt.Errorf("%w: %w", ErrNoRewind, err)}
	case strings.Contains(said, "no rewind required"):
		return against{fmt.Errorf("%w: pg_rewind sees no difference between the logs", ErrNoRewind)}
	}
	return nil
}

// pgRewind runs pg_rewind as the replication role, whose password is in a file, and returns what it said.
func (i *Instance) pgRewind(ctx context.Context, u Upstream, more ...string) (string, error) {
	source := conninfo(i.cfg, u, i.cfg.besides("rewind")) + " dbname=postgres connect_timeout=10" +
		// A primary that goes away without a word must not keep pg_rewind for hours.
		" keepalives_idle=5 keepalives_interval=5 keepalives_count=3 tcp_user_timeout=" + strconv.Itoa(20_000)
	args := append([]string{"--target-pgdata=" + i.cfg.DataDir, "--source-server=" + source, "--no-ensure-shutdown"}, more...)
	return outputOf(i.program(ctx, "pg_rewind", args...), nil)
}

// rewindFunctions are what pg_rewind calls at the primary. They are granted in the database postgres only, where the
// replication role may connect from members.
func rewindFunctions() []string {
	return []string{
		"pg_ls_dir(text, boolean, boolean)", "pg_stat_file(text, boolean)",
		"pg_read_binary_file(text)", "pg_read_binary_file(text, bigint, bigint, boolean)",
	}
}
