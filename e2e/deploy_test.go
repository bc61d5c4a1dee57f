package e2e_test

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/lab"
	"github.com/quorate/quorate/lab/cgroup"
)

// machineLimit is how long a machine of TestProvision may live.
const machineLimit = 4 * time.Minute

// TestProvision runs deploy/vagrant/provision.sh on a machine of its own, as Vagrant does, and what it installed: the node
// from the unit's ExecStart to its ExecStop, and HAProxy in front of it. testdata/inside.sh says what must hold.
func TestProvision(t *testing.T) {
	if err := lab.Able(); err != nil {
		t.Skip(err)
	}
	dir := machineDir(t)
	group := newMachineGroup(t)
	ctx, stop := context.WithTimeout(t.Context(), machineLimit)
	defer stop()
	cmd := exec.CommandContext(ctx, "unshare", "--mount", "--propagation", "unchanged", "--ipc", "--net", "--cgroup",
		"--pid", "--fork", "--kill-child", "bash", filepath.Join(dir, "in", "machine.sh"), dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = limit
	release, err := group.Put(cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	// It is killed when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(out), "== done\n") {
		t.Fatal("the machine did not come to its end")
	}
}

// machineDir makes a directory with what a machine is given. removeOld knows its name.
func machineDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", buildPrefix, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	in := filepath.Join(dir, "in")
	if err := os.Mkdir(in, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{
		quorate.exe, "testdata/machine.sh", "testdata/inside.sh",
		"../deploy/vagrant/provision.sh", "../deploy/systemd/quorate.service", "../deploy/haproxy/haproxy.cfg",
	} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(in, filepath.Base(from)), content, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // it never fails
	if err := os.WriteFile(filepath.Join(in, "secret"), []byte(hex.EncodeToString(secret)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// newMachineGroup makes the control group of this process's machines, and ends what is in it with the test.
func newMachineGroup(t *testing.T) cgroup.Group {
	t.Helper()
	group, err := cgroup.Root(fmt.Sprintf("%s%d", buildPrefix, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	if err := group.Make(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := endGroup(group); err != nil {
			t.Error(err)
		}
	})
	return group
}

// removeOldMachines ends the machines of runs that were killed. Their mounts and networks go with their last process.
func removeOldMachines() error {
	root, err := cgroup.Root("")
	if err != nil {
		return nil // then nobody ever made one
	}
	groups, err := root.Children()
	if err != nil {
		return err
	}
	var errs []error
	for _, g := range groups {
		pid, ours := strings.CutPrefix(filepath.Base(g.Dir()), buildPrefix)
		if !ours {
			continue
		}
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, endGroup(g))
		}
	}
	return errors.Join(errs...)
}

// endGroup kills what is left in the group and removes it.
func endGroup(g cgroup.Group) error {
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	if err := g.Kill(); err != nil {
		return err
	}
	if err := g.AwaitEmpty(ctx); err != nil {
		return err
	}
	return g.Remove(ctx)
}
