package lab

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/lab/history"
)

func TestADiskHangsAndFillsAndIsRemoved(t *testing.T) {
	l, err := create(Options{Exe: sleeper(t), Disks: true, Out: talk{t}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := os.Stat(l.dir); !errors.Is(err, fs.ErrNotExist) {
			if err := l.Down(context.Background()); err != nil {
				t.Error(err)
			}
		}
	})
	if err := errors.Join(l.makeNetwork(t.Context()), l.writeFiles(t.Context())); err != nil {
		t.Fatal(err)
	}
	n := l.Nodes[0]
	if n.PGData() != filepath.Join(n.Dir, "disk", "pg") {
		t.Fatalf("the data directory is %s", n.PGData())
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(n.mountPoint(), "file")
	write := func() error { return os.WriteFile(file, make([]byte, 1<<16), 0o600) }
	do(write())
	do(os.Remove(file))
	do(n.FillDisk())
	if err := write(); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("written to a full disk: %v", err)
	}
	do(n.FreeDisk())
	do(n.FreeDisk())
	do(write())
	do(n.HangDisk())
	ended := make(chan error, 1)
	go func() { ended <- write() }()
	select {
	case err := <-ended:
		t.Errorf("written to a disk that hangs: %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	do(n.ThawDisk())
	do(<-ended)
	do(n.ThawDisk())
	// As after a kill in the middle of a fault: who takes the lab down thaws first.
	do(n.HangDisk())
	do(l.Down(t.Context()))
	gone(t, l)
}

// TestADiskFailsAndIsRepaired: no byte of it can be changed until healing has repaired it, and what was synchronised is there.
func TestADiskFailsAndIsRepaired(t *testing.T) {
	l, err := create(Options{Exe: sleeper(t), Disks: true, Out: talk{t}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(l.makeNetwork(t.Context()), l.writeFiles(t.Context())); err != nil {
		t.Fatal(err)
	}
	n := l.Nodes[0]
	file := filepath.Join(n.mountPoint(), "file")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("kept"); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), n.failDisk()); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("more"); !errors.Is(err, syscall.EROFS) && !errors.Is(err, syscall.EIO) {
		t.Errorf("written to an open file of a disk that has failed: %v", err)
	}
	if err := os.WriteFile(file+"2", nil, 0o600); !errors.Is(err, syscall.EROFS) && !errors.Is(err, syscall.EIO) {
		t.Errorf("a file was made on a disk that has failed: %v", err)
	}
	_ = f.Close() // its disk has failed
	if err := errors.Join(l.mend(t.Context()), l.mend(t.Context())); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != "kept" {
		t.Errorf("what was synchronised is now %q, %v", b, err)
	}
	if err := os.WriteFile(file+"2", []byte("new"), 0o600); err != nil {
		t.Errorf("after the repair: %v", err)
	}
	if other, err := os.ReadDir(l.Nodes[1].mountPoint()); err != nil || len(other) == 0 {
		t.Errorf("another disk: %v, %v", other, err)
	}
}

func TestWhatIsNotMountedIsLeftAlone(t *testing.T) {
	n := &Node{Name: "n1", Dir: t.TempDir(), Disk: true}
	if err := os.Mkdir(n.mountPoint(), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := n.FillDisk(); err == nil {
		t.Error("filled the machine's own disk")
	}
	if err := errors.Join(n.HangDisk(), n.ThawDisk(), n.FreeDisk()); err != nil {
		t.Error(err)
	}
}

func TestLostWritesAreFoundInEvidence(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "commits.jsonl"), []byte(`{"lsn":"0/300732","xid":731}`+"\n"+`{"lsn":"0/3000100","xid":733}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var writes []history.Write
	for i, xid := range []uint64{730, 731, 732, 733} {
		writes = append(writes, history.Write{ID: int64(i + 1), Node: "n1", XID: xid, Outcome: history.OK})
	}
	writes = append(writes, history.Write{ID: 9, Node: "n1", XID: 731, Outcome: history.OK, Prober: true},
		history.Write{ID: 10, Node: "n2", XID: 733, Outcome: history.OK}, history.Write{ID: 11, Node: "n1", XID: 733, Outcome: history.Unknown})
	lost := lostOf(writes, []int64{1})
	if len(lost) != 4 {
		t.Fatalf("lost %+v", lost)
	}
	ids, err := found(lost, []Kept{{Node: "n1", Path: dir}, {Node: "n1", Path: dir + "/none"}})
	if err != nil || !slices.Equal(ids, []int64{2, 4}) {
		t.Errorf("found %v, %v", ids, err)
	}
}

// talk sends what a lab says to the test's log.
type talk struct{ t *testing.T }

func (w talk) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

func TestStoppedProcessesAreResumed(t *testing.T) {
	l := skeleton(t)
	n := l.Nodes[0]
	state := func() string {
		o, err := l.agent(n)
		if err != nil {
			t.Fatal(err)
		}
		return stateOfProcess(t, o.PID)
	}
	if _, err := l.stopAgent(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	limit, stop := context.WithTimeout(t.Context(), healLimit)
	defer stop()
	if err := until(limit, "the agent is stopped", func() (bool, error) { return state() == "T", nil }); err != nil {
		t.Fatal(err)
	}
	if err := l.mend(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := until(limit, "the agent goes on", func() (bool, error) { return state() != "T", nil }); err != nil {
		t.Fatal(err)
	}
	if left, err := l.stopped(n); err != nil || len(left) > 0 {
		t.Errorf("still written down: %v, %v", left, err)
	}
}

func TestAnAgentComesBackUnlessItIsLeft(t *testing.T) {
	l := skeleton(t)
	limit, stop := context.WithTimeout(t.Context(), healLimit)
	defer stop()
	end := l.keep(limit)
	defer end()
	first, second := l.Nodes[0], l.Nodes[1]
	was, err := l.agent(first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.killAgentForGood(limit, second); err != nil {
		t.Fatal(err)
	}
	if _, err := l.killAgent(limit, first); err != nil {
		t.Fatal(err)
	}
	if err := until(limit, "the agent is back", func() (bool, error) {
		now, err := l.agent(first)
		return err == nil && now != was && l.running(first), err
	}); err != nil {
		t.Fatal(err)
	}
	if l.running(second) {
		t.Error("the agent that shall stay away is back")
	}
	if err := until(limit, "it is counted", func() (bool, error) { return l.respawned() == 1, nil }); err != nil {
		t.Error(err)
	}
	if _, err := l.upgradeAgent(limit, first); err != nil {
		t.Fatal(err)
	}
	if !l.running(first) || first.Exe == "" || first.Exe == l.Exe {
		t.Errorf("upgraded to %q", first.Exe)
	}
}

// stateOfProcess is the letter in /proc/PID/stat.
func stateOfProcess(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b[slices.Index(b, ')')+2])
}
