package chaos

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/quorate/quorate/e2e/alone"
	"github.com/quorate/quorate/lab"
)

// TestMain waits until it has the machine: what it does to a cluster is not to be done to other tests.
func TestMain(m *testing.M) {
	lock, err := alone.Take(os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	_ = lock.Close() // the process ends
	os.Exit(code)
}

// TestChaos: no check finds anything, and with asynchronous commits, for a fifth of the time, nothing but losses that stand in evidence.
// If one does, the log has the command that makes the same faults, and the lab and the raw history stay where it says.
func TestChaos(t *testing.T) {
	if err := lab.Able(); err != nil {
		t.Skip(err)
	}
	minutes, err := strconv.ParseFloat(cmp.Or(os.Getenv("CHAOS_MINUTES"), "5"), 64)
	if err != nil {
		t.Fatalf("CHAOS_MINUTES: %v", err)
	}
	seed, err := strconv.ParseUint(cmp.Or(os.Getenv("CHAOS_SEED"), fmt.Sprint(rand.Uint64N(1_000_000))), 10, 64)
	if err != nil {
		t.Fatalf("CHAOS_SEED: %v", err)
	}
	exe := filepath.Join(t.TempDir(), "quorate")
	build := exec.Command("go", "build", "-tags", "hashicorpmetrics", "-o", exe, "../../cmd/quorate")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		t.Fatalf("build quorate: %v", err)
	}
	long := time.Duration(minutes * float64(time.Minute))
	for _, run := range []struct {
		durability string
		long       time.Duration
	}{{"quorum", long}, {"async", long / 5}} {
		t.Run(run.durability, func(t *testing.T) {
			t.Logf("seed %d; the same again: CHAOS_MINUTES=%v CHAOS_SEED=%d go test -count 1 -run TestChaos/%s ./e2e/chaos", seed, minutes, seed, run.durability)
			o := lab.ChaosOptions{For: run.long, Seed: seed, Exe: exe, Durability: run.durability, Dir: rawHistory(t)}
			if err := lab.Chaos(t.Context(), o, talk{t}); err != nil {
				t.Fatal(err, os.WriteFile(filepath.Join(o.Dir, failed), []byte(err.Error()), 0o644))
			}
			if err := os.RemoveAll(o.Dir); err != nil {
				t.Error(err)
			}
		})
	}
}

// failed is in the directory of a run that failed, and says why.
const failed = "failed.txt"

// rawHistory makes a directory for what is recorded, and removes those of runs that were killed. One of a run that failed stays.
func rawHistory(t *testing.T) string {
	const prefix = "quorate-e2e-chaos-"
	left, err := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range left { // whose run is over: this one has the lock
		if _, err := os.Stat(filepath.Join(dir, failed)); errors.Is(err, fs.ErrNotExist) {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		}
	}
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// talk sends what the lab says to the test's log.
type talk struct{ t *testing.T }

func (w talk) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}
