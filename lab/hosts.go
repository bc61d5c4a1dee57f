package lab

import (
	"context"
	"fmt"

	"github.com/quorate/quorate/lab/netns"
)

// KillHosts makes these hosts vanish: all their links in the same instant, then everything that runs on them. ReturnHost
// and Heal bring them back.
func (l *Lab) KillHosts(nodes ...*Node) error {
	if !l.Namespaces {
		return fmt.Errorf("%w: a host can't vanish without network namespaces, and those need root", ErrCannot)
	}
	_, err := l.killHosts(nodes)
	return err
}

// KillNodes ends everything that runs on these nodes in one instant, and returns when nothing does any more. Their links
// stay. StartDaemon and Heal bring them back.
func (l *Lab) KillNodes(ctx context.Context, nodes ...*Node) error {
	if !l.Namespaces {
		return fmt.Errorf("%w: nodes can't be killed at once without control groups, and those need root", ErrCannot)
	}
	l.leave(nodes...)
	if err := l.killGroups(nodes); err != nil {
		return err
	}
	return l.awaitDead(ctx, nodes...)
}

// ReturnHost plugs a host in again and starts its daemon.
func (l *Lab) ReturnHost(ctx context.Context, n *Node) error {
	if err := l.awaitDead(ctx, n); err != nil {
		return err
	}
	if err := netns.Plug(l.hub(), n.Name); err != nil {
		return err
	}
	return l.StartDaemon(n)
}

// awaitDead waits until nothing runs on these nodes.
func (l *Lab) awaitDead(ctx context.Context, nodes ...*Node) error {
	ctx, stop := context.WithTimeout(ctx, killLimit)
	defer stop()
	for _, n := range nodes {
		g, err := l.nodeGroup(n)
		if err != nil {
			return err
		}
		if err := g.AwaitEmpty(ctx); err != nil {
			return err
		}
	}
	return nil
}
