package pgctl

import (
	"context"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quorate/quorate/internal/pg"
)

// maxWarnings is how many Warnings returns: people read no more. How long each may be is for the report, which goes to every voter several
// times a second.
const maxWarnings = 4

// Warnings looks for what harms nobody today and somebody some day: commits that are not kept by the sync rule, because of a
// setting (only where kept says that there is a rule), another minor release under the running server, and the lack of the
// agent's database. It opens a session of its own, takes some milliseconds, and is to be called about once a minute.
func (i *Instance) Warnings(ctx context.Context, kept bool) ([]string, error) {
	s, err := i.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer s.close()
	out, err := s.rows(ctx, warningsQuery)
	if err != nil {
		return nil, fmt.Errorf("look for what is to be warned of: %w", err)
	}
	if len(out) != 3 || len(out[0]) != 1 {
		return nil, fmt.Errorf("look for what is to be warned of: %d results", len(out))
	}
	running, err := intField(out[0][0][0])
	if err != nil {
		return nil, fmt.Errorf("read the server's version: %w", err)
	}
	var list []string
	if w := releaseWarning(int(running), i.installed(ctx), i.cfg.Name); w != "" {
		list = append(list, w)
	}
	list = append(list, i.cfg.raise(maps.Clone(i.accepted().Set))...)
	if s.spare {
		list = append(list, databaseMissing)
	}
	if kept {
		list = append(list, commitWarnings(weakIn(out[1]), weakIn(out[2]))...)
	}
	return few(list), nil
}

// few are the first of the warnings.
func few(list []string) []string {
	if more := len(list) - maxWarnings; more > 0 {
		list = append(list[:maxWarnings], fmt.Sprintf("and %d more of the kind", more))
	}
	return list
}

// warningsQuery asks for the version, for what roles and databases have set, and for what the files say: the session's own value is
// another one.
const warningsQuery = `SELECT current_setting('server_version_num');
SELECT coalesce(r.rolname, ''), coalesce(d.datname, ''), substr(c, strpos(c, '=') + 1)
 FROM pg_db_role_setting AS s CROSS JOIN unnest(s.setconfig) AS c
 LEFT JOIN pg_roles AS r ON r.oid = s.setrole LEFT JOIN pg_database AS d ON d.oid = s.setdatabase
 WHERE lower(split_part(c, '=', 1)) = 'synchronous_commit' ORDER BY 1, 2;
SELECT '', '', setting FROM pg_file_settings WHERE lower(name) = 'synchronous_commit' AND applied`

// weakCommit is a synchronous_commit that waits for less than a copy on another disk.
type weakCommit struct {
	Role     string // empty: of all
	Database string // empty: in all
	Value    string
}

// weakIn picks those out of rows of role, database and value. The values are as people wrote them.
func weakIn(rows [][]string) []weakCommit {
	var out []weakCommit
	for _, r := range rows {
		if slices.Contains([]string{"off", "local", "remote_write", "false", "no", "0"}, strings.ToLower(strings.Trim(r[2], "' "))) {
			out = append(out, weakCommit{Role: r[0], Database: r[1], Value: r[2]})
		}
	}
	return out
}

// commitWarnings says whose commits a failover may lose.
func commitWarnings(set, configured []weakCommit) []string {
	var out []string
	for _, w := range configured {
		out = append(out, fmt.Sprintf("commits are not kept by quorum: synchronous_commit is %s in the configuration", w.Value))
	}
	for _, w := range set {
		whose := "of all roles"
		if w.Role != "" {
			whose = "of role " + w.Role
		}
		if w.Database != "" {
			whose += " in database " + w.Database
		}
		out = append(out, fmt.Sprintf("commits %s are not kept by quorum: synchronous_commit is %s there", whose, w.Value))
	}
	return out
}

// release is what the programs in BinDir say of themselves.
type release struct {
	version int    // as server_version_num; 0: it has none, as a beta
	problem string // why they can't be asked
}

// installed asks the postgres program for its version.
func (i *Instance) installed(ctx context.Context) release {
	out, err := exec.CommandContext(ctx, filepath.Join(i.cfg.BinDir, "postgres"), "--version").Output()
	switch {
	case err != nil && ctx.Err() != nil:
		return release{} // it is slow today; that says nothing
	case err != nil:
		return release{problem: err.Error()}
	}
	version, err := pg.ParseVersionNumber(string(out))
	if err != nil {
		return release{problem: err.Error()}
	}
	return release{version: version}
}

// releaseWarning says what a restart of node's server would change.
func releaseWarning(running int, there release, node string) string {
	switch {
	case there.problem != "":
		return "PostgreSQL runs, and could not be started again: the programs in postgresql.bin_dir can't be asked for their version: " + there.problem
	case there.version == 0 || there.version == running:
		return ""
	case there.version/10000 != running/10000:
		return fmt.Sprintf("PostgreSQL %s runs, and could not be started again: in postgresql.bin_dir there is %s now", pg.VersionText(running), pg.VersionText(there.version))
	}
	return fmt.Sprintf("restart to run PostgreSQL %s, which is installed; %s runs: quorate restart %s", pg.VersionText(there.version), pg.VersionText(running), node)
}
