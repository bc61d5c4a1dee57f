package bubble

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/cli"
)

const refusalsPage = "../../docs/refusals.md"

var rewrite = flag.Bool("rewrite", false, "write docs/refusals.md anew")

// asQuorate makes the test's program quorate itself, so that exit codes are those of a process.
const asQuorate = "BUBBLE_IS_QUORATE"

func TestMain(m *testing.M) {
	if os.Getenv(asQuorate) != "" {
		os.Exit(cli.Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr, cli.Build{Version: "1.2.3"}))
	}
	os.Exit(m.Run())
}

// refusal is a row of the page: what was asked for, what is said, and how it ends.
type refusal struct{ input, message, outcome string }

type chapter struct {
	title, intro string
	rows         func(t *testing.T) []refusal
}

const preface = `# What is refused

This page is generated from refusals that a test makes happen. Don't edit it:
` + "`go test ./e2e/bubble -run TestRefusals -rewrite`" + ` writes it anew. Words in capitals stand for ids, ports and directories.
`

func chapters() []chapter {
	return []chapter{
		{"The node file", "The file, the line, the key, what was given and what it contradicts are named, and nothing was started.\n" +
			"The file of the examples has scope in line 1, name in 2, cluster in 3, restapi in 4.", ofNodeFiles},
		{"What the node file names", "The file can be used, and what it names can't. Nothing was touched.", ofStarts},
		{"Founding a cluster", "The nodes wait, say why whenever it changes and every 15 s, and go on by themselves once it is mended.\n" +
			"No cluster is begun, and no directory is touched.", ofFoundings},
		{"Joining and leaving", "Both sides say why, and the cluster's state is what it was.", ofJoins},
		{"Between nodes", "The connection is refused before a byte of Raft, beats, gossip or calls is read. First stands what\n" +
			"the caller is told, then what the node that was called logs, once a minute for each reason.", ofConnections},
		{"Stale and replayed", "What comes too late, or again.", ofReplays},
		{"HTTP", "Over restapi. The command line turns the code refused into exit code 5, no-quorum into 4, all others\n" +
			"into 1.", ofHTTP},
	}
}

// TestRefusals makes every refusal happen and keeps docs/refusals.md as what they say.
// `go test ./e2e/bubble -run TestRefusals -rewrite` writes it anew.
func TestRefusals(t *testing.T) {
	var b strings.Builder
	b.WriteString(preface)
	for _, c := range chapters() {
		rows := c.rows(t)
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| asked | said | outcome |\n|---|---|---|\n", c.title, c.intro)
		for _, r := range rows {
			if r.message == "" {
				t.Errorf("%s: %q is not refused", c.title, r.input)
			}
			fmt.Fprintf(&b, "| %s | %s | %s |\n", cell(r.input), cell(r.message), cell(r.outcome))
		}
	}
	if *rewrite {
		if err := os.WriteFile(refusalsPage, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(refusalsPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != b.String() {
		t.Errorf("docs/refusals.md is not what happens; write it anew: go test ./e2e/bubble -run TestRefusals -rewrite\n%s",
			difference(string(have), b.String()))
	}
}

// difference is the first line that differs.
func difference(have, want string) string {
	h, w := strings.Split(have, "\n"), strings.Split(want, "\n")
	for i := range w {
		if i >= len(h) || h[i] != w[i] {
			return fmt.Sprintf("line %d is to be\n%s", i+1, w[i])
		}
	}
	return "it has more lines"
}

func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", "<br>", "<", "&lt;").Replace(strings.TrimSpace(text))
}

// quorate runs it in a process of its own and gives what it says and its exit code.
func quorate(t *testing.T, args ...string) (said, outcome string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = []string{asQuorate + "=1"}
	var out strings.Builder
	cmd.Stderr = &out
	_ = cmd.Run() // its code is what is shown
	for line := range strings.SplitSeq(strings.TrimSpace(out.String()), "\n") {
		if !logLine.MatchString(line) {
			said += strings.TrimPrefix(line, "quorate: ") + "\n"
		}
	}
	return strings.TrimSpace(said), fmt.Sprintf("exit code %d", cmd.ProcessState.ExitCode())
}

var logLine = regexp.MustCompile(`^\d{4}-\d\d-\d\dT`)

// heard waits until the log has a line with this message of this node, in which text stands, and gives what it says as the
// reason. The world logs JSON.
func (w *world) heard(node, message, text string) string {
	w.t.Helper()
	found := ""
	w.wait(fmt.Sprintf("%s says %q with %q", node, message, text), func() bool {
		found = w.said(node, message, text)
		return found != ""
	})
	return found
}

func (w *world) said(node, message, text string) string {
	for line := range strings.SplitSeq(w.logs.tail(1<<20), "\n") {
		var l struct {
			Message string `json:"@message"`
			Module  string `json:"@module"`
			Reason  string `json:"reason"`
			Error   string `json:"error"`
			Because any    `json:"because"`
		}
		if json.Unmarshal([]byte(line), &l) != nil || l.Message != message || l.Module != node && !strings.HasPrefix(l.Module, node+".") {
			continue
		}
		reason := l.Reason + l.Error
		switch because := l.Because.(type) {
		case string:
			reason = because
		case []any:
			var all []string
			for _, b := range because {
				all = append(all, fmt.Sprint(b))
			}
			reason = strings.Join(all, "\n")
		}
		// A node that has not begun to listen yet is no refusal.
		early := strings.Contains(reason, "connection refused") || strings.Contains(reason, "no such host")
		if strings.Contains(reason, text) && !early {
			return reason
		}
	}
	return ""
}

var (
	idText       = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	revisionText = regexp.MustCompile(`revision \d+`)
	wishText     = regexp.MustCompile(`switchover-(\d+)-[A-Z0-9]+`)
)

// plain puts words for what differs from run to run.
func (w *world) plain(text string) string {
	for _, n := range w.nodes {
		if c := n.running(); c != nil {
			text = strings.ReplaceAll(text, string(c.Self()), "ID OF "+strings.ToUpper(n.name))
			if id := c.ClusterID(); id != "" {
				text = strings.ReplaceAll(text, id, "THIS CLUSTER")
			}
		}
	}
	text = idText.ReplaceAllString(text, "ID")
	text = revisionText.ReplaceAllString(text, "revision N")
	return wishText.ReplaceAllString(text, "switchover-$1-X")
}
