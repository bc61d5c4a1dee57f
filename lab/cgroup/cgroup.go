// Package cgroup holds the processes of a lab in control groups (version 2), so that all of one host can be ended at
// once, and nothing else.
//
// It must never end a process that is not in a group it was given by path, and must never kill by name.
package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// pollEvery is how often an emptying group is looked at.
const pollEvery = 5 * time.Millisecond

// Group is one directory of the cgroup2 file system, which need not exist.
type Group struct{ dir string }

// Root returns the group at path below the cgroup2 mount, wherever that is: on a hybrid machine it isn't /sys/fs/cgroup.
func Root(path string) (Group, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return Group{}, fmt.Errorf("read mountinfo: %w", err)
	}
	mount, ok := findMount(string(b))
	if !ok {
		return Group{}, errors.New("no cgroup2 file system is mounted: mount -t cgroup2 none /sys/fs/cgroup")
	}
	return Group{filepath.Join(mount, path)}, nil
}

func findMount(mountinfo string) (string, bool) {
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if ok && len(fields) >= 5 && strings.HasPrefix(after, "cgroup2 ") {
			return strings.ReplaceAll(fields[4], `\040`, " "), true
		}
	}
	return "", false
}

// Sub is the group name inside g.
func (g Group) Sub(name string) Group { return Group{filepath.Join(g.dir, name)} }

// Dir is the group's directory.
func (g Group) Dir() string { return g.dir }

// Make makes the group and those above it.
func (g Group) Make() error {
	if err := os.MkdirAll(g.dir, 0o755); err != nil {
		return fmt.Errorf("make cgroup: %w", err)
	}
	return nil
}

// Children are the groups directly inside g. A group that does not exist has none.
func (g Group) Children() ([]Group, error) {
	entries, err := os.ReadDir(g.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list cgroup: %w", err)
	}
	var all []Group
	for _, e := range entries {
		if e.IsDir() {
			all = append(all, g.Sub(e.Name()))
		}
	}
	return all, nil
}

// Populated says whether a process lives in the group or below. A group that does not exist is empty.
func (g Group) Populated() (bool, error) {
	b, err := os.ReadFile(filepath.Join(g.dir, "cgroup.events"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read cgroup.events: %w", err)
	}
	return !slices.Contains(strings.Split(string(b), "\n"), "populated 0"), nil
}

// Kill sends SIGKILL to all that is in the group or below, at one instant. It does not wait.
func (g Group) Kill() error {
	err := os.WriteFile(filepath.Join(g.dir, "cgroup.kill"), []byte("1"), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("kill cgroup: %w", err)
	}
	return nil
}

// AwaitEmpty waits until nothing lives in the group; the context's error if that takes longer.
func (g Group) AwaitEmpty(ctx context.Context) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if full, err := g.Populated(); err != nil || !full {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until cgroup %s is empty: %w", g.dir, ctx.Err())
		case <-tick.C:
		}
	}
}

// Remove removes the group and all below, which must be empty. What has just died may keep one busy for a moment.
func (g Group) Remove(ctx context.Context) error {
	children, err := g.Children()
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := c.Remove(ctx); err != nil {
			return err
		}
	}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := os.Remove(g.dir)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("remove cgroup: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("remove cgroup %s: %w", g.dir, errors.Join(err, ctx.Err()))
		case <-tick.C:
		}
	}
}

// Put makes cmd be born in the group. The returned func releases what that needs and must be called after the start.
//
// A group that was killed once must be removed and made anew before: the kernel kills what is born into it.
func (g Group) Put(cmd *exec.Cmd) (release func(), err error) {
	f, err := os.Open(g.dir)
	if err != nil {
		return nil, fmt.Errorf("open cgroup: %w", err)
	}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(f.Fd())
	return func() { _ = f.Close() }, nil
}

// Holds says whether the process is in the group or below. It compares the last two elements of the group's path, which
// are the same wherever the file system is mounted.
func (g Group) Holds(pid int) (bool, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return false, fmt.Errorf("read the cgroup of process %d: %w", pid, err)
	}
	tail := "/" + filepath.Base(filepath.Dir(g.dir)) + "/" + filepath.Base(g.dir) + "/"
	for line := range strings.Lines(string(b)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return strings.Contains(path+"/", tail), nil
		}
	}
	return false, nil
}
