package pgctl

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/internal/pg"
)

// controlOnDisk puts a pg_control that PostgreSQL 15 wrote, and an empty pg_wal, into dir.
func controlOnDisk(t *testing.T, dir string) pg.Control {
	t.Helper()
	raw, err := os.ReadFile("../internal/pg/testdata/fuzz/FuzzParseControl/postgresql-15")
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Split(string(raw), "\n")[1]
	text, err := strconv.Unquote(strings.TrimSuffix(strings.TrimPrefix(line, "[]byte("), ")"))
	if err != nil {
		t.Fatal(err)
	}
	content := make([]byte, 8192)
	copy(content, text)
	for _, sub := range []string{"global", "pg_wal"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "global", "pg_control"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := pg.ParseControl(content)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestTheLogNeededIsOfTheTimelineOfItsPlace: a newer timeline that begins later may be known already. Its segments before that
// never existed, so whoever asked for one would be told that it is gone.
func TestTheLogNeededIsOfTheTimelineOfItsPlace(t *testing.T) {
	i := &Instance{cfg: Config{DataDir: t.TempDir()}, log: hclog.NewNullLogger()}
	c := controlOnDisk(t, i.cfg.DataDir)
	next := c.CheckpointTimeline + 1
	history := fmt.Sprintf("%d\t%s\tno recovery target specified\n", c.CheckpointTimeline, c.Redo+0x5000000)
	if err := os.WriteFile(filepath.Join(i.walDir(), fmt.Sprintf("%08X.history", uint32(next))), []byte(history), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second look goes on where the first one ended
		at, err := i.startNeeds(t.Context())
		if err != nil || at.LSN != c.Redo || at.Timeline != c.CheckpointTimeline {
			t.Errorf("it needs %s of timeline %d, %v; want %s of %d", at.LSN, at.Timeline, err, c.Redo, c.CheckpointTimeline)
		}
	}
}

// TestACopyIsPlacedThoughTheOldDirectoryWasTakenAway: nobody can keep what is not there any more.
func TestACopyIsPlacedThoughTheOldDirectoryWasTakenAway(t *testing.T) {
	dir := t.TempDir()
	var said strings.Builder
	i := &Instance{cfg: Config{Name: "n1", DataDir: filepath.Join(dir, "data"), StateDir: filepath.Join(dir, "state")}, log: hclog.New(&hclog.LoggerOptions{Output: &said})}
	c := controlOnDisk(t, filepath.Join(dir, "new"))
	p := &plan{Phase: phaseCopied, New: filepath.Join(dir, "new"), Old: filepath.Join(dir, "old"),
		Local: &Position{Timeline: c.CheckpointTimeline + 1, LSN: c.Redo + 0x5000, History: pg.History{{Timeline: c.CheckpointTimeline, End: c.Redo}}}}
	if err := i.keepLacking(t.Context(), p); err != nil || !strings.Contains(said.String(), "was taken away") {
		t.Errorf("%v; it said %q", err, said.String())
	}
	// After a crash between two parts it was this node that set the directory aside, with its evidence kept.
	said.Reset()
	if err := os.Mkdir(p.Old, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := i.keepLacking(t.Context(), p); err != nil || said.Len() > 0 {
		t.Errorf("%v; it said %q", err, said.String())
	}
	if err := os.MkdirAll(filepath.Join(i.cfg.DataDir, "global"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := i.keepLacking(t.Context(), p); err == nil {
		t.Error("it goes on without the evidence of a directory that is there")
	}
}
