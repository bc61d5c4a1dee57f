package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/lab"
)

// readers read one table on every node all the time, over its unix socket, and remember what they have ever seen.
type readers struct {
	mu   sync.Mutex
	seen map[string]string // row to the node that showed it first
	stop func()
}

func startReaders(t *testing.T, l *lab.Lab, nodes ...*lab.Node) *readers {
	ctx, cancel := context.WithCancel(context.Background())
	r := &readers{seen: map[string]string{}}
	var all sync.WaitGroup
	for _, n := range nodes {
		all.Go(func() { r.read(ctx, l, n) })
	}
	r.stop = sync.OnceFunc(func() { cancel(); all.Wait() })
	t.Cleanup(r.stop)
	return r
}

// read keeps a session as long as it lasts: one that outlives a promotion could read what a new one may not.
func (r *readers) read(ctx context.Context, l *lab.Lab, n *lab.Node) {
	tick := time.NewTicker(15 * time.Millisecond)
	defer tick.Stop()
	var c *pgconn.PgConn
	for {
		if c == nil {
			c, _ = dial(l, n) // it may be down; tried again at the next tick
		}
		if c != nil {
			rows, err := run1(c, "SELECT id::text FROM phantom")
			r.mu.Lock()
			for _, row := range rows {
				if r.seen[row] == "" {
					r.seen[row] = n.Name
				}
			}
			r.mu.Unlock()
			if err != nil {
				_ = c.Conn().Close()
				c = nil
			}
		}
		select {
		case <-ctx.Done():
			if c != nil {
				_ = c.Conn().Close()
			}
			return
		case <-tick.C:
		}
	}
}

// pauseReceiver stops the walreceiver of a node's Postgres, so that it goes on but gets nothing more, and returns its number.
func pauseReceiver(t *testing.T, l *lab.Lab, n *lab.Node) (pid int) {
	t.Helper()
	postmaster, err := l.Postmaster(n)
	if err != nil {
		t.Fatal(err)
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", postmaster, postmaster))
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range strings.Fields(string(children)) {
		title, err := os.ReadFile(filepath.Join("/proc", child, "cmdline"))
		if err != nil || !strings.Contains(string(title), "walreceiver") {
			continue
		}
		pid, err := strconv.Atoi(child)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	t.Fatalf("%s has no walreceiver", n.Name)
	return 0
}

// TestNothingReadIsTakenBack crashes a primary that has committed what no standby got, in a cluster whose standbys have
// stopped receiving. Whatever anybody reads from then on, on any node, must be there in the end.
func TestNothingReadIsTakenBack(t *testing.T) {
	b := &broken{T: t, lab: up(t, lab.Options{})}
	before := b.healthy()
	primary := b.lab.Node(before.Primary)
	c, err := dial(b.lab, primary)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Conn().Close() }()
	if _, err := run1(c, "CREATE TABLE phantom (id int); INSERT INTO phantom VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	var nodes []*lab.Node
	for name := range before.Nodes {
		nodes = append(nodes, b.lab.Node(name))
	}
	r := startReaders(t, b.lab, nodes...)
	for _, n := range nodes {
		if n != primary {
			pauseReceiver(t, b.lab, n)
		}
	}
	// Flushed here, acknowledged by nobody: unknown to its client.
	if _, err := run1(c, "INSERT INTO phantom VALUES (2)"); err == nil {
		t.Fatal("acknowledged though nobody receives")
	}
	// The session that waits: SIGQUIT ends the others before any of them could show the row, where a dead postmaster would
	// leave them running for a moment.
	if err := syscall.Kill(int(c.PID()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	b.await("clients can write again", func() bool {
		states, _ := b.lab.Look(t.Context())
		for _, s := range states {
			if s.Epoch <= before.Epoch || s.Primary == "" {
				continue
			}
			c, err := dial(b.lab, b.lab.Node(s.Primary))
			if err != nil {
				continue
			}
			_, err = run1(c, "INSERT INTO phantom VALUES (3)")
			_ = c.Conn().Close()
			if err == nil {
				return true
			}
		}
		return false
	})
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	after, err := b.lab.Heal(ctx)
	if err != nil {
		t.Fatal(err)
	}
	r.stop()
	end, err := dial(b.lab, b.lab.Node(after.Primary))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = end.Conn().Close() }()
	rows, err := run1(end, "SELECT id::text FROM phantom")
	if err != nil {
		t.Fatal(err)
	}
	there := strings.Join(rows, " ")
	for row, node := range r.seen {
		if !strings.Contains(there, row) {
			t.Errorf("row %s was read on %s and is gone; there are %s\n%s", row, node, there, b.lab.Report())
		}
	}
	t.Logf("%s -> %s; rows %s, read %v", before.Primary, after.Primary, there, r.seen)
}
