package cluster

import (
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
)

func TestRaftTimeoutFollowsFailoverAfter(t *testing.T) {
	for _, tc := range []struct {
		failoverAfterMS int64
		want            time.Duration
	}{{0, minRaftTimeout}, {500, 250 * time.Millisecond}, {1000, 500 * time.Millisecond}, {60000, maxRaftTimeout}} {
		if got := raftTimeout(fsm.Settings{FailoverAfterMS: tc.failoverAfterMS}); got != tc.want {
			t.Errorf("failover_after %d ms: T = %s, want %s", tc.failoverAfterMS, got, tc.want)
		}
	}
}

func TestATransferThatNeverEndsIsNoticed(t *testing.T) {
	var w transferWatch
	for _, step := range []struct {
		now     time.Duration
		because bool
		want    time.Duration
	}{
		{10, false, 0}, {20, true, 0}, {50, true, 30}, {60, false, 0}, {70, true, 0}, {100, true, 30},
	} {
		if got := w.refused(step.now, step.because); got != step.want {
			t.Errorf("at %d, refused %v: %d, want %d", step.now, step.because, got, step.want)
		}
	}
}
