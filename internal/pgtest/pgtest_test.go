package pgtest

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestLifeOfACluster(t *testing.T) {
	c := Start(t, Options{TCP: true, InitArgs: []string{"--wal-segsize=1"}, Settings: map[string]string{"cluster_name": "it's"}})
	if got := c.Exec("SHOW wal_segment_size; SELECT current_setting('cluster_name'), 1 UNION ALL SELECT 'b', 2"); got != "it's|1\nb|2" {
		t.Fatalf("got %q", got)
	}
	c.Exec("CREATE TABLE kept AS SELECT 42 AS v")
	c.Stop("fast")
	c.Run()
	c.Kill()
	if pids, err := processesIn(c.Dir); err != nil || len(pids) != 0 {
		t.Fatalf("processes %v, %v after the kill", pids, err)
	}
	c.Run()
	if got := c.Exec("SELECT v FROM kept"); got != "42" {
		t.Fatalf("after crash recovery: %q", got)
	}
}

const leaverVariable = "QUORATE_TEST_PGTEST_LEAVE"

// TestSweepOfAKilledRun kills a test process that runs a cluster; the next Start must remove
// all of it.
func TestSweepOfAKilledRun(t *testing.T) {
	if os.Getenv(leaverVariable) != "" {
		c := Start(t, Options{})
		os.Stdout.WriteString("cluster " + c.base + "\n")
		select {}
	}
	child := exec.Command(os.Args[0], "-test.run=^TestSweepOfAKilledRun$", "-test.timeout=120s")
	child.Env = append(os.Environ(), leaverVariable+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var base string
	for lines := bufio.NewScanner(out); base == "" && lines.Scan(); {
		base, _ = strings.CutPrefix(lines.Text(), "cluster ")
		if !strings.HasPrefix(base, os.TempDir()) {
			base = ""
		}
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait() // killed, as asked
	if base == "" {
		t.Fatal("the child made no cluster")
	}
	data := filepath.Join(base, "data")
	if pids, err := processesIn(data); err != nil || len(pids) == 0 {
		t.Fatalf("the orphans should still run: %v, %v", pids, err)
	}
	sweep(t)
	if pids, err := processesIn(data); err != nil || len(pids) != 0 {
		t.Fatalf("processes %v, %v after the sweep", pids, err)
	}
	if _, err := os.Stat(base); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("directory after the sweep: %v", err)
	}
}

func TestSweepSparesTheLiving(t *testing.T) {
	base, err := makeBase(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(base)
	sweep(t)
	if _, err := os.Stat(base); err != nil {
		t.Fatalf("a living process's directory was swept: %v", err)
	}
	if err := os.Remove(filepath.Join(base, "owner")); err != nil {
		t.Fatal(err)
	}
	if dead, err := ownerDead(base); dead || err != nil {
		t.Fatalf("without owner file: dead %v, %v", dead, err)
	}
}
