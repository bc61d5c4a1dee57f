package lab

import (
	"context"
	"errors"
	"fmt"

	"github.com/quorate/quorate/api/client"
)

// form makes a cluster of a lab whose nodes wait: the first founds it and the others join. It has the tables for clients.
func (l *Lab) form(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, upLimit)
	defer stop()
	first := l.Nodes[0]
	if err := client.Unix(first.Socket()).Init(ctx, client.InitRequest{}); err != nil {
		return fmt.Errorf("found a cluster on %s: %w", first.Name, err)
	}
	first.Outside = false
	err := until(ctx, first.Name+" is primary", func() (bool, error) {
		s, err := client.Unix(first.Socket()).Status(ctx)
		return err == nil && s.Serving, err
	})
	if err != nil {
		return fmt.Errorf("%w\n%s", err, l.Report())
	}
	for _, n := range l.Nodes[1:] {
		if err := l.admit(ctx, n, first); err != nil {
			return errors.Join(err, errors.New(l.Report()))
		}
	}
	return l.MakeTables(ctx)
}

// admit has a node that waits join the cluster of a member, and returns when it is one.
func (l *Lab) admit(ctx context.Context, n, member *Node) error {
	t, err := client.Unix(member.Socket()).Token(ctx)
	if err != nil {
		return fmt.Errorf("get a token from %s: %w", member.Name, err)
	}
	if err := client.Unix(n.Socket()).Join(ctx, client.JoinRequest{Token: t.Token, Hosts: []string{member.Cluster}}); err != nil {
		return fmt.Errorf("have %s join %s: %w", n.Name, member.Name, err)
	}
	n.Outside = false
	return l.save()
}

// readmit wipes a node that was removed and has it join again.
func (l *Lab) readmit(ctx context.Context, n, member *Node) error {
	ctx, stop := context.WithTimeout(ctx, upLimit)
	defer stop()
	if err := l.KillNodes(ctx, n); err != nil {
		return err
	}
	if err := l.Wipe(ctx, n); err != nil {
		return err
	}
	if err := l.StartDaemon(n); err != nil {
		return err
	}
	err := until(ctx, n.Name+" waits to be told", func() (bool, error) {
		s, err := client.Unix(n.Socket()).Status(ctx)
		return err == nil && s.Epoch == 0, err
	})
	if err != nil {
		return err
	}
	return l.admit(ctx, n, member)
}
