package guard

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// flagExiting is PF_EXITING of the kernel: the task is past the point from which it returns to its program.
const flagExiting = 0x4

// NeverRuns says whether no process of a run that is being killed will ever execute an instruction of its program again,
// although some still exist: each has ended, is ending, or sleeps uninterruptibly with a SIGKILL pending, as in a disk that
// hangs. It finishes the system call it is in, if the disk comes back, and dies: it can't answer a client. The run is not
// empty, so nothing may be started, but as a fence it is as good. Callers ask twice, some time apart. An error means no.
func NeverRuns(v View) (bool, error) {
	if v.State != StateKilling || v.GuardPID == 0 {
		return false, nil
	}
	all, err := processes()
	if err != nil {
		return false, err
	}
	// The guard is the subreaper of all that it forked.
	for _, p := range descendants(all, v.GuardPID) {
		if p.dead() {
			continue
		}
		never, err := threadsNeverRun(p.pid)
		if err != nil || !never {
			return false, err
		}
	}
	return true, nil
}

func threadsNeverRun(pid int) (bool, error) {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false, fmt.Errorf("list the threads of %d: %w", pid, err)
	}
	for _, path := range stats {
		stat, err := os.ReadFile(path)
		if err != nil {
			continue // it ended
		}
		if !neverRuns(stat) {
			return false, nil
		}
	}
	return true, nil
}

// neverRuns reads one line of /proc/PID/task/TID/stat. Anything unreadable may run.
func neverRuns(stat []byte) bool {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return false
	}
	// From the state, which is the third: flags are the ninth, the pending signals the 31st.
	fields := bytes.Fields(stat[i+1:])
	if len(fields) < 29 {
		return false
	}
	flags, err1 := strconv.ParseUint(string(fields[6]), 10, 64)
	pending, err2 := strconv.ParseUint(string(fields[28]), 10, 64)
	if err1 != nil || err2 != nil {
		return false
	}
	switch state := fields[0][0]; {
	case state == 'Z', state == 'X', flags&flagExiting != 0:
		return true
	default:
		return state == 'D' && pending&(1<<(unix.SIGKILL-1)) != 0
	}
}
