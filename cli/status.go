package cli

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
)

func (a *app) statusVerb() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Say who is primary, whether a node may be lost, and what is wrong",
		Long: `Say who is primary, whether any one node may be lost, and what is wrong.

Exit code: 0 all is well, 3 something should be mended, 4 no quorum, 1 the daemon can't be asked.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				s, err := c.Status(cmd.Context())
				if err != nil {
					return err
				}
				if err := a.show(s, func() string { return renderStatus(s) }); err != nil {
					return err
				}
				switch {
				case !s.Quorum:
					return codeError{code: exitNoQuorum}
				case s.Degraded:
					return codeError{code: exitDegraded}
				}
				return nil
			})
		},
	}
}

func renderStatus(s client.Status) string {
	var b strings.Builder
	if s.Paused {
		b.WriteString("PAUSED: nobody takes over automatically until: quorate resume\n\n")
	}
	fmt.Fprintf(&b, "%s\n\n", s.Summary)
	t := table{{"NODE", "ROLE", "STATE", "TIMELINE", "LAG", "SYNC", "HEALTH", "RAFT"}}
	for _, n := range s.Nodes {
		t = append(t, []string{n.Name, n.Role, state(n), timeline(n), lag(n), yes(n.InSync), health(n), raft(n)})
	}
	b.WriteString(t.String())
	b.WriteString(discardLines(s.Discards))
	if len(s.Problems) > 0 {
		b.WriteString("\nTo look at:\n")
		for _, p := range s.Problems {
			fmt.Fprintf(&b, "  %s\n", p)
		}
	}
	if f := s.Fencing; f != nil {
		fmt.Fprintf(&b, "\nFence of %s: %s; new connections refused while frozen: %s; guard %s\n", f.Node, f.By, f.Reject, cmp.Or(f.Guard, "of an unknown version"))
		if f.Locked != "" && f.Locked != "yes" {
			fmt.Fprintf(&b, "Its guard may be paged out, memory locked: %s\n", f.Locked)
		}
	}
	return b.String()
}

func state(n client.NodeStatus) string {
	if n.AgeMS >= 0 && !n.Heard {
		return "silent, was " + n.State
	}
	return n.State
}

func timeline(n client.NodeStatus) string {
	if n.Timeline == 0 {
		return "-"
	}
	return fmt.Sprint(n.Timeline)
}

func lag(n client.NodeStatus) string {
	if n.Lag == nil {
		return "-"
	}
	return size(*n.Lag)
}

// size renders bytes for people.
func size(bytes int64) string {
	v, unit := float64(bytes), 0
	for v >= 10*1024 && unit < 4 {
		v, unit = v/1024, unit+1
	}
	return fmt.Sprintf("%.0f %s", v, []string{"B", "kB", "MB", "GB", "TB"}[unit])
}

func yes(v bool) string {
	if v {
		return "yes"
	}
	return "-"
}

// health is the lease for the primary: whoever serves holds it, unless the cluster is paused.
func health(n client.NodeStatus) string {
	switch {
	case !n.Heard:
		return "silent"
	case n.Unleased:
		return "no lease, paused"
	case n.Serving:
		return "ok, lease held"
	case n.Role == "primary":
		return "no lease, or not open"
	case n.Healthy:
		return "ok"
	}
	return "see below"
}

func raft(n client.NodeStatus) string {
	switch {
	case n.Leader:
		return "leader"
	case n.Voter:
		return "voter"
	}
	return "-"
}

// table is rows of cells, the first one the heading.
type table [][]string

// String aligns the columns.
func (t table) String() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range t {
		_, _ = fmt.Fprintln(w, strings.Join(row, "\t")) // A strings.Builder takes everything.
	}
	_ = w.Flush()
	lines := strings.Split(b.String(), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " ")
	}
	return strings.Join(lines, "\n")
}

// show prints v as -o asks.
func (a *app) show(v any, text func() string) error {
	if a.output == "json" {
		return a.json(v)
	}
	return a.print(text())
}

func (a *app) json(v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	return a.print(string(b) + "\n")
}

func (a *app) print(text string) error {
	if _, err := fmt.Fprint(a.out, text); err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	return nil
}
