package guard

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const shell = "/bin/sh"

func TestDeadlineIsCapped(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		req := r.request(shell, "-c", "while :; do sleep 0.01; done")
		req.L, req.Verdict, req.Deadline = 200*time.Millisecond, VerdictServe, Now()+time.Hour
		before := Now()
		r.start(req)
		v := r.waitState(StateFrozen)
		if v.Deadline < before || v.Deadline > v.Since {
			t.Errorf("obeyed %s, started after %s, frozen at %s", v.Deadline, before, v.Since)
		}
		// The same far deadline again is no extension, a new one is, for L only.
		r.Set(VerdictServe, 1, req.Deadline+1)
		r.waitFor("thaw", func() bool { return r.Record().Since > v.Since })
		r.waitFor("second freeze", func() bool { w := r.Record(); return w.State == StateFrozen && w.Since > v.Since })
	})
}

func TestOrphansAreKilledBeforeEmpty(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		marks := filepath.Join(r.opts.Dir, "pids")
		// A "postmaster" that leaves a daemon in a session of its own, with a child,
		// and ends: nothing links them to it any more.
		script := `setsid sh -c 'sleep 1000 & echo $! >>"$0"; echo $$ >>"$0"; wait' "$0" & while [ "$(wc -l <"$0")" != 2 ]; do sleep 0.01; done; exit 3`
		if err := os.WriteFile(marks, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		r.start(r.request(shell, "-c", script, marks))
		v := r.waitState(StateEmpty)
		if v.Exit() != "exit status 3" {
			t.Errorf("exit %q", v.Exit())
		}
		for _, pid := range readPIDs(t, marks) {
			if running(pid) {
				t.Errorf("process %d lives after empty", pid)
			}
		}
	})
}

func TestStartRefused(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		if _, _, err := r.Start(r.request("/nonexistent/postgres")); err == nil || r.Record().State != StateNone {
			t.Errorf("a missing program: %v, state %s", err, r.Record().State)
		}
		bad := r.request("postgres")
		if _, _, err := r.Start(bad); !errors.Is(err, ErrBadRequest) {
			t.Errorf("a relative program: %v", err)
		}
		linked := r.request(shell, "-c", "true")
		linked.LogFile = filepath.Join(r.opts.Dir, "linked.log")
		if err := os.Symlink(filepath.Join(r.opts.Dir, "elsewhere"), linked.LogFile); err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.Start(linked); err == nil {
			t.Error("a log file behind a link was accepted")
		}
		if err := r.Signal("SIGHUP"); !errors.Is(err, ErrNotRunning) {
			t.Errorf("a signal to nobody: %v", err)
		}
		r.start(r.request(shell, "-c", "exec sleep 1000"))
		if _, _, err := r.Start(r.request(shell, "-c", "true")); !errors.Is(err, ErrRunning) {
			t.Errorf("a second start: %v", err)
		}
		if err := r.Quit(); !errors.Is(err, ErrRunning) {
			t.Errorf("quit with a run: %v", err)
		}
		if err := r.Signal("SIGKILL"); !errors.Is(err, ErrBadRequest) {
			t.Errorf("SIGKILL to the postmaster alone: %v", err)
		}
	})
}

// TestOrdersReachARunWhoseStartWasGivenUp: the answer to a start is lost, as when a disk hangs for longer than it is waited
// for. What is ordered next must hold for what was forked.
func TestOrdersReachARunWhoseStartWasGivenUp(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		r.start(r.request(shell, "-c", "exit 0"))
		r.waitState(StateEmpty)
		lost := r.request(shell, "-c", "exec sleep 1000")
		if _, err := r.ask(command{Cmd: "start", Start: &lost}, startLimit); err != nil {
			t.Fatal(err)
		}
		if !r.Set(VerdictServe, 1, Now()+time.Minute) {
			t.Error("the order was refused")
		}
		r.waitFor("a deadline", func() bool { v := r.Record(); return v.Verdict == VerdictServe && v.Deadline > 0 })
		if !r.Set(VerdictStop, 1, 0) {
			t.Error("the stop was refused")
		}
		r.waitState(StateEmpty)
	})
}

func TestSignalStopsAndNextRun(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		first := r.start(r.request(shell, "-c", "exec sleep 1000"))
		run := r.Record().Run
		if err := r.Signal("SIGTERM"); err != nil {
			t.Fatal(err)
		}
		if v := r.waitState(StateEmpty); v.Exit() != "signal SIGTERM" || v.PID != first {
			t.Errorf("exit %q of %d", v.Exit(), v.PID)
		}
		r.start(r.request(shell, "-c", "exec sleep 1000"))
		if v := r.Record(); v.Run != run+1 || v.State != StateRunning || v.Exited {
			t.Errorf("second run %+v", v)
		}
		if !r.Set(VerdictStop, 1, 0) || r.Set(VerdictServe, 2, Now()+time.Hour) {
			t.Error("stop must be accepted and final")
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := r.WaitEmpty(ctx); err != nil {
			t.Fatal(err)
		}
		if err := r.Quit(); err != nil {
			t.Fatal(err)
		}
		if r.guard.alive() {
			t.Error("the guard lives after Quit")
		}
	})
}

func TestFrozenProcessesDoNotRun(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		out := filepath.Join(r.opts.Dir, "count")
		// The first loop forks nothing. On a slow machine all others may be in vfork when the freeze comes, where no stop reaches them.
		script := `(while :; do echo >>"$0"; done) & for i in 1 2 3 4 5; do (while :; do echo >>"$0"; sleep 0.001; done) & done; wait`
		req := r.request(shell, "-c", script, out)
		req.Verdict, req.Deadline = VerdictServe, Now()+300*time.Millisecond
		r.start(req)
		r.waitFor("output", func() bool { return size(out) > 0 })
		v := r.waitState(StateFrozen)
		// The freeze is effective at the return of the write; a task that is inside a
		// system call finishes that one.
		r.waitFor("quiet", func() bool {
			before := size(out)
			r.waitFor("ten ticks", func() bool { return Now()-v.Since > 250*time.Millisecond })
			return size(out) == before
		})
		before := size(out)
		since := Now()
		if r.mode == "signals" {
			// Somebody else's SIGCONT: the guard stops it again.
			pid := 0
			r.waitFor("a loop that is stopped, not one that waits in vfork for its child, which is", func() bool {
				for _, p := range mustProcesses(t) {
					if p.ppid == v.PID && p.state == 'T' {
						pid = p.pid
					}
				}
				return pid > 0
			})
			if err := unix.Kill(pid, unix.SIGCONT); err != nil {
				t.Fatal(err)
			}
			r.waitFor("the thaw", func() bool { p, _ := readProc(pid); return p.state != 'T' || size(out) > before })
			r.waitFor("the second stop", func() bool { return stopped(t, pid) })
			before = size(out)
		}
		r.waitFor("a while", func() bool { return Now()-since > 200*time.Millisecond })
		if after := size(out); after != before {
			t.Errorf("%d bytes were written while frozen", after-before)
		}
		r.serve(30 * time.Second)
		r.waitState(StateRunning)
		r.waitFor("more output", func() bool { return size(out) > before })
	})
}

// stopped says that the process runs no more: it is stopped, or the kernel keeps it in vfork, out of reach of a stop, until its
// child goes on, which is stopped.
func stopped(t *testing.T, pid int) bool {
	t.Helper()
	p, _ := readProc(pid)
	if p.state == 'T' {
		return true
	}
	for _, child := range mustProcesses(t) {
		if p.state == 'D' && child.ppid == pid && child.state == 'T' {
			return true
		}
	}
	return false
}

func TestUnleased(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		marker := filepath.Join(r.opts.Dir, PausedMarker)
		if err := os.WriteFile(marker, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		req := r.request(shell, "-c", "exec sleep 1000")
		req.Verdict, req.KillAfter = VerdictUnleased, time.Millisecond
		r.start(req)
		wait := func() {
			since := Now()
			r.waitFor("some looks at the marker", func() bool { return Now()-since > 3*pausedEvery })
		}
		wait()
		// The agent's heartbeat is older than 5 s: only the marker keeps the run.
		r.rec.setBeat(Now() - time.Minute)
		wait()
		if v := r.Record(); v.State != StateRunning {
			t.Fatalf("state %s with the marker", v.State)
		}
		if err := os.Remove(marker); err != nil {
			t.Fatal(err)
		}
		r.waitState(StateEmpty)
	})
}

func TestOneGuardOneAgent(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		if _, err := Ensure(r.opts); !errors.Is(err, ErrAgentRunning) {
			t.Errorf("a second agent: %v", err)
		}
		if err := Sweep(r.opts); !errors.Is(err, ErrGuardRunning) {
			t.Errorf("sweep under a living guard: %v", err)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = r.opts.Env
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), ErrGuardRunning.Error()) {
			t.Errorf("a second guard: %v\n%s", err, out)
		}
		if _, err := r.Status(); err != nil {
			t.Errorf("the first one: %v", err)
		}
	})
}

// TestHungClients: clients that read nothing while their queues overflow, and
// clients that stop in the middle of a command.
func TestHungClients(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		req := r.request(shell, "-c", "exec sleep 1000")
		req.Verdict, req.Deadline = VerdictServe, Now()+time.Minute
		r.start(req)
		for _, say := range []string{`{"cmd":"subscribe"}` + "\n", `{"cmd":"sta`, `{"cmd":"attach"}` + "\n"} {
			for range 10 {
				conn, err := dial(r.opts.Dir, patience)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				if _, err := conn.Write([]byte(say)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for epoch := uint64(2); epoch < 600; epoch++ {
			r.Set(VerdictServe, epoch, Now()-1)
			r.waitState(StateFrozen)
			r.Set(VerdictServe, epoch, Now()+time.Minute)
			r.waitState(StateRunning)
		}
		r.Set(VerdictServe, 1000, Now()+30*time.Millisecond)
		v := r.waitState(StateFrozen)
		t.Logf("worst lateness %s, late %d", v.WorstLateness, v.FenceLate)
		if _, err := r.Status(); err != nil {
			t.Errorf("another client: %v", err)
		}
	})
}

func TestChangesArePushed(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		req := r.request(shell, "-c", "exec sleep 1000")
		req.Verdict, req.Deadline, req.KillAfter = VerdictServe, Now()+100*time.Millisecond, 50*time.Millisecond
		r.start(req)
		var states []string
		end := time.After(patience)
		for len(states) == 0 || states[len(states)-1] != "empty" {
			select {
			case st, ok := <-r.Changes():
				if !ok {
					t.Fatalf("the guard is lost after %v", states)
				}
				if st.Run > 0 {
					states = append(states, st.State.String())
				}
			case <-end:
				t.Fatalf("only %v", states)
			}
		}
		if got := strings.Join(states, " "); got != "running frozen killing empty" {
			t.Errorf("pushed %s", got)
		}
		if err := unix.Kill(r.guard.pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		select {
		case <-r.lost:
		case <-end:
			t.Fatal("the death of the guard wasn't noticed")
		}
		if err := r.WaitEmpty(context.Background()); err != nil {
			t.Errorf("the record said empty before the guard died: %v", err)
		}
	})
}

// TestStoppedGuardIsReplaced: a guard that doesn't answer is killed with its run.
func TestStoppedGuardIsReplaced(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		pid := r.start(r.request(shell, "-c", "trap '' QUIT; while :; do sleep 0.01; done"))
		old := r.guard
		if err := unix.Kill(old.pid, unix.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		r.Client = nil
		r.ensure()
		if old.alive() || running(pid) || r.guard == old {
			t.Errorf("old guard alive %v, its run alive %v, new guard %+v", old.alive(), running(pid), r.guard)
		}
	})
}

func TestKillEndsEverything(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		pid := r.start(r.request(shell, "-c", "trap '' QUIT; while :; do sleep 0.01; done"))
		r.Set(VerdictServe, 1, Now())
		r.waitState(StateFrozen)
		if err := r.Kill(); err != nil {
			t.Fatal(err)
		}
		if r.guard.alive() || running(pid) {
			t.Errorf("guard alive %v, run alive %v", r.guard.alive(), running(pid))
		}
	})
}

// TestLoopSleeps: an event that nobody clears would spin a thread of real-time
// priority. Counting distinct ticks can't fail on a slow machine.
func TestLoopSleeps(t *testing.T) {
	inBothModes(t, func(t *testing.T, r *rig) {
		r.start(r.request(shell, "-c", "exec sleep 1000"))
		ticks := map[time.Duration]bool{}
		since := Now()
		r.waitFor("half a second", func() bool {
			ticks[r.Record().Tick] = true
			return Now()-since > 500*time.Millisecond
		})
		if len(ticks) < 2 || len(ticks) > 60 {
			t.Errorf("%d loops in half a second, want about 20", len(ticks))
		}
	})
}

func mustProcesses(t *testing.T) []proc {
	t.Helper()
	all, err := processes()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func size(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}
