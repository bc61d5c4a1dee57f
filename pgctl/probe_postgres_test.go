package pgctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/guard"
)

// probe runs a prober with a short failover_after beside n until the test ends.
func (n *node) probe() *Prober {
	p := n.NewProber(400 * time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	n.t.Cleanup(func() { cancel(); <-done })
	return p
}

// alone boots one primary.
func alone(t *testing.T) (*cluster, *node) {
	c := boot(t, "n1")
	return c, c.primary
}

func (p *Prober) awaitSick(t *testing.T, want Probe) Sickness {
	t.Helper()
	var got Sickness
	eventually(t, "a sick "+string(want), func() bool {
		s := p.Sick()
		if s != nil {
			got = *s
		}
		return s != nil && s.Probe == want
	})
	return got
}

func (p *Prober) awaitWell(t *testing.T) {
	t.Helper()
	eventually(t, "no sickness", func() bool { return p.Sick() == nil })
}

// staysWell waits until sessions were tried some more times; none of the tries may make p sick.
func (p *Prober) staysWell(t *testing.T) {
	t.Helper()
	began := func() time.Duration { p.mu.Lock(); defer p.mu.Unlock(); return p.streaks[ProbeConnect].began }
	for range 8 {
		was := began()
		eventually(t, "another probe", func() bool { return began() != was })
		if s := p.Sick(); s != nil {
			t.Fatalf("sick: %s", s)
		}
	}
}

// TestProbeStoppedPostmaster: sessions that exist go on, new ones hang. A server that was killed and started again is
// judged anew.
func TestProbeStoppedPostmaster(t *testing.T) {
	c, n := alone(t)
	p := n.probe()
	p.staysWell(t)
	pid := n.client.Record().PID
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGCONT) })
	s := p.awaitSick(t, ProbeConnect)
	t.Logf("sick: %s, %d failures in %s", s, s.Failures, s.For)
	if err := n.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.awaitWell(t)
	n.drive(c.want(n), "a primary again", isRun(pg.RunPrimary))
	p.staysWell(t)
}

// TestBusySessionIsNoExcuse: a session of the agent that works says nothing about a postmaster that hangs; one that the
// postmaster has forked since it was asked for does.
func TestBusySessionIsNoExcuse(t *testing.T) {
	_, n := alone(t)
	pid := n.client.Record().PID
	n.busySession(t)
	starved := func(asked time.Duration) func() bool {
		return func() bool {
			_, yes := n.starved(pid, asked, queued{pid: schedulerOf(pid).waited}, time.Hour) // so that only the state counts
			return yes
		}
	}
	eventually(t, "the session runs", starved(0))
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Kill(pid, unix.SIGCONT) })
	eventually(t, "the postmaster is stopped", func() bool { return schedulerOf(pid).state == 'T' })
	asked := guard.Now() + bornTick
	for range 100 {
		if starved(asked)() {
			t.Fatal("a session that was there before excuses the postmaster")
		}
	}
	eventually(t, "the session runs still", starved(0))
}

// busySession begins a session of the agent that computes until the test ends.
func (n *node) busySession(t *testing.T) {
	t.Helper()
	s, err := n.connect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = s.value(ctx, "DO $$ BEGIN LOOP NULL; END LOOP; END $$") // it is cut short
	}()
	t.Cleanup(func() {
		stop()
		<-ended
		s.close()
	})
}

// TestProbeSlotsExhausted: nobody else can connect, not even the agent; its sessions that exist go on, and it is not sick.
func TestProbeSlotsExhausted(t *testing.T) {
	c, n := alone(t)
	p := n.probe()
	n.drive(c.want(n), "a primary", isRun(pg.RunPrimary))
	max, err := strconv.Atoi(n.sql("SHOW max_connections"))
	if err != nil {
		t.Fatal(err)
	}
	dsn := fmt.Sprintf("host=127.0.0.1 port=%d user=postgres password=%s dbname=postgres sslmode=disable", n.cfg.Port, pg.QuoteConninfo(n.cfg.Superuser.Password))
	refused := false
	for range 2 * max { // the probes take a slot now and then, so a refusal is not the end
		conn, err := pgconn.Connect(t.Context(), dsn)
		if err != nil {
			if refused = sqlState(err) == stateTooMany; !refused {
				t.Fatal(err)
			}
			continue
		}
		t.Cleanup(func() { _ = conn.Conn().Close() })
	}
	if !refused {
		t.Fatal("the slots are not used up")
	}
	p.staysWell(t)
	if s := n.Status(t.Context()); s.Run != pg.RunPrimary {
		t.Fatalf("the agent sees %s: %s", s.Run, s.Dir.Problem)
	}
	// Even a standing session that is lost makes nobody believe that Postgres is gone.
	n.statusMu.Lock()
	n.watch.close()
	n.watch = nil
	n.statusMu.Unlock()
	n.lookAgain()
	if s := n.Status(t.Context()); s.Run != pg.RunPrimary {
		t.Fatalf("without its session the agent sees %s: %s", s.Run, s.Dir.Problem)
	}
}

// TestProbeWhileCommitsWait: every commit waits for a copy that nobody makes; whoever tries whether Postgres works does not.
func TestProbeWhileCommitsWait(t *testing.T) {
	_, n := alone(t)
	if err := n.SetSync(t.Context(), Sync{K: 1, Names: []string{"n9"}}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := n.trySQL(ctx, "CREATE TABLE t (id int)"); err == nil {
		t.Fatal("a commit was acknowledged by nobody")
	}
	n.probe().staysWell(t)
}

// moveToSmallDisk puts n's data directory on a file system of its own.
func (c *cluster) moveToSmallDisk(n *node) {
	n.t.Helper()
	if err := n.StopFast(n.t.Context(), patience); err != nil {
		n.t.Fatal(err)
	}
	away := n.cfg.DataDir + "-away"
	if err := errors.Join(os.Rename(n.cfg.DataDir, away), os.Mkdir(n.cfg.DataDir, 0o700)); err != nil {
		n.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", n.cfg.DataDir, "tmpfs", 0, "size=256m,mode=0700"); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		if err := errors.Join(n.Kill(context.Background()), unix.Unmount(n.cfg.DataDir, unix.MNT_DETACH)); err != nil {
			n.t.Error(err)
		}
	})
	if out, err := exec.Command("cp", "-a", away+"/.", n.cfg.DataDir).CombinedOutput(); err != nil {
		n.t.Fatalf("copy: %v: %s", err, out)
	}
	n.drive(c.want(n), "a primary on the small disk", isRun(pg.RunPrimary))
}

// TestProbeDisk: a disk with no block left is sick for new files at once, whatever Postgres has preallocated, and well again
// when there is room; so is one that can only be read.
func TestProbeDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	c, n := alone(t)
	c.moveToSmallDisk(n)
	p := n.probe()
	p.staysWell(t)
	path := filepath.Join(n.cfg.DataDir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 64<<10); err == nil; {
		_, err = f.Write(block)
	}
	_ = f.Close()
	if s := p.awaitSick(t, ProbeData); !s.Full {
		t.Errorf("full %v: %s", s.Full, s)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	p.awaitWell(t)
	p.staysWell(t)

	// Postgres' open files keep the mount itself from becoming read-only; one above it can be.
	if err := unix.Mount(n.cfg.DataDir, n.cfg.DataDir, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(n.cfg.DataDir, unix.MNT_DETACH) })
	if err := unix.Mount("", n.cfg.DataDir, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	if s := p.awaitSick(t, ProbeData); !s.ReadOnly {
		t.Errorf("read-only %v: %s", s.ReadOnly, s)
	}
}

// TestProbeReservedSpace: what a file system keeps for root is no room for Postgres. (tmpfs keeps nothing, so this one is
// ext4 in a file.)
func TestProbeReservedSpace(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	r := newRig(t)
	n := r.node("n1")
	image, dir := filepath.Join(r.dir, "image"), n.cfg.DataDir
	for _, args := range [][]string{
		{"truncate", "-s", "8M", image}, {"mkfs.ext4", "-q", "-m", "50", "-O", "^has_journal", image},
		{"mkdir", "-p", dir}, {"mount", "-o", "loop", image, dir}, {"chown", "-R", "postgres", dir},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, out)
		}
		if args[0] == "mount" {
			t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "PG_VERSION"), []byte("15\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	n.note(func() { n.managed = true }) // nothing is written into a directory of others
	p := n.probe()
	began := func() time.Duration { p.mu.Lock(); defer p.mu.Unlock(); return p.streaks[ProbeData].began }
	first := began()
	eventually(t, "a few probes", func() bool { return began() != first })
	if s := p.Sick(); s != nil {
		t.Fatalf("sick: %s", s)
	}
	if err := os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 5<<20), 0o644); err != nil {
		t.Fatal(err) // root has room
	}
	if s := p.awaitSick(t, ProbeData); !s.Full {
		t.Errorf("full %v: %s", s.Full, s)
	}
}

// TestCrashHeardAtOnce: one backend is wedged, so that the postmaster itself would wait 5 s for it; another is killed.
// The standing session hears of it and everything is killed.
func TestCrashHeardAtOnce(t *testing.T) {
	_, n := alone(t)
	ctx, cancel := context.WithCancel(t.Context())
	woken := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.ListenForCrash(ctx, func() {
			select {
			case woken <- struct{}{}:
			default:
			}
		})
	}()
	defer func() { cancel(); <-done }()
	eventually(t, "the standing session", func() bool {
		return n.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = '"+AgentRole+"' AND query = '' AND state IS DISTINCT FROM 'active'") != "0"
	})
	wedged, victim := n.backend(), n.backend()
	if err := unix.Kill(wedged, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := unix.Kill(victim, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-woken
	t.Logf("heard after %s", time.Since(start))
	eventually(t, "an empty run", func() bool { return n.client.Record().Gone() })
	t.Logf("empty after %s", time.Since(start))
	if s := n.Status(t.Context()); s.Run != pg.RunStopped || !strings.Contains(s.Died, "crash") {
		t.Errorf("run %s, died %q", s.Run, s.Died)
	}
	if log := n.logTail(); strings.Contains(log, "issuing SIGKILL to recalcitrant children") {
		t.Error("the postmaster's own patience ended it")
	}
}

// TestAFastStopThatHangs: one session that does not run keeps a shutdown from ending. It is given up when its time is over, and
// a kill ends everything.
func TestAFastStopThatHangs(t *testing.T) {
	_, n := alone(t)
	if err := unix.Kill(n.backend(), unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := n.StopFast(t.Context(), time.Second); !errors.Is(err, ErrStopTimeout) {
		t.Fatalf("a shutdown that can't end: %v", err)
	}
	if n.client.Record().Gone() {
		t.Fatal("it has ended: this tests nothing")
	}
	if err := n.Kill(t.Context()); err != nil || !n.client.Record().Gone() {
		t.Errorf("after the kill: %v, gone %v", err, n.client.Record().Gone())
	}
}

// backend opens a session that stays and returns its pid.
func (n *node) backend() int {
	n.t.Helper()
	conn, err := pgconn.Connect(n.t.Context(), fmt.Sprintf("host=127.0.0.1 port=%d user=postgres password=%s dbname=postgres sslmode=disable", n.cfg.Port, pg.QuoteConninfo(n.cfg.Superuser.Password)))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = conn.Conn().Close() })
	return int(conn.PID())
}
