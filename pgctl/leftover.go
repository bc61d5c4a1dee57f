package pgctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// dropDeadLocks removes the lock files of a postmaster that is dead but not reaped. When the guard dies its postmaster
// gets another parent, which in a container may reap late or never, and Postgres takes whoever has a number in the
// process table for alive. The caller knows from the guard that no process of the last run exists; a lock of one that
// lives, or of a number that is free, is left to Postgres to judge.
func (i *Instance) dropDeadLocks() error {
	for _, path := range []string{
		filepath.Join(i.cfg.DataDir, "postmaster.pid"),
		i.cfg.SocketPath() + ".lock",
	} {
		content, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read a lock file: %w", err)
		}
		first, _, _ := strings.Cut(string(content), "\n")
		pid, err := strconv.Atoi(strings.TrimSpace(first))
		if err != nil || pid <= 1 {
			continue
		}
		if state, _ := stateOf(pid); state != "Z" && state != "X" {
			continue
		}
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("remove the lock file of a dead postmaster: %w", err)
		}
		i.log.Info("removed the lock file of a postmaster that is dead but not reaped", "file", path, "pid", pid)
	}
	return nil
}
