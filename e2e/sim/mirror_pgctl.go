package sim

// Copied word for word from package pgctl; TestMirrorsAreFaithful compares. Copy it again when it complains.

import (
	"time"

	"github.com/quorate/quorate/internal/pg"
)

const (
	followLimit = 400 * time.Millisecond
	answerLimit = 400 * time.Millisecond
	settleLimit = 2 * time.Second
	killLimit   = 10 * time.Second
	FastStopBox = 5 * time.Second
)

// wasPrimary says whether the directory was last run as a primary. Without standby.signal any other would open on its
// old timeline, which another node may have continued.
func wasPrimary(s pg.ControlState) bool {
	switch s {
	case pg.ControlShutDown, pg.ControlShuttingDown, pg.ControlInCrashRecovery, pg.ControlInProduction:
		return true
	}
	return false
}
