package guard

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestNeverRunsStat(t *testing.T) {
	line := func(state string, flags, pending uint64) []byte {
		return fmt.Appendf(nil, "7 (a ) b) %s 1 7 7 0 -1 %d 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0 0 0 0 0 0 0 %d 0 0 0", state, flags, pending)
	}
	for _, c := range []struct {
		what string
		line []byte
		want bool
	}{
		{"runs", line("R", 0x400000, 0), false},
		{"runs, with a kill on its way", line("R", 0x400000, 1<<8), false},
		{"sleeps", line("S", 0x400000, 1<<8), false},
		{"hangs in the kernel and goes on afterwards", line("D", 0x400000, 0), false},
		{"hangs in the kernel with another signal", line("D", 0x400000, 1<<14), false},
		{"hangs in the kernel and dies afterwards", line("D", 0x400000, 1<<8), true},
		{"is stopped", line("T", 0x400000, 0), false},
		{"hangs in its own end", line("D", 0x400004, 0), true},
		{"a zombie", line("Z", 0x400000, 0), true},
		{"unreadable", []byte("7 (x) Z 1"), false},
		{"nothing", nil, false},
	} {
		if got := neverRuns(c.line); got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}

const (
	ioctlFreeze = 0xc0045877 // FIFREEZE
	ioctlThaw   = 0xc0045878 // FITHAW
	frozenDisk  = "qguard-disk-"
)

func fsIoctl(dir string, request uint) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.IoctlSetInt(fd, request, 0)
}

// removeDisk thaws, unmounts and removes one, whatever became of its test.
func removeDisk(dir string) {
	_ = fsIoctl(filepath.Join(dir, "mnt"), ioctlThaw)
	_ = unix.Unmount(filepath.Join(dir, "mnt"), unix.MNT_DETACH)
	_ = os.RemoveAll(dir)
}

// TestHangingDisk: a process that writes to a disk that hangs survives SIGKILL, but will never run again; when the disk
// comes back it is gone.
func TestHangingDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), frozenDisk+"*"))
	for _, dir := range left {
		removeDisk(dir)
	}
	dir, err := os.MkdirTemp("", frozenDisk)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeDisk(dir) })
	image, mnt := filepath.Join(dir, "image"), filepath.Join(dir, "mnt")
	for _, args := range []string{"truncate -s 8M " + image, "mkfs.ext4 -q " + image, "mkdir " + mnt, "mount -o loop " + image + " " + mnt} {
		words := strings.Fields(args)
		if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", args, err, out)
		}
	}
	if err := fsIoctl(mnt, ioctlFreeze); err != nil {
		t.Fatal(err)
	}
	writer := exec.Command("dd", "if=/dev/zero", "of="+filepath.Join(mnt, "file"), "bs=4k", "count=1")
	if err := writer.Start(); err != nil {
		t.Fatal(err)
	}
	pid := writer.Process.Pid
	hung := 0
	await(t, "a writer that hangs", func() bool {
		// A process that reads its own program from a disk is in that state, too, but not for long.
		if p, ok := readProc(pid); !ok || p.state != 'D' {
			hung = 0
		}
		hung++
		return hung > 50
	})
	if never, err := threadsNeverRun(pid); err != nil || never {
		t.Fatalf("never runs: %v %v, and nobody has killed it", never, err)
	}
	if err := writer.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, "a writer that never runs again", func() bool { never, err := threadsNeverRun(pid); return err == nil && never })
	if p, ok := readProc(pid); !ok || p.state != 'D' {
		t.Fatalf("state %c, want one that hangs still", p.state)
	}
	if err := fsIoctl(mnt, ioctlThaw); err != nil {
		t.Fatal(err)
	}
	if err := writer.Wait(); err == nil {
		t.Error("the writer ended well although it was killed")
	}
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-limit:
			t.Fatalf("waited for %s", what)
		case <-tick.C:
		}
	}
}
