package e2e_test

import (
	"context"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/quorate/quorate/lab"
	"github.com/quorate/quorate/pgctl/guard"
)

// TestLostAndRegained takes away from one cluster what it needs, and gives it back.
func TestLostAndRegained(t *testing.T) {
	b := newBroken(t)
	b.in("a quorum", (*broken).loseQuorum)
	b.in("copies", (*broken).goAsync)
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		var names []string
		for _, i := range order {
			names = append(names, []string{"primary", "current", "stale"}[i])
		}
		b.in("all nodes, started as "+strings.Join(names, ", "), func(b *broken) { b.killAll(order) })
	}
}

// loseQuorum kills the hosts of both standbys. Nobody vouches for the primary any more, so it must stop by itself, say
// what is missing, and go on when one of them is back.
func (b *broken) loseQuorum() {
	before := b.healthy()
	survivor := b.lab.Node(before.Primary)
	others := b.except(survivor)
	lone := startLone(b.T, b.lab, survivor, "local")
	was, watch := b.trio(survivor), b.watchGuard(survivor)
	lost := time.Now()
	if err := b.lab.KillHosts(others...); err != nil {
		b.Fatal(err)
	}
	cut := guard.Now()
	b.await("the guard has killed Postgres", func() bool { return !lives(was.postmaster) })
	killed := time.Since(lost)
	b.Logf("quorum lost: the last write was taken %s after that (it waited for no copies), Postgres killed %s after it",
		lone.last().Sub(lost).Round(time.Millisecond), killed.Round(time.Millisecond))
	watch.withinTheLease(before, cut, lone)
	b.saysWhatIsMissing(survivor, others)

	back := time.Now()
	if err := b.lab.ReturnHost(b.Context(), others[0]); err != nil {
		b.Fatal(err)
	}
	var quorum time.Time
	b.await("clients can write again", func() bool {
		if status, _ := b.ask(survivor, "status"); quorum.IsZero() && !strings.Contains(status, "No quorum") {
			quorum = time.Now()
		}
		return b.ackedAfter(back)
	})
	b.Logf("quorum back: writable %s after the daemon of %s was started, %s after status said that there is a quorum",
		time.Since(back).Round(time.Millisecond), others[0].Name, time.Since(quorum).Round(time.Millisecond))
	if err := b.lab.ReturnHost(b.Context(), others[1]); err != nil {
		b.Fatal(err)
	}
	after := b.healthy()
	if ms := overlap(b.writers.kept(b.T, b.lab.Node(after.Primary), nothing)); ms > 0 {
		b.Errorf("two nodes took writes at once, for %.1f ms", ms)
	}
}

// except are the other nodes.
func (b *broken) except(n *lab.Node) (others []*lab.Node) {
	for _, o := range b.lab.Nodes {
		if o != n {
			others = append(others, o)
		}
	}
	return others
}

// recovering is what the node's Postgres says of itself: t, f, or nothing if it does not answer.
func (b *broken) recovering(n *lab.Node) string {
	c, err := dial(b.lab, n)
	if err != nil {
		return ""
	}
	defer hang(c)
	rows, err := run1(c, "SELECT pg_is_in_recovery()")
	if err != nil || len(rows) != 1 {
		return ""
	}
	return rows[0]
}

// ask runs a verb of the program against the node's daemon and returns what it says and its exit code.
func (b *broken) ask(n *lab.Node, verb ...string) (string, int) {
	b.Helper()
	cmd := exec.Command(quorate.exe, append(verb, "--socket", n.Socket())...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		b.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// saysWhatIsMissing: status ends with the code for no quorum and names who is away, and explain does, too.
func (b *broken) saysWhatIsMissing(n *lab.Node, away []*lab.Node) {
	b.Helper()
	status, code := "", 0
	b.await("status says that there is no quorum", func() bool {
		status, code = b.ask(n, "status")
		return code == 4
	})
	b.Logf("status:\n%s", status)
	explain, _ := b.ask(n, "explain")
	b.Logf("explain:\n%s", explain)
	if !strings.Contains(status, "No quorum") || strings.Contains(status, "lease held") {
		b.Errorf("status does not say that there is no quorum:\n%s", status)
	}
	for _, o := range away {
		if !strings.Contains(status, o.Name+": last heard") {
			b.Errorf("status does not say that %s is away:\n%s", o.Name, status)
		}
	}
}

// ackedAfter says whether a write that began after that time was acknowledged.
func (b *broken) ackedAfter(since time.Time) bool {
	b.writers.mu.Lock()
	defer b.writers.mu.Unlock()
	all := b.writers.all
	return len(all) > 0 && all[len(all)-1].began.After(since)
}

// lone writes on one node, in one session, until a write fails: so it notices how long that one takes writes at all.
type lone struct {
	mu    sync.Mutex
	at    time.Time     // the last acknowledgement came
	began time.Duration // the write that it was for began, on the clock of guards
	err   error
}

// loneBox is how long one of its writes may take. It is long, because a busy machine is no failure.
const loneBox = 5 * time.Second

func (l *lone) last() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.at
}

// lastBegan is when the last write began that was acknowledged, on the clock of guards.
func (l *lone) lastBegan() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.began
}

// failed is why it ended, nil while it writes.
func (l *lone) failed() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// startLone starts one with that synchronous_commit: local waits for no copies.
func startLone(t *testing.T, on *lab.Lab, n *lab.Node, commit string) *lone {
	t.Helper()
	c, err := dial(on, n)
	if err != nil {
		t.Fatal(err)
	}
	l := &lone{}
	if _, err := run1(c, "CREATE TABLE IF NOT EXISTS lone (at timestamptz); SET synchronous_commit = "+commit); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		defer hang(c)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			began := guard.Now()
			_, err := runWithin(c, loneBox, "INSERT INTO lone VALUES (clock_timestamp())")
			l.mu.Lock()
			if l.err = err; err == nil {
				l.at, l.began = time.Now(), began
			}
			l.mu.Unlock()
			if err != nil {
				return
			}
			<-tick.C
		}
	})
	t.Cleanup(func() { stop(); all.Wait() })
	return l
}
