package e2e_test

import (
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/lab"
)

// goAsync changes durability in a running cluster. While it is async the primary acknowledges what nobody else has;
// once it is quorum again, all of that is on the others, too, and the primary may be lost.
func (b *broken) goAsync() {
	before := b.healthy()
	primary := b.lab.Node(before.Primary)
	b.setDurability(primary, "async")
	b.await("nobody holds every commit", func() bool { return len(b.newest().Members) == 0 && b.rule(primary) == "" })
	paused := map[int]bool{}
	for _, n := range b.except(primary) {
		paused[pauseReceiver(b.T, b.lab, n)] = true
	}
	alone := time.Now()
	b.await("a write is acknowledged that no standby gets", func() bool { return b.ackedAfter(alone) })
	for pid := range paused {
		b.signal(syscall.SIGCONT, pid)
	}
	b.setDurability(primary, "quorum")
	back := b.healthy()
	if rule := b.rule(primary); !strings.HasPrefix(rule, "ANY 1 (") {
		b.Errorf("the rule in force is %q", rule)
	}
	if back.Primary != before.Primary || back.Epoch != before.Epoch {
		b.Errorf("%s of epoch %d became %s of epoch %d: a change of durability needs no failover", before.Primary, before.Epoch, back.Primary, back.Epoch)
	}
	began := time.Now()
	if err := b.lab.KillHosts(primary); err != nil {
		b.Fatal(err)
	}
	b.movedOn(back)
	if err := b.lab.ReturnHost(b.Context(), primary); err != nil {
		b.Fatal(err)
	}
	after := b.healthy()
	b.writers.check(b.T, primary.Name, began, b.lab.Node(after.Primary))
	if ms := overlap(b.writers.kept(b.T, b.lab.Node(after.Primary), nothing)); ms > 0 {
		b.Errorf("two nodes took writes at once, for %.1f ms", ms)
	}
}

// setDurability edits the configuration that all nodes share.
func (b *broken) setDurability(n *lab.Node, to string) {
	b.Helper()
	if out, code := b.ask(n, "edit-config", "--yes", "--set", "durability="+to); code != 0 {
		b.Fatalf("edit-config ended with %d: %s", code, out)
	}
}

// rule is what the node's Postgres waits for, with an error for what it can't say.
func (b *broken) rule(n *lab.Node) string {
	c, err := dial(b.lab, n)
	if err != nil {
		return err.Error()
	}
	defer hang(c)
	rows, err := run1(c, "SHOW synchronous_standby_names")
	if err != nil || len(rows) != 1 {
		return "unknown"
	}
	return rows[0]
}

// newest is the answer of the node that knows of the highest epoch, and of those the Raft leader's.
func (b *broken) newest() (best lab.State) {
	states, _ := b.lab.Look(b.Context())
	for _, s := range states {
		if s.Epoch > best.Epoch || s.Epoch == best.Epoch && best.Leader == "" {
			best = s
		}
	}
	return best
}
