package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
)

const (
	beginWait = 2 * time.Minute
	joinWait  = time.Minute // of the daemon's own limit and a little more
)

func (a *app) initVerb() *cobra.Command {
	var r client.InitRequest
	cmd := &cobra.Command{
		Use: "init [--adopt-from NAME]", Short: "Make a cluster of this node; others join it",
		Long: `Make a cluster of this node and wait until it is primary. The daemon must run, with a node file that names no
cluster.peers. Without a secret in the node file one is made, in cluster.data_dir. It prints what to type on the other hosts.

A data directory that holds a database is taken over, stopped or running, if it was last run as a primary. --adopt-from names
the node whose directory it shall be where that is not plain; with cluster.peers it is for the first of them.

Exit code: 0 done, 5 refused, 1 not done in time.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				if err := c.Init(cmd.Context(), r); err != nil {
					return err
				}
				s, err := a.awaitStatus(cmd.Context(), c, func(s client.Status) bool { return s.Serving })
				if err != nil {
					return err
				}
				t, err := c.Token(cmd.Context())
				if err != nil {
					return err
				}
				return a.show(t, func() string { return s.Summary + "\n" + renderToken(t) })
			})
		},
	}
	cmd.Flags().StringVar(&r.AdoptFrom, "adopt-from", "", "the `name` of the node whose data directory the cluster begins with")
	return cmd
}

func (a *app) joinVerb() *cobra.Command {
	var r client.JoinRequest
	var tokenFile string
	var noWait bool
	cmd := &cobra.Command{
		Use: "join HOST... --token T", Short: "Make this node a member of the cluster of HOST",
		Long: `Make this node a member of a cluster, of which HOST (with the cluster's port, if it is another than here) is a member,
and wait until it keeps up with the primary. The daemon must run, with a node file that names no cluster.peers. The token comes
from quorate token on any member; it holds the cluster's secret. --token - reads it from standard input.

A node whose disk was lost comes back under its old name with --replace: the member of that name is taken out first.

Exit code: 0 done, 5 refused, 4 nobody answered or none has a leader, 1 not done in time.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := readToken(cmd, &r, tokenFile); err != nil {
				return err
			}
			r.Hosts = args
			return a.ask(func(c *client.Client) error { return a.join(cmd.Context(), c, r, noWait) })
		},
	}
	cmd.Flags().StringVar(&r.Token, "token", "", "the `token` of the cluster, or - for standard input")
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "the `file` that holds it, which keeps it out of the shell's history")
	cmd.Flags().BoolVar(&r.Replace, "replace", false, "the member with this node's name is gone for good")
	cmd.Flags().BoolVar(&noWait, "no-wait", false, "do not wait for the copy of the data")
	return cmd
}

// readToken gets the token from where it is.
func readToken(cmd *cobra.Command, r *client.JoinRequest, file string) error {
	switch {
	case r.Token != "" && file != "":
		return codeError{exitUsage, errors.New("--token and --token-file are both given: keep one")}
	case file != "":
		b, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read the token: %w", err)
		}
		r.Token = string(b)
	case r.Token == "-":
		var line string
		if _, err := fmt.Fscan(cmd.InOrStdin(), &line); err != nil {
			return fmt.Errorf("read the token: %w", err)
		}
		r.Token = line
	case r.Token == "":
		return codeError{exitUsage, errors.New("--token is missing; get one on a member with: quorate token")}
	}
	return nil
}

func (a *app) join(ctx context.Context, c *client.Client, r client.JoinRequest, noWait bool) error {
	limited, stop := context.WithTimeout(ctx, joinWait)
	defer stop()
	if err := c.Join(limited, r); err != nil {
		return err
	}
	if noWait {
		return a.print("This node is a member.\n")
	}
	if a.output == "table" {
		if err := a.print("This node is a member; waiting until it keeps up with the primary.\n"); err != nil {
			return err
		}
	}
	s, err := a.awaitStatus(ctx, c, func(s client.Status) bool {
		n, ok := self(s)
		return ok && n.Heard && (n.Role == "witness" || n.Healthy && n.State == "streaming")
	})
	if err != nil {
		return err
	}
	return a.show(s, func() string { return s.Summary + "\n" })
}

// self is the node that was asked, as the cluster sees it.
func self(s client.Status) (client.NodeStatus, bool) {
	for _, n := range s.Nodes {
		if n.Name == s.Asked {
			return n, true
		}
	}
	return client.NodeStatus{}, false
}

// awaitStatus asks the local daemon until its answer is good. It opens its sockets anew meanwhile.
func (a *app) awaitStatus(ctx context.Context, c *client.Client, good func(client.Status) bool) (client.Status, error) {
	ctx, stop := context.WithTimeout(ctx, beginWait)
	defer stop()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		s, err := c.Status(ctx)
		if err == nil && good(s) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = errors.New(s.Summary + " " + strings.Join(s.Problems, "; "))
			}
			return s, fmt.Errorf("not done after %s, and it goes on; see quorate status: %w", beginWait, err)
		case <-tick.C:
		}
	}
}

func (a *app) tokenVerb() *cobra.Command {
	return &cobra.Command{
		Use: "token", Short: "Print what another node needs to join",
		Long: `Print the token with which another node joins this cluster. It holds the cluster's secret: whoever has it can be a
member and reach all data. Only this machine's daemon tells it, by its unix socket.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				t, err := c.Token(cmd.Context())
				if err != nil {
					return err
				}
				return a.show(t, func() string { return t.Token + "\n" })
			})
		},
	}
}

func renderToken(t client.Token) string {
	host := "HOST"
	if len(t.Hosts) > 0 {
		host = t.Hosts[0]
	}
	return fmt.Sprintf(`
On each other host, with its daemon running and no cluster.peers in its node file:

  quorate join %s --token %s

The token holds the cluster's secret. quorate token prints it again.
`, host, t.Token)
}

func (a *app) membersVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "members", Short: "List the members; add, remove and replace them", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				list, err := c.Members(cmd.Context())
				if err != nil {
					return err
				}
				return a.show(list, func() string { return renderMembers(list) })
			})
		},
	}
	list := &cobra.Command{Use: "list", Short: "List the members", Args: cobra.NoArgs, RunE: cmd.RunE}
	cmd.AddCommand(list, a.memberAddVerb(), a.memberRemoveVerb(), a.memberReplaceVerb())
	return cmd
}

func (a *app) memberAddVerb() *cobra.Command {
	return &cobra.Command{
		Use: "add NAME", Short: "Say what to type on the new node's host",
		Long: "A node adds itself, with a token. This checks that NAME is free and prints the command.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ask(func(c *client.Client) error {
				list, err := c.Members(cmd.Context())
				if err != nil {
					return err
				}
				for _, m := range list {
					if m.Name == args[0] {
						return codeError{exitRefused, fmt.Errorf("%s is a member, at %s. If its disk is gone for good: quorate members replace %s", m.Name, m.Addr, m.Name)}
					}
				}
				return a.sayJoin(cmd.Context(), c, "")
			})
		},
	}
}

// sayJoin prints what to type on the other host.
func (a *app) sayJoin(ctx context.Context, c *client.Client, more string) error {
	t, err := c.Token(ctx)
	if err != nil {
		return err
	}
	return a.show(t, func() string { return strings.Replace(renderToken(t), " --token ", more+" --token ", 1) })
}

func (a *app) memberRemoveVerb() *cobra.Command {
	var r client.RemoveRequest
	cmd := &cobra.Command{
		Use: "remove NAME", Short: "Take a node out of the cluster",
		Long: `Take a node out: no commit waits for its copy any more, then it has no vote, then it is no member. Its PostgreSQL is
shut down and its data are left where they are. The primary can't be removed; switch over first.

Exit code: 0 done, 5 refused, 4 no quorum, 1 not done in time.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Name = args[0]
			return a.ask(func(c *client.Client) error { return a.removeMember(cmd.Context(), c, r) })
		},
	}
	lastCopy(cmd, &r)
	return cmd
}

func lastCopy(cmd *cobra.Command, r *client.RemoveRequest) {
	cmd.Flags().BoolVar(&r.LastCopy, "last-copy", false, "although no other standby has a copy of the data")
}

func (a *app) removeMember(ctx context.Context, c *client.Client, r client.RemoveRequest) error {
	if err := c.RemoveMember(ctx, r); err != nil {
		return err
	}
	_, err := a.awaitStatus(ctx, c, func(s client.Status) bool {
		for _, n := range s.Nodes {
			if n.Name == r.Name {
				return false
			}
		}
		return s.Quorum
	})
	if err != nil {
		return err
	}
	return a.print(r.Name + " is no member any more.\n")
}

func (a *app) memberReplaceVerb() *cobra.Command {
	r := client.RemoveRequest{Replace: true}
	cmd := &cobra.Command{
		Use: "replace NAME", Short: "Take a lost node out and say what to type on the host that takes its name",
		Long: `Take a lost node out and say what to type on the host that takes its name, which then gets a copy of the data. A node that
lives is not replaced: remove it. Where no standby but the lost one had a copy, --last-copy says that its disk is gone for good.

Exit code: 0 done, 5 refused, 4 no quorum, 1 not done in time.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Name = args[0]
			return a.ask(func(c *client.Client) error {
				if err := a.removeMember(cmd.Context(), c, r); err != nil {
					return err
				}
				return a.sayJoin(cmd.Context(), c, "")
			})
		},
	}
	lastCopy(cmd, &r)
	return cmd
}

func renderMembers(list []client.Member) string {
	t := table{{"NAME", "ROLE", "ADDRESS", "POSTGRES", "VERSION", "VOTE", "SYNC", "HEARD"}}
	for _, m := range list {
		role := string(m.Role)
		if m.Primary {
			role = "primary"
		}
		if m.Leaving {
			role += ", being removed"
		}
		vote := yes(m.Voter)
		if m.Leader {
			vote = "leader"
		}
		version := "-"
		if m.Major > 0 {
			version = fmt.Sprint(m.Major)
		}
		pg := m.Postgres
		if pg == "" {
			pg = "-"
		}
		t = append(t, []string{m.Name, role, m.Addr, pg, version, vote, yes(m.InSync), yes(m.Heard)})
	}
	return t.String()
}
