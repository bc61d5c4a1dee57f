package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/lab"
)

// TestDiskHangsAndMore: the disk of the primary hangs for good and something else happens to it, after which Postgres is
// being killed and can't end. Others take over all the same, before the disk is back.
func TestDiskHangsAndMore(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	b := &broken{T: t, lab: up(t, lab.Options{Disks: true})}
	b.writers = startWriters(t, b.lab, b.lab.Node(b.healthy().Primary))
	b.in("one process of Postgres dies", func(b *broken) {
		b.hungAnd(func(n *lab.Node, was trio) time.Time { return b.crash(n, was) })
	})
	b.in("one process of Postgres dies, and the agent", func(b *broken) {
		b.hungAnd(func(n *lab.Node, was trio) time.Time {
			at := b.crash(n, was)
			b.signal(syscall.SIGKILL, was.agent)
			b.restart(n, was)
			return at
		})
	})
	b.in("one process of Postgres dies, and the agent, which hangs in the disk too", func(b *broken) {
		b.hungAnd(func(n *lab.Node, was trio) time.Time {
			at := b.crash(n, was)
			b.await("the agent's probe hangs", func() bool { return b.threadHangs(was.agent) })
			b.signal(syscall.SIGKILL, was.agent)
			b.restart(n, was) // it waits for the threads of the one before it
			return at
		})
	})
}

// TestDiskFull leaves no byte on the primary's disk: another node takes over, and nothing acknowledged is lost.
func TestDiskFull(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	l := up(t, lab.Options{Disks: true})
	if trial, _ := try(t, l, lab.Plan{Kind: "disk-full", Prober: true}); trial.New == trial.Old {
		t.Errorf("%s is still primary", trial.Old)
	}
}

// TestDataDirectoryIsGone: a data directory that is not there when its node starts, as when its disk is not mounted, is missed, and
// nothing is made in its place. Put back, it is used as it is; given up, it is replaced by a copy when somebody asks for that.
func TestDataDirectoryIsGone(t *testing.T) {
	b := newBroken(t)
	before := b.healthy()
	n := b.except(b.lab.Node(before.Primary))[0]
	away, home := filepath.Join(n.Dir, "away"), inode(n.PGData())
	gone := func() {
		b.Helper()
		b.endDaemon(n, syscall.SIGINT)
		if err := os.Rename(n.PGData(), away); err != nil {
			b.Fatal(err)
		}
		if err := b.lab.StartDaemon(n); err != nil {
			b.Fatal(err)
		}
		b.says(n, "the data directory "+n.PGData()+" is gone", "status")
		b.says(n, "quorate reinit "+n.Name, "status")
		if made, err := filepath.Glob(n.PGData() + "*"); err != nil || len(made) > 0 {
			b.Errorf("made in its place: %v, %v", made, err)
		}
	}
	gone()
	if err := os.Rename(away, n.PGData()); err != nil {
		t.Fatal(err)
	}
	b.healthy()
	if is := inode(n.PGData()); is != home {
		t.Errorf("what was put back is not in use: inode %d, it was %d", is, home)
	}
	gone()
	b.must(n, "reinit", n.Name)
	after := b.healthy()
	if is := inode(n.PGData()); is == home || inode(away) != home {
		t.Errorf("inode %d is in use, %d was put away", is, home)
	}
	if after.Epoch != before.Epoch || after.Primary != before.Primary {
		t.Errorf("%s of epoch %d became %s of epoch %d", before.Primary, before.Epoch, after.Primary, after.Epoch)
	}
	b.writers.kept(t, b.lab.Node(after.Primary), nothing)
}

// hungAnd hangs the primary's disk, has more happen, and thaws the disk when another node serves.
func (b *broken) hungAnd(more func(n *lab.Node, was trio) time.Time) {
	b.Helper()
	before := b.healthy()
	n := b.lab.Node(before.Primary)
	was := b.trio(n)
	b.freezes(n)
	at := more(n, was)
	b.movedOn(before)
	if !lives(was.guard) {
		b.Error("the guard ended")
	}
	if states, _ := b.lab.Look(b.Context()); len(b.hanging(was.guard)) == 0 {
		b.Errorf("nothing hung in the disk, so nothing was tried: %+v", states)
	}
	b.thaws(n)
	after := b.healthy()
	b.writers.check(b.T, n.Name, at, b.lab.Node(after.Primary))
}

// crash kills a process of Postgres that waits for no disk, and returns when the guard kills the others for that.
func (b *broken) crash(n *lab.Node, was trio) time.Time {
	b.Helper()
	var at time.Time
	killing := b.said(n, "state=killing")
	for pid, title := range b.children(was.postmaster) {
		if strings.Contains(title, "logical replication launcher") {
			at = b.signal(syscall.SIGKILL, pid)
		}
	}
	if at.IsZero() {
		b.Fatal("the launcher is not there")
	}
	b.await("the guard kills the others", func() bool { return b.said(n, "state=killing") > killing })
	return at
}

// children are the processes of a parent with their titles.
func (b *broken) children(of int) map[int]string {
	b.Helper()
	out := map[int]string{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		var pid, parent int
		var state string
		_, rest, _ := strings.Cut(string(stat), ") ")
		_, err1 := fmt.Sscan(string(stat), &pid)
		_, err2 := fmt.Sscan(rest, &state, &parent)
		if err1 != nil || err2 != nil || parent != of {
			continue
		}
		title, err := os.ReadFile(filepath.Join(filepath.Dir(file), "cmdline"))
		if err == nil {
			out[pid] = state + " " + string(title)
		}
	}
	return out
}

// hanging are the processes below the guard that sleep uninterruptibly.
func (b *broken) hanging(of int) []string {
	b.Helper()
	var out []string
	for pid, title := range b.children(of) {
		if strings.HasPrefix(title, "D ") {
			out = append(out, title)
		}
		out = append(out, b.hanging(pid)...)
	}
	return out
}

// threadHangs says whether a thread of the process waits for a disk. The process then ends only when that does.
func (b *broken) threadHangs(pid int) bool {
	b.Helper()
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	for _, file := range stats {
		stat, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		if _, rest, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(rest, "D ") {
			return true
		}
	}
	return false
}
