package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/quorate/quorate/lab"
	"github.com/quorate/quorate/transport"
)

// TestSecretIsReplaced takes the steps of docs/security.md under load. Nobody fails over, nothing is lost, and a failover
// and a rejoin afterwards need nothing of the old secret, the database's passwords included.
func TestSecretIsReplaced(t *testing.T) {
	b := newBroken(t)
	before := b.healthy()
	file := filepath.Join(filepath.Dir(b.lab.Nodes[0].Dir), "secret") // one for all nodes of a lab
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	old, next := strings.TrimSpace(string(content)), transport.GenerateSecret().Hex()
	for i, secrets := range [][]string{{old, next}, {next, old}, {next}} {
		temp := file + ".new"
		if err := os.WriteFile(temp, []byte(strings.Join(secrets, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temp, file); err != nil {
			t.Fatal(err)
		}
		for _, n := range b.lab.Nodes {
			b.signal(syscall.SIGHUP, b.trio(n).agent)
			b.await(n.Name+" uses the secrets", func() bool { return b.secretsRead(n) == i+1 })
		}
	}
	after := b.healthy()
	if after.Primary != before.Primary || after.Epoch != before.Epoch {
		t.Errorf("%s of epoch %d -> %s of epoch %d during the rotation", before.Primary, before.Epoch, after.Primary, after.Epoch)
	}
	b.writers.kept(t, b.lab.Node(after.Primary), nothing)
	b.writers.stop()
	try(t, b.lab, lab.Plan{Kind: lab.HostKill, Prober: true})
}

// secretsRead is how often the node has taken over another list of secrets.
func (b *broken) secretsRead(n *lab.Node) int {
	log, err := os.ReadFile(n.Log())
	if err != nil {
		b.Fatal(err)
	}
	return strings.Count(string(log), "cluster secrets changed")
}
