package e2e_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/lab"
)

// TestFailoverByHand is a switchover that does not wait for long, and loses nothing.
func TestFailoverByHand(t *testing.T) {
	b := newBroken(t)
	before := b.healthy()
	old := b.lab.Node(before.Primary)
	to := b.except(old)[0]
	asked := time.Now()
	if said, code := b.ask(to, "failover", to.Name); code != 0 || !strings.Contains(said, "Successfully failed over") {
		t.Fatalf("%d: %s", code, said)
	}
	after := b.healthy()
	if after.Primary != to.Name {
		t.Errorf("%s is primary, not %s", after.Primary, to.Name)
	}
	b.writers.check(t, old.Name, asked, b.lab.Node(after.Primary))
}

// TestALossIsAccepted: the primary has acknowledged alone, as it may where the only other copy is away, and its host is lost. The
// other one comes back, is refused with what it lacks, and becomes primary on somebody's word. What it lacks is kept as what it is.
func TestALossIsAccepted(t *testing.T) {
	b := &broken{T: t, lab: up(t, lab.Options{Nodes: 2, Witnesses: 1})}
	before := b.healthy()
	old := b.lab.Node(before.Primary)
	var standby, witness *lab.Node
	for _, n := range b.except(old) {
		if n.Witness {
			witness = n
		} else {
			standby = n
		}
	}
	b.column(old, "CREATE TABLE kept (id int); INSERT INTO kept VALUES (1)")
	if err := b.lab.KillHosts(standby); err != nil {
		t.Fatal(err)
	}
	b.await("commits wait for nobody", func() bool { return b.newest().Copies == 1 })
	b.column(old, "INSERT INTO kept VALUES (2)")
	if err := b.lab.KillHosts(old); err != nil {
		t.Fatal(err)
	}
	if err := b.lab.ReturnHost(t.Context(), standby); err != nil {
		t.Fatal(err)
	}
	offer := regexp.MustCompile(`quorate failover ` + standby.Name + ` --accept-data-loss ([0-9a-f]+)`)
	var told []string
	b.await("it is said how to accept the loss", func() bool {
		said, code := b.ask(witness, "failover", standby.Name)
		told = offer.FindStringSubmatch(said)
		return code == 5 && told != nil
	})
	if said, code := b.ask(witness, "failover", standby.Name, "--accept-data-loss", told[1][1:]); code != 5 {
		t.Fatalf("another token: %d: %s", code, said)
	}
	if said, code := b.ask(witness, "failover", standby.Name, "--accept-data-loss", told[1]); code != 0 {
		t.Fatalf("%d: %s", code, said)
	}
	if rows := b.column(standby, "SELECT id FROM kept ORDER BY id"); !slices.Equal(rows, []string{"1"}) {
		t.Errorf("%s has %q", standby.Name, rows)
	}
	if err := b.lab.ReturnHost(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	b.healthy()
	for verb, want := range map[string]string{"history": "unknown: accepted", "discards": old.Name, "status": "some of it perhaps acknowledged"} {
		if said, _ := b.ask(witness, verb); !strings.Contains(said, want) {
			t.Errorf("%s does not say %q:\n%s", verb, want, said)
		}
	}
}

// column runs statements on a node and returns the first column of what the last one gave.
func (b *broken) column(n *lab.Node, sql string) []string {
	b.Helper()
	c, err := dial(b.lab, n)
	if err != nil {
		b.Fatal(err)
	}
	defer hang(c)
	rows, err := run1(c, sql)
	if err != nil {
		b.Fatal(err)
	}
	return rows
}
