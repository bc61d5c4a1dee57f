package guard

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/pgtest"
)

// postgres starts a real one under the guard.
func (r *rig) postgres(change func(*StartRequest)) *pgtest.Cluster {
	r.t.Helper()
	c := pgtest.Start(r.t, pgtest.Options{NoRun: true, Settings: map[string]string{
		"max_connections": "130", "restart_after_crash": "off",
	}})
	req := r.request(filepath.Join(c.BinDir, "postgres"), "-D", c.Dir)
	req.Dir, req.Credential = c.Dir, osUser(r.t)
	if change != nil {
		change(&req)
	}
	// Registered after the cluster's own, so it runs before: nothing of ours may be
	// alive when pgtest cleans up.
	r.t.Cleanup(func() {
		if r.Client != nil {
			_ = r.Kill()
		}
		if r.t.Failed() {
			log, _ := os.ReadFile(req.LogFile)
			r.t.Logf("Postgres log:\n%s", log)
		}
	})
	r.start(req)
	r.waitFor("Postgres to answer", func() bool {
		conn, err := pgconn.Connect(r.t.Context(), c.ConnString())
		if err == nil {
			_ = conn.Close(r.t.Context())
		}
		return err == nil
	})
	return c
}

// session opens one connection and returns it with its backend's pid.
func session(t *testing.T, c *pgtest.Cluster) (*pgconn.PgConn, int) {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), c.ConnString())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Conn().Close() })
	return conn, int(conn.PID())
}

func query(conn *pgconn.PgConn, sql string) error {
	_, err := conn.Exec(context.Background(), sql).ReadAll()
	return err
}

// busy opens n sessions that commit as fast as they can until they are killed.
func busy(t *testing.T, c *pgtest.Cluster, n int) (pids []int, wait func()) {
	t.Helper()
	var wg sync.WaitGroup
	for range n {
		conn, pid := session(t, c)
		pids = append(pids, pid)
		wg.Go(func() {
			_ = query(conn, "DO $$ BEGIN LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$")
		})
	}
	return pids, wg.Wait
}

func readPIDs(t *testing.T, path string) (pids []int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for field := range strings.FieldsSeq(string(b)) {
		pid, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	return pids
}

func mustBeGone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		if running(pid) {
			t.Errorf("process %d lives", pid)
		}
	}
}

// family returns the pids of the run: the postmaster and all below it.
func (r *rig) family() []int {
	r.t.Helper()
	all, err := processes()
	if err != nil {
		r.t.Fatal(err)
	}
	pids := []int{r.Record().PID}
	for _, p := range descendants(all, r.Record().PID) {
		pids = append(pids, p.pid)
	}
	return pids
}

func TestAdoptKeepsPostgres(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		c := r.postgres(func(req *StartRequest) { req.Verdict, req.Deadline = VerdictServe, Now()+time.Minute })
		conn, _ := session(t, c)
		r.Set(VerdictServe, 5, Now()+40*time.Second)
		before, guard := r.Record(), r.guard
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r.ensure()
		after := r.Record()
		if after.PID != before.PID || after.Run != before.Run || r.guard != guard || after.State != StateRunning {
			t.Errorf("before %+v, after %+v", before, after)
		}
		if err := query(conn, "SELECT 1"); err != nil {
			t.Errorf("the session: %v", err)
		}
		if r.Set(VerdictServe, 4, Now()+time.Minute) || r.Set(VerdictServe, 5, Now()+time.Second) {
			t.Error("the new agent may not go behind what the old one ordered")
		}
		if !r.Set(VerdictServe, 5, Now()+50*time.Second) {
			t.Error("the new agent can't extend the lease")
		}
		if attr, err := unix.SchedGetAttr(after.PID, 0); err != nil || attr.Policy != unix.SCHED_NORMAL || attr.Nice != 0 {
			t.Errorf("the postmaster inherited the guard's priority: %+v %v", attr, err)
		}
		adj, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", conn.PID()))
		if err != nil || strings.TrimSpace(string(adj)) != "0" {
			t.Errorf("a backend's oom_score_adj is %q: %v", adj, err)
		}
	})
}

func TestSessionSurvivesAFreeze(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		c := r.postgres(nil)
		conn, pid := session(t, c)
		if err := query(conn, "CREATE TABLE t (i int)"); err != nil {
			t.Fatal(err)
		}
		r.serve(200 * time.Millisecond)
		r.waitState(StateFrozen)
		done := make(chan error, 1)
		go func() { done <- query(conn, "INSERT INTO t VALUES (1)") }()
		since := Now()
		r.waitFor("a while", func() bool { return Now()-since > 300*time.Millisecond })
		select {
		case err := <-done:
			t.Fatalf("a frozen backend answered: %v", err)
		default:
		}
		r.serve(40 * time.Second)
		if err := <-done; err != nil {
			t.Errorf("after the thaw: %v", err)
		}
		if v := r.Record(); v.State != StateRunning || int(conn.PID()) != pid {
			t.Errorf("after the thaw: %+v", v)
		}
		if got := c.Exec("SELECT count(*) FROM t"); got != "1" {
			t.Errorf("%s rows", got)
		}
	})
}

func TestFrozenTooLongIsKilled(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		c := r.postgres(func(req *StartRequest) { req.KillAfter = 100 * time.Millisecond })
		_, wait := busy(t, c, 4)
		family := r.family()
		r.serve(200 * time.Millisecond)
		v := r.waitState(StateEmpty)
		mustBeGone(t, family)
		wait()
		if v.Exit() != "signal SIGKILL" || r.Set(VerdictServe, 9, Now()+time.Minute) && r.Record().State != StateEmpty {
			t.Errorf("exit %q, state %s", v.Exit(), r.Record().State)
		}
	})
}

func TestStopKillsBusyAndStoppedBackends(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		c := r.postgres(nil)
		pids, wait := busy(t, c, 4)
		family := r.family()
		if err := unix.Kill(pids[0], unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		r.Set(VerdictStop, 1, 0)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := r.WaitEmpty(ctx); err != nil {
			t.Fatal(err)
		}
		mustBeGone(t, family)
		wait()
	})
}

func TestPostmasterKilledWithBusyBackends(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		c := r.postgres(nil)
		_, wait := busy(t, c, 8)
		family := r.family()
		since := Now()
		if err := unix.Kill(r.Record().PID, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		v := r.waitState(StateEmpty)
		mustBeGone(t, family)
		t.Logf("postmaster killed, empty after %s", v.Since-since)
		if v.Exit() != "signal SIGKILL" {
			t.Errorf("exit %q", v.Exit())
		}
		wait()
	})
}

func TestDeadGuardTakesPostgresAlong(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		r.postgres(nil)
		pid := r.Record().PID
		if err := unix.Kill(r.guard.pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		r.waitFor("the postmaster's end", func() bool { return !running(pid) })
		log, err := os.ReadFile(filepath.Join(r.opts.Dir, "run.log"))
		if err != nil || !strings.Contains(string(log), "received immediate shutdown request") {
			t.Errorf("no SIGQUIT in the log: %v\n%s", err, log)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := r.WaitEmpty(ctx); !errors.Is(err, ErrGuardLost) {
			t.Errorf("nobody proved that it is empty: %v", err)
		}
	})
}

// TestSweepAfterDeadGuard: frozen or not, with the postmaster or without, what a
// guard that was killed left is gone before Ensure returns.
func TestSweepAfterDeadGuard(t *testing.T) {
	for _, how := range []string{"running", "frozen", "orphans"} {
		t.Run(how, func(t *testing.T) {
			inBothModes(t, func(t *testing.T, r *rig) { sweepStory(t, r, how) })
		})
	}
}

func sweepStory(t *testing.T, r *rig, how string) {
	c := r.postgres(nil)
	_, wait := busy(t, c, 4)
	family, old := r.family(), r.guard
	switch how {
	case "frozen":
		r.serve(0)
		r.waitState(StateFrozen)
	case "orphans":
		// Stop the guard first: it must not see the postmaster's end.
		if err := unix.Kill(old.pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(family[0], unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Kill(old.pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	run := r.Record().Run
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	r.ensure()
	mustBeGone(t, family)
	if v := r.Record(); r.guard == old || v.State != StateNone || v.Run != run {
		t.Errorf("new guard %+v", v)
	}
	wait()
}

// TestMeasureFences prints, and asserts only that the fence worked.
func TestMeasureFences(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		c := r.postgres(nil)
		for range 90 {
			session(t, c)
		}
		_, wait := busy(t, c, 10)
		family := r.family()
		r.serve(300 * time.Millisecond)
		v := r.waitState(StateFrozen)
		st, err := r.Status()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d processes: lease end to frozen %s (late %d); sched %s, locked %s, oom %s",
			len(family), v.WorstLateness, v.FenceLate, st.Sched, st.Locked, st.OOM)
		r.serve(40 * time.Second)
		r.waitState(StateRunning)
		since := Now()
		r.Set(VerdictStop, 1, 0)
		v = r.waitState(StateEmpty)
		mustBeGone(t, family)
		t.Logf("stop to empty %s", v.Since-since)
		wait()
	})
}
