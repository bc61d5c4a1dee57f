// Package pgtest runs throwaway PostgreSQL clusters for tests: real binaries, a directory of
// their own under os.TempDir, no network unless asked for, nothing left behind.
//
// A cluster is stopped and its directory removed when its test ends. What an earlier run that
// was killed left is swept by the next Start, which recognises it by an owner file. The package
// must never signal a process or remove a directory that it cannot prove to be of its own
// making: the machine may have real clusters. When the tests run as root, PostgreSQL runs as
// the OS user "postgres".
package pgtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// waitLimit bounds every wait for a server to start, answer or end.
const waitLimit = 60 * time.Second

// Options describes the cluster to make; the zero value is a good one.
type Options struct {
	// InitArgs are added to initdb's command line, such as "--wal-segsize=1".
	InitArgs []string
	// Settings are added to postgresql.conf, unquoted values.
	Settings map[string]string
	// TCP makes the server listen on a free port of 127.0.0.1 besides its unix socket.
	TCP bool
	// NoRun leaves the cluster initialised and not running.
	NoRun bool
}

// Cluster is one PostgreSQL cluster. Exec and TryExec may be used by any goroutine while the
// server runs; the other methods by the test's goroutine only.
type Cluster struct {
	// Dir is the data directory, BinDir where the server's programs are, Socket the directory
	// of the unix socket, Log the server's log file.
	Dir, BinDir, Socket, Log string
	// Port is also part of the socket's name. TCP is off unless asked for.
	Port int

	t          testing.TB
	base       string
	credential *syscall.Credential
	postmaster *exec.Cmd
	exited     chan struct{}
}

// Start makes a cluster and runs it until the test ends. Any failure fails the test.
func Start(t testing.TB, opts Options) *Cluster {
	t.Helper()
	c, err := create(t, opts)
	if err != nil {
		t.Fatalf("make a test cluster: %v", err)
	}
	if !opts.NoRun {
		c.Run()
	}
	return c
}

// create sweeps, makes the directory and runs initdb.
func create(t testing.TB, opts Options) (*Cluster, error) {
	sweep(t)
	binDir, err := findBinDir()
	if err != nil {
		return nil, err
	}
	credential, err := serverCredential()
	if err != nil {
		return nil, err
	}
	base, err := makeBase(credential)
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		Dir: filepath.Join(base, "data"), BinDir: binDir, Socket: base, Log: filepath.Join(base, "log"),
		Port: 5432, t: t, base: base, credential: credential,
	}
	t.Cleanup(c.cleanup)
	if opts.TCP {
		if c.Port, err = FreePort(); err != nil {
			return nil, err
		}
	}
	args := append([]string{"-D", c.Dir, "-U", "postgres", "--auth=trust", "--no-sync", "--no-instructions", "--encoding=UTF8", "--locale=C"}, opts.InitArgs...)
	if out, err := c.Command("initdb", args...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("run initdb: %w: %s", err, out)
	}
	return c, c.configure(opts)
}

// configure appends what the cluster needs and then what the test wants, which wins.
func (c *Cluster) configure(opts Options) error {
	settings := map[string]string{
		"listen_addresses": "", "unix_socket_directories": c.Socket, "port": strconv.Itoa(c.Port),
		"shared_buffers": "16MB", "max_connections": "50", "log_min_messages": "info",
		// A killed server would leave other kinds of shared memory outside its directory.
		"dynamic_shared_memory_type": "mmap",
	}
	if opts.TCP {
		settings["listen_addresses"] = "127.0.0.1"
	}
	for name, value := range opts.Settings {
		settings[name] = value
	}
	var out strings.Builder
	for name, value := range settings {
		fmt.Fprintf(&out, "%s = '%s'\n", name, strings.ReplaceAll(value, "'", "''"))
	}
	conf := filepath.Join(c.Dir, "postgresql.conf")
	file, err := os.OpenFile(conf, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open postgresql.conf: %w", err)
	}
	_, err = file.WriteString(out.String())
	return errors.Join(err, file.Close())
}

// Command prepares one of the server's programs, run as the OS user that owns the cluster, in
// a directory that this user can enter.
func (c *Cluster) Command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(c.BinDir, program), args...)
	cmd.Dir = c.base
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PGHOST="+c.Socket, "PGPORT="+strconv.Itoa(c.Port), "PGUSER=postgres")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: c.credential}
	return cmd
}

// Run starts the server, whatever state it was left in, and returns when it answers queries.
func (c *Cluster) Run() {
	c.t.Helper()
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		c.t.Fatalf("open the server's log: %v", err)
	}
	defer log.Close()
	cmd := c.Command("postgres", "-D", c.Dir)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		c.t.Fatalf("start postgres: %v", err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in its log
		close(exited)
	}()
	c.postmaster, c.exited = cmd, exited
	c.waitReady()
}

// waitReady polls until the server answers, ends, or the limit is over.
func (c *Cluster) waitReady() {
	c.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(waitLimit)
	var last error
	for {
		select {
		case <-c.exited:
			c.t.Fatalf("postgres ended while starting:\n%s", c.logTail())
		case <-limit:
			c.t.Fatalf("postgres does not answer after %s: %v\n%s", waitLimit, last, c.logTail())
		case <-tick.C:
			if _, last = c.TryExec(c.t.Context(), "SELECT 1"); last == nil {
				return
			}
		}
	}
}

// ConnString is a libpq connection string for the superuser over the unix socket.
func (c *Cluster) ConnString() string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres sslmode=disable", c.Socket, c.Port)
}

// Pid is the postmaster's process id, 0 when it does not run.
func (c *Cluster) Pid() int {
	if c.postmaster == nil {
		return 0
	}
	return c.postmaster.Process.Pid
}

// Exec runs one or more SQL statements on a new connection and returns the rows of the last one
// like `psql -At`: columns joined by "|", rows by newlines. An error fails the test.
func (c *Cluster) Exec(sql string) string {
	c.t.Helper()
	out, err := c.TryExec(c.t.Context(), sql)
	if err != nil {
		c.t.Fatalf("execute %q: %v", sql, err)
	}
	return out
}

// TryExec is Exec for statements that may fail.
func (c *Cluster) TryExec(ctx context.Context, sql string) (string, error) {
	conn, err := pgconn.Connect(ctx, c.ConnString())
	if err != nil {
		return "", err
	}
	// The context may be over; closing must not hang either.
	defer func() {
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(closing) // the server may have been killed under us
	}()
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) == 0 {
		return "", err
	}
	rows := results[len(results)-1].Rows
	lines := make([]string, len(rows))
	for i, row := range rows {
		lines[i] = string(bytes.Join(row, []byte("|")))
	}
	return strings.Join(lines, "\n"), nil
}

// Stop ends the server by pg_ctl's mode "smart", "fast" or "immediate" and waits for it.
func (c *Cluster) Stop(mode string) {
	c.t.Helper()
	signal, ok := map[string]syscall.Signal{"smart": syscall.SIGTERM, "fast": syscall.SIGINT, "immediate": syscall.SIGQUIT}[mode]
	if !ok || c.postmaster == nil {
		c.t.Fatalf("stop %q: the mode is smart, fast or immediate, and the server must run", mode)
	}
	if err := c.postmaster.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		c.t.Fatalf("stop %s: %v", mode, err)
	}
	select {
	case <-c.exited:
		c.postmaster = nil
	case <-time.After(waitLimit):
		c.t.Fatalf("postgres did not end by a %s stop within %s:\n%s", mode, waitLimit, c.logTail())
	}
}

// Kill ends the postmaster and all its children by SIGKILL, as a crash of the host would, and
// returns when none is left.
func (c *Cluster) Kill() {
	c.t.Helper()
	if c.postmaster == nil {
		c.t.Fatal("kill: the server must run")
	}
	if err := c.kill(); err != nil {
		c.t.Fatal(err)
	}
}

// kill ends the postmaster first, so that it can't react to what happens to its children.
func (c *Cluster) kill() error {
	if err := c.postmaster.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the postmaster: %w", err)
	}
	if err := killAllIn(c.Dir); err != nil {
		return err
	}
	<-c.exited
	c.postmaster = nil
	return nil
}

// cleanup ends the server and removes all that it had.
func (c *Cluster) cleanup() {
	if c.t.Failed() {
		c.t.Logf("end of %s:\n%s", c.Log, c.logTail())
	}
	if c.postmaster != nil {
		_ = c.postmaster.Process.Signal(syscall.SIGQUIT) // it may have ended by itself
		select {
		case <-c.exited:
		case <-time.After(waitLimit):
			c.t.Errorf("postgres did not end by an immediate stop; killing it")
		}
	}
	if err := removeBase(c.base); err != nil {
		c.t.Errorf("clean up: %v", err)
	}
}

// logTail returns the end of the server's log.
func (c *Cluster) logTail() string {
	content, err := os.ReadFile(c.Log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-50):], "\n")
}

// findBinDir returns the programs of the newest PostgreSQL installed as Debian does.
func findBinDir() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if err != nil {
		return "", err
	}
	major := func(path string) int {
		v, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		if err != nil {
			return 0
		}
		return v
	}
	slices.SortFunc(found, func(a, b string) int { return major(a) - major(b) })
	if len(found) == 0 {
		return "", errors.New("no /usr/lib/postgresql/*/bin/postgres: install the package postgresql-15")
	}
	return filepath.Dir(found[len(found)-1]), nil
}

// FreePort finds a port of the loopback address that nobody listens on. It is below those that the kernel gives to outgoing
// connections (net.ipv4.ip_local_port_range begins at 32768): one of them may be taken while a server is down.
func FreePort() (int, error) {
	const first, count, tries = 15000, 15000, 100
	var err error
	for range tries {
		port := first + rand.IntN(count)
		var listener net.Listener
		if listener, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return port, listener.Close()
		}
	}
	return 0, fmt.Errorf("find a free port from %d to %d: %w", first, first+count-1, err)
}
