package e2e_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/lab"
)

// TestStateDisk: the disk under cluster.data_dir hangs or is full, and Postgres has another one. A daemon that can't write Raft's log
// leads no longer; Postgres and its guard go on, and so does the primary. One whose own daemon ends is replaced, and nothing
// acknowledged is lost.
func TestStateDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	b := &broken{T: t, lab: up(t, lab.Options{StateDisks: true})}
	b.writers = startWriters(t, b.lab, b.lab.Node(b.healthy().Primary))
	b.in("the Raft leader's hangs", func(b *broken) {
		before := b.healthy()
		n := b.leaderBeside(before)
		was := b.trio(n)
		b.hangs(n)
		b.leadsAnother(before)
		b.goesOn(before)
		if !lives(was.guard) || !lives(was.postmaster) {
			b.Errorf("of %+v the guard lives: %v, its postmaster: %v", was, lives(was.guard), lives(was.postmaster))
		}
		b.thaws(n)
		b.restart(n, was)
		b.same(before, b.healthy())
	})
	b.in("the primary's hangs", func(b *broken) {
		before := b.healthy()
		n := b.lab.Node(before.Primary)
		was := b.trio(n)
		b.hangs(n)
		b.movedOn(before)
		b.thaws(n)
		b.restart(n, was)
		b.healthy()
	})
	b.in("the Raft leader's is full", func(b *broken) {
		before := b.healthy()
		n := b.leaderBeside(before)
		was := b.trio(n)
		b.fills(n)
		b.edited(b.lab.Node(before.Primary), "7MB")
		b.leadsAnother(before)
		b.goesOn(before)
		b.frees(n, was)
		b.same(before, b.healthy())
	})
	b.in("the primary's is full", func(b *broken) {
		before := b.healthy()
		n := b.lab.Node(before.Primary)
		was, full := b.trio(n), b.logged(n, "no space left on device")
		tries := 0
		b.await("it is said", func() bool { // a file that is replaced meanwhile leaves room for another
			tries++
			b.fills(n)
			b.edited(b.except(n)[0], fmt.Sprintf("%dMB", 7+tries%2))
			return b.logged(n, "no space left on device") > full
		})
		// It is replaced if there was room for the entry and none for the state after it: its daemon ends.
		since := time.Now()
		b.await("a write that began now is acknowledged", func() bool { return b.ackedAfter(since) })
		b.frees(n, was)
		b.healthy()
	})
	b.writers.kept(t, b.lab.Node(b.healthy().Primary), nothing)
}

func (b *broken) leaderBeside(s lab.State) *lab.Node {
	b.Helper()
	n := b.lab.Node(s.Leader)
	if n == nil || s.Leader == s.Primary {
		b.Fatalf("leader %q, primary %s", s.Leader, s.Primary)
	}
	return n
}

// freezes has every write to the node's disk wait, and whoever waits can't be killed.
func (b *broken) freezes(n *lab.Node) {
	b.Helper()
	b.Cleanup(func() { _ = n.ThawDisk() })
	if err := n.HangDisk(); err != nil {
		b.Fatal(err)
	}
}

// hangs freezes the disk and has the daemon find that. A log to which nothing happens is not written to.
func (b *broken) hangs(n *lab.Node) {
	b.Helper()
	const why = "the disk under cluster.data_dir hangs"
	before, tries := b.logged(n, why), 0
	b.freezes(n)
	b.await("the daemon of "+n.Name+" says why it ends", func() bool {
		tries++
		_, _ = b.ask(b.except(n)[0], "edit-config", "--yes", "--set", fmt.Sprintf("postgresql.parameters.work_mem=%dMB", 5+tries%2))
		return b.logged(n, why) > before
	})
}

// logged counts what the node's daemons have logged.
func (b *broken) logged(n *lab.Node, what string) int {
	b.Helper()
	log, err := os.ReadFile(n.Log())
	if err != nil {
		b.Fatal(err)
	}
	return strings.Count(string(log), what)
}

func (b *broken) thaws(n *lab.Node) {
	b.Helper()
	if err := n.ThawDisk(); err != nil {
		b.Fatal(err)
	}
}

func (b *broken) fills(n *lab.Node) {
	b.Helper()
	b.Cleanup(func() { _ = n.FreeDisk() })
	if err := n.FillDisk(); err != nil {
		b.Fatal(err)
	}
}

// frees makes room, and starts the daemon if it ended for want of that, which shows when it has had something to write since.
func (b *broken) frees(n *lab.Node, was trio) {
	b.Helper()
	if err := n.FreeDisk(); err != nil {
		b.Fatal(err)
	}
	b.edited(b.except(n)[0], "9MB")
	b.await("the daemon of "+n.Name+" writes or has ended", func() bool {
		config, _ := b.ask(n, "show-config")
		return !lives(was.agent) || strings.Contains(config, "9MB")
	})
	if !lives(was.agent) {
		b.restart(n, was)
	}
}

// edited has the log grow by an edit, which may have to be asked for more than once.
func (b *broken) edited(by *lab.Node, to string) {
	b.Helper()
	b.await("the configuration is changed", func() bool {
		_, code := b.ask(by, "edit-config", "--yes", "--set", "postgresql.parameters.work_mem="+to)
		return code == 0
	})
}

func (b *broken) leadsAnother(from lab.State) {
	b.Helper()
	b.await("another node leads", func() bool { l := b.newest().Leader; return l != "" && l != from.Leader })
}

// goesOn wants a write that begins now acknowledged by the same primary in the same epoch.
func (b *broken) goesOn(from lab.State) {
	b.Helper()
	since := time.Now()
	b.await("a write that began now is acknowledged", func() bool { return b.ackedAfter(since) })
	b.same(from, b.newest())
}

func (b *broken) same(was, is lab.State) {
	b.Helper()
	if was.Epoch != is.Epoch || was.Primary != is.Primary {
		b.Errorf("%s of epoch %d became %s of epoch %d", was.Primary, was.Epoch, is.Primary, is.Epoch)
	}
}
