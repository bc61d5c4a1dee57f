package pgctl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/guard"
)

// reloadAfter is how long after Follow a standby that does not stream is told once more (DETAILS 28): a refusal in
// between, while the new primary was still opening, would otherwise cost seconds.
const reloadAfter = 200 * time.Millisecond

// Follow makes a running standby stream from u and returns when it does, or after 200 ms and a second reload. It refuses
// an epoch that was detached from (ErrDetached). The slot of this node must exist at u. The wait is outside the lock
// that Detach needs.
func (i *Instance) Follow(ctx context.Context, u Upstream) error {
	if err := i.follow(ctx, u); err != nil {
		return fmt.Errorf("follow %s of epoch %d: %w", u.Name, u.Epoch, err)
	}
	s, err := i.connect(ctx)
	if err != nil {
		return fmt.Errorf("follow %s of epoch %d: %w", u.Name, u.Epoch, err)
	}
	defer s.close()
	limit := time.Now().Add(reloadAfter)
	for time.Now().Before(limit) {
		v, err := s.value(ctx, "SELECT coalesce((SELECT status FROM pg_stat_wal_receiver), '')")
		if err != nil {
			return fmt.Errorf("look at the walreceiver: %w", err)
		}
		if v == "streaming" {
			return nil
		}
		if err := pause(ctx, pollEvery); err != nil {
			return fmt.Errorf("follow %s: %w", u.Name, err)
		}
	}
	if _, err := s.value(ctx, "SELECT pg_reload_conf()"); err != nil {
		return fmt.Errorf("reload once more: %w", err)
	}
	return nil
}

func (i *Instance) follow(ctx context.Context, u Upstream) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	l, m, seen := i.snapshot()
	view := i.deps.Guard.Record()
	switch {
	case u.Epoch <= m.detached:
		return fmt.Errorf("%w: the mark is at epoch %d", ErrDetached, m.detached)
	case view.Gone():
		return ErrNotRunning
	case !seen.promoting.IsZero():
		return ErrServing
	case view.Verdict != guard.VerdictStandby:
		// It had a lease for a promotion that never began; a standby needs none.
		if !i.deps.Guard.Set(guard.VerdictStandby, u.Epoch, 0) {
			return fmt.Errorf("the guard keeps the verdict %s for epoch %d", view.Verdict, view.Epoch)
		}
	}
	i.note(func() { i.cached, i.seen.followed, i.seen.walGone = nil, time.Now(), false })
	again := l.Upstream.same(u)
	l.Upstream = u
	if err := i.setLive(l); err != nil {
		return err
	}
	if err := i.apply(ctx); err != nil {
		return err
	}
	if !again {
		return nil
	}
	// The settings may be the same as before: only a reload makes a standby that waits try at once.
	if _, err := i.exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	return nil
}

// settleLimit bounds one attempt of Settle; a log far behind needs many.
const settleLimit = 2 * time.Second

// Settle ends the rebuilding of the log once all that its upstream has flushed by now is here too; from then on positions
// count again. It waits up to 2 s for that and is to be called again after an error.
func (i *Instance) Settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	l, m, _ := i.snapshot()
	up := l.upstream(m.detached)
	if !m.rebuild {
		return nil
	}
	there, err := i.identify(ctx, up)
	if err != nil {
		return fmt.Errorf("ask %s how far its log is: %w", up.Name, err)
	}
	s, err := i.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	question := fmt.Sprintf("SELECT coalesce(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) >= %s, false)", pg.QuoteLiteral(there.String()))
	for {
		v, err := s.value(ctx, question)
		if err != nil {
			return fmt.Errorf("compare the log with that of %s: %w", up.Name, err)
		}
		if v == "t" {
			break
		}
		if err := pause(ctx, 10*pollEvery); err != nil {
			return fmt.Errorf("wait for the log of %s up to %s: %w", up.Name, there, err)
		}
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if l, m, _ := i.snapshot(); !l.upstream(m.detached).same(up) {
		return fmt.Errorf("end the rebuilding of the log: it no longer follows %s", up.Name)
	}
	return i.setRebuild(false, "")
}

// identify asks a server over the replication protocol how far its log is flushed.
func (i *Instance) identify(ctx context.Context, u Upstream) (pg.LSN, error) {
	cfg, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s dbname=replication sslmode=prefer", pg.QuoteConninfo(u.Host), u.Port, pg.QuoteConninfo(i.cfg.Replication.Name)))
	if err != nil {
		return 0, fmt.Errorf("describe the connection: %w", err)
	}
	cfg.Password = i.cfg.Replication.Password
	cfg.RuntimeParams = map[string]string{"application_name": i.cfg.Name + "-probe", "replication": "true"}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return 0, fmt.Errorf("connect: %w", err)
	}
	s := &session{conn: conn}
	defer s.close()
	out, err := s.rows(ctx, "IDENTIFY_SYSTEM")
	if err != nil {
		return 0, err
	}
	if len(out) != 1 || len(out[0]) != 1 || len(out[0][0]) < 3 {
		return 0, errors.New("the answer to IDENTIFY_SYSTEM has another form")
	}
	return pg.ParseLSN(out[0][0][2])
}
