package node

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

func TestWhatWasInUseBecomesTheClustersConfiguration(t *testing.T) {
	d := config.Default().Bootstrap.DCS
	d.PostgreSQL.Parameters = map[string]string{"work_mem": "8MB"}
	found := pgctl.Parameters{Set: map[string]string{"work_mem": "4MB", "shared_buffers": "1GB"}, HBA: []string{"local all all trust"}}
	c, err := withImport(d, found)
	if err != nil {
		t.Fatal(err)
	}
	got, err := config.ReadDCS([]byte(c.Doc))
	if err != nil {
		t.Fatal(err)
	}
	if p := got.PostgreSQL; p.Parameters["work_mem"] != "8MB" || p.Parameters["shared_buffers"] != "1GB" || strings.Join(p.PgHBA,
		"|") != "local all all trust" {
		t.Errorf("the document has %+v", p)
	}
	if c.Version != 1 || c.Settings != d.Settings() {
		t.Errorf("version %d, settings %+v", c.Version, c.Settings)
	}
	if d.PostgreSQL.Parameters["shared_buffers"] != "" || len(found.Set) != 2 {
		t.Error("what was given was changed")
	}

	d.PostgreSQL.PgHBA = []string{"local all all peer"}
	if c, err := withImport(d, pgctl.Parameters{HBA: found.HBA}); c != nil || err != nil {
		t.Errorf("with hba lines in the node file: %+v, %v", c, err)
	}
	if c, err := withImport(d, pgctl.Parameters{}); c != nil || err != nil {
		t.Errorf("with nothing to take over: %+v, %v", c, err)
	}
	if _, err := withImport(d,
		pgctl.Parameters{Set: map[string]string{"max_connections": "many"}}); err == nil || !strings.Contains(err.Error(),
		"max_connections") {
		t.Errorf("with a setting that can't be replicated: %v", err)
	}
}

func TestPickBinaries(t *testing.T) {
	both := []string{"/usr/lib/postgresql/13/bin", "/usr/lib/postgresql/17/bin", "/usr/lib/postgresql/old/bin"}
	for _, c := range []struct {
		found []string
		of    int
		want  string // directory or part of the error
	}{
		{both, 0, "/usr/lib/postgresql/17/bin"},
		{both, 13, "/usr/lib/postgresql/13/bin"},
		{both, 15, "/data is of PostgreSQL 15, and below /usr/lib/postgresql there is: 13, 17"},
		{nil, 0, "no Postgres below"},
	} {
		got, err := pickBinaries(c.found, pg.MajorVersion(c.of), "/data")
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("of %d among %v: %s, want %s", c.of, c.found, got, c.want)
		}
	}
}
