package pgtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// basePrefix begins the name of every directory of this package; the pid of its maker follows.
const basePrefix = "quorate-pg-"

// owner says which process made a directory. A pid alone is not enough: it gets reused.
type owner struct {
	PID       int    `json:"pid"`
	StartTime string `json:"start_time"` // clock ticks since boot, from /proc
	BootID    string `json:"boot_id"`
}

// serverCredential returns the OS user to run the server as; nil means our own.
func serverCredential() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL refuses to run as root: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// makeBase makes the directory of one cluster, which the server's user owns and everybody can
// enter. Its name is short, for a socket's path may have 107 bytes.
func makeBase(credential *syscall.Credential) (string, error) {
	me, err := describe(os.Getpid())
	if err != nil {
		return "", err
	}
	base, err := os.MkdirTemp("", basePrefix+strconv.Itoa(me.PID)+"-")
	if err != nil {
		return "", err
	}
	content, err := json.Marshal(me)
	if err != nil {
		return "", err
	}
	err = os.WriteFile(filepath.Join(base, "owner"), content, 0o644)
	if err == nil {
		err = os.Chmod(base, 0o755)
	}
	if err == nil && credential != nil {
		err = os.Chown(base, int(credential.Uid), int(credential.Gid))
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(base))
	}
	return base, nil
}

// describe identifies a process for as long as the machine runs. It returns fs.ErrNotExist when
// there is none.
func describe(pid int) (owner, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return owner{}, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return owner{}, err
	}
	// The name, in parentheses, may contain anything; 19 fields after it comes the start time.
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
	fields := strings.Fields(rest)
	if len(fields) < 20 {
		return owner{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	return owner{PID: pid, StartTime: fields[19], BootID: strings.TrimSpace(string(boot))}, nil
}

// sweep removes what runs that no longer exist left behind. A directory that it can't judge or
// remove (another user's, say) stays, with a line in the test's log.
func sweep(t testing.TB) {
	t.Helper()
	bases, err := filepath.Glob(filepath.Join(os.TempDir(), basePrefix+"*"))
	if err != nil {
		t.Fatalf("list left clusters: %v", err)
	}
	for _, base := range bases {
		dead, err := ownerDead(base)
		if err == nil && dead {
			err = removeBase(base)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Logf("left cluster %s stays: %v", base, err)
		}
	}
}

// ownerDead reports whether the process that made base is gone. Without an owner file (its maker
// was killed before it wrote one, or is about to) the pid in the name decides.
func ownerDead(base string) (bool, error) {
	var made owner
	content, err := os.ReadFile(filepath.Join(base, "owner"))
	if errors.Is(err, fs.ErrNotExist) {
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(base), basePrefix), "-")
		made.PID, err = strconv.Atoi(number)
	} else if err == nil {
		err = json.Unmarshal(content, &made)
	}
	if err != nil {
		return false, err
	}
	now, err := describe(made.PID)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return err == nil && made.StartTime != "" && now != made, err
}

// removeBase ends the processes that work in base's data directory, removes their shared memory
// and then base.
func removeBase(base string) error {
	data := filepath.Join(base, "data")
	if err := killAllIn(data); err != nil {
		return err
	}
	if err := removeSharedMemory(data); err != nil {
		return err
	}
	return os.RemoveAll(base)
}

// killAllIn sends SIGKILL to every process whose working directory is dir until there is none.
// PostgreSQL's processes all work in their data directory, and nobody else works in ours.
func killAllIn(dir string) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(waitLimit)
	for {
		pids, err := processesIn(dir)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill %d, which works in %s: %w", pid, dir, err)
			}
		}
		select {
		case <-tick.C:
		case <-limit:
			return fmt.Errorf("processes %v in %s don't die of SIGKILL", pids, dir)
		}
	}
}

// processesIn lists the living processes whose working directory is dir. A zombie has none.
func processesIn(dir string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// Unreadable means another user's process or one that has just ended.
		if cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid)); err == nil && strings.TrimSuffix(cwd, " (deleted)") == dir {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// removeSharedMemory removes the System V segment that a killed postmaster leaves; its
// postmaster.pid names key and id in line 7. A server that ended in order left neither.
func removeSharedMemory(data string) error {
	content, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	lines := strings.Split(string(content), "\n")
	if len(lines) < 7 {
		return nil // killed before it had a segment
	}
	fields := strings.Fields(lines[6])
	if len(fields) != 2 {
		return nil
	}
	key, keyErr := strconv.ParseInt(fields[0], 10, 64)
	id, idErr := strconv.Atoi(fields[1])
	if err := errors.Join(keyErr, idErr); err != nil {
		return fmt.Errorf("read postmaster.pid: %w", err)
	}
	var desc unix.SysvShmDesc
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &desc); err != nil {
		return nil // gone already, or reused by somebody whose it is
	}
	// The id may have been reused since; the key was derived from our directory.
	if uint32(desc.Perm.Key) != uint32(key) || desc.Nattch != 0 {
		return nil
	}
	_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	return err
}
