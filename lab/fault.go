package lab

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorate/quorate/lab/netns"
)

// Fault is one that was made.
type Fault struct {
	Kind   string
	At     int64   // when, on load.Now's clock
	Before State   // just before
	Hit    []*Node // who was killed, stopped or cut off, the primary first
}

// Break makes a fault in a cluster that is as before says. With leaderToo the node of the Raft leader is hit in the same
// instant as the primary's. It returns as soon as the fault is made, and does not wait for what comes of it.
func (l *Lab) Break(ctx context.Context, name string, before State, leaderToo bool) (Fault, error) {
	f := Fault{Kind: name, Before: before}
	if err := l.CanMake(name); err != nil {
		return f, err
	}
	k, err := kindOf(name)
	if err != nil {
		return f, err
	}
	n, err := l.victimOf(k, before)
	if err != nil {
		return f, err
	}
	f.Hit = []*Node{n}
	if leaderToo {
		err = l.hitLeaderToo(&f)
	} else {
		f.At, err = k.act(l, ctx, n)
	}
	if err != nil {
		return f, fmt.Errorf("make %s: %w", name, err)
	}
	return f, nil
}

func (l *Lab) hitLeaderToo(f *Fault) (err error) {
	if f.Kind != HostKill {
		return fmt.Errorf("%w: the Raft leader's node is hit too with %s only", ErrCannot, HostKill)
	}
	if f.Before.Leader == "" || f.Before.Leader == f.Before.Primary {
		return fmt.Errorf("%w: the Raft leader %q is not on another node than primary %s", ErrCannot, f.Before.Leader, f.Before.Primary)
	}
	f.Hit = append(f.Hit, l.Node(f.Before.Leader))
	f.At, err = l.killHosts(f.Hit)
	return err
}

// Heal undoes all faults, starts the daemons that do not run, and waits until the cluster is whole.
func (l *Lab) Heal(ctx context.Context) (State, error) {
	ctx, stop := context.WithTimeout(ctx, healLimit)
	defer stop()
	if err := l.mend(ctx); err != nil {
		return State{}, err
	}
	for _, n := range l.Nodes {
		if err := l.start(n); err != nil {
			return State{}, err
		}
	}
	// Who hung for long may end instead of going on, to be started by whoever looks after it.
	defer l.keep(ctx)()
	return l.AwaitHealthy(ctx)
}

// mend undoes what was done to disks, clocks, processes and links; what has ended stays so.
func (l *Lab) mend(ctx context.Context) error {
	errs := []error{l.releaseDisks()}
	for _, n := range l.Nodes {
		if n.Disk {
			errs = append(errs, l.repairDisk(ctx, n), n.FreeDisk())
		}
		if l.clocked(n) {
			errs = append(errs, n.setClock(0))
		}
		errs = append(errs, l.resume(n))
	}
	if l.Namespaces {
		errs = append(errs, netns.Plug(l.hub(), namesOf(l.Nodes)...))
		for _, n := range l.Nodes {
			errs = append(errs, netns.Mend(ctx, l.namespace(n)))
		}
	}
	return errors.Join(errs...)
}
