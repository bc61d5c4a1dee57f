package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/lab/netns"
)

// How long Down waits for Postgres to end by itself, which frees its shared memory, and for what was killed to be gone.
const (
	quitLimit = 3 * time.Second
	killLimit = 10 * time.Second
)

// Sweep takes down every lab whose owner is dead, and every lab of an earlier boot.
func Sweep(ctx context.Context, out io.Writer) error {
	labs, err := all(out)
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	var errs []error
	for _, l := range labs {
		if l.Boot == boot && (l.Owner == nil || l.Owner.alive()) {
			continue
		}
		l.say("removing lab %s, whose owner is gone", l.ID)
		errs = append(errs, l.Down(ctx))
	}
	return errors.Join(errs...)
}

// Down ends all processes of the lab and removes its control groups, namespaces and directory. It can be called again
// after an error, and by another process than the one that made the lab.
func (l *Lab) Down(ctx context.Context) error {
	if err := l.end(ctx); err != nil {
		return fmt.Errorf("lab %s stays, something in it still runs: %w", l.ID, err)
	}
	var errs []error
	for _, n := range l.Nodes {
		errs = append(errs, freeSharedMemory(n.PGData()), n.freeClocks(sharedMemory))
	}
	errs = append(errs, l.removeDisks(ctx))
	if l.Namespaces {
		names, err := netns.List("q" + l.ID + "-")
		errs = append(errs, err)
		for _, name := range names {
			errs = append(errs, netns.Remove(ctx, name))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("lab %s is not all gone: %w", l.ID, err)
	}
	// The record goes last: as long as there is anything, somebody can find and sweep it.
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return fmt.Errorf("remove lab %s: %w", l.ID, err)
	}
	for _, e := range entries {
		if e.Name() != recordName {
			errs = append(errs, os.RemoveAll(filepath.Join(l.dir, e.Name())))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove lab %s: %w", l.ID, err)
	}
	return os.RemoveAll(l.dir)
}

// end ends all processes of the lab.
func (l *Lab) end(ctx context.Context) error {
	// Who waits for a disk that hangs can't be killed.
	errs := []error{l.releaseDisks()}
	if l.Namespaces {
		errs = append(errs, l.endGroups(ctx))
	} else {
		errs = append(errs, l.endProcesses(ctx))
	}
	return errors.Join(errs...)
}

// halt ends all processes of the lab and leaves the rest to people, who look at what is there and then take the lab down.
func (l *Lab) halt(ctx context.Context) error {
	if err := l.end(ctx); err != nil {
		return fmt.Errorf("end what runs in lab %s: %w", l.ID, err)
	}
	l.Owner = nil
	return l.save()
}

// Left names what there is of the lab: nothing, after Down.
func (l *Lab) Left() []string {
	var left []string
	if _, err := os.Lstat(l.dir); err == nil {
		left = append(left, l.dir)
	}
	mounts, err := mountsBelow(l.dir)
	if err != nil {
		left = append(left, err.Error())
	}
	left = append(left, mounts...)
	names, err := netns.List("q" + l.ID + "-")
	if err != nil {
		left = append(left, err.Error())
	}
	left = append(left, names...)
	if g, err := l.group(); err == nil {
		if _, err := os.Lstat(g.Dir()); err == nil {
			left = append(left, g.Dir())
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		left = append(left, err.Error())
	}
	for _, p := range processes {
		if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), l.dir+"/") {
			left = append(left, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return left
}

// endGroups kills daemons first, so that nothing starts Postgres again, then guards, which makes the postmasters quit by
// themselves, then whatever is left.
func (l *Lab) endGroups(ctx context.Context) error {
	root, err := l.group()
	if err != nil {
		return err
	}
	for _, leaf := range []string{"daemon", "guard"} {
		for _, n := range l.Nodes {
			if err := root.Sub(n.Name).Sub(leaf).Kill(); err != nil {
				return err
			}
		}
	}
	quit, stop := context.WithTimeout(ctx, quitLimit)
	defer stop()
	for _, n := range l.Nodes {
		_ = root.Sub(n.Name).AwaitEmpty(quit) // who is frozen or hangs is killed next
	}
	if err := root.Kill(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	if err := root.AwaitEmpty(ctx); err != nil {
		return err
	}
	return root.Remove(ctx)
}

// guard returns who the node's guard says it is.
func (n *Node) guard() (Owner, error) {
	b, err := os.ReadFile(filepath.Join(n.Data(), "guard", "guard.lock"))
	if err != nil {
		return Owner{}, fmt.Errorf("read who guards %s: %w", n.Name, err)
	}
	var g struct {
		PID   int    `json:"pid"`
		Start uint64 `json:"start"`
	}
	if err := json.Unmarshal(b, &g); err != nil {
		return Owner{}, fmt.Errorf("read who guards %s: %w", n.Name, err)
	}
	return Owner{PID: g.PID, Start: strconv.FormatUint(g.Start, 10)}, nil
}

// endProcesses does what endGroups does, by the pids that daemon, guard and postmaster wrote down.
func (l *Lab) endProcesses(ctx context.Context) error {
	var left []Owner
	for _, n := range l.Nodes {
		for _, read := range []func() (Owner, error){func() (Owner, error) { return readOwner(l.pidFile(n)) }, n.guard} {
			if o, err := read(); err == nil && o.alive() {
				left = append(left, o)
				_ = syscall.Kill(o.PID, syscall.SIGKILL)
			}
		}
		if pid, err := l.Postmaster(n); err == nil {
			if o, err := owner(pid); err == nil {
				left = append(left, o)
			}
		}
	}
	quit, stop := context.WithTimeout(ctx, quitLimit)
	defer stop()
	gone := func() (bool, error) {
		for _, o := range left {
			if o.alive() {
				return false, fmt.Errorf("process %d still runs", o.PID)
			}
		}
		return true, nil
	}
	if until(quit, "everything has ended", gone) == nil {
		return nil
	}
	for _, o := range left {
		if o.alive() {
			_ = syscall.Kill(o.PID, syscall.SIGKILL)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, killLimit)
	defer cancel()
	return until(ctx, "everything has ended", gone)
}
