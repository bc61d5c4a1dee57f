package pgctl

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// starvedLimit is how many failover_afters a session that only waits for a CPU may take.
const starvedLimit = 5

// queued is how long each process has waited for a CPU since it began to exist.
type queued map[int]time.Duration

// starved says whether what a new session waits for waits itself for nothing but a CPU: the postmaster, or a process of it
// that is just becoming one of our sessions. On a machine with too much to do a session takes seconds, and nothing is
// wrong with Postgres; one that is stopped, or waits for a lock or a disk, is not on any run queue. before is of the last
// call, that long ago.
func (i *Instance) starved(postmaster int, before queued, ago time.Duration) (queued, bool) {
	now, yes := queued{}, false
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", postmaster))
	if err != nil {
		return now, false // it is gone, which others see
	}
	children, err := childrenOf(postmaster)
	if err != nil {
		return now, false
	}
	for _, pid := range append(children, postmaster) {
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || pid != postmaster && !i.becomesOurs(string(title), string(own)) {
			continue
		}
		state, waited := schedulerOf(pid)
		now[pid] = waited
		yes = yes || waits(state, waited-before[pid], ago)
	}
	return now, yes
}

// waits judges one process: it is on a run queue now, or was for a quarter of the time.
func waits(state byte, waited, ago time.Duration) bool { return state == 'R' || waited >= ago/4 }

// becomesOurs reads the title of a child of the postmaster: it has none of its own yet, or is a session of the agent's role
// that does not idle.
func (i *Instance) becomesOurs(title, postmaster string) bool {
	if title == postmaster {
		return true
	}
	duty := strings.TrimRight(dutyOf(title, i.cfg.clusterName()), "\x00 ")
	return strings.HasPrefix(duty, AgentRole+" ") && !strings.HasSuffix(duty, "idle")
}

// schedulerOf reads the state of a process and how long it has waited for a CPU; zeros when it is gone.
func schedulerOf(pid int) (state byte, waited time.Duration) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	end := strings.LastIndexByte(string(stat), ')')
	if err != nil || end < 0 || len(stat) < end+3 {
		return 0, 0
	}
	state = stat[end+2]
	sched, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid)) // time on CPU, time waiting for one (both ns), slices
	fields := strings.Fields(string(sched))
	if err != nil || len(fields) < 2 {
		return state, 0 // a kernel without it: the state alone tells
	}
	ns, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return state, 0
	}
	return state, time.Duration(ns)
}
