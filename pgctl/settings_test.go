package pgctl

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/pg"
)

func TestConfLine(t *testing.T) {
	for _, value := range []string{"", "100ms", `ANY 1 ("a","b")`, `host='x' password='a\'b\\c'`, `C:\x\\'y`} {
		name, got, ok := confValue(confLine("primary_conninfo", value))
		if !ok || name != "primary_conninfo" || got != value {
			t.Errorf("%q came back as %q, %t", value, got, ok)
		}
	}
	for _, line := range []string{"# comment = 'x'", "", "name", "name = value", "include 'x'"} {
		if name, value, ok := confValue(line); ok {
			t.Errorf("%q was read as %q = %q", line, name, value)
		}
	}
}

func TestIsReceiver(t *testing.T) {
	for title, want := range map[string]bool{
		"postgres: s/n1: walreceiver streaming 0/3000060": true,
		"postgres: s/n1: walreceiver ":                    true,
		"postgres: walreceiver ":                          true,
		"postgres: s/n1: walsender replicator 127.0.0.1":  false,
		"postgres: s/n1: startup recovering 00000001":     false,
		"postgres: s/n1: walreceiver postgres [local]":    true, // a role of that name: ended in vain, harmless
		"/usr/lib/postgresql/15/bin/postgres\x00-D":       false,
		"": false,
	} {
		if got := isReceiver(title, "s/n1"); got != want {
			t.Errorf("%q: %t", title, got)
		}
	}
}

func TestSlotName(t *testing.T) {
	seen := map[string]string{}
	long := strings.Repeat("n", 63)
	for _, m := range [][2]string{
		{"a", "n1"}, {"a", "n-1"}, {"a", "n_1"}, {"a", "n__1"}, {"a", "n-_1"}, {"a", "n_-1"}, {"a", "n_x1"}, {"a", "n-x1"},
		{"0b7c4e0a-93d5-4f7e-8a11-2f6f0c9f1a01", "n1"}, {"5d1b22c8-1f0e-4c39-9b7d-7e0a4b1c2d02", "n1"},
		{"0b7c4e0a-93d5-4f7e-8a11-2f6f0c9f1a01", long}, {"5d1b22c8-1f0e-4c39-9b7d-7e0a4b1c2d02", long},
	} {
		node, slot := strings.Join(m[:], " "), SlotName(m[0], m[1])
		if other, ok := seen[slot]; ok {
			t.Errorf("%s and %s share %s", node, other, slot)
		}
		if strings.Trim(slot, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" || len(slot) > 63 {
			t.Errorf("%s: %s is no slot name", node, slot)
		}
		seen[slot] = node
	}
}

// An upstream of an epoch that was detached from is in no settings, whatever the durable copy says.
func TestSettingsForgetADetachedUpstream(t *testing.T) {
	c := Config{Name: "n2", StateDir: "/s", Replication: Credentials{Name: "r"}}
	l := live{Upstream: Upstream{Name: "n1", Host: "h", Port: 1, Epoch: 4}, Sync: Sync{K: 1, Names: []string{"n1"}}}
	if got := l.settings(c, 3)["primary_conninfo"]; !strings.Contains(got, "host='h'") || !strings.Contains(got, "application_name='n2'") {
		t.Errorf("following: %q", got)
	}
	if got := l.settings(c, 4)["primary_conninfo"]; got != "" {
		t.Errorf("detached: %q", got)
	}
	if got := l.settings(c, 4)["synchronous_standby_names"]; got != `ANY 1 ("n1")` {
		t.Errorf("the rule went with it: %q", got)
	}
}

// The user's lines in postgresql.auto.conf survive our rewriting.
func TestAutoConfKeepsTheRest(t *testing.T) {
	dir := t.TempDir()
	i := &Instance{cfg: Config{DataDir: dir}}
	path := filepath.Join(dir, "postgresql.auto.conf")
	if err := os.WriteFile(path, []byte("# Do not edit\nwork_mem = '8MB'\nPrimary_Conninfo = 'host=old'\nrestore_command = 'x'"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := live{}.settings(i.cfg, 0)
	if err := i.writeAutoConf(path, want); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(content); !strings.Contains(got, "work_mem = '8MB'\n") || strings.Contains(got, "old") || !strings.Contains(got, "restore_command = ''\n") {
		t.Errorf("%s", got)
	}
	if changed, err := i.changedSettings(want); err != nil || len(changed) > 0 {
		t.Errorf("still to change: %v, %v", changed, err)
	}
}

// The user's options come last, where initdb takes them for the ones that count.
func TestInitdbArguments(t *testing.T) {
	got := strings.Join(Config{InitDB: []string{"locale=de_DE.UTF-8", "no-locale"}}.initdbArguments("/d"), " ")
	if !strings.HasPrefix(got, "-D /d -U quorate --data-checksums ") || !strings.HasSuffix(got, " --locale=de_DE.UTF-8 --no-locale") {
		t.Errorf("%s", got)
	}
}

func TestValidate(t *testing.T) {
	good := Config{Name: "n1", BinDir: "/b", DataDir: "/d/data", StateDir: "/d/state", SocketDir: "/run/q", Port: 5432,
		Replication: Credentials{Name: "r", Password: "p"}, FailoverAfter: time.Second}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"relative data_dir":        func(c *Config) { c.DataDir = "data" },
		"quote in a path":          func(c *Config) { c.DataDir = "/d/o'brien" },
		"state inside PGDATA":      func(c *Config) { c.StateDir = "/d/data/state" },
		"long socket path":         func(c *Config) { c.SocketDir = "/" + strings.Repeat("x", 100) },
		"capital in the name":      func(c *Config) { c.Name = "N1" },
		"port 0":                   func(c *Config) { c.Port = 0 },
		"failover_after too small": func(c *Config) { c.FailoverAfter = time.Millisecond },
		"no replication password":  func(c *Config) { c.Replication.Password = "" },
		"role taken":               func(c *Config) { c.Superuser.Name = AgentRole },
		"owned setting":            func(c *Config) { c.Parameters = map[string]string{"Synchronous_Standby_Names": "*"} },
		"line break in a setting":  func(c *Config) { c.Parameters = map[string]string{"a": "b\nfsync=off"} },
		"line break in hba":        func(c *Config) { c.HBA = []string{"a\nb"} },
	} {
		c := good
		change(&c)
		if err := c.Validate(); !errors.Is(err, ErrConfig) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if owned := OwnedParameters(); !slices.IsSorted(owned) {
		t.Errorf("not sorted: %v", owned)
	}
}

// A password that the configuration leaves out is asked for each time, because it is learned late.
func TestPasswordIsAskedFor(t *testing.T) {
	known := ""
	c := Credentials{Name: "r:1", Ask: func() string { return known }}
	if got := passLine(c); got != "*:*:*:r\\:1:\n" {
		t.Errorf("before it is known: %q", got)
	}
	known = `a\b`
	if got := passLine(c); got != `*:*:*:r\:1:a\\b`+"\n" {
		t.Errorf("once it is known: %q", got)
	}
	c.Password = "given"
	if got := passLine(c); got != `*:*:*:r\:1:given`+"\n" {
		t.Errorf("when the node file has it: %q", got)
	}
	late := Config{Name: "n1", BinDir: "/b", DataDir: "/d/data", StateDir: "/d/state", SocketDir: "/run/q", Port: 5432, Replication: c, FailoverAfter: time.Second}
	late.Replication.Password = ""
	if err := late.Validate(); err != nil {
		t.Error(err)
	}
}

// A skipped number is never taken for a timeline.
func TestHistoriesSkipPlaceholders(t *testing.T) {
	dir := t.TempDir()
	i := &Instance{cfg: Config{DataDir: dir}}
	if err := os.MkdirAll(i.walDir(), 0o700); err != nil {
		t.Fatal(err)
	}
	real := pg.History{{Timeline: 1, End: 0x3000000, Reason: "no recovery target specified"}}
	if err := os.WriteFile(filepath.Join(i.walDir(), pg.HistoryFileName(2)), real.Format(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := i.skipTimelines(2, 5); err != nil {
		t.Fatal(err)
	}
	found, err := histories(i.walDir())
	if err != nil || len(found) != 1 || newest(1, found) != 2 {
		t.Errorf("%v, %v", found, err)
	}
	for _, tli := range []pg.Timeline{3, 4} {
		if !exists(filepath.Join(i.walDir(), pg.HistoryFileName(tli))) {
			t.Errorf("%d is not skipped", tli)
		}
	}
	if err := i.dropPlaceholders(); err != nil {
		t.Fatal(err)
	}
	if exists(filepath.Join(i.walDir(), pg.HistoryFileName(4))) || !exists(filepath.Join(i.walDir(), pg.HistoryFileName(2))) {
		t.Error("a start would recover to a number that is skipped, or lost a real history")
	}
}

func TestKillAfterIsTheUsersWhereGiven(t *testing.T) {
	c := Config{FailoverAfter: time.Second}
	if got := c.killAfter(); got != 250*time.Millisecond {
		t.Errorf("without one it is %s, want a fourth of failover_after", got)
	}
	c.KillAfter = 100 * time.Millisecond
	if got := c.killAfter(); got != c.KillAfter {
		t.Errorf("it is %s, want the %s of the node file", got, c.KillAfter)
	}
}

// Roles that are made without a password would keep every standby out for ever.
func TestInitWaitsForThePassword(t *testing.T) {
	i := &Instance{cfg: Config{DataDir: filepath.Join(t.TempDir(), "data"), Replication: Credentials{Name: "r", Ask: func() string { return "" }}}}
	if err := i.Init(t.Context()); err == nil || !strings.Contains(err.Error(), "the password of r is not known") {
		t.Errorf("got %v", err)
	}
}

// Replication is let in from the members, and by nothing of ours from anywhere else.
func TestOnlyMembersReplicate(t *testing.T) {
	i := guarded()
	for line := range strings.Lines(i.hbaWith(true)) {
		if strings.HasPrefix(line, "host replication ") && !strings.Contains(line, " 10.0.0.2/32 ") && !strings.Contains(line, " 10.0.0.3/32 ") && !strings.Contains(line, " reject") {
			t.Errorf("%s", line)
		}
	}
	if hba := i.hbaWith(true); !strings.Contains(hba, "host replication \"repl\" 10.0.0.2/32 scram-sha-256\n") {
		t.Errorf("%s", hba)
	}
}

// TestASlotKeepsNoMoreThanATenthOfTheDisk: what a member that never comes back leaves can't fill the primary's disk.
func TestASlotKeepsNoMoreThanATenthOfTheDisk(t *testing.T) {
	i := bare(t)
	var disk unix.Statfs_t
	if err := unix.Statfs(i.cfg.DataDir, &disk); err != nil {
		t.Fatal(err)
	}
	text, err := i.configuration(accepted{})
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(text, "max_slot_wal_keep_size = '")
	value, _, _ := strings.Cut(rest, "MB'")
	mb, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	if tenth := disk.Blocks * uint64(disk.Bsize) / 10 >> 20; mb > max(tenth, 64) || mb > 16<<10 || mb < 64 {
		t.Errorf("a slot may keep %d MB, a tenth of the disk is %d MB", mb, tenth)
	}
}
