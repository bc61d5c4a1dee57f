package failover

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/quorate/quorate/fsm"
)

const document = "../docs/failover.md"

// TestDocument keeps docs/failover.md as the table is, and shows in it what the stories show that each rule does.
// `go test ./failover -run TestDocument -rewrite` writes it anew.
func TestDocument(t *testing.T) {
	want := renderDocument(told(t))
	if f := flag.Lookup("rewrite"); f != nil && f.Value.String() == "true" {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Error("docs/failover.md is not what the rules are; write it anew: go test ./failover -run TestDocument -rewrite")
	}
}

// outcomes are the verdicts and the actions of one rule, in the stories.
type outcomes struct{ verdicts, actions []string }

// told plays all stories and collects what each rule does. A rule that no story tells of fails the test: it would have an
// empty row.
func told(t *testing.T) map[string]*outcomes {
	t.Helper()
	all := map[string]*outcomes{}
	for _, r := range Rules() {
		all[r.Name] = &outcomes{}
	}
	walkStories(t, func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd == "view" {
				v, err := parseView(d)
				if err != nil {
					d.Fatalf(t, "%v", err)
				}
				c := Decide(v)
				o := all[c.Rule]
				o.verdicts = put(o.verdicts, string(c.Verdict))
				o.actions = put(o.actions, action(v.State.Wish, c))
			}
			return d.Expected
		})
	})
	for _, r := range Rules() {
		if len(all[r.Name].verdicts) == 0 {
			t.Errorf("no story in testdata tells of rule %s", r.Name)
		}
	}
	return all
}

func put(list []string, text string) []string {
	if slices.Contains(list, text) || text == "" {
		return list
	}
	list = append(list, text)
	slices.Sort(list)
	return list
}

// action is what an operator, who may have that wish, would call it; empty for nothing.
func action(wish *fsm.Wish, d Decision) string {
	switch x := d.Do.(type) {
	case Nothing:
		return ""
	case Ask:
		return "ask the voters"
	case SealNow:
		if d.Verdict == Stuck {
			return "ask those again that beat and do not answer"
		}
		return "seal, detach"
	case Stop:
		return "stop the primary"
	case HandOff:
		return "move the Raft leader"
	case Propose:
		switch x.Command.(type) {
		case fsm.Appoint:
			return "**appoint**"
		case fsm.SetSync:
			return "set the sync rule"
		case fsm.BeginSwitchover:
			return "approve the switchover"
		case fsm.EndWish:
			if wish.Loss != "" {
				return "drop the acceptance"
			}
			return "give the switchover up"
		}
		return "record " + x.Command.Kind()
	case Reconfigure:
		return "change Raft's configuration"
	}
	return fmt.Sprintf("%T", d.Do)
}

const preface = `# How a failover is decided

This page is generated from the rules in ` + "`failover/decide.go`" + ` and from the stories in ` + "`failover/testdata`" + `; a test keeps it
current. Don't edit it: ` + "`go test ./failover -run TestDocument -rewrite`" + ` writes it anew.

The Raft leader looks at the cluster whenever something changes, and every 25 ms. **The first rule that applies decides**,
and nothing else does. ` + "`quorate explain`" + ` says which rule applies now and on what evidence, the log names it when it changes, and
` + "`quorate history`" + ` names the one that made each primary.

The verdict says what it means for you: *healthy*; *at-risk*, it works and one more loss may stop it; *waiting* and *acting*,
it goes on by itself; *stuck*, somebody has to do something, and the reasons say what.

`

const between = `
## The way to a new primary

The actions, each with the rules that ask for it, in the order in which a failover passes through them. An edge leads on to
what the next look finds.

`

// renderDocument is the whole page.
func renderDocument(told map[string]*outcomes) string {
	var b strings.Builder
	b.WriteString(preface)
	b.WriteString("| # | rule | applies when | verdict | what the leader does |\n|--:|---|---|---|---|\n")
	for i, r := range Rules() {
		o := told[r.Name]
		does := strings.Join(o.actions, ", or ")
		if does == "" {
			does = "nothing"
		}
		fmt.Fprintf(&b, "| %d | `%s` | %s | %s | %s |\n", i+1, r.Name, strings.ReplaceAll(r.Comment, "|", "\\|"), strings.Join(o.verdicts, ", "), does)
	}
	b.WriteString(between)
	b.WriteString(diagram(told))
	return b.String()
}

// diagram draws the actions of a failover with their rules.
func diagram(told map[string]*outcomes) string {
	by := func(action string) string {
		var rules []string
		for _, r := range Rules() {
			if slices.Contains(told[r.Name].actions, action) {
				rules = append(rules, r.Name)
			}
		}
		return strings.Join(rules, "<br>")
	}
	var b strings.Builder
	b.WriteString("```mermaid\nflowchart TD\n")
	for _, n := range []struct{ id, action string }{
		{"ask", "ask the voters"}, {"stop", "stop the primary"}, {"seal", "seal, detach"}, {"appoint", "**appoint**"},
	} {
		fmt.Fprintf(&b, "    %s[\"%s<br><i>%s</i>\"]\n", n.id, strings.Trim(n.action, "*"), by(n.action))
	}
	b.WriteString(`    silent(("a majority hears<br>no primary")) --> ask
    sick(("it finds<br>itself sick")) --> stop
    released(("it says that<br>it stopped")) --> seal
    ask -- "nobody vouched lately" --> seal
    ask -. "somebody did: false alarm" .-> silent
    stop --> released
    seal -- "the lease is over, enough positions" --> appoint
    seal -. "it is heard again" .-> appoint
    appoint --> serves(("the next epoch"))
` + "```\n")
	return b.String()
}
