//go:build without_suspend_clock

package guard

import "golang.org/x/sys/unix"

// clock: the clock of deadlines stands still while the machine is suspended.
const clock = unix.CLOCK_MONOTONIC
