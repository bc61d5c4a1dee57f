package guard

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	envDir    = "QUORATE_GUARD_TEST_DIR"
	envCgroup = "QUORATE_GUARD_TEST_CGROUP"

	testPrefix  = "qguard-"
	testCgroups = "quorate-guard-test"
	testVersion = "test"
	patience    = 30 * time.Second
)

// TestMain is the guard process itself when the tests start one.
func TestMain(m *testing.M) {
	if dir := os.Getenv(envDir); dir != "" {
		if err := Run(RunOptions{Dir: dir, Cgroup: os.Getenv(envCgroup), Version: testVersion}); err != nil {
			fmt.Fprintln(os.Stderr, "guard:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv(envClock) != "" { // start times are others there: nothing may be swept by them
		if err := tellClock(); err != nil {
			fmt.Fprintln(os.Stderr, "clock:", err)
			os.Exit(1)
		}
		return
	}
	sweepDeadRuns()
	code := m.Run()
	if left := leftovers(); len(left) > 0 {
		fmt.Fprintln(os.Stderr, "the tests left behind:", left)
		code = 1
	}
	os.Exit(code)
}

// owner is in the name of every directory: pid and start time of the test process.
func owner() string {
	id, err := self()
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%s%d-%d-", testPrefix, id.pid, id.start)
}

func leftovers() []string {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), owner()+"*"))
	if mount, err := cgroupMount(); err == nil {
		groups, _ := filepath.Glob(filepath.Join(mount, testCgroups, owner()+"*"))
		left = append(left, groups...)
	}
	return left
}

// sweepDeadRuns removes what a killed test run left: its guards survived it.
func sweepDeadRuns() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), testPrefix+"*"))
	if mount, err := cgroupMount(); err == nil {
		groups, _ := filepath.Glob(filepath.Join(mount, testCgroups, testPrefix+"*"))
		for _, group := range groups {
			dirs = append(dirs, filepath.Join(os.TempDir(), filepath.Base(group)))
		}
	}
	for _, dir := range dirs {
		parts := strings.Split(filepath.Base(dir), "-")
		if len(parts) != 4 {
			continue
		}
		pid, err1 := strconv.Atoi(parts[1])
		start, err2 := strconv.ParseUint(parts[2], 10, 64)
		boot, err3 := bootID()
		if errors.Join(err1, err2, err3) != nil || (identity{pid: pid, start: start, boot: boot}).alive() {
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil { // a group may be left without its directory
			fmt.Fprintln(os.Stderr, "sweep", dir, err)
			continue
		}
		if err := endDir(dir, filepath.Join(testCgroups, filepath.Base(dir))); err != nil {
			fmt.Fprintln(os.Stderr, "sweep", dir, err)
		}
	}
}

// endDir kills the guard of a test directory and removes all that it made.
func endDir(dir, cgroup string) error {
	if id, held, err := guardOf(dir); err == nil && held {
		if err := killGuard(id); err != nil {
			return err
		}
	}
	if err := Sweep(Options{Dir: dir, Cgroup: cgroup}); err != nil {
		return err
	}
	if mount, err := cgroupMount(); err == nil {
		base := filepath.Join(mount, cgroup)
		for _, group := range []string{base + "/postgres", base + "/guard", base} {
			if err := removeGroup(group); err != nil {
				return err
			}
		}
		_ = os.Remove(filepath.Dir(base)) // fails while other tests use it
	}
	return os.RemoveAll(dir)
}

// rig is one directory with a guard.
type rig struct {
	*Client
	t    *testing.T
	opts Options
	mode string
}

// inBothModes runs the test with cgroups and with signals.
func inBothModes(t *testing.T, f func(*testing.T, *rig)) {
	for _, mode := range []string{"cgroup", "signals"} {
		t.Run(mode, func(t *testing.T) { f(t, newRig(t, mode)) })
	}
}

func newRig(t *testing.T, mode string) *rig {
	t.Helper()
	if mode == "cgroup" && os.Getuid() != 0 {
		t.Skip("needs root")
	}
	dir, err := os.MkdirTemp("", owner())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, mode: mode, opts: Options{Dir: dir, Argv: []string{os.Args[0]}}}
	if mode == "cgroup" {
		r.opts.Cgroup = filepath.Join(testCgroups, filepath.Base(dir))
	}
	r.opts.Env = append(os.Environ(), envDir+"="+dir, envCgroup+"="+r.opts.Cgroup)
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(dir, logName))
			t.Logf("guard.log:\n%s", log)
		}
		if r.Client != nil {
			_ = r.Close()
		}
		if err := endDir(dir, filepath.Join(testCgroups, filepath.Base(dir))); err != nil {
			t.Errorf("end %s: %v", dir, err)
		}
	})
	r.ensure()
	return r
}

func (r *rig) ensure() {
	r.t.Helper()
	c, err := Ensure(r.opts)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Client = c
	st, err := c.Status()
	if err != nil || st.Fence != r.mode {
		r.t.Fatalf("fence %q (%s), want %s: %v", st.Fence, st.FenceWhy, r.mode, err)
	}
}

// request is a run of any program with generous times.
func (r *rig) request(argv ...string) StartRequest {
	return StartRequest{
		Argv: argv, Env: []string{"PATH=" + os.Getenv("PATH")}, Dir: r.opts.Dir,
		LogFile: filepath.Join(r.opts.Dir, "run.log"), Verdict: VerdictStandby, Epoch: 1,
		L: time.Minute, KillAfter: time.Hour, Margin: 50 * time.Millisecond,
	}
}

func (r *rig) start(req StartRequest) (pid int) {
	r.t.Helper()
	run, pid, err := r.Start(req)
	if err != nil || run == 0 || pid == 0 {
		r.t.Fatalf("start: run %d pid %d: %v", run, pid, err)
	}
	return pid
}

func (r *rig) serve(left time.Duration) { r.Set(VerdictServe, 1, Now()+left) }

func (r *rig) waitState(want State) View {
	r.t.Helper()
	r.waitFor(fmt.Sprintf("state %s", want), func() bool { return r.Record().State == want })
	return r.Record()
}

// waitFor polls; it gives up after 30 s with the last state.
func (r *rig) waitFor(what string, ok func() bool) {
	r.t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			r.t.Fatalf("no %s within %s; record %+v", what, patience, r.Record())
		}
	}
}

// running says whether a process may execute its program. One that is on its way out has no program any more, so nobody can tell what
// it was, and on a busy machine it stays so for a while before it is dead.
func running(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !neverRuns(stat)
}

// osUser is the user Postgres runs as, nil for the test's own.
func osUser(t *testing.T) *Credential {
	t.Helper()
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return &Credential{UID: uint32(uid), GID: uint32(gid), Groups: []uint32{uint32(gid)}}
}
