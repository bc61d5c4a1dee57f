//go:build !without_suspend_clock

package guard

import "golang.org/x/sys/unix"

// clock: the clock of deadlines goes on while the machine is suspended. A negative control builds without (docs/decisions/0017).
const clock = unix.CLOCK_BOOTTIME
