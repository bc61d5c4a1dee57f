package node

import (
	"context"
	"errors"
	"time"

	"github.com/quorate/quorate/pgctl/guard"
)

const (
	// sweepBox is how long what a lost guard owned may take to die. Processes that hang in the kernel take longer: then
	// this process ends, so that it no longer asks for the lease of a Postgres that it can neither serve nor release.
	sweepBox = 2 * time.Second
	// guardRetry is the pause before the next attempt to start a guard where one failed.
	guardRetry = time.Second
)

// tendGuard wakes the agent at every change that the guard tells of, and replaces a guard that died or that can't
// enforce a deadline any more.
func (n *Node) tendGuard(ctx context.Context) {
	for ctx.Err() == nil {
		c := n.guard.present.Load()
		why := n.watchGuard(ctx, c)
		if ctx.Err() == nil {
			n.guardLost(ctx, c, why)
		}
	}
}

// watchGuard returns when c is lost, and how that was seen. A guard that does not tick is as good as dead: nobody else
// would end a Postgres whose lease is over (DETAILS 11).
func (n *Node) watchGuard(ctx context.Context, c *guard.Client) string {
	tick := time.NewTicker(guardLate / 5)
	defer tick.Stop()
	late := 0
	for {
		select {
		case <-ctx.Done():
			return ""
		case _, ok := <-c.Changes():
			if !ok {
				return "the guard ended"
			}
			n.poke()
		case <-tick.C:
			if guard.Now()-c.Record().Tick <= guardLate {
				late = 0
				continue
			}
			// Twice, a full period apart: this process, not the guard, may have been the one that was held up, and a ticker
			// that was makes up for it by a second tick at once.
			if late++; late >= 2 {
				return "the guard does not tick"
			}
			tick.Reset(guardLate / 5)
		}
	}
}

// guardLost kills what the guard owned, lets the agent release the epoch as soon as that is proved, and gets another
// guard. The lease isn't needed for it: a release makes nobody wait.
func (n *Node) guardLost(ctx context.Context, c *guard.Client, why string) {
	k := n.guard
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.present.Load() != c {
		return // it was replaced on purpose
	}
	if k.swept.Load() == nil {
		n.log.Error("the guard is lost; killing all that it owned", "reason", why, "run", c.Record().Run)
		if err := sweepWithin(c, sweepBox); err != nil {
			n.exit("what a lost guard owned can't be killed: " + err.Error())
			return
		}
		empty := c.Record()
		empty.State = guard.StateEmpty
		k.swept.Store(&empty)
		n.log.Warn("nothing is left of what the lost guard owned", "run", empty.Run)
		n.poke()
	}
	if err := c.Close(); err != nil {
		n.log.Warn("letting go of the lost guard", "error", err)
	}
	for {
		err := k.ensure()
		if err == nil {
			break
		}
		n.log.Error("no new guard; Postgres stays down until there is one", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(guardRetry):
		}
	}
	n.log.Info("a new guard runs", "pid", k.Record().GuardPID)
	n.poke()
}

var errSweepBox = errors.New("processes of Postgres are still there after " + sweepBox.String())

// sweepWithin kills the guard and all that it owned, and returns when nothing of it exists.
func sweepWithin(c *guard.Client, box time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- c.Kill() }()
	select {
	case err := <-done:
		return err
	case <-time.After(box):
		return errSweepBox
	}
}
