package e2e_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/lab"
)

// adapted writes a file of testdata with addresses and paths of the lab instead of its own, and returns where. What is
// replaced has to be there.
func adapted(t *testing.T, l *lab.Lab, name string, instead map[string]string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	text := string(content)
	for _, old := range slices.Sorted(maps.Keys(instead)) {
		if !strings.Contains(text, old) {
			t.Fatalf("%s does not contain %q", name, old)
		}
		text = strings.ReplaceAll(text, old, instead[old])
	}
	file := filepath.Join(l.Dir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// psql runs a statement as a client on the clients' host.
func psql(t *testing.T, l *lab.Lab, host, port, password, sql string) (string, error) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	cmd := exec.CommandContext(ctx, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1",
		"-d", fmt.Sprintf("host=%s port=%s user=postgres dbname=postgres connect_timeout=2", host, port), "-c", sql)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &out, &errs, []string{"PGPASSWORD=" + password}
	if err := l.StartOn(nil, cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("psql: %w: %s", err, bytes.TrimSpace(errs.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}

// TestSeedPatroniYML: a patroni.yml that somebody has runs a node. It says once of each key what becomes of it, waits, and
// is a primary after init.
func TestSeedPatroniYML(t *testing.T) {
	b := newWaiting(t, 1)
	n := b.lab.Nodes[0]
	b.endDaemon(n, syscall.SIGTERM) // the one with a file of the lab's
	if err := b.lab.Wipe(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	file := adapted(t, b.lab, "seed-patroni.yml", map[string]string{"192.168.1.10": n.Addr, "/var/lib/postgresql/data": n.PGData()})
	// The file does not say where quorate keeps its own things.
	env := []string{"QUORATE_CLUSTER_DATA_DIR=" + n.Data(), "QUORATE_FENCING_CGROUP=quorate-lab-" + b.lab.ID + "/" + n.Name}
	c, err := config.Load(file, env)
	if err != nil {
		t.Fatal(err)
	}
	log := runOn(t, b.lab, n, env, "run", "-c", file)
	said := func(text string) func() bool { return func() bool { return strings.Contains(log.String(), text) } }
	await(t, "it waits to be told", said("waiting for quorate init or quorate join"), log.String)
	status, code := b.ask(n, "status")
	b.transcribe(n, []string{"status"}, status, code)
	if !strings.Contains(status, "quorate init makes one") || code != 4 {
		t.Errorf("status does not say what to do, or ends with %d", code)
	}
	begun, code := b.ask(n, "init")
	b.transcribe(n, []string{"init"}, begun, code)
	if code != 0 || !strings.Contains(begun, "postgresql1 is primary") {
		t.Fatalf("init ended with %d\n%s", code, log.String())
	}
	if code, _ := b.get(n, "/primary"); code != 200 {
		t.Errorf("/primary is %d", code)
	}
	got, err := psql(t, b.lab, n.Addr, "5432", "postgres_password", "CREATE TABLE seed AS SELECT 42 AS v; "+
		"SELECT v, pg_is_in_recovery(), (SELECT rolreplication FROM pg_roles WHERE rolname = 'replicator') FROM seed")
	if err != nil || got != "42|f|t" {
		t.Errorf("its clients get %q, %v", got, err)
	}
	b.warnedOnce(c.Warnings, log.String(), []string{
		"namespace", "etcd", "bootstrap.dcs.durability", "bootstrap.dcs.ttl", "bootstrap.dcs.loop_wait", "bootstrap.dcs.retry_timeout",
		"bootstrap.dcs.postgresql.use_pg_rewind", "postgresql.pgpass", "cluster",
	})
}

// warnedOnce: the log has one warning for each of these keys, which are all that there is to say about the file.
func (b *broken) warnedOnce(said []config.Finding, log string, keys []string) {
	b.Helper()
	if len(said) != len(keys) {
		b.Errorf("%d warnings, not %d: %v", len(said), len(keys), said)
	}
	count := map[string]int{}
	for line := range strings.Lines(log) {
		_, at, warned := strings.Cut(line, ": node file: ")
		_, at, keyed := strings.Cut(at, "key=")
		if !warned || !keyed {
			continue
		}
		key, _, _ := strings.Cut(at, " ")
		count[strings.TrimSpace(key)]++
		b.Logf("%s", strings.TrimSpace(line))
	}
	for _, k := range keys {
		if count[k] != 1 {
			b.Errorf("%d warnings about %s", count[k], k)
		}
		delete(count, k)
	}
	if len(count) > 0 {
		b.Errorf("warnings about more: %v", count)
	}
}

// runOn runs the program on the node's host until the test ends and collects what it says.
func runOn(t *testing.T, l *lab.Lab, n *lab.Node, env []string, args ...string) *syncBuffer {
	t.Helper()
	cmd := exec.Command(quorate.exe, args...)
	cmd.Env = env
	return inBackground(t, l, n, cmd)
}

// inBackground runs a program on a host of the lab, the clients' if n is nil, and ends it with the test.
func inBackground(t *testing.T, l *lab.Lab, n *lab.Node, cmd *exec.Cmd) *syncBuffer {
	t.Helper()
	out := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = time.Second // what it started may hold its output open
	if err := l.StartOn(n, cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		_ = cmd.Wait() // it was killed, or what it said says how it ended
	})
	return out
}

// TestSeedHAProxy: an haproxy.cfg that somebody has for Patroni, with two servers, follows a failover between them.
func TestSeedHAProxy(t *testing.T) {
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skipf("%v: apt-get install haproxy", err)
	}
	needHosts(t)
	b := &broken{T: t, lab: up(t, lab.Options{Nodes: 2, Witnesses: 1})}
	first, second := b.lab.Nodes[0], b.lab.Nodes[1]
	before := b.healthy()
	if before.Primary != first.Name {
		t.Fatalf("%s is primary", before.Primary)
	}
	file := adapted(t, b.lab, "seed-haproxy.cfg", map[string]string{"192.168.1.10": first.Addr, "192.168.1.11": second.Addr})
	log := inBackground(t, b.lab, nil, exec.Command("haproxy", "-db", "-f", file))
	t.Cleanup(func() { t.Logf("HAProxy said:\n%s", log.String()) })
	report := func() string { return log.String() + "\n" + b.lab.Report() }
	write := "CREATE TABLE IF NOT EXISTS through (at timestamptz); INSERT INTO through VALUES (now()); SELECT host(inet_server_addr())"
	leads := func(to *lab.Node) func() bool {
		return func() bool {
			addr, err := psql(t, b.lab, "127.0.0.1", "5000", b.lab.Password, write)
			return err == nil && addr == to.Addr
		}
	}
	said := func(text string) func() bool { return func() bool { return strings.Contains(log.String(), text) } }
	await(t, "it knows the standby for one", said("postgres/postgresql-2 is DOWN"), report)
	await(t, "a write through it reaches "+first.Name, leads(first), report)
	at := time.Now()
	if err := b.lab.KillHosts(first); err != nil {
		t.Fatal(err)
	}
	await(t, "a write through it reaches "+second.Name, leads(second), report)
	t.Logf("%s acknowledged a write through HAProxy %s after the host of %s vanished",
		second.Name, time.Since(at).Round(time.Millisecond), first.Name)
	for _, line := range []string{"postgres/postgresql-1 is DOWN", "postgres/postgresql-2 is UP"} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("HAProxy did not say that %s", line)
		}
	}
	if err := b.lab.ReturnHost(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	b.healthy()
	rows, err := psql(t, b.lab, second.Addr, "5432", b.lab.Password, "SELECT count(*) > 1 FROM through")
	if err != nil || rows != "t" {
		t.Errorf("what was written through it: %q, %v", rows, err)
	}
}
