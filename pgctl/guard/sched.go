package guard

import (
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	fifoPriority = 10
	niceLevel    = -10
	// gcPercent makes collections rare: the heap is a few hundred kilobytes, and a
	// scan of the process table shouldn't start one.
	gcPercent = 800
)

// raisePriority favours the calling thread, and not what it forks: RESET_ON_FORK
// keeps Postgres at the normal priority. The other threads get the nice level
// where that is permitted, because the garbage collector stops the calling thread
// until each of them has run as far as its next safe point; the threads that they
// make inherit it, and a locked thread makes none.
func raisePriority() string {
	for _, tid := range threads() {
		_ = unix.Setpriority(unix.PRIO_PROCESS, tid, niceLevel)
	}
	fifo := &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO,
		Flags: unix.SCHED_FLAG_RESET_ON_FORK, Priority: fifoPriority,
	}
	if unix.SchedSetAttr(0, fifo, 0) == nil {
		return "fifo"
	}
	nice := &unix.SchedAttr{
		Size: unix.SizeofSchedAttr, Policy: unix.SCHED_NORMAL,
		Flags: unix.SCHED_FLAG_RESET_ON_FORK, Nice: niceLevel,
	}
	if unix.SchedSetAttr(0, nice, 0) == nil {
		return "nice"
	}
	return "normal"
}

func threads() (tids []int) {
	entries, _ := os.ReadDir("/proc/self/task")
	for _, e := range entries {
		if tid, err := strconv.Atoi(e.Name()); err == nil {
			tids = append(tids, tid)
		}
	}
	return tids
}

// lockMemory keeps what has been touched in memory. Without ONFAULT the whole
// address space that Go reserves would count; under a limit a later allocation
// would fail and end the guard.
func lockMemory() string {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return fmt.Sprintf("no: read RLIMIT_MEMLOCK: %v", err)
	}
	if limit.Cur != unix.RLIM_INFINITY && !capable(unix.CAP_IPC_LOCK) {
		return fmt.Sprintf("no: RLIMIT_MEMLOCK is %d bytes and CAP_IPC_LOCK isn't held; set LimitMEMLOCK=infinity", limit.Cur)
	}
	if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		return fmt.Sprintf("no: mlockall: %v", err)
	}
	return "yes"
}

func capable(bit uint) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return false
	}
	return data[bit/32].Effective&(1<<(bit%32)) != 0
}

// protectFromOOM exempts the guard. The postmaster inherits it, its children
// don't (childEnv).
func protectFromOOM() string {
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0); err != nil {
		return fmt.Sprintf("no: %v", err)
	}
	return "protected"
}
