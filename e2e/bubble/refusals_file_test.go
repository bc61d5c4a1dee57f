package bubble

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// nodeFile is a witness's file with lines in place of some, or after them.
func nodeFile(lines map[int]string) string {
	all := []string{
		"scope: demo", "name: n1", "cluster: { listen: 127.0.0.1:7400, data_dir: DIR, role: witness }",
		"restapi: { listen: 127.0.0.1:8008 }",
	}
	for n := 1; n <= 9; n++ {
		if text, ok := lines[n]; ok && n <= len(all) {
			all[n-1] = text
		} else if ok {
			all = append(all, text)
		}
	}
	return strings.Join(all, "\n") + "\n"
}

// inFile runs quorate on a file with these lines.
func inFile(t *testing.T, dir string, lines map[int]string) refusal {
	t.Helper()
	path := filepath.Join(dir, "quorate.yml")
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(nodeFile(lines), "DIR", filepath.Join(dir, "q"))), 0o600); err != nil {
		t.Fatal(err)
	}
	said, outcome := quorate(t, "run", "-c", path)
	var shown []string
	for n := 1; n <= 9; n++ {
		if text, ok := lines[n]; ok {
			shown = append(shown, fmt.Sprintf("`%d: %s`", n, text))
		}
	}
	said = strings.ReplaceAll(strings.ReplaceAll(said, path, "quorate.yml"), dir, "/DIR")
	return refusal{strings.Join(shown, "\n"), said, outcome}
}

func tempDir(t *testing.T) string { // short: a socket's path has a limit
	t.Helper()
	dir, err := os.MkdirTemp("", "qr")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func ofNodeFiles(t *testing.T) []refusal {
	dir := tempDir(t)
	var rows []refusal
	for _, lines := range []map[int]string{
		{2: "nmae: n1"},
		{5: "postgresq1: { listen: 127.0.0.1:5432 }"},
		{2: "name: [n1]"},
		{2: "name: N1"},
		{5: "tags: { nofailover: perhaps }"},
		{5: "bootstrap: { dcs: { failover_after: 30 } }"},
		{5: "bootstrap: { dcs: { failover_after: 90s } }"},
		{5: "fencing: { kill_after: 3s }"},
		{5: "bootstrap: { dcs: { failover_after: 2s } }", 6: "fencing: { kill_after: 3s }"},
		{5: "bootstrap: { dcs: { durability: async, strict: true } }"},
		{5: "bootstrap: { dcs: { postgresql: { parameters: { max_connections: 3, superuser_reserved_connections: 3 } } } }"},
		{5: "bootstrap: { dcs: { postgresql: { parameters: { port: 5433 } } } }"},
		{4: "restapi: { listen: 127.0.0.1:7400 }"},
		{3: "cluster: { listen: 127.0.0.1:7400, data_dir: DIR, role: witness, peers: [127.0.0.1:1, 127.0.0.1:2] }"},
		{3: "cluster: { listen: 10.0.0.1:7400, data_dir: /q, role: witness, secret: x, secret_file: /s }"},
		{3: "cluster: { listen: 10.0.0.1:7400, data_dir: /q, role: witness, tls: { cert_file: /c }, secret_file: /s }"},
	} {
		rows = append(rows, inFile(t, dir, lines))
	}
	return rows
}

func ofStarts(t *testing.T) []refusal {
	dir := tempDir(t)
	rows := []refusal{
		inFile(t, dir, map[int]string{
			3: "cluster: { listen: 127.0.0.1:7400, data_dir: DIR, role: witness, secret_file: /nonexistent/secret }",
		}),
	}
	taken, l := listening(t)
	defer l.Close()
	free, f := listening(t)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	ports := strings.NewReplacer(taken, "127.0.0.1:TAKEN", free, "127.0.0.1:FREE", "= :"+taken[len("127.0.0.1:"):], "= :TAKEN")
	own := fmt.Sprintf("cluster: { listen: %s, data_dir: DIR, role: witness, peers: [%[1]s] }", free)
	for _, lines := range []map[int]string{
		{3: strings.ReplaceAll(own, free, taken)},
		{3: own, 4: fmt.Sprintf("restapi: { listen: %s }", taken)},
	} {
		r := inFile(t, tempDir(t), lines)
		rows = append(rows, refusal{"a port that another process has\n" + ports.Replace(r.input), ports.Replace(r.message), r.outcome})
	}
	rows = append(rows, withoutIdentity(t, own))
	return append(rows, ofPostgres(t)...)
}

// listening is a listener and its address.
func listening(t *testing.T) (string, net.Listener) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), l
}

// withoutIdentity starts on a directory that has promises of nobody.
func withoutIdentity(t *testing.T, cluster string) refusal {
	t.Helper()
	dir := tempDir(t)
	if err := os.MkdirAll(filepath.Join(dir, "q"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "q", "voter.bin"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r := inFile(t, dir, map[int]string{3: cluster})
	r.input = "cluster.data_dir of which a part was lost"
	return r
}

// nothingRuns is a guard that runs nothing and is never asked to.
type nothingRuns struct{ pgctl.Guard }

func (nothingRuns) Record() guard.View { return guard.View{State: guard.StateNone} }

// programs is a bin_dir whose postgres says that it is of some version, with all that is needed beside it, or without.
func programs(t *testing.T, dir, says string, all bool) string {
	t.Helper()
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if says == "" {
		return bin
	}
	script := fmt.Sprintf("#!/bin/sh\necho '%s'\n", says)
	names := []string{"postgres"}
	if all {
		names = append(names, "initdb", "pg_basebackup", "pg_rewind")
	}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(script), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

// giveAway makes a directory, if it is there, the user's.
func giveAway(t *testing.T, name, dir string) {
	t.Helper()
	u, err := user.Lookup(name)
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, uid, -1); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}

// ofPostgres opens instances as a daemon does. What it can't use of the programs is a matter of the node file there (exit
// code 2); what is in the directory it tells the others, and the cluster doesn't begin or the node isn't let in.
func ofPostgres(t *testing.T) []refusal {
	var rows []refusal
	open := func(input, says string, all bool, dirty func(data string)) {
		t.Helper()
		dir := tempDir(t)
		data := filepath.Join(dir, "data")
		if dirty != nil {
			if err := os.MkdirAll(data, 0o700); err != nil {
				t.Fatal(err)
			}
			dirty(data)
		}
		runsAs := ""
		if os.Getuid() == 0 {
			runsAs = "nobody"
			giveAway(t, runsAs, data)
		}
		i, err := pgctl.Open(pgctl.Config{
			Scope: "demo", Name: "n1", OSUser: runsAs, BinDir: programs(t, dir, says, all), DataDir: data,
			StateDir:  filepath.Join(dir, "state"),
			SocketDir: filepath.Join(dir, "run"), Listen: "127.0.0.1", Port: 5432, FailoverAfter: time.Second,
			Replication: pgctl.Credentials{Name: "replicator", Password: "x"},
		}, pgctl.Deps{Guard: nothingRuns{}, Lease: func() (uint64, time.Duration) { return 0, 0 }, Logger: hclog.NewNullLogger()})
		if err != nil {
			rows = append(rows, refusal{input, strings.ReplaceAll(err.Error(), dir, "/DIR"), "exit code 2"})
			return
		}
		said := strings.ReplaceAll(i.Found().Problem, dir, "/DIR")
		rows = append(rows, refusal{input, said, "no cluster begins with it, and no node joins with it"})
	}
	put := func(name, content string) func(string) {
		return func(data string) {
			if err := os.WriteFile(filepath.Join(data, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	open("postgresql.bin_dir without Postgres", "", true, nil)
	open("a bin_dir with the server alone", "postgres (PostgreSQL) 15.4", false, nil)
	open("Postgres 12", "postgres (PostgreSQL) 12.1", true, nil)
	open("Postgres 9.6", "postgres (PostgreSQL) 9.6.24", true, nil)
	open("Postgres 19", "postgres (PostgreSQL) 19.0", true, nil)
	open("a data directory of another major version", "postgres (PostgreSQL) 15.4", true, put("PG_VERSION", "14\n"))
	open("a data directory that is not empty and not Postgres's", "postgres (PostgreSQL) 15.4", true, put("holiday.jpg", "x"))
	open("a data directory without its pg_control", "postgres (PostgreSQL) 15.4", true, put("PG_VERSION", "15\n"))
	open("a data directory that others may write to", "postgres (PostgreSQL) 15.4", true, func(data string) {
		put("PG_VERSION", "15\n")(data)
		if err := os.Chmod(data, 0o777); err != nil {
			t.Fatal(err)
		}
	})
	return rows
}
