package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

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
	cmd.AddCommand(a.labUpVerb(), a.labStatusVerb(), a.labFaultVerb(), a.labHealVerb(), a.labBenchVerb(), a.labSoakVerb(),
		a.labChaosVerb(),
		a.labDemoVerb(), a.labDownVerb(), a.labLoadVerb())
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
	another := false
	cmd := &cobra.Command{
		Use: "up [--data N] [--witness M]", Short: "Make a cluster and wait until it is whole", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			o.Out = a.out
			if l, err := lab.Find("", a.out); err == nil && !another {
				return fmt.Errorf("lab %s is up already: use it, take it down with `quorate lab down`, or make --another", l.ID)
			}
			l, err := lab.Up(ctx, o)
			if err != nil {
				return err
			}
			l.Introduce()
			return nil
		},
	}
	labSize(cmd, &o.Nodes, &o.Witnesses, &o.Durability, &o.Failover)
	cmd.Flags().BoolVar(&o.Disks, "disks", false, "each Postgres on a file system of its own, so that disk-hang and disk-full can be made; needs root")
	cmd.Flags().BoolVar(&another, "another", false, "though one is up; the other verbs then need --id")
	return cmd
}

// labSize gives a verb the flags that say what cluster it works on.
func labSize(cmd *cobra.Command, data, witnesses *int, durability *string, failover *time.Duration) {
	f := cmd.Flags()
	f.IntVar(data, "data", 3, "how many nodes with a Postgres")
	f.IntVar(data, "nodes", 3, "the same as --data")
	f.IntVar(witnesses, "witness", 0, "how many nodes without one beside them, which vote")
	f.StringVar(durability, "durability", "quorum", "quorum or async")
	f.DurationVar(failover, "failover-after", time.Second, "how long a primary may be silent")
}

// withLab makes a verb that works on a lab that is up.
func (a *app) withLab(cmd *cobra.Command, do func(context.Context, *lab.Lab) error) *cobra.Command {
	var id string
	cmd.Flags().StringVar(&id, "id", "", "which lab, if there are several")
	run := func(cmd *cobra.Command, _ []string) error {
		ctx, stop := interruptible(cmd)
		defer stop()
		l, err := lab.Find(id, a.out)
		if err != nil {
			return err
		}
		return do(ctx, l)
	}
	cmd.RunE = run
	return cmd
}

func (a *app) labStatusVerb() *cobra.Command {
	return a.withLab(&cobra.Command{Use: "status", Short: "Say what there is and how it is", Args: cobra.NoArgs},
		func(ctx context.Context, l *lab.Lab) error { return l.Describe(ctx, a.out) })
}

func (a *app) labFaultVerb() *cobra.Command {
	var leaderToo bool
	list := false
	kind := ""
	cmd := a.withLab(&cobra.Command{
		Use:   "fault KIND",
		Short: "Break something under load and show what happens, step by step",
		Long: "Break something under load and show what happens, step by step. KIND is\n\n" + lab.FaultHelp() +
			"\nUndo it with: quorate lab heal",
		Args: func(cmd *cobra.Command, args []string) error {
			if list {
				return cobra.NoArgs(cmd, args)
			}
			if err := cobra.ExactArgs(1)(cmd, args); err != nil {
				return err
			}
			kind = args[0]
			return nil
		},
		ValidArgs: lab.Faults(),
	}, func(ctx context.Context, l *lab.Lab) error { return l.ShowFault(ctx, kind, leaderToo) })
	make := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if list {
			return a.print(lab.FaultHelp())
		}
		return make(cmd, args)
	}
	cmd.Flags().BoolVar(&list, "list", false, "only say which there are, what they do and what healing does about them")
	cmd.Flags().BoolVar(&leaderToo, "raft-leader-too", false, "host-kill: the host of the Raft leader in the same instant")
	return cmd
}

func (a *app) labHealVerb() *cobra.Command {
	return a.withLab(&cobra.Command{Use: "heal", Short: "Undo all faults and wait until the cluster is whole", Args: cobra.NoArgs},
		func(ctx context.Context, l *lab.Lab) error {
			began := time.Now()
			s, err := l.Heal(ctx)
			if err != nil {
				return err
			}
			return a.print(fmt.Sprintf("whole after %.1f s: %s is primary, epoch %d\n", time.Since(began).Seconds(), s.Primary, s.Epoch))
		})
}

func (a *app) labBenchVerb() *cobra.Command {
	var o lab.BenchOptions
	var recompute, clients string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "bench --fault KIND", Short: "Measure what a fault costs, many times", Args: cobra.NoArgs,
		Long: `Measure what a fault costs, many times. Progress goes to standard error; standard output is one JSON document.

Exit code 1 when an acknowledged write was lost or two primaries took writes at once.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if clients != "" && clients != "libpq" {
				return codeError{exitUsage, fmt.Errorf("--client %q: it is libpq", clients)}
			}
			o.Libpq = clients != ""
			ctx, stop := interruptible(cmd)
			defer stop()
			var b lab.Bench
			var err error
			if recompute != "" {
				b, err = lab.Recompute(recompute)
			} else {
				b, err = lab.Measure(ctx, o, a.err)
			}
			if err != nil && len(b.Runs) == 0 {
				return err
			}
			return errors.Join(a.json(b), err)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Kind, "fault", "", "which `kind`; quorate lab fault --list says which there are")
	f.IntVar(&o.Runs, "runs", 1, "how many times")
	labSize(cmd, &o.Nodes, &o.Witnesses, &o.Durability, &o.Failover)
	f.StringVar(&clients, "client", "", "libpq: beside the load a client that tries its hosts one after another; its gap is only printed")
	f.BoolVar(&o.LeaderToo, "raft-leader-too", false, "host-kill: the host of the Raft leader in the same instant")
	f.StringVar(&o.Dir, "out", "", "`directory` for the raw events (default: a new one)")
	f.StringVar(&o.ID, "id", "", "which lab (default: the one that is up, else one of its own)")
	f.StringVar(&recompute, "recompute", "", "measure nothing; compute the figures of the raw events in `directory` again")
	f.BoolVar(&asJSON, "json", true, "print JSON, which is all it prints")
	return cmd
}

func (a *app) labSoakVerb() *cobra.Command {
	var o lab.SoakOptions
	minutes := 30.0
	cmd := &cobra.Command{
		Use: "soak [--minutes N] [--seed S]", Short: "Break and heal at random for a long time, and check everything", Args: cobra.NoArgs,
		Long: `Break and heal a cluster at random under load for a long time. Every kind of fault comes once before any comes again, now
and then a second one before the first is healed, and all nodes are killed at once and started in all orders.

Exit code 1 when the cluster was not whole within 30 s after healing, when an acknowledged write is missing, or when two
primaries took writes at once. The same seed makes the same faults in the same order.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			o.For = time.Duration(minutes * float64(time.Minute))
			if !cmd.Flags().Changed("seed") {
				o.Seed = rand.Uint64N(1_000_000)
			}
			return lab.Soak(ctx, o, a.out)
		},
	}
	labSize(cmd, &o.Nodes, &o.Witnesses, &o.Durability, &o.Failover)
	labRun(cmd, &minutes, &o.Seed, &o.Dir)
	cmd.Flags().StringVar(&o.ID, "id", "", "which lab (default: one of its own)")
	return cmd
}

// labRun are the flags of a run that goes on for minutes and is drawn from a seed.
func labRun(cmd *cobra.Command, minutes *float64, seed *uint64, dir *string) {
	f := cmd.Flags()
	f.Float64Var(minutes, "minutes", *minutes, "how long, beside the last round")
	f.Uint64Var(seed, "seed", 0, "which faults come when (default: any)")
	f.StringVar(dir, "out", "", "`directory` for the raw history (default: a new one)")
}

func (a *app) labChaosVerb() *cobra.Command {
	var o lab.ChaosOptions
	minutes := 5.0
	cmd := &cobra.Command{
		Use: "chaos [--minutes N] [--seed S]", Short: "Break several things at once, as a seed says, and judge all that clients saw", Args: cobra.NoArgs,
		Long: `Break several things at once in a cluster of its own under load, heal, judge, and so on. What is broken follows from the seed and
is printed before it is: kill, stop and continue every set of {agent, guard, postmaster, backend, walreceiver}; cut the network in
every shape and lose packets; take hosts and the power away; hang, fill and fail disks; kill in the middle of a promotion, a rewind,
a clone or a change of configuration; have recovery wait for a slow restore_command, and the wall clock of Postgres jump where
libfaketime is installed; switch over, pause, reinit, and have members leave and join. Every kind comes once before any comes again.

Checked are, with what got no answer as may or may not be: that nothing acknowledged is lost, that no two nodes take writes, that
registers are linearizable, that nothing read is taken back, that every discarded byte stands in evidence, that all nodes end on one
history with the same rows, that the cluster is whole within 30 s after healing, and that no secret stands where anybody reads.

Exit code 1 when a check finds something. Then it ends at once, and the lab and the raw history stay.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			o.For = time.Duration(minutes * float64(time.Minute))
			if !cmd.Flags().Changed("seed") {
				o.Seed = rand.Uint64N(1_000_000)
			}
			return lab.Chaos(ctx, o, a.out)
		},
	}
	labSize(cmd, &o.Nodes, &o.Witnesses, &o.Durability, &o.Failover)
	labRun(cmd, &minutes, &o.Seed, &o.Dir)
	cmd.Flags().BoolVar(&o.Traps, "traps", false, "only situations in which a single mechanism keeps the data: the negative controls spring them")
	return cmd
}

func (a *app) labDemoVerb() *cobra.Command {
	var o lab.Options
	cmd := &cobra.Command{
		Use: "demo", Short: "One failover from beginning to end, in under three minutes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := interruptible(cmd)
			defer stop()
			o.Out = a.out
			return lab.Demonstrate(ctx, o)
		},
	}
	cmd.Flags().IntVar(&o.Nodes, "nodes", 3, "how many nodes")
	return cmd
}

func (a *app) labDownVerb() *cobra.Command {
	return a.withLab(&cobra.Command{Use: "down", Short: "End and remove everything of a lab", Args: cobra.NoArgs},
		func(ctx context.Context, l *lab.Lab) error {
			if err := l.Down(ctx); err != nil {
				return err
			}
			return a.print(fmt.Sprintf("lab %s is gone\n", l.ID))
		})
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
