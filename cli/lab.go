package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/lab"
	"github.com/quorate/quorate/lab/load"
)

// labVerb is a cluster on this machine to try things on. Its verbs end what they made when they are interrupted.
func (a *app) labVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "A whole cluster on this machine: make it, break it, measure it",
		Long: `A whole cluster on this machine: real daemons and Postgres servers, with root each in a network namespace of its own.

Begin with: quorate lab demo (under three minutes, leaves nothing behind) or quorate lab up.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(a.labUpVerb(), a.labDownVerb(), a.labLoadVerb())
	return cmd
}

// interruptible returns a context that ends with SIGINT or SIGTERM.
func interruptible(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	ctx := cmd.Context()
	if ctx == nil {
		ctx = context.Background()
	}
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

func (a *app) labUpVerb() *cobra.Command {
	o := lab.Options{}
	cmd := &cobra.Command{
		Use: "up [--nodes N]", Short: "Make a cluster and wait until it is whole", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			o.Out = a.out
			l, err := lab.Up(ctx, o)
			if err != nil {
				return err
			}
			l.Introduce()
			return nil
		},
	}
	cmd.Flags().IntVar(&o.Nodes, "nodes", 3, "how many nodes")
	cmd.Flags().StringVar(&o.Durability, "durability", "quorum", "quorum or async")
	return cmd
}

func (a *app) labDownVerb() *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use: "down", Short: "End and remove everything of a lab", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			l, err := lab.Find(id, a.out)
			if err != nil {
				return err
			}
			if err := l.Down(ctx); err != nil {
				return err
			}
			return a.print(fmt.Sprintf("lab %s is gone\n", l.ID))
		},
	}
	cmd.Flags().StringVar(&id, "id", "", "which lab, if there are several")
	return cmd
}

func (a *app) labLoadVerb() *cobra.Command {
	return &cobra.Command{
		Use: "load", Short: "Write, as told on standard input, until that ends (started by other lab verbs)", Hidden: true, Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			return load.Main(ctx, os.Stdin, a.out)
		},
	}
}
