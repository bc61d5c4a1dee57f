package pgctl

import (
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/pg"
)

// TestCommitWarnings: whose commits are not kept, in the words of who set it; a stricter value than the default is no matter.
func TestCommitWarnings(t *testing.T) {
	for _, c := range []struct {
		name            string
		set, configured [][]string
		want            []string
	}{
		{"nothing", nil, nil, nil},
		{"as strict as can be", [][]string{{"app", "", "on"}, {"", "shop", "remote_apply"}}, [][]string{{"", "", "on"}}, nil},
		{"a role", [][]string{{"bulk", "", "off"}}, nil, []string{"commits of role bulk are not kept by quorum: synchronous_commit is off there"}},
		{"a role in a database", [][]string{{"bulk", "shop", "local"}}, nil,
			[]string{"commits of role bulk in database shop are not kept by quorum: synchronous_commit is local there"}},
		{"a database", [][]string{{"", "shop", "remote_write"}}, nil,
			[]string{"commits of all roles in database shop are not kept by quorum: synchronous_commit is remote_write there"}},
		{"all roles", [][]string{{"", "", "OFF"}}, nil, []string{"commits of all roles are not kept by quorum: synchronous_commit is OFF there"}},
		{"the configuration", nil, [][]string{{"", "", "off"}}, []string{"commits are not kept by quorum: synchronous_commit is off in the configuration"}},
		{"the other words for off", [][]string{{"a", "", "false"}, {"b", "", "no"}, {"c", "", "0"}, {"d", "", "true"}}, nil, []string{
			"commits of role a are not kept by quorum: synchronous_commit is false there",
			"commits of role b are not kept by quorum: synchronous_commit is no there",
			"commits of role c are not kept by quorum: synchronous_commit is 0 there"}},
	} {
		if got := commitWarnings(weakIn(c.set), weakIn(c.configured)); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// TestReleaseWarning: another minor release waits for a restart, and programs that could not run the data again are named.
func TestReleaseWarning(t *testing.T) {
	for _, c := range []struct {
		name    string
		running int
		there   release
		want    string // part of it; empty: no warning at all
	}{
		{"the same", 150018, release{version: 150018}, ""},
		{"newer", 150018, release{version: 150019}, "restart to run PostgreSQL 15.19, which is installed; 15.18 runs: quorate restart n1"},
		{"older, as after a package was taken back", 150018, release{version: 150014}, "restart to run PostgreSQL 15.14"},
		{"a beta, which has no minor number", 180000, release{}, ""},
		{"another major release", 150018, release{version: 160004}, "could not be started again: in postgresql.bin_dir there is 16.4"},
		{"the package is gone", 150018, release{problem: "no such file"}, "could not be started again: the programs in postgresql.bin_dir can't be asked for their version: no such file"},
	} {
		got := releaseWarning(c.running, c.there, "n1")
		if !strings.Contains(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}

// TestFewWarnings: however much people have set, there are few, and how many more is said. How long they are is bounded with the report.
func TestFewWarnings(t *testing.T) {
	list := []string{databaseMissing}
	for range 100 {
		list = append(list, "commits of a role are not kept")
	}
	got := few(list)
	if len(got) != maxWarnings+1 || got[maxWarnings] != "and 97 more of the kind" || got[0] != databaseMissing {
		t.Errorf("%q", got)
	}
	if got := few(list[:maxWarnings]); len(got) != maxWarnings {
		t.Errorf("%q", got)
	}
}

// TestWarnings asks a real server.
func TestWarnings(t *testing.T) {
	c, n := alone(t)
	n.drive(c.want(n), "a primary", isRun(pg.RunPrimary))
	if got, err := n.Warnings(t.Context(), true); err != nil || len(got) > 0 {
		t.Fatalf("of a new cluster: %q, %v", got, err)
	}
	n.sql("CREATE ROLE bulk; ALTER ROLE bulk SET synchronous_commit = off; ALTER DATABASE postgres SET synchronous_commit TO local")
	n.sql("ALTER ROLE bulk IN DATABASE postgres SET synchronous_commit = 'remote_write'; ALTER ROLE bulk SET work_mem = '8MB'")
	want := []string{
		"commits of all roles in database postgres are not kept by quorum: synchronous_commit is local there",
		"commits of role bulk are not kept by quorum: synchronous_commit is off there",
		"commits of role bulk in database postgres are not kept by quorum: synchronous_commit is remote_write there",
	}
	if got, err := n.Warnings(t.Context(), true); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := n.Warnings(t.Context(), false); err != nil || len(got) > 0 {
		t.Errorf("where nothing is promised: %q, %v", got, err)
	}
	n.mustTake(n.wants(map[string]string{"synchronous_commit": "off", "wal_sender_timeout": "1s"}))
	got, err := n.Warnings(t.Context(), true)
	if err != nil || !slices.Contains(got, "commits are not kept by quorum: synchronous_commit is off in the configuration") {
		t.Errorf("%q, %v", got, err)
	}
	if text := strings.Join(got, "\n"); !strings.Contains(text, "wal_sender_timeout is 600000ms and not 1s") || !strings.Contains(text, "and 1 more of the kind") {
		t.Errorf("said is %q", got)
	}
	eventually(t, "ten times failover_after", func() bool { return n.sql("SHOW wal_sender_timeout") == "10min" })
}
