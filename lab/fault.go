package lab

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/lab/load"
	"github.com/quorate/quorate/lab/netns"
)

// The faults.
const (
	HostKill     = "host-kill"     // the primary's host vanishes: its link first, then all that ran on it
	PostgresKill = "postgres-kill" // SIGKILL to the primary's postmaster
	Partition    = "partition"     // the primary is cut off from the other nodes; clients still reach all of them
	Switchover   = "switchover"    // no fault, but asked for
)

// Faults are all kinds.
func Faults() []string { return []string{HostKill, PostgresKill, Partition, Switchover} }

// impossible are the faults that can't be made without namespaces.
func (l *Lab) impossible() []string {
	if l.Namespaces {
		return nil
	}
	return []string{HostKill, Partition}
}

// faults are those that can be made.
func (l *Lab) faults() []string {
	return slices.DeleteFunc(Faults(), func(f string) bool { return slices.Contains(l.impossible(), f) })
}

// Fault is one that was made.
type Fault struct {
	Kind   string
	At     int64   // when, on load.Now's clock
	Before State   // just before
	Hit    []*Node // who was killed or cut off, the primary first
}

// CanMake says why a fault of that kind can't be made: ErrUnknown, ErrCannot.
func (l *Lab) CanMake(kind string) error {
	if !slices.Contains(Faults(), kind) {
		return fmt.Errorf("%w: %q; there are %s", ErrUnknown, kind, strings.Join(Faults(), ", "))
	}
	if slices.Contains(l.impossible(), kind) {
		return fmt.Errorf("%w: %s needs network namespaces, and those need root; possible are %s", ErrCannot, kind, strings.Join(l.faults(), ", "))
	}
	return nil
}

// Break makes a fault in a cluster that is whole as before says. With leaderToo the node of the Raft leader is hit in the
// same instant as the primary's. It returns as soon as the fault is made, and does not wait for what comes of it.
func (l *Lab) Break(ctx context.Context, kind string, before State, leaderToo bool) (Fault, error) {
	f := Fault{Kind: kind, Before: before}
	if err := l.CanMake(kind); err != nil {
		return f, err
	}
	f.Hit = []*Node{l.Node(before.Primary)}
	if leaderToo {
		if kind != HostKill {
			return f, fmt.Errorf("%w: the Raft leader's node is hit too with %s only", ErrCannot, HostKill)
		}
		if before.Leader == "" || before.Leader == before.Primary {
			return f, fmt.Errorf("%w: the Raft leader %q is not on another node than primary %s", ErrCannot, before.Leader, before.Primary)
		}
		f.Hit = append(f.Hit, l.Node(before.Leader))
	}
	var err error
	switch kind {
	case HostKill:
		f.At, err = l.killHosts(f.Hit)
	case PostgresKill:
		f.At, err = l.killPostgres(f.Hit[0])
	case Partition:
		f.At, err = l.cutOff(ctx, f.Hit[0])
	case Switchover:
		f.At = load.Now()
		_, err = client.Unix(f.Hit[0].Socket()).AskSwitchover(ctx, "")
	}
	if err != nil {
		return f, fmt.Errorf("make %s: %w", kind, err)
	}
	return f, nil
}

// killHosts takes the links first: a host that vanishes says nothing any more, not even that its sockets are closed.
func (l *Lab) killHosts(hit []*Node) (at int64, err error) {
	var ports []string
	for _, n := range hit {
		ports = append(ports, n.Name)
	}
	at = load.Now()
	if err := netns.Unplug(l.hub(), ports...); err != nil {
		return at, err
	}
	var errs []error
	for _, n := range hit {
		g, err := l.nodeGroup(n)
		if err == nil {
			err = g.Kill()
		}
		errs = append(errs, err)
	}
	return at, errors.Join(errs...)
}

func (l *Lab) killPostgres(n *Node) (at int64, err error) {
	pid, err := l.Postmaster(n)
	if err != nil {
		return 0, err
	}
	at = load.Now()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		return at, fmt.Errorf("kill the postmaster of %s: %w", n.Name, err)
	}
	return at, nil
}

func (l *Lab) cutOff(ctx context.Context, n *Node) (at int64, err error) {
	var others []string
	for _, o := range l.Nodes {
		if o != n {
			others = append(others, o.Addr)
		}
	}
	at = load.Now()
	return at, netns.Cut(ctx, l.namespace(n), others)
}

// Heal undoes all faults, starts the daemons that do not run, and waits until the cluster is whole.
func (l *Lab) Heal(ctx context.Context) (State, error) {
	ctx, stop := context.WithTimeout(ctx, healLimit)
	defer stop()
	if l.Namespaces {
		if err := netns.Plug(l.hub(), l.names()...); err != nil {
			return State{}, err
		}
		for _, n := range l.Nodes {
			if err := netns.Mend(ctx, l.namespace(n)); err != nil {
				return State{}, err
			}
		}
	}
	for _, n := range l.Nodes {
		if err := l.start(n); err != nil {
			return State{}, err
		}
	}
	return l.AwaitHealthy(ctx)
}
