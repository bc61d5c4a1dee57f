package pgctl

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Postmaster is a server that somebody else started; PID 0: there is none.
type Postmaster struct {
	PID  int
	Port int
}

// stranger is a server on the data directory which this node's guard did not start. A lock file alone shows none: it stays
// after a crash, and its number may be another process's by now.
func (i *Instance) stranger() Postmaster {
	if i.running() {
		return Postmaster{}
	}
	content, err := os.ReadFile(i.lockFile())
	if err != nil {
		return Postmaster{}
	}
	lines := strings.Split(string(content), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(lines[0]))
	if err != nil || pid <= 1 {
		return Postmaster{}
	}
	if state, _ := stateOf(pid); state == "" || state == "Z" || state == "X" {
		return Postmaster{}
	}
	dir, err := placeOf(i.cfg.DataDir)
	if err != nil {
		return Postmaster{}
	}
	if at, err := workplace(pid); err != nil || at != dir {
		return Postmaster{}
	}
	p := Postmaster{PID: pid}
	if len(lines) > 3 {
		p.Port, _ = strconv.Atoi(strings.TrimSpace(lines[3])) // for people; 0 while it starts
	}
	return p
}

func (i *Instance) lockFile() string { return filepath.Join(i.cfg.DataDir, "postmaster.pid") }

// occupied says who works in the data directory though its lock file does not name him, and what to do; empty: nobody. A
// server in a container writes the number that it has there, often 1, and has memory of its own, so that neither that number
// nor Postgres's own look at shared memory shows it; and backends may outlive their postmaster. Every process of the machine
// is looked at, so this is for the moments before something is done to the directory.
func (i *Instance) occupied() string {
	if i.running() || i.stranger().PID != 0 {
		return ""
	}
	if _, err := os.Lstat(i.lockFile()); err != nil {
		return "" // a server that runs keeps it, and ends without it
	}
	dir, err := placeOf(i.cfg.DataDir)
	if err != nil {
		return err.Error()
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return fmt.Sprintf("whether a server runs on it can't be told: %v", err)
	}
	doubt := ""
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		at, err := workplace(pid)
		switch {
		case err == nil && at == dir:
			return fmt.Sprintf("process %d (%s) works in %s, and postmaster.pid there names another: a server in a container, or "+
				"what is left of one. End it where it was started, and keep it from being started again", pid, commandOf(pid),
				i.cfg.DataDir)
		case errors.Is(err, unix.EACCES) && i.couldServe(pid):
			doubt = fmt.Sprintf("%s has a postmaster.pid, and whether process %d (%s) is its server can't be seen: end that process, or "+
				"run quorate as root", i.cfg.DataDir, pid, commandOf(pid))
		}
	}
	return doubt
}

// nobodyElse refuses what must not be done to a foreign directory while somebody works in it.
func (i *Instance) nobodyElse() error {
	if s := i.stranger(); s.PID != 0 {
		return fmt.Errorf("a server that quorate did not start runs on the data directory (pid %d): %w", s.PID, ErrRunning)
	}
	if text := i.occupied(); text != "" {
		return fmt.Errorf("%w: %s", ErrRunning, text)
	}
	return nil
}

// couldServe says that a process belongs to the owner of the data directory, as its server must, who is never root.
func (i *Instance) couldServe(pid int) bool {
	var dir, process unix.Stat_t
	return unix.Stat(i.cfg.DataDir, &dir) == nil && unix.Stat(fmt.Sprintf("/proc/%d", pid), &process) == nil &&
		dir.Uid == process.Uid && dir.Uid != 0
}

// place is a directory whatever its name: under another one, or in another mount namespace, it is the same.
type place struct {
	major, minor uint32
	inode        uint64
}

// placeOf asks for nothing that a network file system would have to fetch: that of some process may hang.
func placeOf(path string) (place, error) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st); err != nil {
		return place{}, fmt.Errorf("look at %s: %w", path, err)
	}
	return place{st.Dev_major, st.Dev_minor, st.Ino}, nil
}

// workplace is the directory that a process works in, which for any process of Postgres is the data directory. The kernel
// follows this link itself, into other namespaces too.
func workplace(pid int) (place, error) { return placeOf(fmt.Sprintf("/proc/%d/cwd", pid)) }

// commandOf is the name of a process, for people.
func commandOf(pid int) string {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		return "gone"
	}
	return strings.TrimSpace(string(content))
}
