package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/internal/pgtest"
	"github.com/quorate/quorate/pgctl/guard"
	"github.com/quorate/quorate/pgctl/rejoin"
)

const (
	envGuardDir = "QUORATE_PGCTL_TEST_GUARD"
	rigPrefix   = "qpgctl-"
	patience    = 60 * time.Second
)

// TestMain is the guard process itself when the tests start one.
func TestMain(m *testing.M) {
	if dir := os.Getenv(envGuardDir); dir != "" {
		if err := guard.Run(guard.RunOptions{Dir: dir, Signals: true}); err != nil {
			fmt.Fprintln(os.Stderr, "guard:", err)
			os.Exit(1)
		}
		return
	}
	sweepDeadRuns()
	code := m.Run()
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), ownPrefix()+"*")); len(left) > 0 {
		fmt.Fprintln(os.Stderr, "the tests left behind:", left)
		code = 1
	}
	os.Exit(code)
}

// startTicks tells a process from a later one with the same number; empty when there is none.
func startTicks(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	fields := strings.Fields(string(stat)[strings.LastIndexByte(string(stat), ')')+1:])
	return fields[19]
}

func ownPrefix() string {
	return fmt.Sprintf("%s%d-%s-", rigPrefix, os.Getpid(), startTicks(os.Getpid()))
}

// sweepDeadRuns ends and removes what a test run that was killed left: its guards survived it.
func sweepDeadRuns() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), rigPrefix+"*"))
	for _, dir := range dirs {
		parts := strings.Split(filepath.Base(dir), "-")
		if len(parts) < 4 {
			continue
		}
		if pid, err := strconv.Atoi(parts[1]); err != nil || startTicks(pid) == parts[2] {
			continue
		}
		if err := endRig(dir); err != nil {
			fmt.Fprintln(os.Stderr, "sweep", dir, err)
		}
	}
}

// endRig kills every guard below dir with what it runs, and removes dir.
func endRig(dir string) error {
	guards, _ := filepath.Glob(filepath.Join(dir, "*", "guard"))
	for _, g := range guards {
		c, err := guard.Ensure(guardOptions(g))
		if err != nil {
			return err
		}
		if err := errors.Join(endGuard(c), c.Close()); err != nil {
			return err
		}
	}
	lists, _ := filepath.Glob(filepath.Join(dir, "*", "data*", "postmaster.pid"))
	for _, list := range lists {
		removeSegment(list)
	}
	mounts, _ := filepath.Glob(filepath.Join(dir, "*", "data"))
	evidence, _ := filepath.Glob(filepath.Join(dir, "*", "state", "evidence"))
	for _, m := range append(mounts, evidence...) {
		for unix.Unmount(m, unix.MNT_DETACH) == nil { // left by a test that was killed
		}
	}
	return os.RemoveAll(dir)
}

// endGuard has the guard kill what it runs and leave.
func endGuard(c *guard.Client) error {
	if v := c.Record(); !v.Gone() {
		c.Set(guard.VerdictStop, v.Epoch, 0)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.WaitEmpty(ctx); err != nil {
			return errors.Join(err, c.Kill())
		}
	}
	return c.Quit()
}

// removeSegment removes the System V segment that a killed postmaster leaves, named in line 7 of postmaster.pid.
func removeSegment(list string) {
	content, _ := os.ReadFile(list)
	lines := strings.Split(string(content), "\n")
	if len(lines) < 7 {
		return
	}
	var key, id int
	if _, err := fmt.Sscan(lines[6], &key, &id); err == nil {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	}
}

func guardOptions(dir string) guard.Options {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return guard.Options{Dir: dir, Argv: []string{exe}, Env: append(os.Environ(), envGuardDir+"="+dir)}
}

// rig is a directory with nodes.
type rig struct {
	t   *testing.T
	dir string
	all []*node
}

func newRig(t *testing.T) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", ownPrefix())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir}
	t.Cleanup(func() {
		for _, n := range r.all {
			n.stopAgent()
			if t.Failed() {
				t.Logf("%s:\n%s", n.name, n.logTail())
			}
		}
		if err := endRig(dir); err != nil {
			t.Errorf("clean up: %v", err)
		}
	})
	return r
}

// node is one Instance with its guard and a lease that the test gives and takes.
type node struct {
	t      *testing.T
	rig    *rig
	name   string
	cfg    Config
	client *guard.Client
	*Instance

	mu    sync.Mutex
	lease uint64 // epoch held, 0 none
	end   context.CancelFunc
	steps []StepKind
}

func freePort(t *testing.T) int {
	port, err := pgtest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// node makes a node with an agent; nothing runs yet.
func (r *rig) node(name string) *node {
	r.t.Helper()
	dir := filepath.Join(r.dir, name)
	for _, d := range []string{dir, filepath.Join(dir, "guard")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			r.t.Fatal(err)
		}
	}
	n := &node{t: r.t, rig: r, name: name, cfg: Config{
		Scope: "test", Name: name, BinDir: "/usr/lib/postgresql/15/bin", DataDir: filepath.Join(dir, "data"),
		StateDir: filepath.Join(dir, "state"), SocketDir: filepath.Join(dir, "s"), Listen: "127.0.0.1", Port: freePort(r.t),
		Superuser: Credentials{Name: "postgres", Password: "su'per"}, Replication: Credentials{Name: "replicator", Password: `re:p\l`},
		Parameters: map[string]string{"shared_buffers": "16MB", "max_connections": "30", "dynamic_shared_memory_type": "mmap", "recovery_init_sync_method": "syncfs",
			"log_min_messages": "info", "log_replication_commands": "on"},
		FailoverAfter: time.Minute,
	}}
	if os.Getuid() == 0 {
		n.cfg.OSUser = "postgres"
	}
	r.all = append(r.all, n)
	n.startAgent()
	return n
}

// startAgent opens the Instance, and adopts the guard if there is one.
func (n *node) startAgent() {
	n.t.Helper()
	var err error
	if n.client, err = guard.Ensure(guardOptions(filepath.Join(n.rig.dir, n.name, "guard"))); err != nil {
		n.t.Fatal(err)
	}
	n.Instance, err = Open(n.cfg, Deps{Guard: n.client, Lease: n.held, Logger: hclog.New(&hclog.LoggerOptions{Name: n.name, Output: logTo{n.t}, Level: hclog.Debug})})
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.end = cancel
	go n.renew(ctx)
}

// stopAgent leaves guard and Postgres as they are.
func (n *node) stopAgent() {
	if n.Instance == nil {
		return
	}
	n.end()
	n.CancelClone()
	n.CancelRewind()
	n.ctl.close()
	n.watch.close()
	n.Instance = nil
	_ = n.client.Close()
}

type logTo struct{ t *testing.T }

func (l logTo) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

const testLease = 40 * time.Second

func (n *node) held() (uint64, time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.lease == 0 {
		return 0, 0
	}
	return n.lease, guard.Now() + testLease
}

func (n *node) hold(epoch uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lease = epoch
}

// renew does what the node's beats do: it moves the deadline of a serving run.
func (n *node) renew(ctx context.Context) {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if epoch, end := n.held(); epoch > 0 && n.client.Record().Verdict == guard.VerdictServe {
			n.client.Set(guard.VerdictServe, epoch, end)
		}
	}
}

// upstream is n as the primary of a node.
func (n *node) upstream(of *node, epoch uint64) Upstream {
	return Upstream{Name: n.name, Host: "127.0.0.1", Port: n.cfg.Port, Epoch: epoch, Slot: slotOf(of.name)}
}

// slotOf is the slot of a member whose id is made from its name.
func slotOf(name string) string { return SlotName("id-of-"+name, name) }

// local is a member on this host.
func local(name string) Member { return Member{Name: name, Host: "127.0.0.1", Slot: slotOf(name)} }

// drive takes steps toward want until the state is as done says.
func (n *node) drive(want Want, what string, done func(Status) bool) Status {
	n.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	var last error
	for {
		ctx, cancel := context.WithTimeout(n.t.Context(), 30*time.Second)
		s := n.Status(ctx)
		step := Next(want, s)
		if step.Kind == Nothing || step.Kind == Hold {
			if done(s) {
				cancel()
				return s
			}
		} else {
			n.steps = append(n.steps, step.Kind)
			n.t.Logf("%s %s: %s because %s", time.Now().Format("05.000"), n.name, step.Kind, step.Because)
			if _, err := n.Do(ctx, step); err != nil {
				n.t.Logf("%s: %s: %v", n.name, step.Kind, err)
				last = err
			}
		}
		cancel()
		select {
		case <-limit:
			n.t.Fatalf("%s: waited for %s; last step %+v, error %v, state %+v\n%s", n.name, what, step, last, s, n.logTail())
		case <-tick.C:
		}
	}
}

// took returns the steps since the last call.
func (n *node) took() string {
	var out []string
	for _, s := range slices.Compact(n.steps) {
		out = append(out, string(s))
	}
	n.steps = nil
	return strings.Join(out, " ")
}

func (n *node) logTail() string {
	content, _ := os.ReadFile(n.cfg.LogFile())
	lines := strings.Split(string(content), "\n")
	return strings.Join(lines[max(0, len(lines)-40):], "\n")
}

// sql runs statements on a new connection of the superuser, over TCP with the password.
func (n *node) trySQL(ctx context.Context, sql string) (string, error) {
	return n.trySQLIn(ctx, "postgres", sql)
}

// sqlIn is sql in another database than postgres.
func (n *node) sqlIn(database, sql string) {
	n.t.Helper()
	if _, err := n.trySQLIn(n.t.Context(), database, sql); err != nil {
		n.t.Fatalf("%s: %v", sql, err)
	}
}

func (n *node) trySQLIn(ctx context.Context, database, sql string) (string, error) {
	conn, err := pgconn.Connect(ctx, fmt.Sprintf("host=127.0.0.1 port=%d user=postgres password=%s dbname=%s sslmode=disable", n.cfg.Port, pg.QuoteConninfo(n.cfg.Superuser.Password), database))
	if err != nil {
		return "", err
	}
	defer func() { _ = conn.Conn().Close() }() // no cancel request: it would acknowledge a commit that waits
	out, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(out) == 0 || len(out[len(out)-1].Rows) == 0 {
		return "", err
	}
	return string(out[len(out)-1].Rows[0][0]), nil
}

func (n *node) sql(sql string) string {
	n.t.Helper()
	out, err := n.trySQL(n.t.Context(), sql)
	if err != nil {
		n.t.Fatalf("%s: %s: %v", n.name, sql, err)
	}
	return out
}

// eventually polls for a state.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !ok() {
		select {
		case <-limit:
			t.Fatalf("waited %s for %s", patience, what)
		case <-tick.C:
		}
	}
}

func isRun(state pg.RunState) func(Status) bool { return func(s Status) bool { return s.Run == state } }

func streaming(s Status) bool { return s.Receiver == "streaming" && !s.Rebuilding }

// cluster is what the stories' orders are made from.
type cluster struct {
	epoch   uint64
	primary *node
	system  pg.SystemID
	target  rejoin.Branch
	final   bool
	sync    map[string]Sync
	members []*node
}

// want is what the node's agent would make of the replicated state.
func (c *cluster) want(n *node) Want {
	w := Want{Role: RoleStandby, Epoch: c.epoch, SystemID: c.system, Target: c.target, Final: c.final, Sync: c.sync[n.name]}
	for _, m := range c.members {
		if m != n {
			w.Slots = append(w.Slots, slotOf(m.name))
		}
	}
	if n == c.primary {
		w.Role, w.MayInit = RolePrimary, true
		held, _ := n.held()
		w.LeaseLive = held == c.epoch
		return w
	}
	if c.system != 0 {
		w.Upstream = c.primary.upstream(n, c.epoch)
	}
	return w
}

// boot makes the first primary and its standbys by clones.
func boot(t *testing.T, names ...string) *cluster {
	t.Helper()
	r := newRig(t)
	c := &cluster{epoch: 1, target: rejoin.Branch{Timeline: 1}, final: true, sync: map[string]Sync{}}
	var members []Member
	for _, name := range names {
		c.members = append(c.members, r.node(name))
		members = append(members, local(name))
	}
	for _, n := range c.members {
		if err := n.SetMembers(t.Context(), members); err != nil {
			t.Fatal(err)
		}
	}
	c.primary = c.members[0]
	c.primary.hold(1)
	s := c.primary.drive(c.want(c.primary), "the first primary", isRun(pg.RunPrimary))
	c.system = s.SystemID
	for _, n := range c.members[1:] {
		n.drive(c.want(n), "a clone that follows", streaming)
	}
	return c
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// silentListener accepts connections and says nothing until the test ends.
func silentListener(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { _ = c.Close() })
		}
	}()
	return l.Addr().(*net.TCPAddr).Port
}
