package guard

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// proc is one line of the process table.
type proc struct {
	pid, ppid int
	state     byte   // as in /proc/PID/stat: R S D T Z …
	start     uint64 // clock ticks since boot
}

func (p proc) dead() bool { return p.state == 'Z' || p.state == 'X' }

// readProc reads /proc/PID/stat; false if there is no such process any more.
func readProc(pid int) (proc, bool) {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/stat", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return proc{}, false
	}
	defer func() { _ = unix.Close(fd) }()
	var buf [1024]byte
	n, err := unix.Read(fd, buf[:])
	if err != nil || n <= 0 {
		return proc{}, false
	}
	return parseStat(pid, buf[:n])
}

// parseStat skips the command, which may hold any byte, by its last parenthesis.
func parseStat(pid int, line []byte) (proc, bool) {
	i := bytes.LastIndexByte(line, ')')
	if i < 0 {
		return proc{}, false
	}
	fields := bytes.Fields(line[i+1:])
	if len(fields) < 20 {
		return proc{}, false
	}
	ppid, err1 := strconv.Atoi(string(fields[1]))
	start, err2 := strconv.ParseUint(string(fields[19]), 10, 64)
	if err1 != nil || err2 != nil {
		return proc{}, false
	}
	return proc{pid: pid, ppid: ppid, state: fields[0][0], start: start}, true
}

// processes reads the whole table. It isn't a snapshot: callers repeat it until
// it shows nothing new.
func processes() ([]proc, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, fmt.Errorf("open /proc: %w", err)
	}
	defer func() { _ = d.Close() }()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, fmt.Errorf("list /proc: %w", err)
	}
	all := make([]proc, 0, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := readProc(pid); ok {
			all = append(all, p)
		}
	}
	return all, nil
}

// descendants returns every process below any of the roots, without the roots.
func descendants(all []proc, roots ...int) []proc {
	children := make(map[int][]proc, len(all))
	for _, p := range all {
		children[p.ppid] = append(children[p.ppid], p)
	}
	var found []proc
	seen := make(map[int]bool, len(all))
	for _, r := range roots {
		seen[r] = true
	}
	for queue := slices.Clone(roots); len(queue) > 0; queue = queue[1:] {
		for _, c := range children[queue[0]] {
			if !seen[c.pid] {
				seen[c.pid] = true
				found = append(found, c)
				queue = append(queue, c.pid)
			}
		}
	}
	return found
}

// self returns the identity of this process.
func self() (identity, error) {
	boot, err := bootID()
	if err != nil {
		return identity{}, err
	}
	p, ok := readProc(os.Getpid())
	if !ok {
		return identity{}, fmt.Errorf("read /proc/self/stat: unreadable")
	}
	return identity{pid: p.pid, start: p.start, boot: boot}, nil
}

// alive reports whether that very process exists and isn't a zombie.
func (id identity) alive() bool {
	boot, err := bootID()
	if err != nil || boot != id.boot || id.pid <= 0 {
		return false
	}
	p, ok := readProc(id.pid)
	return ok && p.start == id.start && !p.dead()
}
