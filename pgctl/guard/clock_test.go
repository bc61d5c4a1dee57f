package guard

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const envClock = "QUORATE_GUARD_TEST_CLOCK"

// TestDeadlinesCountSuspends: for a process in such a time namespace the machine was suspended for an hour since it booted. Its
// clock of deadlines has that hour, and a timer that is set by it rings.
func TestDeadlinesCountSuspends(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a time namespace needs root")
	}
	was, err := suspended()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--time", "--boottime", "3600", os.Args[0])
	cmd.Env = append(os.Environ(), envClock+"=1")
	out, err := cmd.CombinedOutput()
	want := fmt.Sprintf("suspended for %s, rings true", (was + time.Hour).Round(time.Minute))
	if got := strings.TrimSpace(string(out)); err != nil || got != want {
		t.Errorf("%v: %s, want %s", err, got, want)
	}
}

// suspended is how much more the clock of deadlines shows than one that stands still in a suspend.
func suspended() (time.Duration, error) {
	now := Now()
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return now - time.Duration(ts.Nano()), err
}

// tellClock says how long this machine was suspended as a guard sees it, and whether the timer of its loop rings by that clock.
func tellClock() error {
	was, err := suspended()
	if err != nil {
		return err
	}
	l := &loop{}
	if err := l.open(); err != nil {
		return err
	}
	l.arm(Now() + time.Millisecond)
	var events [1]unix.EpollEvent
	n, err := unix.EpollWait(l.epoll, events[:], int(patience/time.Millisecond))
	fmt.Printf("suspended for %s, rings %t\n", was.Round(time.Minute), n == 1)
	return err
}
