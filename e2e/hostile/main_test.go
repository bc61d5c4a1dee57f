package hostile

import (
	"fmt"
	"os"
	"testing"

	"github.com/quorate/quorate/e2e/alone"
)

// TestMain waits until it has the machine: a lease is to be held on it while it is being attacked.
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
