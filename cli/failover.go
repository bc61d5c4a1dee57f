package cli

import (
	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
)

func (a *app) failoverVerb() *cobra.Command {
	var accept string
	cmd := &cobra.Command{
		Use: "failover NODE [--accept-data-loss TOKEN]", Short: "Make a node primary now, by hand",
		Long: `Make a node primary now, and wait until it accepts writes.

With a primary that serves it is a switchover that begins once NODE is close behind, and gives the primary at most 2 s for its
checkpoint and 2 s to end in good order, after which it is killed. Where the primary is gone the cluster fails over by itself; this
waits for that. Where nobody has every acknowledged commit, it is refused with what each node has, and with a token: given back by
--accept-data-loss it makes NODE primary all the same. What NODE lacks is lost for good then. The token is of no use once anything
has changed. A primary that may still accept writes is never overridden: its lease is over, or it has said that it stopped.

Exit code: 0 done, 5 refused, 4 no quorum, 1 failed or not done in time.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.ask(func(c *client.Client) error {
				done, err := c.Failover(cmd.Context(), args[0], accept)
				if err != nil {
					return err
				}
				return a.show(done, func() string { return done.Text + "\n" })
			})
		},
	}
	cmd.Flags().StringVar(&accept, "accept-data-loss", "", "the `token` of the refusal that says what is lost")
	return cmd
}
