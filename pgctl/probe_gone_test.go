package pgctl

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/pgctl/guard"
)

// somethingRuns is a guard whose record says that Postgres runs.
type somethingRuns struct{ Guard }

func (somethingRuns) Record() guard.View {
	return guard.View{State: guard.StateRunning, Run: 1, PID: 7}
}

// TestADataDirectoryThatVanishes: a server whose directory was deleted under it is sick, and nothing is made in its place. One
// that is not there yet is not probed at all, since initdb and a clone want it empty.
func TestADataDirectoryThatVanishes(t *testing.T) {
	i := bare(t)
	if err := i.probeData(); err != nil {
		t.Errorf("before there is a database: %v", err)
	}
	put(t, filepath.Join(i.cfg.DataDir, "PG_VERSION"), "15\n")
	i.managed, i.deps.Guard = true, somethingRuns{}
	if err := i.probeData(); err != nil {
		t.Errorf("a database that is there: %v", err)
	}
	if err := os.RemoveAll(i.cfg.DataDir); err != nil {
		t.Fatal(err)
	}
	err := i.probeData()
	if !errors.Is(err, errNoDataDir) {
		t.Fatalf("a database that was deleted under its server: %v", err)
	}
	if _, err := os.Stat(i.cfg.DataDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was made in its place: %v", err)
	}
	const every = 250 * time.Millisecond
	s := streak{}
	for at := time.Duration(0); at < 6*every; at += every {
		s = s.begin(at).end(outcomeOf(err))
	}
	sick := s.sickness(ProbeData, 6*every, every)
	if sick == nil || !strings.Contains(sick.String(), "deleted, or is not mounted") {
		t.Errorf("six tries later it is %v", sick)
	}
	i.deps.Guard = nothingRuns{}
	if err := i.probeData(); err != nil {
		t.Errorf("once the server is gone: %v", err)
	}
}
