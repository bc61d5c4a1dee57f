package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/lab"
)

// broken is a cluster under load whose processes a test kills and stops by their numbers.
type broken struct {
	*testing.T
	lab     *lab.Lab
	writers *writers
}

func newBroken(t *testing.T) *broken {
	b := &broken{T: t, lab: up(t, lab.Options{})}
	s := b.healthy()
	b.writers = startWriters(t, b.lab, b.lab.Node(s.Primary))
	return b
}

// in makes a fault in a subtest.
func (b *broken) in(name string, f func(b *broken)) {
	b.Run(name, func(t *testing.T) { f(&broken{T: t, lab: b.lab, writers: b.writers}) })
}

func (b *broken) healthy() lab.State {
	b.Helper()
	ctx, stop := context.WithTimeout(b.Context(), 2*limit)
	defer stop()
	s, err := b.lab.AwaitHealthy(ctx)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

func (b *broken) await(what string, done func() bool) {
	b.Helper()
	await(b.T, what, done, b.lab.Report)
}

// movedOn waits until some node says that another one serves a later epoch.
func (b *broken) movedOn(from lab.State) {
	b.Helper()
	b.await("another node is primary", func() bool {
		states, _ := b.lab.Look(b.Context())
		for _, s := range states {
			if s.Epoch > from.Epoch && s.Primary != from.Primary && s.Nodes[s.Primary].Serving == s.Epoch {
				return true
			}
		}
		return false
	})
}

// refusal is what a guard logs when it has told the kernel to refuse new connections.
const refusal = "new connections: refused=true"

// trio is the processes of a node.
type trio struct{ agent, guard, postmaster int }

func (b *broken) trio(n *lab.Node) trio {
	b.Helper()
	pm, err := b.lab.Postmaster(n)
	if err != nil {
		b.Fatal(err)
	}
	return trio{agent: b.pidIn(filepath.Join(n.Dir, "daemon.pid")), guard: b.pidIn(filepath.Join(n.Data(), "guard", "guard.lock")), postmaster: pm}
}

// pidIn reads the number of a process from a file that names it; 0 while the file is being written.
func (b *broken) pidIn(file string) int {
	b.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	var o struct {
		PID int `json:"pid"`
	}
	_ = json.Unmarshal(content, &o)
	return o.PID
}

// lives says whether the process runs or could.
func lives(pid int) bool {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(content), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

func (b *broken) signal(sig syscall.Signal, pids ...int) time.Time {
	b.Helper()
	at := time.Now()
	for _, pid := range pids {
		if pid <= 1 {
			b.Fatalf("signal process %d: refused", pid)
		}
		if err := syscall.Kill(pid, sig); err != nil {
			b.Fatalf("signal process %d: %v", pid, err)
		}
	}
	return at
}

// said is how often the node's guard has logged that.
func (b *broken) said(n *lab.Node, what string) int {
	b.Helper()
	log, err := os.ReadFile(filepath.Join(n.Data(), "guard", "guard.log"))
	if err != nil {
		b.Fatal(err)
	}
	return strings.Count(string(log), what)
}

// TestGuardLost: a guard that is killed or hangs costs a failover and nothing else; its agent goes on and gets another.
func TestGuardLost(t *testing.T) {
	b := newBroken(t)
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "stopped": syscall.SIGSTOP} {
		b.in(name, func(b *broken) {
			before := b.healthy()
			n := b.lab.Node(before.Primary)
			was := b.trio(n)
			at := b.signal(sig, was.guard)
			b.movedOn(before)
			after := b.healthy()
			is := b.trio(n)
			if lives(was.guard) || lives(was.postmaster) {
				b.Errorf("the lost guard lives: %v, its postmaster: %v", lives(was.guard), lives(was.postmaster))
			}
			if is.agent != was.agent || !lives(is.agent) || is.guard == was.guard || !lives(is.guard) {
				b.Errorf("processes %+v -> %+v: the agent should have gone on with another guard", was, is)
			}
			b.writers.check(b.T, n.Name, at, b.lab.Node(after.Primary))
		})
	}
}

// TestAgentLost: the guard fences for an agent that died or hangs, and nobody does for both; then the standbys, which
// detach before they elect, keep the old primary from acknowledging.
func TestAgentLost(t *testing.T) {
	b := newBroken(t)
	b.in("killed and started at once", func(b *broken) {
		for range 5 {
			if b.backInTime() {
				return
			}
		}
		b.Error("a lease was never kept by an agent that was started again at once")
	})
	b.in("killed", func(b *broken) {
		before := b.healthy()
		n := b.lab.Node(before.Primary)
		was, refused := b.trio(n), b.said(n, refusal)
		at := b.signal(syscall.SIGKILL, was.agent)
		b.movedOn(before)
		b.await("the guard has killed Postgres", func() bool { return !lives(was.postmaster) })
		if !lives(was.guard) {
			b.Error("the guard ended, too")
		}
		if b.said(n, refusal) == refused && os.Getuid() == 0 {
			b.Error("while it was frozen new connections were not refused")
		}
		b.restart(n, was)
		after := b.healthy()
		if is := b.trio(n); is.guard != was.guard {
			b.Errorf("guard %d -> %d: it should have been adopted", was.guard, is.guard)
		}
		b.writers.check(b.T, n.Name, at, b.lab.Node(after.Primary))
	})
	b.in("stopped and continued", func(b *broken) {
		before := b.healthy()
		n := b.lab.Node(before.Primary)
		was := b.trio(n)
		at := b.signal(syscall.SIGSTOP, was.agent)
		b.movedOn(before)
		b.await("the guard has killed Postgres", func() bool { return !lives(was.postmaster) })
		b.signal(syscall.SIGCONT, was.agent)
		after := b.healthy()
		if is := b.trio(n); is.agent != was.agent || is.guard != was.guard || after.Primary == n.Name {
			b.Errorf("processes %+v -> %+v, primary %s", was, is, after.Primary)
		}
		b.writers.check(b.T, n.Name, at, b.lab.Node(after.Primary))
	})
	b.in("killed with the guard", func(b *broken) {
		before := b.healthy()
		n := b.lab.Node(before.Primary)
		was := b.trio(n)
		at := b.signal(syscall.SIGKILL, was.agent, was.guard)
		b.await("the guard's death has ended Postgres", func() bool { return !lives(was.postmaster) })
		b.movedOn(before)
		b.restart(n, was)
		after := b.healthy()
		b.writers.check(b.T, n.Name, at, b.lab.Node(after.Primary))
	})
	b.in("stopped with the guard", func(b *broken) {
		before := b.healthy()
		n := b.lab.Node(before.Primary)
		was := b.trio(n)
		at := b.signal(syscall.SIGSTOP, was.agent, was.guard)
		b.movedOn(before)
		b.unfenced(n)
		// The guard first: an agent that goes on before it kills a guard that does not tick, as it should.
		b.signal(syscall.SIGCONT, was.guard, was.agent)
		b.await("Postgres is killed after all", func() bool { return !lives(was.postmaster) })
		after := b.healthy()
		if after.Primary == n.Name {
			b.Errorf("%s is primary again", n.Name)
		}
		b.writers.check(b.T, n.Name, at, b.lab.Node(after.Primary))
	})
}

// backInTime kills the primary's agent, starts it again and says whether it was back within the lease, which a busy machine
// may deny it. If it was, nothing has happened to Postgres.
func (b *broken) backInTime() bool {
	b.Helper()
	before := b.healthy()
	n := b.lab.Node(before.Primary)
	was, frozen := b.trio(n), b.said(n, "state=frozen")
	b.signal(syscall.SIGKILL, was.agent)
	b.restart(n, was)
	after := b.healthy()
	is := b.trio(n)
	if is.guard != was.guard {
		b.Errorf("guard %d -> %d: it should have been adopted", was.guard, is.guard)
	}
	if b.said(n, "state=frozen") > frozen {
		return false
	}
	if is.postmaster != was.postmaster || after.Epoch != before.Epoch {
		b.Errorf("the lease was kept, yet processes %+v -> %+v, epoch %d -> %d", was, is, before.Epoch, after.Epoch)
	}
	return true
}

// unfenced: nobody has stopped the old primary, which answers, but acknowledges no write.
func (b *broken) unfenced(n *lab.Node) {
	b.Helper()
	c, err := dial(b.lab, n)
	if err != nil {
		b.Fatalf("nobody could have fenced %s: %v", n.Name, err)
	}
	defer hang(c)
	if v, err := run1(c, "SELECT pg_is_in_recovery()"); err != nil || len(v) != 1 || v[0] != "f" {
		b.Errorf("in recovery: %v %v", v, err)
	}
	if _, err := run1(c, "INSERT INTO faults VALUES (-1, 'nobody')"); !errors.Is(err, os.ErrDeadlineExceeded) {
		b.Errorf("a write on the old primary ended with %v", err)
	}
}

// restart starts the node's daemon again after it was killed.
func (b *broken) restart(n *lab.Node, was trio) {
	b.Helper()
	b.await("the agent has ended", func() bool { return !lives(was.agent) })
	if err := b.lab.StartDaemon(n); err != nil {
		b.Fatal(err)
	}
}

// TestUpgrade ends the primary's agent and starts one of another version under load.
func TestUpgrade(t *testing.T) {
	b := newBroken(t)
	version := b.versions(b.lab.Node(b.healthy().Primary)).Daemon
	first, other := b.lab.Exe, b.buildAnother(version)
	for range 5 {
		b.lab.Exe = first
		if b.versions(b.lab.Node(b.healthy().Primary)).Daemon == version {
			b.lab.Exe = other
		}
		if b.upgraded() {
			return
		}
	}
	t.Error("a lease was never kept over an upgrade")
}

// upgraded starts the primary's agent from the lab's program of now and says whether it was back within the lease, which a busy
// machine may deny it. If it was, Postgres and the guard have gone on, and the guard follows when Postgres is next started.
func (b *broken) upgraded() bool {
	b.Helper()
	before := b.healthy()
	n := b.lab.Node(before.Primary)
	was, old, frozen := b.trio(n), b.versions(n), b.said(n, "state=frozen")
	ctx, stop := context.WithTimeout(b.Context(), limit)
	defer stop()
	if err := b.lab.StopDaemon(ctx, n, syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	b.restart(n, was)
	after := b.healthy()
	is, now := b.trio(n), b.versions(n)
	if b.said(n, "state=frozen") > frozen {
		return false
	}
	if is.postmaster != was.postmaster || is.guard != was.guard || after.Epoch != before.Epoch {
		b.Errorf("the lease was kept, yet processes %+v -> %+v, epoch %d -> %d", was, is, before.Epoch, after.Epoch)
	}
	if now.Daemon == old.Daemon || now.Guard != old.Guard {
		b.Errorf("versions %+v -> %+v: the daemon should be new and the guard old", old, now)
	}
	at := b.signal(syscall.SIGKILL, is.postmaster)
	b.movedOn(after)
	last := b.healthy()
	if end := b.versions(n); end.Guard != now.Daemon || lives(was.guard) {
		b.Errorf("versions %+v: the guard should have been replaced when Postgres was down", end)
	}
	b.writers.check(b.T, n.Name, at, b.lab.Node(last.Primary))
	return true
}

// buildAnother builds the program with the version that a checkout gives it, or without if it has that already.
func (b *broken) buildAnother(version string) string {
	b.Helper()
	exe := filepath.Join(filepath.Dir(quorate.exe), "quorate-newer")
	said := ""
	for _, stamp := range []string{"-buildvcs=true", "-buildvcs=false"} {
		build := exec.Command("go", "build", "-tags", "hashicorpmetrics", stamp, "-o", exe, "../cmd/quorate")
		if out, err := build.CombinedOutput(); err != nil {
			said += string(out)
			continue
		}
		if out, err := exec.Command(exe, "version").CombinedOutput(); err == nil && string(out) != "quorate "+version+"\n" {
			return exe
		}
	}
	b.Fatalf("no other version than %s can be built: it takes a checkout under git\n%s", version, said)
	return ""
}

// versions are of the daemon and of its guard, as the node's document has them.
type versions struct {
	Daemon string `json:"version"`
	Guard  string `json:"guard_version"`
}

func (b *broken) versions(n *lab.Node) versions {
	b.Helper()
	c := http.Client{Timeout: limit, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", n.Socket())
	}}}
	r, err := c.Get("http://node/patroni")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	var doc struct {
		Quorate versions `json:"quorate"`
	}
	if err := json.NewDecoder(r.Body).Decode(&doc); err != nil {
		b.Fatal(err)
	}
	return doc.Quorate
}
