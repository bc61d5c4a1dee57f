package pgctl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/guard"
)

// The pace of Follow. A walreceiver that is refused, or that has come to the end of a timeline, is started again by the
// startup process after wal_retrieve_retry_interval, or at once when that is woken (DETAILS 28: otherwise one refusal
// while the new primary opens costs up to seconds).
const (
	followLimit = 400 * time.Millisecond // for it to stream
	nudgeEvery  = 25 * time.Millisecond  // between two wake-ups
	askEvery    = 50 * time.Millisecond  // between two looks by SQL, where the title of the walreceiver does not tell
)

// Follow makes a running standby stream from u and returns when it does, or after 400 ms of waking it up. It refuses an
// epoch that was detached from (ErrDetached). The slot of this node must exist at u. The wait is outside the lock that
// Detach needs.
func (i *Instance) Follow(ctx context.Context, u Upstream) error {
	again, err := i.follow(ctx, u)
	if err != nil {
		return fmt.Errorf("follow %s of epoch %d: %w", u.Name, u.Epoch, err)
	}
	w := &streamWatch{i: i, upstream: u}
	if again {
		// A walreceiver that is refused the log streams for a moment, so one that was unsteady before must hold.
		w.hold = steady
	}
	ok, err := w.wait(ctx)
	if err != nil {
		return fmt.Errorf("follow %s: %w", u.Name, err)
	}
	if ok {
		return nil
	}
	s, err := i.connect(ctx)
	if err != nil {
		return fmt.Errorf("follow %s of epoch %d: %w", u.Name, u.Epoch, err)
	}
	defer s.close()
	return i.lookForLog(ctx, s, u)
}

// steady is how long one walreceiver must have been streaming to count, where that is in doubt.
const steady = 50 * time.Millisecond

// streamWatch waits until a walreceiver streams. The title of the process tells most of the time.
type streamWatch struct {
	i        *Instance
	upstream Upstream
	hold     time.Duration // for which one walreceiver must have been streaming
	nudged   time.Time
	asked    time.Time
	last     int       // the walreceiver that was streaming at the last look, 0 for none
	since    time.Time // since when
}

// wait reports whether a walreceiver streams within followLimit.
func (w *streamWatch) wait(ctx context.Context) (bool, error) {
	began := time.Now()
	w.nudged, w.asked = began, began
	for time.Since(began) < followLimit {
		if l, m, _ := w.i.snapshot(); l.upstream(m.detached) != w.upstream {
			return false, fmt.Errorf("%w meanwhile", ErrDetached)
		}
		pid, err := w.streaming(ctx)
		if err != nil {
			return false, err
		}
		if pid != w.last {
			w.last, w.since = pid, time.Now()
		}
		if pid != 0 && time.Since(w.since) >= w.hold {
			return true, nil
		}
		if pid == 0 && time.Since(w.nudged) >= nudgeEvery {
			w.nudged = time.Now()
			if _, err := hupStartup(w.i.deps.Guard.Record().PID, w.i.cfg.clusterName()); err != nil {
				return false, err
			}
		}
		if err := pause(ctx, pollEvery); err != nil {
			return false, err
		}
	}
	return false, nil
}

// streaming is the pid of a walreceiver that streams, 0 for none.
func (w *streamWatch) streaming(ctx context.Context) (int, error) {
	pid, err := streamingReceiver(w.i.deps.Guard.Record().PID, w.i.cfg.clusterName())
	if err != nil || pid != 0 || time.Since(w.asked) < askEvery {
		return pid, err
	}
	w.asked = time.Now()
	// Not a session of its own, which would cost more than all the rest; Detach may have to wait for this one answer.
	ctx, cancel := context.WithTimeout(ctx, proofLimit)
	defer cancel()
	w.i.mu.Lock()
	defer w.i.mu.Unlock()
	text, err := w.i.execValue(ctx, "SELECT coalesce((SELECT pid FROM pg_stat_wal_receiver WHERE status = 'streaming'), 0)")
	if err != nil {
		return 0, fmt.Errorf("look at the walreceiver: %w", err)
	}
	n, err := intField(text)
	return int(n), err
}

// follow changes the settings; again says that it followed the same server before.
func (i *Instance) follow(ctx context.Context, u Upstream) (again bool, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	l, m, seen := i.snapshot()
	view := i.deps.Guard.Record()
	switch {
	case u.Epoch <= m.detached:
		return false, fmt.Errorf("%w: the mark is at epoch %d", ErrDetached, m.detached)
	case view.Gone():
		return false, ErrNotRunning
	case !seen.promoting.IsZero():
		return false, ErrServing
	case view.Verdict != guard.VerdictStandby:
		// It had a lease for a promotion that never began; a standby needs none.
		if !i.deps.Guard.Set(guard.VerdictStandby, u.Epoch, 0) {
			return false, fmt.Errorf("the guard keeps the verdict %s for epoch %d", view.Verdict, view.Epoch)
		}
	}
	if err := i.endPause(ctx); err != nil {
		return false, err
	}
	i.note(func() { i.cached, i.seen.followed, i.seen.walGone = nil, time.Now(), false })
	again = l.Upstream.same(u) && l.Upstream.Slot == u.Slot
	l.Upstream = u
	if err := i.setLive(l); err != nil {
		return false, err
	}
	if err := i.apply(ctx); err != nil {
		return false, err
	}
	if !again {
		return false, nil
	}
	// The settings may be the same as before: only a reload makes a standby that waits try at once.
	if _, err := i.exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return false, fmt.Errorf("reload: %w", err)
	}
	return true, nil
}

// endPause lets replay go on if an earlier Detach may have left it paused, and forgets that. Whoever pauses replay by hand
// between Detach and Follow finds it running.
func (i *Instance) endPause(ctx context.Context) error {
	_, m, _ := i.snapshot()
	if !m.pausing {
		return nil
	}
	if _, err := i.exec(ctx, "SELECT pg_wal_replay_resume() WHERE pg_is_wal_replay_paused()"); err != nil {
		return fmt.Errorf("let replay go on: %w", err)
	}
	if err := durable.Save(i.cfg.own(detachedRecord), recordVersion, detachedMark{Epoch: m.detached}); err != nil {
		return fmt.Errorf("record that replay goes on: %w", err)
	}
	i.note(func() { i.marks.pausing = false })
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
	if err := i.endRewind(); err != nil {
		return err
	}
	return i.setRebuild(false, "")
}

// identify asks a server over the replication protocol how far its log is flushed.
func (i *Instance) identify(ctx context.Context, u Upstream) (pg.LSN, error) {
	s, err := i.dialUpstream(ctx, u)
	if err != nil {
		return 0, err
	}
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

// dialUpstream opens a replication connection as this node, under a name that no rule counts.
func (i *Instance) dialUpstream(ctx context.Context, u Upstream) (*session, error) {
	cfg, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s dbname=replication sslmode=prefer", pg.QuoteConninfo(u.Host), u.Port, pg.QuoteConninfo(i.cfg.Replication.Name)))
	if err != nil {
		return nil, fmt.Errorf("describe the connection: %w", err)
	}
	cfg.Password = i.cfg.Replication.password()
	cfg.RuntimeParams = map[string]string{"application_name": i.cfg.besides("probe"), "replication": "true"}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	return &session{conn: conn}, nil
}
