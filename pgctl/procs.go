package pgctl

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// receivers lists the walreceivers among the postmaster's children, and those that have not said yet what they are: they
// still carry the postmaster's command line.
func receivers(postmaster int, clusterName string) (pids, unsure []int, err error) {
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", postmaster))
	if err != nil {
		return nil, nil, fmt.Errorf("read the postmaster's title: %w", err)
	}
	children, err := childrenOf(postmaster)
	if err != nil {
		return nil, nil, err
	}
	for _, pid := range children {
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			continue // it ended
		}
		switch {
		case isReceiver(string(title), clusterName):
			pids = append(pids, pid)
		case string(title) == string(own):
			unsure = append(unsure, pid)
		}
	}
	return pids, unsure, nil
}

// isReceiver reads a process title such as "postgres: main/n1: walreceiver streaming 0/3000060".
func isReceiver(title, clusterName string) bool {
	duty := dutyOf(title, clusterName)
	return strings.HasPrefix(duty, "walreceiver") || strings.HasPrefix(duty, "wal receiver")
}

// streamingReceiver is the walreceiver that says it streams, 0 for none. One to which nothing has been sent yet does not
// say so.
func streamingReceiver(postmaster int, clusterName string) (int, error) {
	children, err := childrenOf(postmaster)
	if err != nil {
		return 0, err
	}
	for _, pid := range children {
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.HasPrefix(dutyOf(string(title), clusterName), "walreceiver streaming") {
			return pid, nil
		}
	}
	return 0, nil
}

// walsenders counts those among the postmaster's children.
func walsenders(postmaster int, clusterName string) (int, error) {
	children, err := childrenOf(postmaster)
	if err != nil {
		return 0, err
	}
	n := 0
	for _, pid := range children {
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.HasPrefix(dutyOf(string(title), clusterName), "walsender") {
			n++
		}
	}
	return n, nil
}

// isStartup reads a process title such as "postgres: main/n1: startup recovering 000000010000000000000003".
func isStartup(title, clusterName string) bool {
	return strings.HasPrefix(dutyOf(title, clusterName), "startup")
}

// dutyOf is what a process of Postgres says it does, empty for any other.
func dutyOf(title, clusterName string) string {
	rest, ok := strings.CutPrefix(title, "postgres: ")
	if !ok {
		return ""
	}
	return strings.TrimPrefix(rest, clusterName+": ")
}

// hupStartup sends SIGHUP to the startup process and reports whether there is one. The signal is pending when this
// returns: the process reads the configuration files itself before it goes round its loop again.
func hupStartup(postmaster int, clusterName string) (bool, error) {
	children, err := childrenOf(postmaster)
	if err != nil {
		return false, err
	}
	for _, pid := range children {
		found, err := signalIf(pid, postmaster, unix.SIGHUP, func(title string) bool { return isStartup(title, clusterName) })
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}

// childrenOf reads what the kernel lists for the postmaster's only thread; a kernel without that list has its whole
// process table searched.
func childrenOf(pid int) ([]int, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return searchChildren(pid)
	}
	var out []int
	for _, f := range strings.Fields(string(content)) {
		n, err := strconv.Atoi(f)
		if err != nil {
			return nil, fmt.Errorf("read the children of %d: %w", pid, err)
		}
		out = append(out, n)
	}
	return out, nil
}

func searchChildren(parent int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var out []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && parentOf(pid) == parent {
			out = append(out, pid)
		}
	}
	return out, nil
}

// parentOf is 0 for a process that is gone.
func parentOf(pid int) int {
	_, parent := stateOf(pid)
	return parent
}

// sleeps reports whether a process waits for something that may take long.
func sleeps(pid int) bool {
	state, _ := stateOf(pid)
	return state == "S"
}

// stateOf reads the kernel's letter for a process's state, and its parent; "" and 0 when it is gone.
func stateOf(pid int) (state string, parent int) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	return parseStat(string(content))
}

// parseStat reads a line of /proc/PID/stat; "" and 0 for one that is none.
func parseStat(line string) (state string, parent int) {
	// The name is in parentheses and may contain any byte; state and parent follow the last one.
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 2 {
		return "", 0
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return "", 0
	}
	return fields[0], parent
}

// terminate sends SIGTERM to a walreceiver.
func terminate(pid, postmaster int, clusterName string) error {
	_, err := signalIf(pid, postmaster, unix.SIGTERM, func(title string) bool { return isReceiver(title, clusterName) })
	return err
}

// signalIf signals a child of the postmaster whose title is right, and reports whether it did. The descriptor pins the
// process, so that what is checked after it was opened is true of what gets the signal.
func signalIf(pid, postmaster int, signal unix.Signal, right func(title string) bool) (bool, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || parentOf(pid) != postmaster || !right(string(title)) {
		return false, nil // it ended, and the number may be another's
	}
	if err := unix.PidfdSendSignal(fd, signal, nil, 0); err != nil {
		if errors.Is(err, unix.ESRCH) {
			return false, nil
		}
		return false, fmt.Errorf("signal process %d: %w", pid, err)
	}
	return true, nil
}
