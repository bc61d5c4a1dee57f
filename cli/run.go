package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/node"
	"github.com/quorate/quorate/pgctl/guard"
)

func (a *app) runVerb() *cobra.Command {
	return &cobra.Command{
		Use:   "run -c FILE",
		Short: "Run the daemon of this node",
		Long: `Run the daemon of this node, in the foreground, with its log on standard error.

SIGTERM ends the daemon and leaves PostgreSQL running under its guard: start the daemon again soon, it carries on.
SIGINT hands over if this node is primary, shuts PostgreSQL down and ends everything, as quorate stop does.
SIGHUP reads the node file again, as quorate reload does, and the files of cluster.secret_file and cluster.tls, which are also
looked at every few seconds.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.run() },
	}
}

func (a *app) run() error {
	if a.nodeFile == "" {
		return codeError{exitUsage, errors.New("which node? give its node file: quorate run -c FILE")}
	}
	cfg, err := config.Load(a.nodeFile, a.env)
	if err != nil {
		return codeError{exitUsage, err}
	}
	if err := a.maimed(); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program, which is also the guard: %w", err)
	}
	log := hclog.New(&hclog.LoggerOptions{
		Name: cfg.Name, Level: hclog.LevelFromString(cfg.Log.Level), JSONFormat: cfg.Log.Type == "json", Output: a.err,
	})
	if len(a.lacks) > 0 {
		log.Warn("this program is a negative control: data will be lost", "without", strings.Join(a.lacks, ", "))
	}
	for _, w := range cfg.Warnings {
		at := []any{"key", w.Key, "note", w.Text}
		if w.Line > 0 {
			at = append([]any{"line", w.Line}, at...)
		}
		log.Warn("node file", at...)
	}
	argv := []string{self, "guard"}
	if cfg.Fencing.Signals {
		argv = append(argv, "--signals")
	}
	ctx, stop := signals(context.Background(), log)
	defer stop.release()
	err = node.Run(ctx, cfg, node.Options{
		Logger: log, Version: a.version, GuardArgv: argv, Stop: stop.asked, Hangup: stop.hangup,
		Reload: func() (config.Config, error) { return config.Load(a.nodeFile, a.env) },
	})
	if errors.Is(err, node.ErrNodeFile) {
		return codeError{exitUsage, fmt.Errorf("%s: %w", a.nodeFile, err)}
	}
	return err
}

// stopping turns signals into the two ways to end, and into reloads.
type stopping struct {
	asked   chan struct{} // closed by the first SIGINT
	hangup  chan struct{} // one for SIGHUPs that nobody has seen yet
	release func()
}

// signals returns a context that ends with SIGTERM, or with a second SIGINT for who can't wait for the handover.
func signals(ctx context.Context, log hclog.Logger) (context.Context, stopping) {
	ctx, cancel := context.WithCancel(ctx)
	caught := make(chan os.Signal, 4)
	signal.Notify(caught, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	s := stopping{asked: make(chan struct{}), hangup: make(chan struct{}, 1), release: func() { signal.Stop(caught); cancel() }}
	go func() {
		asked := false
		for {
			select {
			case <-ctx.Done():
				return
			case sig := <-caught:
				if sig == syscall.SIGHUP {
					select {
					case s.hangup <- struct{}{}:
					default:
					}
					continue
				}
				if sig == syscall.SIGINT && !asked {
					asked = true
					close(s.asked)
					continue
				}
				log.Info("ending; Postgres stays under its guard", "signal", sig.String())
				cancel()
			}
		}
	}()
	return ctx, s
}

func (a *app) guardVerb() *cobra.Command {
	var o guard.RunOptions
	cmd := &cobra.Command{
		Use:    "guard --dir DIR",
		Short:  "Own Postgres and its deadline (started by the daemon)",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if o.Dir == "" {
				return codeError{exitUsage, errors.New("--dir is missing: the daemon gives it")}
			}
			o.Version = a.version
			return guard.Run(o)
		},
	}
	cmd.Flags().StringVar(&o.Dir, "dir", "", "the guard's `directory`")
	cmd.Flags().StringVar(&o.Cgroup, "cgroup", "", "the `cgroup` of Postgres, relative to the cgroup2 mount")
	cmd.Flags().BoolVar(&o.Signals, "signals", false, "fence by signals even where cgroups work")
	return cmd
}

func (a *app) versionVerb() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which version this is", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.output == "json" {
				return a.json(struct {
					Version string `json:"version"`
				}{a.version})
			}
			return a.print("quorate " + a.version + "\n")
		},
	}
}
