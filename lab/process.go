package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/lab/netns"
)

// pollEvery is how often something that changes soon is looked at.
const pollEvery = 10 * time.Millisecond

// start starts the node's daemon, unless it runs. A group that was killed is made anew before (see cgroup.Put).
func (l *Lab) start(n *Node) error {
	l.keeping.starting.Lock()
	defer l.keeping.starting.Unlock()
	if l.running(n) {
		return nil
	}
	log, err := os.OpenFile(n.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", n.Name, err)
	}
	defer func() { _ = log.Close() }()
	exe := l.Exe
	if n.Exe != "" {
		exe = n.Exe
	}
	cmd := exec.Command(exe, "run", "-c", n.Config())
	cmd.Dir, cmd.Env = "/", environment()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := l.launch(cmd, l.namespace(n), n.Name); err != nil {
		return fmt.Errorf("start the daemon of %s: %w", n.Name, err)
	}
	me, err := owner(cmd.Process.Pid)
	go func() { _ = cmd.Wait() }() // only to reap it; how it ended stands in its log
	if err != nil {
		return fmt.Errorf("the daemon of %s ended at once, see %s: %w", n.Name, n.Log(), err)
	}
	b, err := json.Marshal(me)
	if err != nil {
		return fmt.Errorf("encode the process of %s: %w", n.Name, err)
	}
	return os.WriteFile(l.pidFile(n), b, 0o644)
}

// launch starts cmd with the network of the namespace and in the control group of that name below the lab's.
func (l *Lab) launch(cmd *exec.Cmd, namespace, group string) error {
	if !l.Namespaces {
		return cmd.Start()
	}
	g, err := l.group()
	if err != nil {
		return err
	}
	g = g.Sub(group)
	if full, err := g.Populated(); err != nil {
		return err
	} else if !full {
		if err := g.Remove(context.Background()); err != nil {
			return err
		}
	}
	g = g.Sub("daemon")
	if err := g.Make(); err != nil {
		return err
	}
	release, err := g.Put(cmd)
	if err != nil {
		return err
	}
	defer release()
	return netns.Start(namespace, cmd)
}

// consent is the one variable of quorate's that is no key of the node file: it lets a program run that was built without a
// mechanism (docs/decisions/0017).
const consent = "QUORATE_NEGATIVE_CONTROL="

// environment is this process's, without what would overrule the node files.
func environment() []string {
	var env []string
	for _, kv := range os.Environ() {
		if strings.HasPrefix(kv, consent) || !strings.HasPrefix(kv, "QUORATE_") && !strings.HasPrefix(kv, "PG") {
			env = append(env, kv)
		}
	}
	return env
}

func (l *Lab) pidFile(n *Node) string { return filepath.Join(n.Dir, "daemon.pid") }

// running says whether the node's daemon runs.
func (l *Lab) running(n *Node) bool {
	o, err := readOwner(l.pidFile(n))
	return err == nil && o.alive()
}

func readOwner(file string) (Owner, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return Owner{}, fmt.Errorf("read who runs: %w", err)
	}
	var o Owner
	if err := json.Unmarshal(b, &o); err != nil {
		return Owner{}, fmt.Errorf("read %s: %w", file, err)
	}
	return o, nil
}

// StopDaemon sends sig to the node's daemon and waits until it has ended. SIGTERM leaves Postgres running.
func (l *Lab) StopDaemon(ctx context.Context, n *Node, sig syscall.Signal) error {
	o, err := readOwner(l.pidFile(n))
	if err != nil {
		return err
	}
	if !o.alive() {
		return nil
	}
	if err := syscall.Kill(o.PID, sig); err != nil {
		return fmt.Errorf("signal the daemon of %s: %w", n.Name, err)
	}
	return until(ctx, "the daemon of "+n.Name+" ends", func() (bool, error) { return !o.alive(), nil })
}

// StartDaemon starts the node's daemon again.
func (l *Lab) StartDaemon(n *Node) error {
	l.back(n)
	return l.start(n)
}

// Postmaster returns the pid of the node's postmaster, which it checks to be this lab's; fs.ErrNotExist if none runs.
func (l *Lab) Postmaster(n *Node) (int, error) {
	b, err := os.ReadFile(filepath.Join(n.PGData(), "postmaster.pid"))
	if err != nil {
		return 0, fmt.Errorf("read postmaster.pid of %s: %w", n.Name, err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 1 {
		return 0, fmt.Errorf("postmaster.pid of %s begins with %q", n.Name, first)
	}
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	if err != nil {
		return 0, fmt.Errorf("look at the postmaster of %s: %w", n.Name, err)
	}
	if cwd != n.PGData() {
		return 0, fmt.Errorf("process %d works in %s and is not the postmaster of %s: %w", pid, cwd, n.Name, fs.ErrNotExist)
	}
	if !l.Namespaces || l.Signals {
		return pid, nil
	}
	g, err := l.nodeGroup(n)
	if err != nil {
		return 0, err
	}
	if in, err := g.Holds(pid); err != nil || !in {
		return 0, errors.Join(fmt.Errorf("process %d is not in %s", pid, g.Dir()), err)
	}
	return pid, nil
}

// until polls until done; what names the state that is waited for.
func until(ctx context.Context, what string, done func() (bool, error)) error {
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", what, errors.Join(context.Cause(ctx), err))
		case <-tick.C:
		}
	}
}
