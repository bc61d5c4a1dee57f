package e2e_test

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/lab"
)

// try makes one fault under load and checks what must hold: nothing acknowledged is lost, no two writers, all nodes well
// again within the lab's limit of 30 s. How long nobody could write is printed and not judged: that depends on the machine.
func try(t *testing.T, l *lab.Lab, p lab.Plan) (lab.Trial, lab.Run) {
	t.Helper()
	p.Dir, p.Name = t.TempDir(), "run-001"
	trial, err := l.Try(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	b, err := lab.Recompute(p.Dir)
	if err != nil {
		t.Errorf("%v\n%s", err, l.Report())
	}
	if len(b.Runs) != 1 {
		t.Fatalf("%d runs", len(b.Runs))
	}
	r := b.Runs[0]
	l.Tell(trial)
	t.Logf("%s: write gap %.0f ms, lost %d, unknown %d, overlap %.0f ms, %s -> %s, rejoined %s, well again after %.1f s",
		p.Kind, r.WriteGapMS, r.Lost, r.Unknown, r.OverlapMS, trial.Old, trial.New, trial.Rejoin, r.RecoveredMS/1000)
	if r.EpochAfter <= r.EpochBefore {
		t.Errorf("epoch %d -> %d: the fault changed nothing", r.EpochBefore, r.EpochAfter)
	}
	return trial, r
}

func TestFaults(t *testing.T) {
	l := up(t, lab.Options{})
	for _, kind := range []string{lab.HostKill, lab.PostgresKill, lab.Partition, lab.Switchover} {
		t.Run(kind, func(t *testing.T) {
			trial, _ := try(t, l, lab.Plan{Kind: kind, Prober: true})
			if kind != lab.PostgresKill && trial.New == trial.Old {
				t.Errorf("%s is still primary", trial.Old)
			}
		})
	}
	t.Run("switchover keeps the old primary's data", func(t *testing.T) {
		if trial, _ := try(t, l, lab.Plan{Kind: lab.Switchover}); trial.Rejoin != "plain" {
			t.Errorf("%s rejoined by %s", trial.Old, trial.Rejoin)
		}
	})
}

// TestFencedBySignals has the primary cut off where control groups are not used: the one case in which the fence decides.
func TestFencedBySignals(t *testing.T) {
	l := up(t, lab.Options{Signals: true})
	try(t, l, lab.Plan{Kind: lab.Partition, Prober: true})
}

// TestRestartOfTheDaemonDisturbsNothing ends the primary's daemon as an upgrade does.
func TestRestartOfTheDaemonDisturbsNothing(t *testing.T) {
	l := up(t, lab.Options{})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	before, err := l.AwaitHealthy(ctx)
	if err != nil {
		t.Fatal(err)
	}
	n := l.Node(before.Primary)
	pid, err := l.Postmaster(n)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := l.StopDaemon(ctx, n, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := l.StartDaemon(n); err != nil {
		t.Fatal(err)
	}
	away := time.Since(began)
	after, err := l.AwaitHealthy(ctx)
	if err != nil {
		t.Fatal(err)
	}
	now, err := l.Postmaster(n)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the daemon was away for %s; epoch %d -> %d", away.Round(time.Millisecond), before.Epoch, after.Epoch)
	if now != pid {
		t.Errorf("the postmaster was process %d and is %d\n%s", pid, now, l.Report())
	}
	if after.Primary != before.Primary {
		t.Errorf("primary %s -> %s\n%s", before.Primary, after.Primary, l.Report())
	}
	// The lease is 0.8 s: who was away for less has kept it.
	if away < 400*time.Millisecond && after.Epoch != before.Epoch {
		t.Errorf("epoch %d -> %d though the daemon was away for %s\n%s", before.Epoch, after.Epoch, away, l.Report())
	}
}

// TestAnOrderlyEndHandsOver ends the primary's daemon as a shutdown of its host does: another node takes over, everything here
// ends, and what comes back needs no rewind, because nothing was written that the others have not.
func TestAnOrderlyEndHandsOver(t *testing.T) {
	b := newBroken(t)
	before := b.healthy()
	n := b.lab.Node(before.Primary)
	was, at := b.trio(n), time.Now()
	b.endDaemon(n, syscall.SIGINT)
	if lives(was.postmaster) || lives(was.guard) {
		t.Errorf("the daemon has ended; its postmaster lives: %v, its guard: %v", lives(was.postmaster), lives(was.guard))
	}
	b.movedOn(before)
	if err := b.lab.StartDaemon(n); err != nil {
		t.Fatal(err)
	}
	after := b.healthy()
	if after.Primary == n.Name || after.Epoch != before.Epoch+1 {
		t.Errorf("%s of epoch %d became %s of epoch %d", before.Primary, before.Epoch, after.Primary, after.Epoch)
	}
	aside, err := filepath.Glob(n.PGData() + ".*")
	if discards, said := b.ask(n, "discards"); err != nil || len(aside) > 0 || said != 0 || !strings.Contains(discards, "Nothing was discarded") {
		t.Errorf("it came back as another: %v, %v\n%s", aside, err, discards)
	}
	b.writers.check(t, n.Name, at, b.lab.Node(after.Primary))
}

// TestDemoCleansUp interrupts a demo, and kills another one, whose remains the next lab sweeps.
func TestDemoCleansUp(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd := exec.Command(quorate.exe, "lab", "demo")
			var out syncBuffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			// Interrupted where there is most to clean up: everything runs.
			await(t, "the demo's clients write", func() bool { return strings.Contains(out.String(), "clients write") }, out.String)
			_, rest, _ := strings.Cut(out.String(), "lab ")
			id, _, _ := strings.Cut(rest, ":")
			l, err := lab.Find(id, talk{t})
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			select {
			case <-ended:
			case <-time.After(limit):
				t.Fatalf("the demo does not end\n%s", out.String())
			}
			if sig == syscall.SIGKILL {
				if len(l.Left()) == 0 {
					t.Fatal("a demo that was killed left nothing: this test tests nothing")
				}
				if err := lab.Sweep(t.Context(), talk{t}); err != nil {
					t.Fatal(err)
				}
			}
			if left := l.Left(); len(left) > 0 {
				t.Errorf("left: %v\n%s", left, out.String())
			}
		})
	}
}

// TestNothingIsLeft must come last.
func TestNothingIsLeft(t *testing.T) {
	for _, l := range quorate.labs {
		if left := l.Left(); len(left) > 0 {
			t.Errorf("left of lab %s: %v", l.ID, left)
		}
	}
}

// limit is how long anything here may take.
const limit = 30 * time.Second

// await polls until done, and fails with what report says.
func await(t *testing.T, what string, done func() bool, report func() string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(limit)
	for !done() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("waited %s until %s\n%s", limit, what, report())
		}
	}
}

// syncBuffer collects what a process writes while a test reads it.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
