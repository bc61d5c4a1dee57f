package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
)

func (a *app) historyVerb() *cobra.Command {
	var events bool
	var epoch uint64
	cmd := &cobra.Command{
		Use: "history [EPOCH]", Short: "Say how each primary came to be, what that cost, and what to do about it",
		Long: `Say how each primary came to be: one line per epoch, or all about one EPOCH.

WRITES AGAIN is from the last sign of the old primary to when commits were acknowledged again. LOST counts acknowledged
commits; with durability async nobody knows. DISCARDED is log that a node held and that is in no history: it is kept.`,
		Args: func(_ *cobra.Command, args []string) (err error) {
			if len(args) > 1 {
				return fmt.Errorf("one EPOCH, or none for all")
			}
			if len(args) == 1 {
				if epoch, err = strconv.ParseUint(args[0], 10, 64); err != nil || epoch == 0 {
					return fmt.Errorf("%q is no epoch: it is a number from 1 on", args[0])
				}
			}
			if events && epoch > 0 {
				return fmt.Errorf("--events are those of all epochs: leave out %d", epoch)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error {
				if epoch > 0 {
					e, err := c.HistoryOf(cmd.Context(), epoch)
					if err != nil {
						return err
					}
					return a.show(e, func() string { return renderAssignment(e) })
				}
				h, err := c.History(cmd.Context())
				if err != nil {
					return err
				}
				if events {
					return a.show(h.Events, func() string { return renderEvents(h.Events) })
				}
				return a.show(h, func() string { return renderHistory(h) })
			})
		},
	}
	cmd.Flags().BoolVar(&events, "events", false, "the newest events instead, oldest first")
	return cmd
}

func renderHistory(h client.History) string {
	if len(h.Epochs) == 0 {
		return "There was no primary yet.\n"
	}
	t := table{{"EPOCH", "WHEN", "PRIMARY", "WRITES AGAIN", "LOST", "DISCARDED", "WHY"}}
	var todo []string
	for _, e := range h.Epochs {
		why := e.Why
		if e.Rule != "" {
			why += " (" + e.Rule + ")"
		}
		t = append(t, []string{fmt.Sprint(e.Epoch), when(e.At), change(e), again(e), lost(e), discards(e.Discards), why})
		if len(e.Now) > 0 && !strings.HasPrefix(e.Now[0], "Nothing") {
			todo = append(todo, fmt.Sprintf("  epoch %d: %s\n", e.Epoch, strings.Join(e.Now, " ")))
		}
	}
	out := t.String()
	if len(todo) > 0 {
		out += "\nTo do:\n" + strings.Join(todo, "")
	}
	return out + fmt.Sprintf("\nMore about one: quorate history %d\n", h.Epochs[len(h.Epochs)-1].Epoch)
}

// when shortens a time that the API tells, for people.
func when(at string) string {
	if at == "" {
		return "long ago"
	}
	day, clock, _ := strings.Cut(at, "T")
	return day + " " + clock
}

func change(e client.Assignment) string {
	switch e.Kind {
	case client.KindFirst:
		return e.To
	case client.KindAgain:
		return e.To + " again"
	}
	return e.From + " -> " + e.To
}

func again(e client.Assignment) string {
	if e.AckMS == nil {
		return "-"
	}
	return fmt.Sprintf("%d ms", *e.AckMS)
}

// promised is why commits could be lost.
func promised(e client.Assignment) string {
	if e.Rule == client.RuleAcceptedLoss {
		return "accepted"
	}
	return "async"
}

func lost(e client.Assignment) string {
	if e.Lost == nil {
		return "unknown: " + promised(e)
	}
	return fmt.Sprint(*e.Lost)
}

func discards(all []client.Discard) string {
	if len(all) == 0 {
		return "-"
	}
	var out []string
	for _, d := range all {
		what := commits(d)
		if d.Way == "quarantine" {
			what = "a directory"
		}
		out = append(out, what+" on "+d.Node)
	}
	return strings.Join(out, ", ")
}

func commits(d client.Discard) string {
	switch {
	case d.Commits < 0:
		return "? commits"
	case d.Commits == 1:
		return "1 commit"
	}
	return fmt.Sprintf("%d commits", d.Commits)
}

// renderAssignment is the whole report of an epoch. What to do stands first: nobody reads to the end at night.
func renderAssignment(e client.Assignment) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Epoch %d, %s: %s. Why: %s.\n\nNow:\n", e.Epoch, when(e.At), change(e), e.Why)
	for _, text := range e.Now {
		fmt.Fprintf(&b, "  %s\n", text)
	}
	t := table{{"Lost:", lostText(e)}}
	for i, d := range e.Discards {
		head := ""
		if i == 0 {
			head = "Discarded:"
		}
		t = append(t, []string{head, discardText(d)}, []string{"", keptText(d)})
	}
	t = append(t, []string{"Rule:", ruleText(e)})
	if e.Kind != client.KindFirst {
		t = append(t, []string{"Cause:", orUnknown(e.Cause)})
	}
	line := fmt.Sprintf("%d", e.Timeline)
	if e.Parent > 0 {
		line = fmt.Sprintf("%d, which left %d at %s", e.Timeline, e.Parent, e.Switch)
	}
	t = append(t, []string{"Timeline:", line})
	b.WriteString("\n" + t.String())
	switch {
	case len(e.Phases) > 0:
		fmt.Fprintf(&b, "\nSince the last sign of %s:\n", orNobody(e.From))
		for _, p := range e.Phases {
			b.WriteString(strings.TrimRight(fmt.Sprintf("  %6d ms  %-10s %s", p.MS, p.Name, phase(p.Name)), " ") + "\n")
		}
	case !e.Reported && e.Rule != "":
		b.WriteString("\nThe report is not filed yet.\n")
	}
	return b.String()
}

func lostText(e client.Assignment) string {
	switch {
	case e.Lost == nil && e.Rule == client.RuleAcceptedLoss:
		return "unknown: an operator accepted that commits are lost which the primary before had acknowledged"
	case e.Lost == nil:
		return "unknown: under durability async commits are acknowledged before another node has them"
	}
	return fmt.Sprintf("%d acknowledged commits", *e.Lost)
}

func discardText(d client.Discard) string {
	text := rangeText(d)
	if d.Way == "quarantine" {
		text = asideText(d)
	}
	if d.Dismissed {
		text += "; somebody has looked at it"
	}
	return text
}

func rangeText(d client.Discard) string {
	kind := "none of them acknowledged"
	if d.Lossy {
		kind = "some may have been acknowledged"
	}
	return fmt.Sprintf("%s of %s, %s: %s to %s of timeline %d, by %s", commits(d), d.Node, kind, d.From, d.To, d.Timeline, d.Way)
}

func asideText(d client.Discard) string {
	text := fmt.Sprintf("a data directory of %s, set aside; what log it had beyond the cluster's is not known", d.Node)
	if d.Lossy {
		text += ", and some of it may have been acknowledged"
	}
	return text
}

func keptText(d client.Discard) string {
	if d.Way == "quarantine" {
		return fmt.Sprintf("kept on %s in %s (manifest postgres/evidence/%s in its cluster.data_dir, SHA-256 %s)", d.Node, d.Path, d.ID, d.SHA256)
	}
	return fmt.Sprintf("kept on %s in %s (manifest SHA-256 %s)", d.Node, d.Path, d.SHA256)
}

func ruleText(e client.Assignment) string {
	if e.Rule == "" {
		return "not known: it is too long ago"
	}
	return e.Rule + ": " + e.Comment
}

func orUnknown(cause string) string {
	if cause == "" {
		return "not known: the leader that saw it is gone"
	}
	return cause
}

func orNobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

// phase says what a phase of a failover is.
func phase(name string) string {
	switch name {
	case "silent":
		return "the leader acted: it was silent, sick, or had said that it stopped"
	case "asked":
		return "a majority told how long ago it vouched for it last"
	case "sealed":
		return "a majority promised on disk never to vouch for its epoch again"
	case "positions":
		return "enough standbys had let go of it and told the end of their log"
	case "appointed":
		return "the log named the new primary"
	case "promoted":
		return "its Postgres had left recovery, and the log knew its timeline"
	case "serving":
		return "it accepted writes"
	case "streaming":
		return "enough standbys streamed from it: commits were acknowledged again"
	}
	return ""
}

func renderEvents(events []client.Event) string {
	if len(events) == 0 {
		return "Nothing has happened yet.\n"
	}
	t := table{{"WHEN", "EPOCH", "BY", "WHAT"}}
	for _, e := range events {
		t = append(t, []string{when(e.At), fmt.Sprint(e.Epoch), e.By, e.Text})
	}
	return t.String()
}
