package pgctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/pg"
)

// program prepares one of Postgres's programs, run as Postgres's user, with nothing of our environment that libpq would
// read. It dies with the agent: run it with runProgram only.
func (i *Instance) program(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(i.cfg.BinDir, name), args...)
	cmd.Dir = i.cfg.pgFile("")
	cmd.Env = []string{"LC_ALL=C.UTF-8", "PATH=" + i.cfg.BinDir + ":/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if c := i.cred; c != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups}
	}
	// pg_basebackup has a child that streams the log.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	return cmd
}

// runProgram waits for a prepared program and puts the end of what it wrote into the error.
func runProgram(cmd *exec.Cmd, stdin io.Reader) error {
	_, err := outputOf(cmd, stdin)
	return err
}

// outputOf is runProgram that also returns what the program wrote.
func outputOf(cmd *exec.Cmd, stdin io.Reader) (string, error) {
	// The death signal is sent when the thread that forked ends, so that thread must not be given back before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &out
	err := cmd.Start()
	if err == nil {
		normalPriority(cmd)
		err = cmd.Wait()
	}
	if err != nil {
		return "", fmt.Errorf("run %s: %w: %s", filepath.Base(cmd.Path), err, tail(out.String()))
	}
	return out.String(), nil
}

// normalPriority takes from a program, the leader of its own process group, what it inherited of the agent's priority:
// copying a database must not be favoured over serving one. It is allowed to everybody; a program that has ended already
// is the only way to fail.
func normalPriority(cmd *exec.Cmd) { _ = unix.Setpriority(unix.PRIO_PGRP, cmd.Process.Pid, 0) }

// tail keeps the last lines of a program's output.
func tail(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "; ")
}

// BinaryVersion asks the postgres program in binDir which version it is, and looks whether the programs are there that will be
// needed one day. ErrConfig: something is missing, or it is a version that is not supported.
func BinaryVersion(binDir string) (pg.MajorVersion, error) {
	out, err := exec.Command(filepath.Join(binDir, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("%w: ask for the version of Postgres in bin_dir %s: %w; install the server or set postgresql.bin_dir", ErrConfig, binDir, err)
	}
	for _, program := range []string{"initdb", "pg_basebackup", "pg_rewind"} {
		if _, err := os.Stat(filepath.Join(binDir, program)); err != nil {
			return 0, fmt.Errorf("%w: bin_dir %s has postgres but not %s: install all of the server and client programs there: %w", ErrConfig, binDir, program, err)
		}
	}
	major, err := pg.ParseVersionOutput(string(out))
	if err != nil {
		return 0, fmt.Errorf("%w: bin_dir %s: %w; set postgresql.bin_dir to that of PostgreSQL %d to %d", ErrConfig, binDir, err, pg.MinMajor, pg.MaxMajor)
	}
	if !major.Supported() {
		return 0, fmt.Errorf("%w: bin_dir %s has PostgreSQL %d, %d to %d are supported: install one of these and set postgresql.bin_dir", ErrConfig, binDir, major, pg.MinMajor, pg.MaxMajor)
	}
	return major, nil
}

func (i *Instance) signalFile() string { return filepath.Join(i.cfg.DataDir, "standby.signal") }

// putSignal makes any start come up read-only, durably.
func (i *Instance) putSignal() error {
	if _, err := os.Stat(i.signalFile()); err == nil {
		return nil
	}
	if err := i.writeFile(i.signalFile(), nil); err != nil {
		return fmt.Errorf("put standby.signal back: %w", err)
	}
	return nil
}

// takeSignal lets the next start open for writing.
func (i *Instance) takeSignal() error {
	if err := os.Remove(i.signalFile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("take standby.signal away: %w", err)
	}
	return syncDir(i.cfg.DataDir)
}

// initdbArguments end with the user's: of an option that is given twice initdb takes the last.
func (c Config) initdbArguments(dir string) []string {
	argv := []string{"-D", dir, "-U", AgentRole, "--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8",
		"--auth-local=peer", "--auth-host=scram-sha-256", "--no-instructions"}
	for _, option := range c.InitDB {
		argv = append(argv, "--"+option)
	}
	return argv
}

// Init makes the cluster's first data directory with its roles. It does not start it. PGDATA must be absent or empty
// (ErrNotEmpty); a crash leaves it so, with a directory PGDATA.init beside it that the next Init replaces.
func (i *Instance) Init(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if !i.dirEmpty() {
		return fmt.Errorf("initialise %s: %w", i.cfg.DataDir, ErrNotEmpty)
	}
	if i.cfg.Replication.password() == "" { // the role would be made without one, and no standby could ever connect
		return fmt.Errorf("initialise %s: the password of %s is not known", i.cfg.DataDir, i.cfg.Replication.Name)
	}
	dir := i.cfg.DataDir + ".init"
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove an unfinished initdb: %w", err)
	}
	if err := i.makeDir(dir, 0o700, true); err != nil {
		return err
	}
	initdb := i.program(ctx, "initdb", i.cfg.initdbArguments(dir)...)
	if err := runProgram(initdb, nil); err != nil {
		return err
	}
	single := i.program(ctx, "postgres", "--single", "-D", dir, "-c", "log_min_messages=error", "-c", "log_min_error_statement=panic", "-c", "exit_on_error=true",
		"-c", "password_encryption=scram-sha-256", "-c", "synchronous_commit=on", "postgres")
	if err := runProgram(single, strings.NewReader(i.roles())); err != nil {
		return fmt.Errorf("make the roles: %w", err)
	}
	i.note(func() { i.live, i.cached = live{}, nil })
	if err := i.setLive(live{}); err != nil {
		return err
	}
	if err := i.writeAutoConf(filepath.Join(dir, "postgresql.auto.conf"), live{}.settings(i.cfg, 0)); err != nil {
		return err
	}
	if err := i.writeFile(filepath.Join(dir, "standby.signal"), nil); err != nil {
		return err
	}
	return i.install(dir)
}

// roles is what single-user mode runs: one statement per line. Passwords are never in a command line.
func (i *Instance) roles() string {
	var out strings.Builder
	role := func(c Credentials, attributes string) {
		if c.Name == "" {
			return
		}
		fmt.Fprintf(&out, "CREATE ROLE %s LOGIN %s%s\n", pg.QuoteIdent(c.Name), attributes, password(c))
	}
	role(i.cfg.Replication, "REPLICATION")
	for _, f := range rewindFunctions() {
		fmt.Fprintf(&out, "GRANT EXECUTE ON FUNCTION pg_catalog.%s TO %s\n", f, pg.QuoteIdent(i.cfg.Replication.Name))
	}
	role(i.cfg.Superuser, "SUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS")
	return out.String()
}

// install gives a finished directory the name PGDATA, which must be absent or empty.
func (i *Instance) install(dir string) error {
	if err := os.Remove(i.cfg.DataDir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the empty %s: %w (data_dir must be a directory inside a mount, not the mount itself)", i.cfg.DataDir, err)
	}
	if err := os.Rename(dir, i.cfg.DataDir); err != nil {
		return fmt.Errorf("give the new directory its name: %w", err)
	}
	return syncDir(filepath.Dir(i.cfg.DataDir))
}
