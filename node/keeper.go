package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/pgctl/guard"
)

// keeper is the guard as the rest of the node sees it: one that may be lost and replaced, or replaced by a newer one
// while Postgres is down. Record and Set never wait; Start waits for a replacement that is under way.
type keeper struct {
	opts    guard.Options
	version string // of this program
	log     hclog.Logger

	mu      sync.Mutex // held while the guard is replaced
	present atomic.Pointer[guard.Client]
	// swept is what Record says from the moment when nothing that the lost guard owned exists any more until there is
	// another guard: that is when the epoch is released, and nobody shall wait for a process to start.
	swept atomic.Pointer[guard.View]
	told  atomic.Pointer[guard.Status] // what the guard said of itself and of its rights when it was adopted or started
}

// A killed agent keeps its directory until its last thread has ended, and one that hangs in a disk ends when the disk goes on.
// It is waited for: whoever starts agents has seen that one end, and may not start another.
const (
	predecessorBox   = 30 * time.Second
	predecessorAgain = 50 * time.Millisecond
)

// openKeeper adopts the living guard of the directory or starts one, see guard.Ensure.
func openKeeper(ctx context.Context, opts guard.Options, version string, log hclog.Logger) (*keeper, error) {
	k := &keeper{opts: opts, version: version, log: log}
	limit := guard.Now() + predecessorBox
	for said := false; ; said = true {
		err := k.ensure()
		switch {
		case !errors.Is(err, guard.ErrAgentRunning):
			return k, err
		case guard.Now() >= limit:
			return k, fmt.Errorf("%w, and did not let go of it within %s: stop it, or, if it was killed and hangs in state D (ps), "+
				"start this one again when its disk works", err, predecessorBox)
		}
		if !said {
			log.Warn("another agent has not let go of this directory; waiting for its end", "dir", opts.Dir, "limit", predecessorBox.String())
		}
		select {
		case <-ctx.Done():
			return k, ctx.Err()
		case <-time.After(predecessorAgain):
		}
	}
}

// ensure takes the guard that there is, or a new one. The caller holds k.mu or is alone.
func (k *keeper) ensure() error {
	c, err := guard.Ensure(k.opts)
	if err != nil {
		return fmt.Errorf("adopt or start the guard: %w", err)
	}
	s, err := c.Status()
	if err != nil {
		return errors.Join(fmt.Errorf("ask the guard what it can do: %w", err), c.Close())
	}
	if s.Version != k.version && !s.Gone() {
		k.log.Warn("the guard is of another version; it is kept until Postgres stops", "guard", s.Version, "daemon", k.version)
	}
	k.told.Store(&s)
	k.present.Store(c)
	k.swept.Store(nil)
	return nil
}

// Record reads what the guard has done, without any wait.
func (k *keeper) Record() guard.View {
	if v := k.swept.Load(); v != nil {
		empty := *v
		empty.Tick = guard.Now()
		return empty
	}
	return k.present.Load().Record()
}

// Set is guard.Client.Set.
func (k *keeper) Set(v guard.Verdict, epoch uint64, deadline time.Duration) bool {
	return k.swept.Load() == nil && k.present.Load().Set(v, epoch, deadline)
}

// Signal is guard.Client.Signal.
func (k *keeper) Signal(name string) error { return k.present.Load().Signal(name) }

// WaitEmpty is guard.Client.WaitEmpty. A guard lost meanwhile is an error even where the sweep proves it empty a moment
// later; the caller looks again.
func (k *keeper) WaitEmpty(ctx context.Context) error {
	if k.swept.Load() != nil {
		return nil
	}
	return k.present.Load().WaitEmpty(ctx)
}

// Start starts Postgres under the guard, under a new one of this program's version if the guard was of another.
func (k *keeper) Start(r guard.StartRequest) (run uint64, pid int, err error) {
	c, err := k.upToDate()
	if err != nil {
		return 0, 0, err
	}
	// Without the lock: a guard that hangs in the start must be found and killed meanwhile.
	return c.Start(r)
}

// upToDate returns the guard under which Postgres may be started now.
func (k *keeper) upToDate() (*guard.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if old := k.told.Load().Version; old != k.version && k.Record().Gone() {
		if err := k.renew(); err != nil {
			return nil, err
		}
		k.log.Info("replaced the guard while Postgres was down", "was", old, "is", k.told.Load().Version)
	}
	return k.present.Load(), nil
}

// renew ends a guard that guards nothing and starts another. A failure in between leaves a guard that is gone, which
// tendGuard finds.
func (k *keeper) renew() error {
	c := k.present.Load()
	if err := c.Quit(); err != nil {
		return fmt.Errorf("end the guard of another version: %w", err)
	}
	empty := c.Record()
	k.swept.Store(&empty)
	if err := c.Close(); err != nil {
		return fmt.Errorf("let go of the guard of another version: %w", err)
	}
	return k.ensure()
}

// Quit ends the guard, which must guard nothing.
func (k *keeper) Quit() error { return k.present.Load().Quit() }

// Close lets go of the guard, which goes on with its last orders.
func (k *keeper) Close() error { return k.present.Load().Close() }
