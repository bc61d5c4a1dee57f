package guard

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// removeLimit bounds the wait for a group whose last process is just going.
const removeLimit = time.Second

// cgroupMount returns where the cgroup2 file system is mounted. On a hybrid
// machine that isn't /sys/fs/cgroup.
func cgroupMount() (string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("read mountinfo: %w", err)
	}
	return findCgroup2(string(b))
}

func findCgroup2(mountinfo string) (string, error) {
	for line := range strings.Lines(mountinfo) {
		before, after, ok := strings.Cut(line, " - ")
		fields := strings.Fields(before)
		if ok && len(fields) >= 5 && strings.HasPrefix(after, "cgroup2 ") {
			return unescapeMount(fields[4]), nil
		}
	}
	return "", errors.New("no cgroup2 file system is mounted")
}

// unescapeMount undoes what the kernel writes for the characters that would end a name there.
func unescapeMount(name string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(name)
}

// cgroupDir returns the directory of one of the two groups of a node, "guard" or
// "postgres".
func cgroupDir(path, leaf string) (string, error) {
	if !filepath.IsLocal(path) {
		return "", fmt.Errorf("cgroup path %q must be relative to the cgroup2 mount", path)
	}
	mount, err := cgroupMount()
	if err != nil {
		return "", err
	}
	return filepath.Join(mount, path, leaf), nil
}

// cgroupFence holds the files of the postgres group open, so that a fence needs
// no path lookup.
type cgroupFence struct {
	dir                               string
	dirFD, freezeFD, killFD, eventsFD int
}

// newCgroupFence makes the group and opens it. Any failure means: use signals.
func newCgroupFence(path string) (*cgroupFence, error) {
	dir, err := cgroupDir(path, "postgres")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("create the cgroup: %w", err)
	}
	c := &cgroupFence{dir: dir, dirFD: -1, freezeFD: -1, killFD: -1, eventsFD: -1}
	return c, c.open()
}

func (c *cgroupFence) open() error {
	for _, f := range []struct {
		fd   *int
		name string
		mode int
	}{
		{&c.dirFD, "", unix.O_RDONLY | unix.O_DIRECTORY},
		{&c.freezeFD, "cgroup.freeze", unix.O_RDWR},
		{&c.killFD, "cgroup.kill", unix.O_WRONLY},
		{&c.eventsFD, "cgroup.events", unix.O_RDONLY},
	} {
		fd, err := unix.Open(filepath.Join(c.dir, f.name), f.mode|unix.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", filepath.Join(c.dir, f.name), err)
		}
		*f.fd = fd
	}
	return nil
}

// prepare replaces the group by a new one, because the kernel counts the uses of
// cgroup.kill per group, compares the count of the group that a clone comes from
// with that of the group it goes into, and kills the child where they differ
// (seen on 6.18): a group that was killed once could never be used again. A new
// group is thawed, too; a child born into a frozen one would never reach exec,
// nor its parent return from the fork.
func (c *cgroupFence) prepare(bool) (into, events int, err error) {
	if err := removeGroup(c.dir); err != nil {
		return -1, -1, err
	}
	for _, fd := range []*int{&c.dirFD, &c.freezeFD, &c.killFD, &c.eventsFD} {
		_ = unix.Close(*fd)
		*fd = -1 // if the group can't be made again, the number may soon be another file's
	}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		return -1, -1, fmt.Errorf("replace the cgroup: %w", err)
	}
	if err := c.open(); err != nil {
		return -1, -1, err
	}
	return c.dirFD, c.eventsFD, nil
}

// removeGroup removes an empty group. What has just died may keep it busy for a
// moment; ErrNotEmpty if it stays so.
func removeGroup(dir string) error {
	for end := Now() + removeLimit; ; time.Sleep(pollEvery) {
		err := os.Remove(dir)
		switch {
		case err == nil || errors.Is(err, fs.ErrNotExist):
			return nil
		case !errors.Is(err, unix.EBUSY):
			return fmt.Errorf("remove the cgroup: %w", err)
		case Now() > end:
			return fmt.Errorf("remove the cgroup %s: %w", dir, ErrNotEmpty)
		}
	}
}

// freeze is effective when the write returns; "frozen 1" comes later, when the
// last task has taken notice on its way back to user space.
func (c *cgroupFence) freeze(int) error {
	if _, err := unix.Pwrite(c.freezeFD, []byte("1"), 0); err != nil {
		return fmt.Errorf("freeze the cgroup: %w", err)
	}
	return nil
}

func (c *cgroupFence) hold() error { return c.freeze(0) }

func (c *cgroupFence) thaw(int) error {
	if _, err := unix.Pwrite(c.freezeFD, []byte("0"), 0); err != nil {
		return fmt.Errorf("thaw the cgroup: %w", err)
	}
	return nil
}

// kill needs no thaw: SIGKILL ends frozen tasks of a v2 group.
func (c *cgroupFence) kill(int) error {
	if _, err := unix.Pwrite(c.killFD, []byte("1"), 0); err != nil {
		return fmt.Errorf("kill the cgroup: %w", err)
	}
	return nil
}

func (c *cgroupFence) empty(bool) (bool, error) {
	var buf [256]byte
	n, err := unix.Pread(c.eventsFD, buf[:], 0)
	if err != nil {
		return false, fmt.Errorf("read cgroup.events: %w", err)
	}
	return !populated(buf[:n]), nil
}

// populated reads "populated N"; anything unreadable counts as populated.
func populated(events []byte) bool {
	for line := range bytes.Lines(events) {
		if string(bytes.TrimSpace(line)) == "populated 0" {
			return false
		}
	}
	return true
}

// joinCgroup moves this process into the node's guard group: a new one, for the
// same reason as in prepare. Whoever killed all of a node's groups counted there.
func joinCgroup(path string) error {
	dir, err := cgroupDir(path, "guard")
	if err != nil {
		return err
	}
	if err := removeGroup(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create the guard's cgroup: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
		return fmt.Errorf("enter the guard's cgroup: %w", err)
	}
	return nil
}

// sweepCgroup kills what is in the postgres group and reports whether it is
// empty now. It never thaws. A group that doesn't exist is empty.
func sweepCgroup(path string) (bool, error) {
	dir, err := cgroupDir(path, "postgres")
	if err != nil {
		return false, err
	}
	events, err := os.ReadFile(filepath.Join(dir, "cgroup.events"))
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read cgroup.events: %w", err)
	}
	if !populated(events) {
		return true, nil
	}
	if err := os.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0); err == nil {
		return false, nil
	}
	// No cgroup.kill on this kernel or no right to it: one by one.
	f, err := os.Open(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return false, fmt.Errorf("open cgroup.procs: %w", err)
	}
	defer func() { _ = f.Close() }()
	var errs []error
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if pid, err := strconv.Atoi(sc.Text()); err == nil {
			errs = append(errs, sendSignal(pid, unix.SIGKILL))
		}
	}
	return false, errors.Join(errs...)
}
