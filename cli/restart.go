package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
)

func (a *app) restartVerb() *cobra.Command {
	var pending bool
	cmd := &cobra.Command{
		Use: "restart NODE [--pending]", Short: "Restart the PostgreSQL of a node",
		Long: `Restart the PostgreSQL of a node and wait until it is back. One node is restarted at a time, a standby only while
commits don't depend on it; the primary's clients are disconnected for the moment, and it stays primary.

Exit code: 0 restarted, or nothing was pending; 5 it may not be restarted now; 4 no quorum; 1 failed.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ask(func(c *client.Client) error {
				r, err := c.Restart(cmd.Context(), args[0], pending)
				if err != nil {
					return err
				}
				return a.show(r, func() string {
					if r.Restarted {
						return fmt.Sprintf("PostgreSQL on %s was restarted.\n", r.Node)
					}
					return fmt.Sprintf("No setting on %s waits for a restart.\n", r.Node)
				})
			})
		},
	}
	cmd.Flags().BoolVar(&pending, "pending", false, "only if a setting waits for it")
	return cmd
}
