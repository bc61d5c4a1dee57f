package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/lab"
	"github.com/quorate/quorate/lab/history"
)

// writeBox is how long a write may take; what takes longer is unknown, not failed.
const writeBox = 500 * time.Millisecond

// acked is a write that a node acknowledged.
type acked struct {
	id        int64
	node      string
	timeline  uint32
	began, at time.Time
}

// writers write on every data node at once, over its unix socket, for as long as a test runs: whoever can acknowledge
// does, whatever the agents and guards of the nodes believe.
type writers struct {
	lab  *lab.Lab
	ids  atomic.Int64
	mu   sync.Mutex
	all  []acked
	stop func()
}

// insertFault returns the timeline that it is written on, eight hex digits.
const insertFault = "INSERT INTO faults VALUES (%d, '%s') RETURNING left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"

func timelineOf(hex string) uint32 {
	n, _ := strconv.ParseUint(hex, 16, 32) // zero is no timeline
	return uint32(n)
}

// dial opens a session through the node's unix socket. No context ends what is done in it: pgconn would send a cancel,
// and that acknowledges a commit that waits for a standby.
func dial(l *lab.Lab, n *lab.Node) (*pgconn.PgConn, error) {
	ctx, stop := context.WithTimeout(context.Background(), writeBox)
	defer stop()
	_, port, _ := strings.Cut(n.Postgres, ":")
	c, err := pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%s user=postgres password=%s dbname=postgres sslmode=disable", n.PGSocket(), port, l.Password))
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", n.Name, err)
	}
	return c, nil
}

// run1 executes sql within the box and returns the rows' first columns.
func run1(c *pgconn.PgConn, sql string) ([]string, error) { return runWithin(c, writeBox, sql) }

func runWithin(c *pgconn.PgConn, box time.Duration, sql string) ([]string, error) {
	if err := c.Conn().SetDeadline(time.Now().Add(box)); err != nil {
		return nil, err
	}
	results, err := c.Exec(context.Background(), sql).ReadAll()
	var out []string
	for _, r := range results {
		for _, row := range r.Rows {
			out = append(out, string(row[0]))
		}
	}
	return out, err
}

// hang closes a connection without a word, so that nothing is waited for.
func hang(c *pgconn.PgConn) { _ = c.Conn().Close() }

func startWriters(t *testing.T, l *lab.Lab, primary *lab.Node) *writers {
	t.Helper()
	c, err := dial(l, primary)
	if err != nil {
		t.Fatal(err)
	}
	defer hang(c)
	if _, err := run1(c, "CREATE TABLE faults (id bigint PRIMARY KEY, node text NOT NULL)"); err != nil {
		t.Fatal(err)
	}
	w := &writers{lab: l}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, n := range l.Nodes {
		wg.Go(func() { w.write(ctx, n) })
	}
	w.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(w.stop)
	return w
}

func (w *writers) write(ctx context.Context, n *lab.Node) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var c *pgconn.PgConn
	for ctx.Err() == nil {
		var err error
		if c == nil {
			c, err = dial(w.lab, n)
		}
		for err == nil && ctx.Err() == nil {
			a := acked{id: w.ids.Add(1), node: n.Name, began: time.Now()}
			var rows []string
			if rows, err = run1(c, fmt.Sprintf(insertFault, a.id, a.node)); err == nil && len(rows) == 1 {
				a.at, a.timeline = time.Now(), timelineOf(rows[0])
				w.mu.Lock()
				w.all = append(w.all, a)
				w.mu.Unlock()
			}
			<-tick.C
		}
		if c != nil {
			hang(c)
			c = nil
		}
		<-tick.C
	}
}

// check is called when all is well again after a fault at that time which took the primary away from old: what was ever
// acknowledged is on the primary of now, and old acknowledged nothing that began after another node had acknowledged.
func (w *writers) check(t *testing.T, old string, since time.Time, primary *lab.Node) {
	t.Helper()
	all := w.kept(t, primary, nothing)
	var first acked
	for _, a := range all {
		if a.node != old && a.began.After(since) && (first.id == 0 || a.at.Before(first.at)) {
			first = a
		}
	}
	if first.id == 0 {
		t.Errorf("no node but %s has acknowledged anything", old)
	}
	for _, a := range all {
		if first.id != 0 && a.node == old && a.began.After(first.at) {
			t.Errorf("%s acknowledged write %d, begun %s after %s had acknowledged one", old, a.id, a.began.Sub(first.at), first.node)
		}
	}
	t.Logf("%d writes were acknowledged, all are there; %s could write %s after the fault", len(all), first.node, first.at.Sub(since).Round(time.Millisecond))
}

// nothing may be lost, which is the rule.
func nothing(acked) bool { return false }

// kept returns what was acknowledged so far, and checks that all of it is on the primary, but for what may be lost.
func (w *writers) kept(t *testing.T, primary *lab.Node, mayBeLost func(acked) bool) []acked {
	t.Helper()
	w.mu.Lock()
	all := slices.Clone(w.all)
	w.mu.Unlock()
	c, err := dial(w.lab, primary)
	if err != nil {
		t.Fatal(err)
	}
	defer hang(c)
	ids, err := run1(c, "SELECT id FROM faults")
	if err != nil {
		t.Fatal(err)
	}
	have := map[string]bool{}
	for _, id := range ids {
		have[id] = true
	}
	for _, a := range all {
		if !have[fmt.Sprint(a.id)] && !mayBeLost(a) {
			t.Errorf("write %d, acknowledged by %s on timeline %d at %s, is not on %s", a.id, a.node, a.timeline, a.at.Format(time.StampMilli), primary.Name)
		}
	}
	return all
}

// overlap is for how long two nodes acknowledged writes at once, in milliseconds.
func overlap(all []acked) float64 {
	var writes []history.Write
	for _, a := range all {
		writes = append(writes, history.Write{
			ID: a.id, Node: a.node, Timeline: a.timeline, Outcome: history.OK,
			Start: int64(a.began.Sub(all[0].began)), End: int64(a.at.Sub(all[0].began)),
		})
	}
	return history.Overlap(writes)
}
