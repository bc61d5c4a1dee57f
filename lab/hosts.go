package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/quorate/quorate/lab/netns"
)

// StartOn starts a program on the node's host, or on the clients' if n is nil: with its network, and in its control group, so
// that it ends with the lab at the latest. Its environment is this process's without what would overrule node files, and
// then what cmd has.
func (l *Lab) StartOn(n *Node, cmd *exec.Cmd) error {
	cmd.Env = append(environment(), cmd.Env...)
	if n == nil {
		return l.launch(cmd, l.client(), "client")
	}
	return l.launch(cmd, l.namespace(n), n.Name)
}

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

// Wipe leaves a node on which nothing runs with what a new disk has: nothing of cluster.data_dir and of Postgres.
func (l *Lab) Wipe(ctx context.Context, n *Node) error {
	if err := l.awaitDead(ctx, n); err != nil {
		return err
	}
	if err := freeSharedMemory(n.PGData()); err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(n.Data()), os.RemoveAll(n.PGData()))
}

// Move gives the host of a node on which nothing runs another address, and writes it into the node's file.
func (l *Lab) Move(ctx context.Context, n *Node, addr string) error {
	if !l.Namespaces {
		return fmt.Errorf("%w: a host can't move without network namespaces, and those need root", ErrCannot)
	}
	if err := l.awaitDead(ctx, n); err != nil {
		return err
	}
	if err := netns.Readdress(ctx, l.namespace(n), n.Addr, addr); err != nil {
		return err
	}
	n.live(addr)
	if err := l.writeNodeFile(n); err != nil {
		return err
	}
	return l.save()
}

// Mend undoes all faults but that processes have ended, and waits for nothing.
func (l *Lab) Mend(ctx context.Context) error { return l.mend(ctx) }

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
