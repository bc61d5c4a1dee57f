package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
)

func (a *app) reloadVerb() *cobra.Command {
	return &cobra.Command{
		Use: "reload NODE", Short: "Have a node read its file again",
		Long: `Have a node read its file again. What it says of postgresql.parameters and postgresql.pg_hba holds from then on; what else
has changed waits for a restart of the daemon, and is named. A file that can't be used changes nothing.

SIGHUP does the same to the daemon of this machine.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ask(func(c *client.Client) error {
				r, err := c.Reload(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return a.show(r, func() string { return renderReload(r) })
			})
		},
	}
}

func renderReload(r client.Reloaded) string {
	text := fmt.Sprintf("Nothing that could be taken has changed in the file of %s.\n", r.Node)
	if len(r.Taken) > 0 {
		text = fmt.Sprintf("%s has taken: %s.\n", r.Node, strings.Join(r.Taken, ", "))
	}
	if len(r.Restart) > 0 {
		text += fmt.Sprintf("These have changed and wait for a restart of its daemon: %s.\n", strings.Join(r.Restart, ", "))
	}
	return text
}

func (a *app) reinitVerb() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use: "reinit NODE [--force]", Short: "Replace the data directory of a standby by a new copy, keeping the old one",
		Long: `Replace the data directory of a standby by a new copy of the primary's. The old directory is kept beside it under
another name and never removed. It is refused while commits depend on the node: with --force they wait for fewer copies, or,
with strict, until it is back.

Exit code: 0 begun, 5 it may not be begun now, 4 no quorum, 1 failed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ask(func(c *client.Client) error {
				r, err := c.Reinit(cmd.Context(), args[0], force)
				if err != nil {
					return err
				}
				return a.show(r, func() string {
					return fmt.Sprintf("%s makes a new copy. Follow it with: quorate status\n", r.Node)
				})
			})
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "though commits depend on the node")
	return cmd
}

// pauseWait is how long --wait without a value waits.
const pauseWait = "10s"

func (a *app) pauseVerb() *cobra.Command {
	return a.pausing("pause", "Stop automatic failover, for maintenance",
		`Stop automatic failover, for maintenance: nothing is appointed, fenced or switched over until quorate resume. What runs
goes on, and a primary that fails stays down. Nothing degrades either: commits wait for the standbys that they need, as long as
it takes. With two data nodes that is the only one, so stop it after a resume, or before the pause.`, (*client.Client).Pause)
}

func (a *app) resumeVerb() *cobra.Command {
	down := false
	cmd := a.pausing("resume", "End a pause: automatic failover works again",
		`End a pause: automatic failover works again. Nobody else becomes primary before the present one shows that it knows.
If it can't, because its host is lost, --primary-is-down says so; where its PostgreSQL runs all the same, two take writes. It is
refused while any node hears the primary.`,
		func(c *client.Client, ctx context.Context, wait time.Duration) (client.Paused, error) {
			return c.Resume(ctx, wait, down)
		})
	cmd.Flags().BoolVar(&down, "primary-is-down", false, "the primary's PostgreSQL certainly runs nowhere")
	return cmd
}

type pauser func(*client.Client, context.Context, time.Duration) (client.Paused, error)

func (a *app) pausing(name, short, long string, do pauser) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use: name + " [--wait[=10s]]", Short: short,
		Long: long + `

Exit code: 0 done, 1 with --wait: not every node knows in time, 4 no quorum.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				p, err := do(c, cmd.Context(), wait)
				if err != nil {
					return err
				}
				if err := a.show(p, func() string { return renderPause(p) }); err != nil {
					return err
				}
				if wait > 0 && len(p.Pending) > 0 {
					return codeError{code: exitError}
				}
				return nil
			})
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait until every node knows, up to this `time`")
	cmd.Flags().Lookup("wait").NoOptDefVal = pauseWait
	return cmd
}

func renderPause(p client.Paused) string {
	text := "Resumed: automatic failover works again.\n"
	if p.Paused {
		text = "PAUSED: nobody takes over automatically until: quorate resume\n"
	}
	if len(p.Pending) > 0 {
		text += fmt.Sprintf("Not known to know yet: %s.\n", strings.Join(p.Pending, ", "))
	}
	return text
}
