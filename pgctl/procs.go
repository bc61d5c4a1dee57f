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
	rest, ok := strings.CutPrefix(title, "postgres: ")
	if !ok {
		return false
	}
	rest = strings.TrimPrefix(rest, clusterName+": ")
	return strings.HasPrefix(rest, "walreceiver") || strings.HasPrefix(rest, "wal receiver")
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
	// The name is in parentheses and may contain any byte; state and parent follow the last one.
	fields := strings.Fields(string(content)[strings.LastIndexByte(string(content), ')')+1:])
	if len(fields) < 2 {
		return "", 0
	}
	parent, err = strconv.Atoi(fields[1])
	if err != nil {
		return "", 0
	}
	return fields[0], parent
}

// terminate sends SIGTERM to a walreceiver. The descriptor pins the process, so that what is checked after it was opened
// is true of what gets the signal.
func terminate(pid, postmaster int, clusterName string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open the walreceiver: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || parentOf(pid) != postmaster || !isReceiver(string(title), clusterName) {
		return nil // it ended, and the number may be another's
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end the walreceiver: %w", err)
	}
	return nil
}
