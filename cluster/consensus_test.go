package cluster

import (
	"testing"
	"time"
)

func TestRaftTimeoutFollowsFailoverAfter(t *testing.T) {
	for _, tc := range []struct {
		failoverAfter, want time.Duration
	}{{0, minRaftTimeout}, {500 * time.Millisecond, 250 * time.Millisecond}, {time.Second, 500 * time.Millisecond}, {time.Minute, maxRaftTimeout}} {
		if got := raftTimeout(tc.failoverAfter); got != tc.want {
			t.Errorf("failover_after %s: T = %s, want %s", tc.failoverAfter, got, tc.want)
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
