package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/internal/pg/wal"
)

// lookForLog finds out whether a standby that doesn't stream asks for log that its upstream has removed; then only a clone
// helps. It asks for what the walreceiver would, and remembers a definite refusal. An upstream that can't be reached
// says nothing.
func (i *Instance) lookForLog(ctx context.Context, local *session, u Upstream) error {
	out, err := local.rows(ctx, `SELECT pg_last_wal_replay_lsn(), greatest(c.timeline_id, m.min_recovery_end_timeline)
 FROM pg_control_checkpoint() AS c, pg_control_recovery() AS m`)
	if err != nil {
		return fmt.Errorf("read where the log goes on: %w", err)
	}
	at, err := lsnField(out[0][0][0])
	if err != nil || at == 0 {
		return err
	}
	control, err := i.readControl()
	if err != nil {
		return err
	}
	return i.askForLog(ctx, u, pg.SegmentStart(at, control.WalSegmentSize), out[0][0][1])
}

// LookForLog is lookForLog for a server that does not answer SQL before it has log of its upstream: where that begins is read
// from its files. While a walreceiver streams there is nothing to find out.
func (i *Instance) LookForLog(ctx context.Context) error {
	l, m, _ := i.snapshot()
	up := l.upstream(m.detached)
	view := i.deps.Guard.Record()
	if up.Name == "" || view.Gone() {
		return fmt.Errorf("look for the log that it needs: %w", ErrNotRunning)
	}
	pid, err := streamingReceiver(view.PID, i.cfg.clusterName())
	if err != nil {
		return err
	}
	i.note(func() { i.seen.followed = time.Now() })
	if pid != 0 {
		return nil
	}
	at, err := i.startNeeds(ctx)
	if err != nil {
		return fmt.Errorf("read where the log goes on: %w", err)
	}
	if at.Stop == wal.StopAsked {
		return nil // there is much to read: the next look goes on from here
	}
	control, err := i.readControl()
	if err != nil {
		return err
	}
	return i.askForLog(ctx, up, pg.SegmentStart(at.LSN, control.WalSegmentSize), strconv.Itoa(int(at.Timeline)))
}

// startNeeds is where a server that starts has come to the end of the log that is here: the first gap after the place where it
// begins to replay. Behind a gap there may be more, of which it has nothing. It reads for 2 s at most and then ends with
// wal.StopAsked: this node has more to look after.
func (i *Instance) startNeeds(ctx context.Context) (wal.End, error) {
	ctx, cancel := context.WithTimeout(ctx, findLimit)
	defer cancel()
	control, err := i.readControl()
	if err != nil {
		return wal.End{}, err
	}
	from, err := i.replayStart(control)
	if err != nil {
		return wal.End{}, err
	}
	b, err := branchOf(control, i.walDir())
	if err != nil {
		return wal.End{}, err
	}
	_, _, seen := i.snapshot()
	// Not all of it again at each look.
	end, err := i.logOf(control, b).Walk(max(from, seen.needs), func(wal.Record) bool { return ctx.Err() == nil })
	if err == nil {
		i.note(func() { i.seen.needs = end.LSN })
	}
	return end, err
}

// replayStart is where a server begins to replay this directory: by backup_label, which it renames once pg_control has what it
// says, or by pg_control.
func (i *Instance) replayStart(control pg.Control) (pg.LSN, error) {
	label, err := os.ReadFile(filepath.Join(i.cfg.DataDir, "backup_label"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return control.Redo, nil
	case err != nil:
		return 0, fmt.Errorf("read backup_label: %w", err)
	}
	return labelStart(string(label))
}

// labelStart is where replay begins by a backup_label.
func labelStart(label string) (pg.LSN, error) {
	first, _, _ := strings.Cut(label, "\n")
	at, ok := strings.CutPrefix(first, "START WAL LOCATION: ")
	if !ok {
		return 0, fmt.Errorf("it begins with %q", first)
	}
	at, _, _ = strings.Cut(at, " ")
	return pg.ParseLSN(at)
}

// askForLog remembers it if u refuses the segment at start because it has removed it.
func (i *Instance) askForLog(ctx context.Context, u Upstream, start pg.LSN, tli string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	s, err := i.dialUpstream(ctx, u)
	if err != nil {
		return fmt.Errorf("ask %s for the log: %w", u.Name, err)
	}
	defer s.close()
	gone, err := removed(ctx, s.conn, start, tli)
	if err != nil {
		return fmt.Errorf("ask %s for the log: %w", u.Name, err)
	}
	if gone {
		i.log.Warn("the primary no longer has the log needed next", "primary", u.Name, "from", start.String())
		i.note(func() { i.seen.walGone = i.live.Upstream == u })
	}
	return nil
}

// removed asks a walsender for the log at start and reads until it sends or refuses.
func removed(ctx context.Context, conn *pgconn.PgConn, start pg.LSN, tli string) (bool, error) {
	conn.Frontend().Send(&pgproto3.Query{String: fmt.Sprintf("START_REPLICATION PHYSICAL %s TIMELINE %s", start, tli)})
	if err := conn.Frontend().Flush(); err != nil {
		return false, err
	}
	for {
		m, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return false, err
		}
		switch m := m.(type) {
		case *pgproto3.ErrorResponse:
			return m.Code == stateNoFile, nil
		case *pgproto3.CopyData, *pgproto3.CopyDone, *pgproto3.ReadyForQuery: // the last: that timeline ends there, and it says with which it goes on
			return false, nil
		}
	}
}
