package e2e_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/lab"
)

// TestAgentKilledAtEveryStep kills agents with SIGKILL at every step that they log, and at random instants, of all that
// changes who is primary, what a commit waits for, or a data directory.
func TestAgentKilledAtEveryStep(t *testing.T) {
	b := newBroken(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	k := newKilling(b, seed)
	for _, c := range []struct {
		name string
		op   func(*killing) operation
		more int
	}{
		{"clone", (*killing).quarantine, 1},
		{"fewer copies and back", (*killing).degrade, 1},
		{"async and back", (*killing).async, 1},
		{"switchover", (*killing).switchover, 2},
		{"rewind", (*killing).rewind, 1},
		{"failover", (*killing).failover, 2},
	} {
		b.in(c.name, func(b *broken) {
			k.broken = b
			began := time.Now()
			k.everywhere(c.op(k), c.more)
			b.Logf("all in all %s", time.Since(began).Round(100*time.Millisecond))
		})
	}
	for _, step := range []string{
		"promote as primary", "promoted", "configure as primary", "decided sync-degrade", "decided sync-raise", "decided sync-return", "rewind begins", "clone begins",
	} {
		if !k.met[step] && !t.Failed() {
			t.Errorf("nobody was killed at %q: the log says it otherwise now, or this test tests less than it should", step)
		}
	}
}

// roles are the primary and the standbys, of which the last is rather the Raft leader's node.
func (k *killing) roles(s lab.State) (primary, standby, third *lab.Node) {
	primary = k.lab.Node(s.Primary)
	others := k.except(primary)
	if others[0].Name == s.Leader {
		others[0], others[1] = others[1], others[0]
	}
	return primary, others[0], others[1]
}

// switchover is asked of the node that nobody is killed on, so that the answer says when it is over.
func (k *killing) switchover() operation {
	return func(s lab.State) ([]*lab.Node, func(context.Context) error) {
		primary, standby, third := k.roles(s)
		return []*lab.Node{primary, standby}, func(ctx context.Context) error {
			c := client.Unix(third.Socket())
			asked, err := c.AskSwitchover(ctx, standby.Name)
			if err != nil {
				return err
			}
			_, err = c.Switchover(ctx, asked, limit)
			return err
		}
	}
}

// failover is what follows when the primary's postmaster dies.
func (k *killing) failover() operation {
	return func(s lab.State) ([]*lab.Node, func(context.Context) error) {
		postmaster, err := k.lab.Postmaster(k.lab.Node(s.Primary))
		if err != nil {
			k.Fatal(err)
		}
		k.signal(syscall.SIGKILL, postmaster)
		return k.except(k.lab.Node(s.Primary)), func(ctx context.Context) error {
			return k.until(ctx, func(now lab.State) bool { return now.Epoch > s.Epoch })
		}
	}
}

// degrade stops the walreceivers of both standbys until commits wait for nobody, and lets them go on.
func (k *killing) degrade() operation {
	return func(s lab.State) ([]*lab.Node, func(context.Context) error) {
		primary, standby, third := k.roles(s)
		receivers := []int{pauseReceiver(k.T, k.lab, standby), pauseReceiver(k.T, k.lab, third)}
		return []*lab.Node{primary, third}, func(ctx context.Context) error {
			// After a failover meanwhile they are gone.
			err := k.until(ctx, func(now lab.State) bool { return now.Copies == 1 || now.Epoch > s.Epoch })
			for _, pid := range receivers {
				_ = syscall.Kill(pid, syscall.SIGCONT)
			}
			return err
		}
	}
}

// async has commits wait for nobody because somebody wants that. What is acknowledged then may be lost.
func (k *killing) async() operation {
	return func(s lab.State) ([]*lab.Node, func(context.Context) error) {
		primary, standby, third := k.roles(s)
		k.lossy = append(k.lossy, [2]time.Time{time.Now(), {}})
		return []*lab.Node{primary, third}, func(ctx context.Context) error {
			edit := func(to string) error {
				return exec.CommandContext(ctx, quorate.exe, "edit-config", "--socket", standby.Socket(), "--yes", "--set", "durability="+to).Run()
			}
			return errors.Join(
				k.persist(ctx, func() error { return edit("async") }),
				k.until(ctx, func(now lab.State) bool { return now.Epoch > 0 && len(now.Members) == 0 }),
				k.persist(ctx, func() error { return edit("quorum") }))
		}
	}
}

// rewind is the way back of a primary with log that nobody else has.
func (k *killing) rewind() operation {
	return func(s lab.State) ([]*lab.Node, func(context.Context) error) {
		primary, standby, third := k.roles(s)
		for _, n := range []*lab.Node{standby, third} {
			pauseReceiver(k.T, k.lab, n)
		}
		c, err := dial(k.lab, primary)
		if err != nil {
			k.Fatal(err)
		}
		defer hang(c)
		if _, err := run1(c, "SET synchronous_commit = local; CREATE TABLE IF NOT EXISTS tails (id int); INSERT INTO tails VALUES (1)"); err != nil {
			k.Fatal(err)
		}
		if err := k.lab.KillNodes(k.Context(), primary); err != nil {
			k.Fatal(err)
		}
		k.movedOn(s)
		if err := k.lab.StartDaemon(primary); err != nil {
			k.Fatal(err)
		}
		return []*lab.Node{primary}, func(context.Context) error { return nil }
	}
}

// quarantine is a clone of a node whose data directory is damaged, and has to be kept all the same.
func (k *killing) quarantine() operation {
	return func(s lab.State) ([]*lab.Node, func(context.Context) error) {
		_, standby, _ := k.roles(s)
		if err := k.lab.KillNodes(k.Context(), standby); err != nil {
			k.Fatal(err)
		}
		control := filepath.Join(standby.PGData(), "global", "pg_control")
		content, err := os.ReadFile(control)
		if err != nil {
			k.Fatal(err)
		}
		content[40] ^= 1
		if err := os.WriteFile(control, content, 0o600); err != nil {
			k.Fatal(err)
		}
		if err := k.lab.StartDaemon(standby); err != nil {
			k.Fatal(err)
		}
		return []*lab.Node{standby}, func(context.Context) error { return nil }
	}
}

// until waits for a state; the context's error if that ends first.
func (k *killing) until(ctx context.Context, done func(lab.State) bool) error {
	return k.persist(ctx, func() error {
		if !done(k.newest()) {
			return errors.New("not yet")
		}
		return nil
	})
}

// persist tries again until there is no error, or the context ends.
func (k *killing) persist(ctx context.Context, try func() error) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-tick.C:
		}
	}
}
