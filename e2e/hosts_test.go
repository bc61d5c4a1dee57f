package e2e_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/lab/history"
	"github.com/quorate/quorate/lab/load"
)

// TestThreeHostsThreeCommands makes a cluster of three hosts by three commands, of which each but the first is what the one
// before has printed. Then it loses the host of its primary.
func TestThreeHostsThreeCommands(t *testing.T) {
	b := newWaiting(t, 3)
	first := b.lab.Nodes[0]
	said := b.must(first, "init")
	first.Outside = false
	var command []string
	for line := range strings.Lines(said) {
		if words, ok := strings.CutPrefix(strings.TrimSpace(line), "quorate "); ok && strings.HasPrefix(words, "join ") {
			command = strings.Fields(words)
		}
	}
	if command == nil {
		t.Fatal("init does not say how others join")
	}
	for _, n := range b.lab.Nodes[1:] {
		b.must(n, command...)
		n.Outside = false
	}
	b.members(first, 3, 3)
	s := b.healthy()
	b.must(first, "members")
	b.must(first, "status")
	if s.Primary != first.Name || s.Epoch != 1 || s.Copies != 2 || len(s.Members) != 3 {
		t.Errorf("%s is primary of epoch %d, commits have %d copies of %v", s.Primary, s.Epoch, s.Copies, s.Members)
	}
	b.writers = startWriters(t, b.lab, first)
	b.await("clients write", func() bool { return b.ackedAfter(time.Time{}) })
	lost := time.Now()
	if err := b.lab.KillHosts(first); err != nil {
		t.Fatal(err)
	}
	b.movedOn(s)
	if err := b.lab.ReturnHost(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	after := b.healthy()
	b.writers.check(t, first.Name, lost, b.lab.Node(after.Primary))
	if ms := overlap(b.writers.kept(t, b.lab.Node(after.Primary), nothing)); ms > 0 {
		t.Errorf("two nodes took writes at once, for %.1f ms", ms)
	}
}

// TestOneThreeFiveThree lets a cluster of one grow to five and shrink to three while clients write. They lose nothing, and
// nobody but the first is ever primary. How long they waited is printed and not judged.
func TestOneThreeFiveThree(t *testing.T) {
	b := newWaiting(t, 5)
	n := b.lab.Nodes
	b.found(n[0])
	before := b.healthy()
	if err := b.lab.MakeTables(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, err := b.lab.Write(t.Context(), filepath.Join(t.TempDir(), "events"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Stop() }) // its error was returned by Compare, or something else failed
	type step struct {
		name     string
		from, to int64
	}
	var steps []step
	for _, s := range []struct {
		name          string
		do            func()
		nodes, copies int
	}{
		{"1 -> 3", func() { b.join(n[1], n[0]); b.join(n[2], n[1]) }, 3, 2},
		{"3 -> 5", func() { b.join(n[3], n[0]); b.join(n[4], n[2]) }, 5, 3},
		{"5 -> 3", func() { b.leave(n[4], n[0]); b.leave(n[3], n[1]) }, 3, 2},
	} {
		from := load.Now()
		s.do()
		b.members(n[0], s.nodes, s.nodes)
		if now := b.healthy(); now.Copies != s.copies {
			t.Errorf("%s: commits have %d copies, not %d", s.name, now.Copies, s.copies)
		}
		steps = append(steps, step{s.name, from, load.Now()})
	}
	after := b.healthy()
	if after.Epoch != before.Epoch || after.Primary != before.Primary {
		t.Errorf("%s of epoch %d became %s of epoch %d", before.Primary, before.Epoch, after.Primary, after.Epoch)
	}
	writes, lost, err := w.Compare(t.Context(), b.lab.Node(after.Primary))
	if err != nil {
		t.Fatal(err)
	}
	if len(lost) > 0 {
		t.Errorf("%d acknowledged writes are missing, the first is %+v", len(lost), lost[0])
	}
	if ms := history.Overlap(writes); ms > 0 {
		t.Errorf("two nodes took writes at once, for %.1f ms", ms)
	}
	for _, s := range steps {
		t.Logf("%s nodes in %.1f s: longest write gap %s", s.name, time.Duration(s.to-s.from).Seconds(), longestGap(writes, s.from, s.to))
	}
}

// longestGap is the longest time between two acknowledgements of the load that follow each other, of those between two instants.
func longestGap(writes []history.Write, from, to int64) time.Duration {
	ends := []int64{from, to}
	for _, w := range writes {
		if w.OfLoad() && w.Outcome == history.OK && w.End > from && w.End < to {
			ends = append(ends, w.End)
		}
	}
	slices.Sort(ends)
	longest := int64(0)
	for i := 1; i < len(ends); i++ {
		longest = max(longest, ends[i]-ends[i-1])
	}
	return time.Duration(longest).Round(100 * time.Microsecond)
}
