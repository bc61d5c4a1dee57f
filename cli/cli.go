// Package cli holds the verbs of the quorate command and how their answers look.
//
// A verb calls one part of the product and renders what it says. The package must never decide anything about the
// cluster, and must never reach Postgres or consensus by itself: it asks the daemon.
package cli

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/config"
)

// The exit codes. They never change their meaning.
const (
	exitOK       = 0
	exitError    = 1
	exitUsage    = 2
	exitDegraded = 3 // it works, and something should be mended
	exitNoQuorum = 4
	exitRefused  = 5 // the cluster said no
)

// codeError is an error that ends the command with a code of its own.
type codeError struct {
	code int
	err  error // nil: everything was said already
}

func (e codeError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e codeError) Unwrap() error { return e.err }

// app is one run of the command.
type app struct {
	out, err io.Writer
	env      []string
	version  string
	lacks    []string // mechanisms that this program was built without
	allowed  bool     // to run such a program

	nodeFile string // -c
	socket   string // --socket
	output   string // -o
	begun    bool   // the command line was understood and the verb runs
}

// Main runs one command line, without the program's name, and returns the exit code.
func Main(args, env []string, stdout, stderr io.Writer, b Build) int {
	a := &app{out: stdout, err: stderr, version: b.Version, lacks: b.without()}
	a.env, a.allowed = withoutConsent(env)
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteC()
	if err == nil {
		return exitOK
	}
	code := exitError
	if !a.begun {
		code = exitUsage
		err = fmt.Errorf("%w\nsee: %s --help", err, cmd.CommandPath())
	}
	var p client.Problem
	if errors.As(err, &p) {
		switch p.Code {
		case client.CodeRefused:
			code = exitRefused
		case client.CodeNoQuorum:
			code = exitNoQuorum
		}
	}
	var own codeError
	if errors.As(err, &own) {
		code = own.code
	}
	if text := err.Error(); text != "" {
		_, _ = fmt.Fprintln(stderr, "quorate: "+text) // There is nobody to tell that stderr is gone.
	}
	return code
}

// verbs are all commands, in the order of the help.
func (a *app) verbs() []*cobra.Command {
	return []*cobra.Command{
		a.runVerb(),
		a.stopVerb(),
		a.initVerb(),
		a.joinVerb(),
		a.tokenVerb(),
		a.membersVerb(),
		a.recoverVerb(),
		a.statusVerb(),
		a.explainVerb(),
		a.historyVerb(),
		a.discardsVerb(),
		a.switchoverVerb(),
		a.failoverVerb(),
		a.pauseVerb(),
		a.resumeVerb(),
		a.restartVerb(),
		a.reinitVerb(),
		a.reloadVerb(),
		a.showConfigVerb(),
		a.editConfigVerb(),
		a.configVerb(),
		a.labVerb(),
		a.versionVerb(),
		a.guardVerb(),
	}
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "quorate",
		Short:         "Keeps PostgreSQL available: one daemon beside each server, no other parts",
		SilenceErrors: true, SilenceUsage: true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if a.output != "table" && a.output != "json" {
				return fmt.Errorf("-o %q: it is table or json", a.output)
			}
			a.begun = true
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Args: cobra.NoArgs,
	}
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.CompletionOptions.DisableDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVarP(&a.nodeFile, "config", "c", "", "the node `file` (quorate.yml)")
	flags.StringVar(&a.socket, "socket", "", "the daemon's unix `socket` (default: quorate.sock in cluster.data_dir of the node file)")
	flags.StringVarP(&a.output, "output", "o", "table", "table or json")
	cobra.EnableCommandSorting = false
	root.AddCommand(a.verbs()...)
	return root
}

// daemon is where the local daemon answers.
func (a *app) daemon() (path string, err error) {
	if a.socket != "" {
		return a.socket, nil
	}
	if a.nodeFile == "" {
		return filepath.Join(config.Default().Cluster.DataDir, client.SocketName), nil
	}
	cfg, err := config.Load(a.nodeFile, a.env)
	if err != nil {
		return "", codeError{exitUsage, err}
	}
	return filepath.Join(cfg.Cluster.DataDir, client.SocketName), nil
}

// ask runs f with a client of the local daemon, and says what to do when there is none.
func (a *app) ask(f func(*client.Client) error) error {
	path, err := a.daemon()
	if err != nil {
		return err
	}
	err = f(client.Unix(path))
	if errors.Is(err, client.ErrUnreachable) {
		return fmt.Errorf("the daemon does not answer on %s: %w\n%s", path, err, a.hint())
	}
	return err
}

func (a *app) hint() string {
	if a.nodeFile != "" {
		return "start it with: quorate run -c " + a.nodeFile
	}
	return "start it with: quorate run -c FILE; if it runs with another cluster.data_dir, name it with -c FILE or --socket PATH"
}
