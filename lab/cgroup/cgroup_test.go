package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestFindMount(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"pure", "30 22 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup"},
		{"hybrid", "36 30 0:36 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw\n37 30 0:37 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n", "/sys/fs/cgroup/unified"},
		{"space", "37 30 0:37 / /a\\040b rw - cgroup2 none rw\n", "/a b"},
		{"none", "36 30 0:36 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw\n", ""},
	} {
		if got, _ := findMount(c.in); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestKillEndsAllOfOneHostAndNoOther(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("control groups need root")
	}
	root, err := Root(fmt.Sprintf("quorate-test-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	t.Cleanup(func() {
		_ = root.Kill()
		if err := errors.Join(root.AwaitEmpty(context.Background()), root.Remove(context.Background())); err != nil {
			t.Error(err)
		}
	})
	start := func(g Group) *exec.Cmd {
		t.Helper()
		if err := g.Make(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("sleep", "60")
		release, err := g.Put(cmd)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	a, b := root.Sub("n1"), root.Sub("n2")
	// Twice: what was killed can be used again once it is made anew.
	other := start(b.Sub("daemon"))
	for range 2 {
		one, two := start(a.Sub("daemon")), start(a.Sub("postgres"))
		if in, err := a.Holds(two.Process.Pid); err != nil || !in {
			t.Fatalf("held: %v, %v", in, err)
		}
		if in, err := b.Holds(two.Process.Pid); err != nil || in {
			t.Fatalf("held by the other: %v, %v", in, err)
		}
		if err := a.Kill(); err != nil {
			t.Fatal(err)
		}
		_, _ = one.Process.Wait()
		_, _ = two.Process.Wait()
		if err := errors.Join(a.AwaitEmpty(ctx), a.Remove(ctx)); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(a.Dir()); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("still there: %v", err)
		}
	}
	if full, err := b.Populated(); err != nil || !full {
		t.Fatalf("the other host: populated %v, %v", full, err)
	}
	_ = other.Process.Kill()
	_, _ = other.Process.Wait()
}
