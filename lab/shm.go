package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sharedMemory is where POSIX segments and semaphores are.
const sharedMemory = "/dev/shm"

// freeSharedMemory removes what a postmaster that was killed left: its small System V segment, named in line 7 of
// postmaster.pid, and the POSIX segment whose number stands in that one. A server that ended in order left neither.
func freeSharedMemory(data string) error {
	b, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read postmaster.pid: %w", err)
	}
	lines := strings.Split(string(b), "\n")
	if len(lines) < 7 {
		return nil // killed before it had a segment
	}
	fields := strings.Fields(lines[6])
	if len(fields) != 2 {
		return nil
	}
	key, errKey := strconv.ParseInt(fields[0], 10, 64)
	id, errID := strconv.Atoi(fields[1])
	if err := errors.Join(errKey, errID); err != nil {
		return fmt.Errorf("read postmaster.pid: %w", err)
	}
	var d unix.SysvShmDesc
	// The number may have been given to somebody else since; the key was derived from our directory.
	if _, err := unix.SysvShmCtl(id, unix.IPC_STAT, &d); err != nil || uint32(d.Perm.Key) != uint32(key) || d.Nattch != 0 {
		return nil
	}
	if err := freeDynamic(id, d); err != nil {
		return err
	}
	if _, err := unix.SysvShmCtl(id, unix.IPC_RMID, nil); err != nil {
		return fmt.Errorf("remove System V segment %d: %w", id, err)
	}
	return nil
}

// The beginning of the System V segment: magic number, pid of the postmaster, two sizes, and at byte 24 the number of
// the segment that lists the dynamic ones (PGShmemHeader).
const (
	shmMagic     = 679834894
	dynamicAt    = 24
	headerLength = 32
)

// freeDynamic removes the POSIX segment, if that is where this server kept its dynamic memory.
func freeDynamic(id int, d unix.SysvShmDesc) error {
	mem, err := unix.SysvShmAttach(id, 0, unix.SHM_RDONLY)
	if err != nil {
		return fmt.Errorf("attach System V segment %d: %w", id, err)
	}
	var handle uint32
	if len(mem) >= headerLength && binary.NativeEndian.Uint32(mem) == shmMagic {
		handle = binary.NativeEndian.Uint32(mem[dynamicAt:])
	}
	if err := unix.SysvShmDetach(mem); err != nil {
		return fmt.Errorf("detach System V segment %d: %w", id, err)
	}
	if handle == 0 {
		return nil
	}
	file := fmt.Sprintf("%s/PostgreSQL.%d", sharedMemory, handle)
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil || st.Uid != d.Perm.Uid {
		return nil
	}
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove dynamic shared memory: %w", err)
	}
	return nil
}
