package e2e_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/quorate/quorate/internal/pgtest"
	"github.com/quorate/quorate/lab"
)

// TestAdopt begins clusters with a data directory that was there: the first node takes it over, stopped or with a server on it
// that somebody else started, and the others clone it.
func TestAdopt(t *testing.T) {
	for _, running := range []bool{false, true} {
		name := "stopped"
		if running {
			name = "running"
		}
		t.Run(name, func(t *testing.T) {
			var postmaster int
			l := up(t, lab.Options{Prepare: func(l *lab.Lab) error {
				data := l.Nodes[0].PGData()
				server, err := theirData(t, l, data)
				if err != nil || !running {
					return err
				}
				if out, err := server.Command("pg_ctl", "start", "-w", "-D", data, "-l", filepath.Join(data, "theirs.log")).CombinedOutput(); err != nil {
					return fmt.Errorf("start the server: %w: %s", err, out)
				}
				content, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
				if err != nil {
					return err
				}
				first, _, _ := strings.Cut(string(content), "\n")
				postmaster, err = strconv.Atoi(first)
				return err
			}})
			b := &broken{T: t, lab: l}
			s := b.healthy()
			if first := l.Nodes[0].Name; s.Primary != first || s.Epoch != 1 {
				t.Errorf("%s is primary of epoch %d, not %s of epoch 1", s.Primary, s.Epoch, first)
			}
			for _, n := range l.Nodes {
				if got, err := b.sql(n, "SELECT id FROM theirs"); err != nil || got != "42" {
					t.Errorf("%s has %q, %v", n.Name, got, err)
				}
			}
			if running && lives(postmaster) {
				t.Errorf("the server that ran before is there still, pid %d", postmaster)
			}
			if trial, _ := try(t, l, lab.Plan{Kind: lab.HostKill, Prober: true}); trial.New == trial.Old {
				t.Errorf("%s is still primary", trial.Old)
			}
		})
	}
}

// theirData puts a directory with one table where the node will look for its own, shut down in order.
func theirData(t *testing.T, l *lab.Lab, data string) (*pgtest.Cluster, error) {
	server := pgtest.Start(t, pgtest.Options{})
	server.Exec("ALTER ROLE postgres PASSWORD '" + l.Password + "'; CREATE TABLE theirs AS SELECT 42 AS id; GRANT SELECT ON theirs TO PUBLIC")
	server.Stop("fast")
	if out, err := exec.Command("cp", "-a", server.Dir, data).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("copy the directory: %w: %s", err, out)
	}
	return server, nil
}

// TestForeignDataAreRefused starts single nodes over directories that are not theirs to use. They say why and what helps, and
// leave everything as it was.
func TestForeignDataAreRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		put  func(data string) error // after initdb
		says []string
	}{
		{"no data directory", func(data string) error { return os.Remove(filepath.Join(data, "PG_VERSION")) },
			[]string{"has no PG_VERSION", "mv "}},
		{"a standby's", func(data string) error { return os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o600) },
			[]string{"was a standby's", "system ", "timeline 1", "quorate init --adopt-from n1"}},
		{"a restore", func(data string) error { return os.WriteFile(filepath.Join(data, "recovery.signal"), nil, 0o600) },
			[]string{"recovery.signal", "pg_ctl stop"}},
		{"mode 0755", func(data string) error { return os.Chmod(data, 0o755) }, []string{"has mode 0755", "chmod 0700"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := pgtest.Start(t, pgtest.Options{NoRun: true})
			if err := c.put(server.Dir); err != nil {
				t.Fatal(err)
			}
			before := contents(t, server.Dir)
			out, end := runAlone(t, server.Dir)
			await(t, "it says "+strings.Join(c.says, ", "), func() bool {
				for _, s := range c.says {
					if !strings.Contains(out.String(), s) {
						return false
					}
				}
				return true
			}, out.String)
			end()
			after := contents(t, server.Dir)
			for path, was := range before {
				if after[path] != was {
					t.Errorf("%s was %q, now %q", path, was, after[path])
				}
			}
			for path, is := range after {
				if _, was := before[path]; !was {
					t.Errorf("%s is new, %q", path, is)
				}
			}
		})
	}
}

// contents says of everything below dir what would show a change.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		hash := ""
		if info.Mode().IsRegular() {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			hash = fmt.Sprintf("%x", sha256.Sum256(content))
		}
		out[path] = fmt.Sprint(info.Mode(), info.Size(), info.ModTime().UnixNano(), " ", hash)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// runAlone runs a daemon of one node on the data directory until end is called or the test ends. What it starts is in the control
// group of this process's machines: if this process is killed, the next run ends it.
func runAlone(t *testing.T, data string) (out *syncBuffer, end func()) {
	t.Helper()
	if err := lab.Able(); err != nil {
		t.Skip(err)
	}
	group := newMachineGroup(t)
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-node-", buildPrefix, os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var ports []int
	for range 3 {
		p, err := pgtest.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, p)
	}
	file := filepath.Join(dir, "n1.yml")
	text := fmt.Sprintf("scope: alone\nname: n1\ncluster:\n  listen: 127.0.0.1:%d\n  peers: [127.0.0.1:%d]\n  data_dir: %s\nrestapi:\n  listen: 127.0.0.1:%d\npostgresql:\n  listen: 127.0.0.1:%d\n  data_dir: %s\nfencing:\n  signals: true\n",
		ports[0], ports[0], filepath.Join(dir, "q"), ports[1], ports[2], data)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out = &syncBuffer{}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, quorate.exe, "run", "-c", file)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) } // an orderly end takes its guard along
	cmd.WaitDelay = limit
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	release, err := group.Put(cmd)
	if err != nil {
		t.Fatal(err)
	}
	// It is killed when the thread that started it ends.
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
	err = cmd.Start()
	release()
	if err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		cancel()
		_ = cmd.Wait() // how it ended is in what it said
	})
	t.Cleanup(end)
	return out, end
}
