package lab

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFindClock(t *testing.T) {
	dir := t.TempDir()
	libraries, bins := filepath.Join(dir, "lib", "*", "libfaketime.so.1"), filepath.Join(dir, "pg", "*", "bin")
	if _, _, err := findClock(libraries, bins); !errors.Is(err, errNoClock) {
		t.Errorf("without a library: %v", err)
	}
	for _, d := range []string{"lib/x86", "pg/9/bin", "pg/15/bin", "pg/common/bin"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	library := filepath.Join(dir, "lib", "x86", "libfaketime.so.1")
	if err := os.WriteFile(library, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, _, err := findClock(libraries, filepath.Join(dir, "other", "*", "bin")); err == nil || errors.Is(err, errNoClock) {
		t.Errorf("without Postgres: %v", err)
	}
	if lib, bin, err := findClock(libraries, bins); err != nil || lib != library || bin != filepath.Join(dir, "pg", "15", "bin") {
		t.Errorf("%s, %s, %v", lib, bin, err)
	}
}

// TestOnlyTheServerGetsAClock: it is started as it was, with the library and its file; the other programs are what they were.
func TestOnlyTheServerGetsAClock(t *testing.T) {
	bin, n := t.TempDir(), &Node{Name: "n1", Dir: t.TempDir()}
	if err := n.setClock(5); !errors.Is(err, errNobody) {
		t.Errorf("set where there is none: %v", err)
	}
	for _, program := range []string{"postgres", "initdb"} {
		script := "#!/bin/sh\necho " + program + ` "$@"` + "\nenv\n"
		if err := os.WriteFile(filepath.Join(bin, program), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	library := filepath.Join(bin, "none.so") // the loader says so and goes on
	if err := n.makeClock(library, bin); err != nil {
		t.Fatal(err)
	}
	said := func(program string) []string {
		cmd := exec.Command(filepath.Join(n.binDir(), program), "-D", "a directory")
		cmd.Env = []string{"PATH=/usr/bin:/bin"}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", program, err)
		}
		return strings.Split(string(out), "\n")
	}
	server, other := said("postgres"), said("initdb")
	if server[0] != "postgres -D a directory" || other[0] != "initdb -D a directory" {
		t.Errorf("started as %q and %q", server[0], other[0])
	}
	for _, want := range []string{"LD_PRELOAD=" + library, "FAKETIME_TIMESTAMP_FILE=" + n.clockFile(), "FAKETIME_DONT_FAKE_MONOTONIC=1"} {
		if !slices.Contains(server, want) || slices.Contains(other, want) {
			t.Errorf("%s: postgres %v, initdb %v", want, slices.Contains(server, want), slices.Contains(other, want))
		}
	}
	for _, c := range []struct {
		off  int
		want string
	}{{0, "+0\n"}, {-3600, "-3600\n"}, {5, "+5\n"}} {
		if c.off != 0 {
			if err := n.setClock(c.off); err != nil {
				t.Fatal(err)
			}
		}
		if b, err := os.ReadFile(n.clockFile()); err != nil || string(b) != c.want {
			t.Errorf("%d: %q, %v", c.off, b, err)
		}
	}
	left, err := os.ReadDir(n.Dir)
	if err != nil || len(left) != 3 {
		t.Errorf("beside the programs, the clock and who has it: %v, %v", left, err)
	}
}

// TestClocksAreFreed: what the library left is removed, of whoever was started with it, and nobody else's.
func TestClocksAreFreed(t *testing.T) {
	shm, n := t.TempDir(), &Node{Name: "n1", Dir: t.TempDir()}
	if err := n.freeClocks(shm); err != nil {
		t.Errorf("of a node that has none: %v", err)
	}
	for _, name := range []string{"faketime_shm_12", "sem.faketime_sem_12", "faketime_shm_13", "faketime_shm_", "PostgreSQL.12"} {
		if err := os.WriteFile(filepath.Join(shm, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(n.clockPids(), []byte("12\n14\n../12\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.freeClocks(shm); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(shm, "*"))
	if err != nil || len(left) != 3 {
		t.Errorf("left are %v, %v", left, err)
	}
}

// TestNodeFileNamesItsPrograms: a node that has a clock is started from there, a witness has none.
func TestNodeFileNamesItsPrograms(t *testing.T) {
	n, w := &Node{Name: "n1", Dir: "/l/n1", Postgres: "10.0.0.1:5432"}, &Node{Name: "w1", Dir: "/l/w1", Witness: true}
	l := &Lab{Clocks: true, Nodes: []*Node{n, w}}
	if file := l.nodeFile(n); !strings.Contains(file, "  bin_dir: /l/n1/bin\n") {
		t.Errorf("%s", file)
	}
	if file := l.nodeFile(w); strings.Contains(file, "bin_dir") {
		t.Errorf("%s", file)
	}
	l.Clocks = false
	if file := l.nodeFile(n); strings.Contains(file, "bin_dir") {
		t.Errorf("%s", file)
	}
}
