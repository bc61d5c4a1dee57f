package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/e2e/alone"
	"github.com/quorate/quorate/lab"
)

// program is the quorate binary under test, built once. The labs of this process are made by it.
type program struct {
	mu   sync.Mutex
	exe  string
	labs []*lab.Lab
}

var quorate program

// TestMain waits until it has the machine, removes what a killed run left, and builds the program.
func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	lock, err := alone.Take(os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = lock.Close() }() // the process ends
	if err := lab.Sweep(context.Background(), os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "sweep what an earlier run left:", err)
		return 1
	}
	if err := removeOldMachines(); err != nil {
		fmt.Fprintln(os.Stderr, "sweep the machines of an earlier run:", err)
		return 1
	}
	removeOld()
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", buildPrefix, os.Getpid()))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	quorate.exe = filepath.Join(dir, "quorate")
	build := exec.Command("go", "build", "-tags", "hashicorpmetrics", "-o", quorate.exe, "../cmd/quorate")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "build quorate:", err)
		return 1
	}
	code := m.Run()
	for _, l := range quorate.labs {
		if left := l.Left(); len(left) > 0 {
			fmt.Fprintf(os.Stderr, "left of lab %s: %v\n", l.ID, left)
			code = 1
		}
	}
	return code
}

// buildPrefix begins the name of the directory with the program; the pid of this process follows.
const buildPrefix = "quorate-e2e-"

// removeOld removes the programs of runs that were killed.
func removeOld() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), buildPrefix+"*-*")) // the pattern is a good one
	for _, dir := range dirs {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), buildPrefix), "-")
		if _, err := os.Stat("/proc/" + pid); errors.Is(err, fs.ErrNotExist) {
			_ = os.RemoveAll(dir)
		}
	}
}

// talk sends what a lab says to the test's log.
type talk struct{ t *testing.T }

func (w talk) Write(b []byte) (int, error) {
	w.t.Logf("%s", b)
	return len(b), nil
}

// up makes a lab of three nodes that ends with the test. An error has the last state and log of every node.
func up(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	o.Owned, o.Exe, o.Out = true, quorate.exe, talk{t}
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	quorate.mu.Lock()
	quorate.labs = append(quorate.labs, l)
	quorate.mu.Unlock()
	t.Cleanup(func() {
		l.SetOutput(io.Discard) // the test's log is closed soon
		ctx, stop := context.WithTimeout(context.Background(), time.Minute)
		defer stop()
		if err := l.Down(ctx); err != nil {
			t.Error(err)
		}
	})
	return l
}
