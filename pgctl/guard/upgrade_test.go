package guard

import (
	"os"
	"path/filepath"
	"testing"
)

// TestIncompatibleGuardIsReplaced: a guard whose record this program can't write has its run shut down, not killed, and
// ends.
func TestIncompatibleGuardIsReplaced(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		told, ready := filepath.Join(r.opts.Dir, "told"), filepath.Join(r.opts.Dir, "ready")
		pid := r.start(r.request(shell, "-c", `trap 'echo >"$0"; exit 0' INT; echo >"$1"; while :; do sleep 0.01; done`, told, ready))
		r.waitFor("the trap", func() bool { return size(ready) > 0 })
		old := r.guard
		r.rec.word[wordVersion].Store(recordVersion + 1)
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r.Client = nil
		r.ensure()
		if old.alive() || running(pid) || r.guard == old {
			t.Errorf("old guard alive %v, its run alive %v, new guard %+v", old.alive(), running(pid), r.guard)
		}
		if _, err := os.Stat(told); err != nil {
			t.Errorf("the run was not asked to shut down: %v", err)
		}
	})
}

func TestGuardSaysItsVersion(t *testing.T) {
	r := newRig(t, "signals")
	if st, err := r.Status(); err != nil || st.Version != testVersion {
		t.Errorf("version %q: %v", st.Version, err)
	}
}
