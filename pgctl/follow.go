package pgctl

import (
	"context"
	"errors"
	"fmt"
	"time"

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
	l, m, _ := i.snapshot()
	if u.Epoch <= m.detached {
		return fmt.Errorf("%w: the mark is at epoch %d", ErrDetached, m.detached)
	}
	view := i.deps.Guard.Record()
	switch {
	case view.Gone():
		return ErrNotRunning
	case view.Verdict != guard.VerdictStandby:
		return fmt.Errorf("%w: the guard's verdict is %s", ErrServing, view.Verdict)
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

// Settle ends the rebuilding of the log: it has caught up with the primary, so its positions count again.
func (i *Instance) Settle(ctx context.Context) error {
	s := i.Status(ctx)
	if !s.Rebuilding {
		return nil
	}
	if !s.CaughtUp {
		return errors.New("end the rebuilding of the log: it has not caught up with its primary")
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.setRebuild(false, "")
}
