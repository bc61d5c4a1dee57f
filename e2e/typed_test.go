package e2e_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/lab"
)

// exitRefused is the exit code of what the cluster says no to.
const exitRefused = 5

// newWaiting makes a lab whose nodes belong to no cluster and wait to be told.
func newWaiting(t *testing.T, nodes int) *broken {
	t.Helper()
	needHosts(t)
	return &broken{T: t, lab: up(t, lab.Options{Nodes: nodes, Waiting: true})}
}

// needHosts skips what can't be tested without namespaces.
func needHosts(t *testing.T) {
	t.Helper()
	if err := lab.Able(); err != nil {
		t.Skip(err)
	}
}

// run runs a verb of the program on the node's host and returns what it says and its exit code.
func (b *broken) run(n *lab.Node, verb ...string) (string, int) {
	b.Helper()
	ctx, stop := context.WithTimeout(b.Context(), 4*limit) // init and join have limits of their own
	defer stop()
	cmd := exec.CommandContext(ctx, quorate.exe, append(verb, "-c", n.Config())...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := b.lab.StartOn(n, cmd); err != nil {
		b.Fatal(err)
	}
	_ = cmd.Wait() // how it ended is its code
	return out.String(), cmd.ProcessState.ExitCode()
}

// typed is run for the transcript.
func (b *broken) typed(n *lab.Node, verb ...string) (string, int) {
	b.Helper()
	out, code := b.run(n, verb...)
	b.transcribe(n, verb, out, code)
	return out, code
}

func (b *broken) transcribe(n *lab.Node, verb []string, out string, code int) {
	b.Helper()
	b.Logf("%s# quorate %s -c %s\n%s(exit code %d)", n.Name, strings.Join(verb, " "), n.Config(), out, code)
}

// must is typed for what has to succeed.
func (b *broken) must(n *lab.Node, verb ...string) string {
	b.Helper()
	out, code := b.typed(n, verb...)
	if code != 0 {
		b.Fatalf("quorate %s ended with %d\n%s", verb[0], code, b.lab.Report())
	}
	return out
}

// refuses is typed for what has to be refused in these words. Some refusals hold only once somebody has been unheard for a
// while: it is typed again until the words come, and what comes before is a refusal as well.
func (b *broken) refuses(n *lab.Node, says string, verb ...string) {
	b.Helper()
	var out string
	var code int
	b.await("quorate "+verb[0]+" says "+says, func() bool {
		if out, code = b.run(n, verb...); code != exitRefused {
			b.Fatalf("quorate %s ended with %d, not %d, and said\n%s", strings.Join(verb, " "), code, exitRefused, out)
		}
		return strings.Contains(out, says)
	})
	b.transcribe(n, verb, out, code)
}

// says waits until the node's answer to a verb has these words, for the transcript.
func (b *broken) says(n *lab.Node, words string, verb ...string) {
	b.Helper()
	var out string
	var code int
	b.await("quorate "+strings.Join(verb, " ")+" says "+words, func() bool {
		out, code = b.run(n, verb...)
		return strings.Contains(out, words)
	})
	b.transcribe(n, verb, out, code)
}

// form makes a cluster, by init on the first of these nodes and join on the others, and returns it when it is whole.
func (b *broken) form(nodes ...*lab.Node) lab.State {
	b.Helper()
	b.found(nodes[0])
	for _, n := range nodes[1:] {
		b.join(n, nodes[0])
	}
	b.members(nodes[0], len(nodes), len(nodes))
	return b.healthy()
}

func (b *broken) found(n *lab.Node) {
	b.Helper()
	b.must(n, "init")
	n.Outside = false
}

// join makes n a member of the cluster that the other one belongs to.
func (b *broken) join(n, member *lab.Node, more ...string) {
	b.Helper()
	b.must(n, b.joining(member, more...)...)
	n.Outside = false
}

// joining is what to type to get into member's cluster.
func (b *broken) joining(member *lab.Node, more ...string) []string {
	b.Helper()
	token, code := b.run(member, "token")
	if code != 0 {
		b.Fatalf("quorate token on %s ended with %d: %s", member.Name, code, token)
	}
	file := filepath.Join(b.lab.Dir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		b.Fatal(err)
	}
	return append([]string{"join", member.Addr, "--token-file", file}, more...)
}

// leave takes n out of the cluster.
func (b *broken) leave(n, by *lab.Node) {
	b.Helper()
	b.must(by, "members", "remove", n.Name)
	n.Outside = true
}

// members waits until n knows of so many members, all staying, of whom so many vote, and returns them by name.
func (b *broken) members(n *lab.Node, all, voters int) map[string]client.Member {
	b.Helper()
	var found map[string]client.Member
	b.await("the members have settled", func() bool {
		list, err := client.Unix(n.Socket()).Members(b.Context())
		if err != nil {
			return false
		}
		votes := 0
		found = map[string]client.Member{}
		for _, m := range list {
			if m.Leaving || !m.Heard {
				return false
			}
			if m.Voter {
				votes++
			}
			found[m.Name] = m
		}
		return len(list) == all && votes == voters
	})
	return found
}
