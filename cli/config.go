package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/config"
)

func (a *app) showConfigVerb() *cobra.Command {
	var version uint64
	cmd := &cobra.Command{
		Use: "show-config [--version N]", Short: "Show the configuration that all nodes share",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				conf, err := c.Config(cmd.Context(), version)
				if err != nil {
					return err
				}
				text, err := yamlOf(conf.Doc)
				if err != nil {
					return err
				}
				return a.show(conf, func() string { return fmt.Sprintf("# version %d\n%s", conf.Version, text) })
			})
		},
	}
	cmd.Flags().Uint64Var(&version, "version", 0, "an earlier `version` (default: the present one)")
	return cmd
}

// edits are the ways to say what shall be changed.
type edits struct {
	set     []string
	apply   string
	replace string
	yes     bool
}

func (a *app) editConfigVerb() *cobra.Command {
	var e edits
	cmd := &cobra.Command{
		Use: "edit-config [--set KEY=VALUE]... [--apply FILE | --replace FILE] [--yes]", Short: "Change the configuration that all nodes share",
		Long: `Change the configuration that all nodes share. Without --set, --apply and --replace it opens $EDITOR.

The change is shown and, without --yes, asked about. Every node takes it by itself; quorate status says which one has not,
and which settings wait for a restart (quorate restart NODE --pending).

Exit code: 0 changed, or nothing to change; 1 declined or failed; 2 the document is wrong; 5 somebody changed it meanwhile.`,
		Example: `  quorate edit-config --set postgresql.parameters.work_mem=64MB
  quorate edit-config --set postgresql.parameters.work_mem=null     # remove it`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error { return a.editConfig(cmd.Context(), c, cmd.InOrStdin(), e) })
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&e.set, "set", nil, "`KEY=VALUE`, such as postgresql.parameters.work_mem=64MB; null removes the key")
	flags.StringVar(&e.apply, "apply", "", "merge this `file` into the configuration; - is standard input")
	flags.StringVar(&e.replace, "replace", "", "replace the configuration by this `file`; - is standard input")
	flags.BoolVar(&e.yes, "yes", false, "do not ask")
	cmd.MarkFlagsMutuallyExclusive("apply", "replace")
	cmd.MarkFlagsMutuallyExclusive("set", "replace")
	return cmd
}

func (a *app) editConfig(ctx context.Context, c *client.Client, in io.Reader, e edits) error {
	if !e.yes && (e.apply == "-" || e.replace == "-") {
		return codeError{exitUsage, errors.New("standard input is the file, so it can't answer the question: add --yes")}
	}
	now, err := c.Config(ctx, 0)
	if err != nil {
		return err
	}
	before, err := yamlOf(now.Doc)
	if err != nil {
		return err
	}
	wanted, err := a.edited(ctx, now, before, in, e)
	if err != nil {
		return err
	}
	for _, w := range wanted.Warnings {
		if _, err := fmt.Fprintf(a.err, "not followed: %s\n", w); err != nil {
			return fmt.Errorf("write a warning: %w", err)
		}
	}
	after, err := wanted.YAML()
	if err != nil {
		return err
	}
	if after == before {
		return a.show(now, func() string { return "Nothing to change.\n" })
	}
	if a.output == "table" {
		if err := a.print(diff(before, after)); err != nil {
			return err
		}
	}
	if !e.yes {
		if yes, err := a.confirm(in, "Apply this change? [y/N] "); err != nil || !yes {
			return errors.Join(err, codeError{exitError, errors.New("nothing was changed")})
		}
	}
	doc, err := wanted.Doc()
	if err != nil {
		return err
	}
	stored, err := c.PutConfig(ctx, now.Version, []byte(doc))
	var p client.Problem
	if errors.As(err, &p) && p.Code == client.CodeInvalid {
		return codeError{exitUsage, err}
	}
	if err != nil {
		return err
	}
	return a.show(stored, func() string {
		return fmt.Sprintf("Version %d is in force. See quorate status for nodes that have not taken it and for pending restarts.\n", stored.Version)
	})
}

// edited makes the document that e asks for out of now, whose YAML is text.
func (a *app) edited(ctx context.Context, now client.Config, text string, in io.Reader, e edits) (config.DCS, error) {
	wrong := func(from string, err error) (config.DCS, error) {
		return config.DCS{}, codeError{exitUsage, fmt.Errorf("%s: %w", from, err)}
	}
	if e.replace != "" {
		b, err := read(in, e.replace)
		if err != nil {
			return config.DCS{}, err
		}
		d, err := config.ReadDCS(b)
		if err != nil {
			return wrong(e.replace, err)
		}
		return d, nil
	}
	if e.apply == "" && len(e.set) == 0 {
		return a.editor(ctx, text)
	}
	d, err := config.ReadDCS(now.Doc)
	if err != nil {
		return config.DCS{}, err
	}
	if e.apply != "" {
		b, err := read(in, e.apply)
		if err != nil {
			return config.DCS{}, err
		}
		if d, err = merged(d, b); err != nil {
			return wrong(e.apply, err)
		}
	}
	for _, s := range e.set {
		patch, err := patchOf(s)
		if err == nil {
			d, err = merged(d, patch)
		}
		if err != nil {
			return wrong("--set "+s, err)
		}
	}
	return d, nil
}

// merged applies patch to d, and keeps the warnings of what was applied before.
func merged(d config.DCS, patch []byte) (config.DCS, error) {
	doc, err := d.Doc()
	if err != nil {
		return config.DCS{}, err
	}
	out, err := config.Merge(doc, patch)
	out.Warnings = append(d.Warnings, out.Warnings...)
	return out, err
}

// parametersKey is the map whose keys may have dots themselves.
const parametersKey = "postgresql.parameters."

// patchOf turns KEY=VALUE into a merge patch.
func patchOf(assignment string) ([]byte, error) {
	key, text, ok := strings.Cut(assignment, "=")
	if !ok || key == "" {
		return nil, errors.New("it is KEY=VALUE")
	}
	path := strings.Split(key, ".")
	name, parameter := strings.CutPrefix(key, parametersKey)
	if parameter {
		path = []string{"postgresql", "parameters", name}
	}
	var value any = text
	if text == "null" {
		value = nil
	} else if !parameter {
		var v any
		if err := json.Unmarshal([]byte(text), &v); err == nil { // true, a number, a list
			value = v
		}
	}
	for i := len(path) - 1; i >= 0; i-- {
		value = map[string]any{path[i]: value}
	}
	b, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode the change: %w", err)
	}
	return b, nil
}

func read(in io.Reader, file string) ([]byte, error) {
	if file == "-" {
		b, err := io.ReadAll(in)
		if err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		return b, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the change: %w", err)
	}
	return b, nil
}

// editor has the person edit text in $EDITOR. What can't be taken is kept, and its place is in the error.
func (a *app) editor(ctx context.Context, text string) (config.DCS, error) {
	program := ""
	for _, kv := range a.env {
		if v, ok := strings.CutPrefix(kv, "EDITOR="); ok {
			program = v
		}
	}
	if program == "" {
		return config.DCS{}, codeError{exitUsage, errors.New("EDITOR is not set: set it, or use --set, --apply or --replace")}
	}
	f, err := os.CreateTemp("", "quorate-config-*.yml")
	if err != nil {
		return config.DCS{}, fmt.Errorf("make a file to edit: %w", err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return config.DCS{}, fmt.Errorf("write the file to edit: %w", err)
	}
	// By the shell, as everybody does: EDITOR may have arguments.
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", program+` "$1"`, "sh", f.Name())
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = os.Stdin, os.Stdout, os.Stderr, a.env
	if err := cmd.Run(); err != nil {
		return config.DCS{}, fmt.Errorf("run EDITOR %q: %w", program, err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		return config.DCS{}, fmt.Errorf("read what was edited: %w", err)
	}
	d, err := config.ReadDCS(b)
	if err != nil {
		return config.DCS{}, codeError{exitUsage, fmt.Errorf("%s: %w", f.Name(), err)}
	}
	if err := os.Remove(f.Name()); err != nil {
		return config.DCS{}, fmt.Errorf("remove the file that was edited: %w", err)
	}
	return d, nil
}

// confirm asks on standard error, so that the answer of the command stays clean.
func (a *app) confirm(in io.Reader, question string) (bool, error) {
	if _, err := io.WriteString(a.err, question); err != nil {
		return false, fmt.Errorf("ask: %w", err)
	}
	line, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return false, fmt.Errorf("read the answer: %w", err)
	}
	line = strings.ToLower(strings.TrimSpace(line))
	return line == "y" || line == "yes", nil
}

func yamlOf(doc []byte) (string, error) {
	d, err := config.ReadDCS(doc)
	if err != nil {
		return "", fmt.Errorf("the daemon's configuration is of another version of quorate: %w", err)
	}
	return d.YAML()
}

// diff shows what changes between two texts, line by line.
func diff(before, after string) string {
	a, b := strings.Split(strings.TrimRight(before, "\n"), "\n"), strings.Split(strings.TrimRight(after, "\n"), "\n")
	// common[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			common[i][j] = max(common[i+1][j], common[i][j+1])
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	var out strings.Builder
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out.WriteString("  " + a[i] + "\n")
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			out.WriteString("- " + a[i] + "\n")
			i++
		default:
			out.WriteString("+ " + b[j] + "\n")
			j++
		}
	}
	return out.String()
}
