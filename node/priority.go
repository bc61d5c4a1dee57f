package node

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// niceLevel is the agent's where it may have one: beats and fences must not wait behind the queries of a busy server.
const niceLevel = -10

// favour raises the priority of all threads of this process; those made later inherit it. It reports whether that was
// permitted. The guard gives Postgres the normal priority back, and pgctl its programs.
func favour() bool {
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return false
	}
	for _, e := range entries {
		tid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if err := unix.Setpriority(unix.PRIO_PROCESS, tid, niceLevel); err != nil {
			return false
		}
	}
	return len(entries) > 0
}
