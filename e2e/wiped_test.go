package e2e_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/lab"
)

// TestWipedNodeComesBack: a node that lost its disk comes back under its name as another member, once somebody said that the
// one before is gone for good and nothing of it is left.
func TestWipedNodeComesBack(t *testing.T) {
	b := newWaiting(t, 3)
	first, n := b.lab.Nodes[0], b.lab.Nodes[1]
	before := b.form(b.lab.Nodes...)
	b.writers = startWriters(t, b.lab, first)
	was := b.members(first, 3, 3)[n.Name]
	b.endDaemon(n, syscall.SIGINT)
	n.Outside = true
	data := filepath.Join(n.Dir, "kept")
	if err := os.Rename(n.PGData(), data); err != nil {
		t.Fatal(err)
	}
	if err := b.lab.Wipe(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(data, n.PGData()); err != nil {
		t.Fatal(err)
	}
	b.startWaiting(n)
	b.refuses(n, "holds an earlier copy of this database", b.joining(first, "--replace")...)
	if err := os.Rename(n.PGData(), data); err != nil { // as it says
		t.Fatal(err)
	}
	b.refuses(n, "say so by quorate join with --replace", b.joining(first)...)
	if m, ok := b.memberNow(first, n); !ok || m.ID != was.ID {
		t.Errorf("a refusal changed something: %+v", m)
	}
	b.join(n, first, "--replace")
	is := b.members(first, 3, 3)
	after := b.healthy()
	if is[n.Name].ID == was.ID {
		t.Errorf("%s is still member %s", n.Name, was.ID)
	}
	for name, m := range is {
		if m.ID == was.ID {
			t.Errorf("member %s of before is still there, as %s", was.ID, name)
		}
	}
	if after.Epoch != before.Epoch || after.Primary != before.Primary {
		t.Errorf("%s of epoch %d became %s of epoch %d", before.Primary, before.Epoch, after.Primary, after.Epoch)
	}
	b.writers.kept(t, b.lab.Node(after.Primary), nothing)
	b.must(n, "status")
}

// TestRemoveMember: what a removal would endanger is refused, in words that say what helps. A standby that is removed shuts
// its Postgres down, says why, and its data stay.
func TestRemoveMember(t *testing.T) {
	b := newWaiting(t, 3)
	first, second, third := b.lab.Nodes[0], b.lab.Nodes[1], b.lab.Nodes[2]
	before := b.form(b.lab.Nodes...)
	b.writers = startWriters(t, b.lab, first)
	b.refuses(second, "n1 is the primary of epoch 1; first: quorate switchover", "members", "remove", first.Name)
	b.refuses(first, `"n9" is no member; members are n1, n2, n3`, "members", "remove", "n9")

	b.endDaemon(third, syscall.SIGTERM)
	b.unheard(first, third, 3*time.Second)
	b.refuses(first, "2 of them must live and 1 do", "members", "remove", second.Name, "--last-copy")
	if err := b.lab.StartDaemon(third); err != nil {
		t.Fatal(err)
	}
	b.members(first, 3, 3)
	if s := b.healthy(); s.Epoch != before.Epoch {
		t.Errorf("epoch %d -> %d: refusals changed something", before.Epoch, s.Epoch)
	}

	home := inode(third.PGData())
	b.leave(third, first)
	b.await("the Postgres of "+third.Name+" is shut down", func() bool {
		_, err := os.Stat(filepath.Join(third.PGData(), "postmaster.pid"))
		return errors.Is(err, fs.ErrNotExist)
	})
	if _, err := os.Stat(filepath.Join(third.PGData(), "global", "pg_control")); err != nil || inode(third.PGData()) != home {
		t.Errorf("its data are not what they were: %v", err)
	}
	b.says(third, "To look at:\n  "+third.Name+": this node was removed from the cluster", "status")
	b.members(first, 2, 2)
	b.refuses(first, "members remove n2 --last-copy", "members", "remove", second.Name)
	after := b.healthy()
	if after.Epoch != before.Epoch || after.Primary != first.Name {
		t.Errorf("%s is primary, epoch %d -> %d", after.Primary, before.Epoch, after.Epoch)
	}
	b.writers.kept(t, first, nothing)
}

// endDaemon ends the node's daemon and waits until it has ended.
func (b *broken) endDaemon(n *lab.Node, sig syscall.Signal) {
	b.Helper()
	ctx, stop := context.WithTimeout(b.Context(), limit)
	defer stop()
	if err := b.lab.StopDaemon(ctx, n, sig); err != nil {
		b.Fatalf("%v\n%s", err, b.lab.Report())
	}
}

// startWaiting starts the daemon of a node that belongs to no cluster and waits until it can be told.
func (b *broken) startWaiting(n *lab.Node) {
	b.Helper()
	if err := b.lab.StartDaemon(n); err != nil {
		b.Fatal(err)
	}
	b.waits(n)
}

// waits waits until the node's daemon can be told to init or to join.
func (b *broken) waits(n *lab.Node) {
	b.Helper()
	b.await(n.Name+" waits to be told", func() bool {
		s, err := client.Unix(n.Socket()).Status(b.Context())
		return err == nil && s.Epoch == 0
	})
}

// unheard waits until the other one has not heard of n for that long.
func (b *broken) unheard(by, n *lab.Node, long time.Duration) {
	b.Helper()
	b.await(n.Name+" is missed", func() bool {
		s, err := client.Unix(by.Socket()).Status(b.Context())
		if err != nil {
			return false
		}
		for _, o := range s.Nodes {
			if o.Name == n.Name {
				return o.AgeMS > long.Milliseconds()
			}
		}
		return false
	})
}
