package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/lab/load"
	"github.com/quorate/quorate/lab/netns"
)

// killHost and the other functions of its form make one fault on one node, and return when it was made.
func (l *Lab) killHost(_ context.Context, n *Node) (at int64, err error) {
	return l.killHosts([]*Node{n})
}

// killHosts takes the links first: a host that vanishes says nothing any more, not even that its sockets are closed.
func (l *Lab) killHosts(hit []*Node) (at int64, err error) {
	l.leave(hit...)
	at = load.Now()
	if err := netns.Unplug(l.hub(), namesOf(hit)...); err != nil {
		return at, err
	}
	return at, l.killGroups(hit)
}

// killGroups ends all that runs on these nodes.
func (l *Lab) killGroups(hit []*Node) error {
	var errs []error
	for _, n := range hit {
		g, err := l.nodeGroup(n)
		if err == nil {
			err = g.Kill()
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (l *Lab) killPostgres(_ context.Context, n *Node) (at int64, err error) {
	return l.signalPostgres(n, syscall.SIGKILL)
}

func (l *Lab) stopPostgres(_ context.Context, n *Node) (at int64, err error) {
	return l.signalPostgres(n, syscall.SIGSTOP)
}

func (l *Lab) signalPostgres(n *Node, sig syscall.Signal) (at int64, err error) {
	pid, err := l.Postmaster(n)
	if err != nil {
		return 0, err
	}
	o, err := owner(pid)
	if err != nil {
		return 0, err
	}
	return l.signal(n, sig, o)
}

// killBackend kills one of the load's sessions, or of any client where the load has none.
func (l *Lab) killBackend(_ context.Context, n *Node) (at int64, err error) {
	own, err := l.children(n, " "+loadRole+" ")
	if err != nil {
		return 0, err
	}
	if len(own) == 0 {
		return 0, fmt.Errorf("no session of %s is there on %s: %w", loadRole, n.Name, fs.ErrNotExist)
	}
	return l.signal(n, syscall.SIGKILL, own[rand.IntN(len(own))])
}

// children are those of the node's postmaster whose title has these words. That of a session is: postgres: CLUSTER: ROLE
// DATABASE HOST(PORT) what it does.
func (l *Lab) children(n *Node, words string) (all []Owner, err error) {
	postmaster, err := l.Postmaster(n)
	if err != nil {
		return nil, err
	}
	list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", postmaster, postmaster))
	if err != nil {
		return nil, fmt.Errorf("list the processes of Postgres on %s: %w", n.Name, err)
	}
	for _, child := range strings.Fields(string(list)) {
		title, err := os.ReadFile(filepath.Join("/proc", child, "cmdline"))
		if err != nil || !strings.Contains(string(title), words) {
			continue // one that has ended has no title
		}
		pid, err := strconv.Atoi(child)
		if err != nil {
			return nil, fmt.Errorf("list the processes of Postgres on %s: %w", n.Name, err)
		}
		if o, err := owner(pid); err == nil {
			all = append(all, o)
		}
	}
	return all, nil
}

func (l *Lab) cutOff(ctx context.Context, n *Node) (at int64, err error) {
	var others []string
	for _, o := range l.Nodes {
		if o != n {
			others = append(others, o.Addr)
		}
	}
	at = load.Now()
	return at, netns.Cut(ctx, l.namespace(n), others)
}

func (l *Lab) isolate(_ context.Context, n *Node) (at int64, err error) {
	at = load.Now()
	return at, netns.Unplug(l.hub(), n.Name)
}

func (l *Lab) askSwitchover(ctx context.Context, n *Node) (at int64, err error) {
	at = load.Now()
	_, err = client.Unix(n.Socket()).AskSwitchover(ctx, "")
	return at, err
}

func (l *Lab) killAgent(_ context.Context, n *Node) (at int64, err error) {
	return l.signalOwn(n, syscall.SIGKILL, l.agent)
}

func (l *Lab) killAgentForGood(_ context.Context, n *Node) (at int64, err error) {
	l.leave(n)
	return l.signalOwn(n, syscall.SIGKILL, l.agent)
}

func (l *Lab) stopAgent(_ context.Context, n *Node) (at int64, err error) {
	return l.signalOwn(n, syscall.SIGSTOP, l.agent)
}

func (l *Lab) killGuard(_ context.Context, n *Node) (at int64, err error) {
	return l.signalOwn(n, syscall.SIGKILL, (*Node).guard)
}

func (l *Lab) stopGuard(_ context.Context, n *Node) (at int64, err error) {
	return l.signalOwn(n, syscall.SIGSTOP, (*Node).guard)
}

func (l *Lab) killBoth(_ context.Context, n *Node) (at int64, err error) {
	l.leave(n)
	return l.signalOwn(n, syscall.SIGKILL, l.agent, (*Node).guard)
}

func (l *Lab) stopBoth(_ context.Context, n *Node) (at int64, err error) {
	return l.signalOwn(n, syscall.SIGSTOP, l.agent, (*Node).guard)
}

func (l *Lab) agent(n *Node) (Owner, error) { return readOwner(l.pidFile(n)) }

// signalOwn signals those processes of the node that the readers name.
func (l *Lab) signalOwn(n *Node, sig syscall.Signal, read ...func(*Node) (Owner, error)) (at int64, err error) {
	var all []Owner
	for _, r := range read {
		o, err := r(n)
		if err != nil {
			return 0, err
		}
		if !o.alive() {
			return 0, fmt.Errorf("process %d of %s has ended: %w", o.PID, n.Name, fs.ErrNotExist)
		}
		all = append(all, o)
	}
	return l.signal(n, sig, all...)
}

// signal signals processes of the node. Whom it stops it writes down before: only those are resumed, for a guard that
// fences by signals stops processes, too, and must not be undone.
func (l *Lab) signal(n *Node, sig syscall.Signal, to ...Owner) (at int64, err error) {
	if sig == syscall.SIGSTOP {
		known, err := l.stopped(n)
		if err != nil {
			return 0, err
		}
		b, err := json.Marshal(append(known, to...))
		if err != nil {
			return 0, fmt.Errorf("encode who is stopped: %w", err)
		}
		if err := os.WriteFile(l.stoppedFile(n), b, 0o644); err != nil {
			return 0, fmt.Errorf("write down who is stopped: %w", err)
		}
	}
	at = load.Now()
	for _, o := range to {
		if err := syscall.Kill(o.PID, sig); err != nil {
			return at, fmt.Errorf("signal process %d of %s: %w", o.PID, n.Name, err)
		}
	}
	return at, nil
}

func (l *Lab) stoppedFile(n *Node) string { return filepath.Join(n.Dir, "stopped.json") }

// stopped are the processes of the node that signal has stopped and nobody has resumed.
func (l *Lab) stopped(n *Node) ([]Owner, error) {
	b, err := os.ReadFile(l.stoppedFile(n))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read who is stopped: %w", err)
	}
	var all []Owner
	if err := json.Unmarshal(b, &all); err != nil {
		return nil, fmt.Errorf("read %s: %w", l.stoppedFile(n), err)
	}
	return all, nil
}

// resume resumes whom signal has stopped, if it still lives.
func (l *Lab) resume(n *Node) error {
	all, err := l.stopped(n)
	if err != nil {
		return err
	}
	for _, o := range all {
		if o.alive() {
			err = errors.Join(err, syscall.Kill(o.PID, syscall.SIGCONT))
		}
	}
	if err != nil {
		return fmt.Errorf("resume what was stopped on %s: %w", n.Name, err)
	}
	if err := os.Remove(l.stoppedFile(n)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget who was stopped: %w", err)
	}
	return nil
}

// upgradeAgent replaces the node's program by a copy, as a package manager does, before it ends the old agent.
func (l *Lab) upgradeAgent(ctx context.Context, n *Node) (at int64, err error) {
	from := l.Exe
	if n.Exe != "" {
		from = n.Exe
	}
	to := filepath.Join(n.Dir, "program", "quorate")
	if err := copyProgram(from, to); err != nil {
		return 0, fmt.Errorf("copy the program for %s: %w", n.Name, err)
	}
	n.Exe = to
	if err := l.save(); err != nil {
		return 0, err
	}
	limit, stop := context.WithTimeout(ctx, killLimit)
	defer stop()
	at = load.Now()
	if err := l.StopDaemon(limit, n, syscall.SIGTERM); err != nil {
		return at, err
	}
	return at, l.start(n)
}

// copyProgram makes to a new file with from's content: who runs the old one goes on doing so.
func copyProgram(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Rename(to+".new", to)
}

func (l *Lab) hangDiskOf(_ context.Context, n *Node) (at int64, err error) {
	at = load.Now()
	return at, n.HangDisk()
}

func (l *Lab) fillDiskOf(_ context.Context, n *Node) (at int64, err error) {
	at = load.Now()
	return at, n.FillDisk()
}
