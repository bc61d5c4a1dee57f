package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
)

func (a *app) explainVerb() *cobra.Command {
	return &cobra.Command{
		Use: "explain", Short: "Say what the cluster would do now, by which rule, and on what evidence",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				e, err := c.Explain(cmd.Context())
				if err != nil {
					return err
				}
				return a.show(e, func() string { return renderExplain(e) })
			})
		},
	}
}

func renderExplain(e client.Explanation) string {
	s := e.View.State
	var b strings.Builder
	fmt.Fprintf(&b, "Rule:     %s (%s)\n", e.Rule, e.Verdict)
	for i, why := range e.Because {
		head := ""
		if i == 0 {
			head = "Because:"
		}
		fmt.Fprintf(&b, "%-9s %s\n", head, why)
	}
	fmt.Fprintf(&b, "Does:     %s\n", e.Do)
	who := "the leader"
	if !e.Leading {
		who = "an observer: what the leader has collected is unknown here"
	}
	fmt.Fprintf(&b, "Seen by:  %s, %s\n", s.Name(e.Node), who)
	fmt.Fprintf(&b, "Epoch:    %d, primary %s, revision %d\n\n", s.Epoch, s.Name(s.Primary), s.Rev)
	b.WriteString(evidence(e).String())
	if len(e.Losses) > 0 {
		b.WriteString("\nIf one node were lost now:\n")
		for _, l := range e.Losses {
			text := "writes go on"
			if !l.Survives {
				text = "writes stop: " + l.Because
			}
			fmt.Fprintf(&b, "  %s: %s\n", s.Name(l.Node), text)
		}
	}
	if len(e.Timeline) > 0 {
		b.WriteString("\nLast failover led from here:\n")
		last := e.Timeline[len(e.Timeline)-1].Epoch
		for _, p := range e.Timeline {
			if p.Epoch == last {
				fmt.Fprintf(&b, "  %7d ms  %s\n", p.SinceBeat.Milliseconds(), p.Name)
			}
		}
	}
	return b.String()
}

// evidence is what each node said, and what was asked of it.
func evidence(e client.Explanation) table {
	v := e.View
	ids := v.State.Electorate.Voters[:0:0]
	for id := range v.State.Members {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b client.NodeID) int { return cmp.Compare(v.State.Name(a), v.State.Name(b)) })
	t := table{{"NODE", "HEARD", "RUNS", "SERVES", "TIMELINE", "LOG END", "SEALED", "HEARD PRIMARY", "ASKED", "POSITION"}}
	for _, id := range ids {
		seen, ok := v.Seen[id]
		if !ok {
			t = append(t, []string{v.State.Name(id), "never", "-", "-", "-", "-", "-", "-", "-", "-"})
			continue
		}
		r := seen.Report
		primary := "-"
		for _, age := range r.Sightings {
			if age.Node == v.State.Primary && id != v.State.Primary {
				primary = (time.Duration(age.MS)*time.Millisecond + seen.Age).Round(time.Millisecond).String() + " ago"
			}
		}
		t = append(t, []string{
			v.State.Name(id), seen.Age.Round(time.Millisecond).String() + " ago", string(r.Run), number(uint64(r.Serving)),
			number(uint64(r.Timeline)), logEnd(r), number(uint64(seen.Sealed)), primary, answered(e, id), position(e, id),
		})
	}
	return t
}

func logEnd(r client.Report) string {
	if r.Flush == 0 {
		return "-"
	}
	return r.Flush.String()
}

func number(n uint64) string {
	if n == 0 {
		return "-"
	}
	return fmt.Sprint(n)
}

func answered(e client.Explanation, id client.NodeID) string {
	if s, ok := e.View.Seals[id]; ok {
		return "sealed, lease " + max(0, s.Left-s.Age).Round(time.Millisecond).String() + " left"
	}
	a, ok := e.View.Answers[id]
	switch {
	case !ok:
		return "-"
	case a.NeverVouched:
		return "never vouched"
	}
	return "vouched " + (a.VouchedAgo + a.Age).Round(time.Millisecond).String() + " ago"
}

func position(e client.Explanation, id client.NodeID) string {
	if p, ok := e.View.Positions[id]; ok {
		return fmt.Sprintf("%d %s", p.Timeline, p.LSN)
	}
	if why, ok := e.View.Failed[id]; ok {
		return "none: " + why
	}
	return "-"
}
