package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
)

func (a *app) discardsVerb() *cobra.Command {
	list := func(cmd *cobra.Command, _ []string) error {
		return a.ask(func(c *client.Client) error {
			all, err := c.Discards(cmd.Context())
			if err != nil {
				return err
			}
			return a.show(all, func() string { return renderDiscards(all) })
		})
	}
	cmd := &cobra.Command{
		Use: "discards", Short: "List what nodes discarded when they came back, and say that it was looked at",
		Long: `List what nodes discarded when they came back, and say that it was looked at.

A node that had log which is no part of the cluster's history gives it up to follow the primary. What goes is kept on
that node in the directory named here: the log itself, its commits and counts, and a manifest with SHA-256 sums. quorate
never removes it.`,
		Args: cobra.NoArgs, RunE: list,
	}
	cmd.AddCommand(
		&cobra.Command{Use: "list", Short: "List all, the dismissed ones too", Args: cobra.NoArgs, RunE: list},
		&cobra.Command{
			Use: "dismiss ID", Short: "Say that one was looked at: status stops showing it, its evidence stays", Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				return a.ask(func(c *client.Client) error {
					if err := c.DismissDiscard(cmd.Context(), args[0]); err != nil {
						return err
					}
					return a.show(map[string]any{"id": args[0], "dismissed": true}, func() string { return "Dismissed. The evidence stays where it is.\n" })
				})
			},
		},
	)
	return cmd
}

func renderDiscards(all []client.Discard) string {
	if len(all) == 0 {
		return "Nothing was discarded.\n"
	}
	t := table{{"ID", "NODE", "TIMELINE", "FROM", "TO", "COMMITS", "WAY", "LOOKED AT", "EVIDENCE"}}
	for _, d := range all {
		t = append(t, []string{d.ID, d.Node, fmt.Sprint(d.Timeline), d.From.String(), d.To.String(), counted(d.Commits), d.Way, yes(d.Dismissed), d.Path})
	}
	return t.String()
}

func counted(commits int) string {
	if commits < 0 {
		return "unknown"
	}
	return fmt.Sprint(commits)
}

// discardLines are what status says of those that nobody has looked at.
func discardLines(all []client.Discard) string {
	if len(all) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("\nDiscarded:\n")
	for _, d := range all {
		if d.Way == "quarantine" {
			held := ""
			if d.Lossy {
				held = "; it may hold acknowledged commits that are nowhere else"
			}
			fmt.Fprintf(&b, "  %s set a data directory aside, kept in %s%s; its file QUARANTINE says why; find out how it came to that, then: quorate discards dismiss %s\n",
				d.Node, d.Path, held, d.ID)
			continue
		}
		commits := counted(d.Commits) + " commits"
		if d.Commits == 1 {
			commits = "1 commit"
		}
		promised := "none of it acknowledged"
		if d.Lossy {
			promised = "some of it perhaps acknowledged"
		}
		fmt.Fprintf(&b, "  %s discarded %s..%s of timeline %d, %s, %s, kept in %s; look at it, then: quorate discards dismiss %s\n",
			d.Node, d.From, d.To, d.Timeline, commits, promised, d.Path, d.ID)
	}
	return b.String()
}
