package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/config"
)

func (a *app) configVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Look at a node file",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use: "check FILE", Short: "Say what a node file means, and what is wrong with it",
		Long: `Say what a node file, which may be a patroni.yml, means: every key of it that is not followed, and why; everything that is
wrong, with its line; and all that would be used, with the defaults. The variables QUORATE_SECTION_KEY count as they do for
quorate run. Nothing is started and nobody is asked.

Exit code: 0 it can be used, also if there are warnings; 2 it can't.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.checkConfig(args[0]) },
	})
	return cmd
}

// checked is the answer to config check.
type checked struct {
	File     string           `json:"file"`
	Usable   bool             `json:"usable"`
	Errors   []config.Finding `json:"errors,omitempty"`
	Warnings []config.Finding `json:"warnings,omitempty"`
	Config   json.RawMessage  `json:"config,omitempty"` // what would be used
}

func (a *app) checkConfig(file string) error {
	c, err := config.Load(file, a.env)
	out := checked{File: file, Usable: err == nil, Warnings: c.Warnings}
	var invalid config.Invalid
	if err != nil && !errors.As(err, &invalid) {
		return codeError{exitUsage, err}
	}
	out.Errors = invalid
	text := ""
	if out.Usable {
		if text, err = c.YAML(); err != nil {
			return err
		}
		if out.Config, err = c.JSON(); err != nil {
			return err
		}
	}
	if err := a.show(out, func() string { return renderChecked(out, text) }); err != nil {
		return err
	}
	if !out.Usable {
		return codeError{code: exitUsage}
	}
	return nil
}

func renderChecked(c checked, text string) string {
	var b strings.Builder
	part := func(title string, findings []config.Finding) {
		if len(findings) == 0 {
			return
		}
		fmt.Fprintf(&b, "%s:\n", title)
		for _, f := range findings {
			fmt.Fprintf(&b, "  %s\n", strings.ReplaceAll(f.String(), "\n", "\n      "))
		}
		b.WriteString("\n")
	}
	part("Wrong", c.Errors)
	part("Not followed, or to be known", c.Warnings)
	if c.Usable {
		fmt.Fprintf(&b, "%s can be used. It means:\n\n%s", c.File, text)
	} else {
		fmt.Fprintf(&b, "%s can't be used.\n", c.File)
	}
	return b.String()
}
