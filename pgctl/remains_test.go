package pgctl

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/durable"
)

// TestRemainsThatAreNoDatabase: who has to choose a survivor is told that this one has nothing to go on with.
func TestRemainsThatAreNoDatabase(t *testing.T) {
	save := func(name string, record any) func(*testing.T, Config) {
		return func(t *testing.T, c Config) {
			put(t, filepath.Join(c.DataDir, "PG_VERSION"), "15\n")
			put(t, filepath.Join(c.StateDir, "x"), "")
			var err error
			switch r := record.(type) {
			case rebuildMark:
				err = durable.Save(c.own(name), recordVersion, r)
			case plan:
				err = durable.Save(c.own(name), recordVersion, r)
			case rewindPlan:
				err = durable.Save(c.own(name), recordVersion, r)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range []struct {
		name    string
		prepare func(*testing.T, Config)
		want    string
	}{
		{"nothing", func(*testing.T, Config) {}, "is empty"},
		{"something else", func(t *testing.T, c Config) { put(t, filepath.Join(c.DataDir, "holiday.jpg"), "x") }, "read pg_control"},
		{"a rebuild", save(rebuildRecord, rebuildMark{Active: true, Because: "its log diverged"}), "had not caught up with its primary: its log diverged"},
		{"a rebuild that has ended", save(rebuildRecord, rebuildMark{}), "read pg_control"},
		{"a copy", save(planRecord, plan{Phase: "copying", Because: "no data"}), "being copied anew: no data"},
		{"a rewind", save(rewindRecord, rewindPlan{Phase: rewindWriting}), "being rewound"},
		{"a rewind that has ended", save(rewindRecord, rewindPlan{Phase: rewindDone}), "read pg_control"},
	} {
		cfg := bare(t).cfg
		c.prepare(t, cfg)
		if r := Inspect(cfg); !strings.Contains(r.Problem, c.want) || r.End.LSN != 0 {
			t.Errorf("%s: %+v, want %q", c.name, r, c.want)
		}
	}
}
