package lead

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestSickPrimary: the primary that says it is sick is told to stop, in its epoch, until it is no longer sick; nobody is
// sealed meanwhile.
func TestSickPrimary(t *testing.T) {
	play(t, func(t *testing.T, st *stage, _ *Loop) {
		time.Sleep(time.Second)
		st.locked(func() {
			if len(st.stopped) > 0 {
				t.Errorf("told %v to stop, nobody was sick", st.stopped)
			}
			st.sick = "nobody can connect"
		})
		time.Sleep(2 * time.Second)
		synctest.Wait()
		st.locked(func() {
			if len(st.stopped) == 0 || st.stopped[0] != (call{"stop", "a", 7}) {
				t.Fatalf("orders %v, want a told to stop in epoch 7", st.stopped)
			}
			if len(st.sealTimes) > 0 {
				t.Errorf("sealed %v before any release", st.sealTimes)
			}
			st.sick = ""
		})
		time.Sleep(time.Second)
		told := 0
		st.locked(func() { told = len(st.stopped) })
		time.Sleep(time.Second)
		st.locked(func() {
			if len(st.stopped) != told {
				t.Error("still told to stop after it recovered")
			}
		})
	})
}
