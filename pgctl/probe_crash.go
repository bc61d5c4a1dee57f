package pgctl

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/pgctl/guard"
)

// listenRetry paces the looks for a server to listen to. A look without a connection costs nothing; a connection that was
// refused leaves a line in the server's log.
const (
	listenLook  = 50 * time.Millisecond
	listenRetry = time.Second
)

// ListenForCrash keeps one session in a read until ctx ends. When a process of Postgres dies the others tell their clients
// so and end, and this session hears it at once, while the postmaster itself may wait for seconds: for one that is stopped
// or stuck. The whole run is then killed here and now; wake is called after that, and whenever the session ends otherwise,
// since then something happened too.
func (i *Instance) ListenForCrash(ctx context.Context, wake func()) {
	for ctx.Err() == nil {
		view := i.deps.Guard.Record()
		_, _, seen := i.snapshot()
		if view.State != guard.StateRunning || view.Exited || seen.run != view.Run || !seen.answered || seen.asked {
			_ = pause(ctx, listenLook) // ctx is looked at above
			continue
		}
		if err := i.listen(ctx); err != nil {
			_ = pause(ctx, listenRetry)
			continue
		}
		wake()
		_ = pause(ctx, listenLook)
	}
}

// listen returns nil when a session that it had has ended, and an error when it got none.
func (i *Instance) listen(ctx context.Context) error {
	s, err := i.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if s.spare { // and no longer than until it is time to look for the other one
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, databaseAgain)
		defer stop()
	}
	for err == nil {
		// Nothing notifies this session: it waits for the notice of a crash, or for the end.
		err = s.conn.WaitForNotification(ctx)
	}
	if errors.Is(err, ctx.Err()) {
		return err
	}
	return nil
}

// onNotice looks for the words with which Postgres ends a session because another process crashed: a warning, before the
// connection is closed without an error.
func (i *Instance) onNotice(run uint64) pgconn.NoticeHandler {
	return func(_ *pgconn.PgConn, n *pgconn.Notice) {
		if n.Code == stateCrash {
			i.crashed(run)
		}
	}
}

// crashed kills what is left of run, of which a process has died: with restart_after_crash off it never serves again, and
// a backend that is wedged would keep the postmaster from ending for 5 s.
func (i *Instance) crashed(run uint64) {
	view := i.deps.Guard.Record()
	if view.Run != run || view.Gone() {
		return
	}
	first := false
	i.note(func() {
		first = i.seen.run == run && !i.seen.crashed
		i.seen.crashed = i.seen.crashed || first
	})
	if !first {
		return
	}
	// False means that it was told to stop before. A run begun since the look above is not there to be hit: this one is
	// not empty.
	_ = i.deps.Guard.Set(guard.VerdictStop, view.Epoch, 0)
	i.log.Warn("a process of Postgres crashed; killing the others", "run", run)
}
