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

// bornTick is the unit of the time at which a process began, as /proc/PID/stat has it on every Linux (USER_HZ).
const bornTick = 10 * time.Millisecond

// starved says whether what a new session waits for waits itself for nothing but a CPU: the postmaster, or a process that it
// forked since the session was asked for and that is becoming one of ours. On a machine with too much to do a session takes
// seconds, and nothing is wrong with Postgres; one that is stopped, or waits for a lock or a disk, is not on any run queue.
// Our older sessions say nothing about a postmaster that hangs, however busy they are. before is of the last call, that long
// ago.
func (i *Instance) starved(postmaster int, asked time.Duration, before queued, ago time.Duration) (queued, bool) {
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
		s := schedulerOf(pid)
		if pid != postmaster && s.born < asked-bornTick {
			continue
		}
		now[pid] = s.waited
		yes = yes || waits(s.state, s.waited-before[pid], ago)
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

// scheduled is what the kernel tells of a process.
type scheduled struct {
	state  byte
	born   time.Duration // as guard.Now was, rounded down to bornTick
	waited time.Duration // for a CPU, since then
}

// schedulerOf reads it; it is the zero value when the process is gone.
func schedulerOf(pid int) scheduled {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	end := strings.LastIndexByte(string(stat), ')')
	if err != nil || end < 0 {
		return scheduled{}
	}
	fields := strings.Fields(string(stat[end+1:])) // from the third field on
	if len(fields) < 20 {
		return scheduled{}
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return scheduled{}
	}
	s := scheduled{state: fields[0][0], born: time.Duration(ticks) * bornTick}
	sched, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", pid)) // time on CPU, time waiting for one (both ns), slices
	fields = strings.Fields(string(sched))
	if err != nil || len(fields) < 2 {
		return s // a kernel without it: the state alone tells
	}
	if ns, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
		s.waited = time.Duration(ns)
	}
	return s
}
