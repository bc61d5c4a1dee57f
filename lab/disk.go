package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// diskSize is what the file system of a node holds. The file below it is sparse: it takes what is written.
const diskSize = 8 << 30

// The requests that stop and resume all writing to a file system, as linux/fs.h has them: _IOWR('X', 119 and 120, int).
const (
	fsFreeze = 0xC0045877
	fsThaw   = 0xC0045878
)

func (n *Node) mountPoint() string { return filepath.Join(n.Dir, "disk") }
func (n *Node) image() string      { return filepath.Join(n.Dir, "disk.img") }
func (n *Node) filler() string     { return filepath.Join(n.mountPoint(), "full") }

// makeDisk makes the node's file system and mounts it. No block is reserved for root: full is full for all.
func (n *Node) makeDisk(ctx context.Context) error {
	f, err := os.Create(n.image())
	if err != nil {
		return fmt.Errorf("make the disk of %s: %w", n.Name, err)
	}
	if err := errors.Join(f.Truncate(diskSize), f.Close(), os.Mkdir(n.mountPoint(), 0o755)); err != nil {
		return fmt.Errorf("make the disk of %s: %w", n.Name, err)
	}
	for _, argv := range [][]string{
		{"mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard,lazy_itable_init=1", n.image()},
		n.mountCommand(),
	} {
		if err := runDisk(ctx, argv); err != nil {
			return fmt.Errorf("make the disk of %s: %w", n.Name, err)
		}
	}
	return giveToPostgres(n.mountPoint())
}

// mountCommand has the file system become read-only when it finds an error, as Debian's installer does.
func (n *Node) mountCommand() []string {
	return []string{"mount", "-o", "loop,errors=remount-ro", n.image(), n.mountPoint()}
}

func runDisk(ctx context.Context, argv []string) error {
	if out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// failDisk makes the file system find an error, after which no byte of it can be changed until repairDisk. What was not
// synchronised is lost, as behind a disk that fails. That it was done is written down beside the image, since how a file
// system shows it differs between kernels.
func (n *Node) failDisk() error {
	source, err := n.device()
	if err != nil {
		return err
	}
	if err := os.WriteFile(n.failedFile(), nil, 0o644); err != nil {
		return fmt.Errorf("write down that the disk of %s fails: %w", n.Name, err)
	}
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(source), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("made by a lab\n"), 0); err != nil {
		return errors.Join(fmt.Errorf("make the disk of %s fail: %w", n.Name, err), os.Remove(n.failedFile()))
	}
	return nil
}

func (n *Node) failedFile() string { return filepath.Join(n.Dir, "disk.failed") }

// repairDisk ends all that runs on a node whose disk has failed, as a reboot does, and repairs the disk. On others it changes
// nothing.
func (l *Lab) repairDisk(ctx context.Context, n *Node) error {
	if _, err := os.Stat(n.failedFile()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := l.KillNodes(ctx, n); err != nil {
		return err
	}
	err := until(ctx, n.mountPoint()+" is unmounted", func() (bool, error) {
		err := unix.Unmount(n.mountPoint(), 0)
		return err == nil || errors.Is(err, unix.EINVAL), err // EINVAL: it is already
	})
	if err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := runDisk(ctx, []string{"e2fsck", "-f", "-y", n.image()}); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != repaired) {
		return fmt.Errorf("repair the disk of %s: %w", n.Name, err)
	}
	if err := runDisk(ctx, n.mountCommand()); err != nil {
		return fmt.Errorf("mount the disk of %s again: %w", n.Name, err)
	}
	return os.Remove(n.failedFile())
}

// repaired is how e2fsck ends when it has found errors and mended them.
const repaired = 1

// device is the loop device of the node's disk.
func (n *Node) device() (string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", fmt.Errorf("read mountinfo: %w", err)
	}
	if source := sourceOf(string(b), n.mountPoint()); source != "" {
		return source, nil
	}
	return "", fmt.Errorf("%s has no disk of its own", n.Name)
}

// sourceOf is what is mounted at that place; of several the last.
func sourceOf(mountinfo, at string) (source string) {
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		place, what := strings.Fields(before), strings.Fields(after)
		if len(place) > 4 && place[4] == at && len(what) > 1 {
			source = what[1]
		}
	}
	return source
}

// HangDisk makes every write to the disk wait until ThawDisk, and who waits can't be killed: as behind a path to
// storage that has gone away.
func (n *Node) HangDisk() error {
	if err := n.diskRequest(fsFreeze); err != nil {
		return fmt.Errorf("freeze the disk of %s: %w", n.Name, err)
	}
	return nil
}

// ThawDisk undoes HangDisk. Thawing what is not frozen changes nothing.
func (n *Node) ThawDisk() error {
	if err := n.diskRequest(fsThaw); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("thaw the disk of %s: %w", n.Name, err)
	}
	return nil
}

// diskRequest asks nothing of a directory on which nothing is mounted: it would be the machine's own file system.
func (n *Node) diskRequest(request uint) error {
	if mounted, err := n.mounted(); err != nil || !mounted {
		return err
	}
	fd, err := unix.Open(n.mountPoint(), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	return unix.IoctlSetInt(fd, request, 0)
}

// FillDisk leaves no room on the disk, neither a block nor what a deletion of somebody else's would free.
func (n *Node) FillDisk() error {
	if mounted, err := n.mounted(); err != nil || !mounted {
		return errors.Join(err, fmt.Errorf("%s has no disk of its own", n.Name))
	}
	f, err := os.OpenFile(n.filler(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("fill the disk of %s: %w", n.Name, err)
	}
	defer func() { _ = f.Close() }()
	end, err := f.Seek(0, 2)
	if err != nil {
		return fmt.Errorf("fill the disk of %s: %w", n.Name, err)
	}
	for step := int64(1 << 30); step >= 4096; {
		switch err := unix.Fallocate(int(f.Fd()), 0, end, step); {
		case errors.Is(err, unix.ENOSPC):
			// What was allocated before the room ended counts: the file may have grown.
			step /= 2
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("fill the disk of %s: %w", n.Name, err)
		case err == nil:
			end += step
		}
	}
	return nil
}

// FreeDisk undoes FillDisk.
func (n *Node) FreeDisk() error {
	if err := os.Remove(n.filler()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("free the disk of %s: %w", n.Name, err)
	}
	return nil
}

// mounted says whether the disk is there.
func (n *Node) mounted() (bool, error) {
	all, err := mountsBelow(n.mountPoint())
	return slices.Contains(all, n.mountPoint()), err
}

// mountsBelow lists what is mounted at dir or below.
func mountsBelow(dir string) ([]string, error) {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read mountinfo: %w", err)
	}
	var all []string
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && (fields[4] == dir || strings.HasPrefix(fields[4], dir+"/")) {
			all = append(all, fields[4])
		}
	}
	return all, nil
}

// releaseDisks thaws all disks, so that who writes to them can be killed.
func (l *Lab) releaseDisks() error {
	var errs []error
	for _, n := range l.Nodes {
		if n.Disk || n.State {
			errs = append(errs, n.ThawDisk())
		}
	}
	return errors.Join(errs...)
}

// removeDisks unmounts what this lab has mounted. Nothing may run on it any more.
func (l *Lab) removeDisks(ctx context.Context) error {
	if !l.Disks && !l.StateDisks {
		return nil
	}
	all, err := mountsBelow(l.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, at := range all {
		errs = append(errs, until(ctx, at+" is unmounted", func() (bool, error) {
			err := unix.Unmount(at, 0)
			return err == nil, err
		}))
	}
	return errors.Join(errs...)
}
