package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Where packages put the library that tells a program another wall clock, and Postgres.
const (
	clockLibraries = "/usr/lib/*/faketime/libfaketime.so.1"
	postgresBins   = "/usr/lib/postgresql/*/bin"
)

// errNoClock says that the wall clock of Postgres can't be set.
var errNoClock = errors.New("no libfaketime: apt-get install libfaketime")

// findClock finds the library, and the programs of the newest Postgres, which are those that a node takes of which the file names
// none.
func findClock(libraries, bins string) (library, bin string, err error) {
	found, err := filepath.Glob(libraries)
	if err == nil && len(found) == 0 {
		err = errNoClock
	}
	if err != nil {
		return "", "", err
	}
	dirs, err := filepath.Glob(bins)
	if err != nil {
		return "", "", err
	}
	major := func(dir string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(dir))) // what is no version comes first
		return n
	}
	slices.SortFunc(dirs, func(a, b string) int { return major(a) - major(b) })
	if len(dirs) == 0 || major(dirs[len(dirs)-1]) == 0 {
		return "", "", fmt.Errorf("no Postgres in %s", bins)
	}
	return found[0], dirs[len(dirs)-1], nil
}

// clocked says whether the node has a Postgres of which the wall clock can be set.
func (l *Lab) clocked(n *Node) bool { return l.Clocks && !n.Witness }

func (n *Node) binDir() string    { return filepath.Join(n.Dir, "bin") }
func (n *Node) clockFile() string { return filepath.Join(n.Dir, "clock") }
func (n *Node) clockPids() string { return filepath.Join(n.Dir, "clock.pids") }

// makeClock gives the node programs of Postgres of which the server takes its wall clock from a file. Only that clock is told:
// quorate's own program loads no library, and the clocks that leases are measured by are left alone everywhere.
func (n *Node) makeClock(library, bin string) error {
	programs, err := os.ReadDir(bin)
	if err == nil {
		err = os.Mkdir(n.binDir(), 0o755)
	}
	if err != nil {
		return fmt.Errorf("give %s a clock: %w", n.Name, err)
	}
	var errs []error
	for _, p := range programs {
		if p.Name() != "postgres" {
			errs = append(errs, os.Symlink(filepath.Join(bin, p.Name()), filepath.Join(n.binDir(), p.Name())))
		}
	}
	script := strings.Join([]string{
		"#!/bin/sh", "# Postgres with the wall clock of " + n.clockFile(),
		"echo $$ >> " + n.clockPids(), // see freeClocks
		"export LD_PRELOAD=" + library + " FAKETIME_TIMESTAMP_FILE=" + n.clockFile() + " FAKETIME_CACHE_DURATION=0",
		"export FAKETIME_DONT_FAKE_MONOTONIC=1 NO_FAKE_STAT=1",
		"exec " + filepath.Join(bin, "postgres") + ` "$@"`, "",
	}, "\n")
	server := filepath.Join(n.binDir(), "postgres")
	// Whatever the umask: Postgres's user must get through.
	errs = append(errs, os.WriteFile(server, []byte(script), 0o755), os.Chmod(server, 0o755), os.Chmod(n.binDir(), 0o755),
		os.WriteFile(n.clockPids(), nil, 0o666), os.Chmod(n.clockPids(), 0o666), n.setClock(0))
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("give %s a clock: %w", n.Name, err)
	}
	return nil
}

// setClock has the node's Postgres see a wall clock that is off by so many seconds, within a second: each of its processes
// reads the file anew in every second in which it looks at the clock.
func (n *Node) setClock(off int) error {
	if _, err := os.Stat(n.binDir()); errors.Is(err, fs.ErrNotExist) {
		return errNobody
	}
	next := n.clockFile() + ".new"
	err := errors.Join(os.WriteFile(next, fmt.Appendf(nil, "%+d\n", off), 0o644), os.Chmod(next, 0o644))
	if err == nil {
		err = os.Rename(next, n.clockFile())
	}
	if err != nil {
		return fmt.Errorf("set the clock of %s: %w", n.Name, err)
	}
	return nil
}

// freeClocks removes what the library leaves in shared memory, under the number of the process that was started, even when that
// ends in order. Nothing may run on the node any more.
func (n *Node) freeClocks(shm string) error {
	b, err := os.ReadFile(n.clockPids())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read who had a clock on %s: %w", n.Name, err)
	}
	var errs []error
	for _, pid := range strings.Fields(string(b)) {
		if _, err := strconv.ParseUint(pid, 10, 32); err != nil {
			continue // the number was not written whole
		}
		for _, name := range []string{"faketime_shm_", "sem.faketime_sem_"} {
			if err := os.Remove(filepath.Join(shm, name+pid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("remove what the clock of %s left: %w", n.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}
