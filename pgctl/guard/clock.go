package guard

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Now returns the time since boot, suspend included (CLOCK_BOOTTIME). Deadlines
// in the shared record are values of this clock: it doesn't stop while the
// machine sleeps and nobody can set it. Safe for any goroutine; it can't fail on
// a kernel that this package supports, so it panics if the kernel refuses.
func Now() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		panic(fmt.Sprintf("guard: read clock %d: %v", clock, err))
	}
	return time.Duration(ts.Nano())
}
