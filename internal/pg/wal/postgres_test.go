package wal_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/internal/pg/wal"
	"github.com/quorate/quorate/internal/pgtest"
)

// envCrashes sets how many killed directories are compared with the server's own opinion, over all cases.
const envCrashes = "QUORATE_WAL_CRASHES"

// crashes is that number for each of so many cases.
func crashes(t *testing.T, cases int) int {
	total := 24
	if text := os.Getenv(envCrashes); text != "" {
		var err error
		if total, err = strconv.Atoi(text); err != nil {
			t.Fatalf("%s: %v", envCrashes, err)
		}
	}
	return max(1, (total+cases-1)/cases)
}

// directory serves the segments of a real pg_wal.
type directory struct {
	path    string
	segSize uint64
}

func (d directory) Open(tli pg.Timeline, start pg.LSN) (io.ReaderAt, bool, error) {
	file, err := os.Open(filepath.Join(d.path, pg.SegmentName(tli, start, d.segSize)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return file, err == nil, err
}

// TestAgainstPostgres kills real servers under load and compares our end with the last record
// that pg_waldump prints, with the position where a standby has replayed everything, and with
// the switch point that a promotion then writes into the new timeline's history.
func TestAgainstPostgres(t *testing.T) {
	cases := []struct {
		name  string
		init  []string
		load  []string
		after []string // executed one by one just before the kill, when the load is over
		// during begins when the load is over and should be cut short by the kill.
		during string
	}{
		{name: "small commits", load: []string{
			"INSERT INTO load SELECT g, repeat('x', 50 + g) FROM generate_series(1, 20) g",
			"SELECT pg_logical_emit_message(true, 'q', 'small')",
		}},
		{name: "big records in segments of 1 MB", init: []string{"--wal-segsize=1"}, load: []string{
			"SELECT pg_logical_emit_message(false, 'q', repeat('y', 3000000))",
			"SELECT pg_logical_emit_message(true, 'q', repeat('z', 70000))",
			"INSERT INTO load VALUES (1, repeat('x', 3000))",
		}},
		{name: "in the middle of a record over many segments", init: []string{"--wal-segsize=1"}, load: []string{
			"INSERT INTO load VALUES (1, repeat('x', 500))",
		}, during: "SELECT pg_logical_emit_message(false, 'q', repeat('y', 60000000))"},
		{name: "just after a segment switch", init: []string{"--wal-segsize=1"}, load: []string{
			"INSERT INTO load VALUES (1, repeat('x', 500))",
			"SELECT pg_switch_wal()",
		}, after: []string{"SELECT pg_logical_emit_message(true, 'q', 'x')", "SELECT pg_switch_wal()"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cluster := pgtest.Start(t, pgtest.Options{InitArgs: c.init, Settings: map[string]string{
				// Small buffers make the server write big records in pieces.
				"wal_buffers": "32kB", "fsync": "off", "max_wal_size": "64MB", "wal_keep_size": "64MB",
			}})
			cluster.Exec("CREATE TABLE load (id int, v text)")
			for crash := range crashes(t, len(cases)) {
				cluster.Exec("CHECKPOINT") // so that pg_waldump has little to print
				killUnderLoad(t, cluster, c.load, c.after, c.during)
				end := findEnd(t, cluster)
				t.Logf("crash %d: %s on timeline %d, last record %s, %d records, %s: %s", crash, end.LSN, end.Timeline, end.LastRecord, end.Records, end.Stop, end.Detail)
				compareWithWaldump(t, cluster, end)
				if crash%2 == 0 {
					promoteAndCompare(t, cluster, end)
				} else {
					// Crash recovery marks a record that was cut short as overwritten.
					cluster.Run()
				}
			}
		})
	}
}

// killUnderLoad runs the statements on several connections and kills the server at a random
// moment of that.
func killUnderLoad(t *testing.T, c *pgtest.Cluster, load, after []string, during string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var done atomic.Int64
	var workers sync.WaitGroup
	for i := range 3 {
		workers.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				if _, err := c.TryExec(ctx, load[n%len(load)]); err != nil {
					return // the server was killed
				}
				done.Add(1)
			}
		})
	}
	limit := int64(3 + rand.IntN(20))
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for done.Load() < limit {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%d of %d statements in 30 s", done.Load(), limit)
		}
	}
	if len(after) > 0 || during != "" {
		cancel()
		workers.Wait()
	}
	if during != "" {
		before := segments(t, c)
		workers.Go(func() { _, _ = c.TryExec(t.Context(), during) }) // the kill ends it
		for segments(t, c) < before+5 {
			select {
			case <-tick.C:
			case <-deadline:
				t.Fatal("the big record does not begin")
			}
		}
	}
	for _, sql := range after {
		c.Exec(sql)
	}
	if len(after) == 0 && during == "" {
		// Not always just after a statement's end.
		<-time.After(time.Duration(rand.IntN(20)) * time.Millisecond)
	}
	c.Kill()
	workers.Wait()
}

// segments counts the files in pg_wal.
func segments(t *testing.T, c *pgtest.Cluster) int {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(c.Dir, "pg_wal"))
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// describeLog reads what the walk needs from a stopped cluster's directory.
func describeLog(t *testing.T, c *pgtest.Cluster) (wal.Log, pg.Control) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(c.Dir, "global/pg_control"))
	if err != nil {
		t.Fatal(err)
	}
	control, err := pg.ParseControl(content)
	if err != nil {
		t.Fatal(err)
	}
	log := wal.Log{
		Segments:    directory{filepath.Join(c.Dir, "pg_wal"), control.WalSegmentSize},
		SegmentSize: control.WalSegmentSize, BlockSize: control.WalBlockSize, SystemID: control.SystemID,
		Timeline: control.CheckpointTimeline,
	}
	// As recovery_target_timeline = latest does: the newest history that is there.
	for tli := control.CheckpointTimeline; ; tli++ {
		content, err := os.ReadFile(filepath.Join(c.Dir, "pg_wal", pg.HistoryFileName(tli)))
		if errors.Is(err, fs.ErrNotExist) && tli == control.CheckpointTimeline {
			continue
		}
		if err != nil {
			return log, control
		}
		if log.History, err = pg.ParseHistory(content, tli); err != nil {
			t.Fatal(err)
		}
		log.Timeline = tli
	}
}

func findEnd(t *testing.T, c *pgtest.Cluster) wal.End {
	t.Helper()
	log, control := describeLog(t, c)
	end, err := log.FindEnd(control.Redo)
	if err != nil {
		t.Fatal(err)
	}
	if end.LastRecord == 0 {
		t.Fatalf("no record at redo %s: %+v", control.Redo, end)
	}
	// From any later record it must be the same.
	again, err := log.FindEnd(end.LastRecord)
	if err != nil || again.LSN != end.LSN || again.LastRecord != end.LastRecord {
		t.Fatalf("from the last record %+v, %v; from redo %+v", again, err, end)
	}
	// And from the end there must be nothing more.
	if none, err := log.FindEnd(end.LSN); err != nil || none.LSN != end.LSN || none.LastRecord != 0 {
		t.Fatalf("from the end %+v, %v; from redo %+v", none, err, end)
	}
	return end
}

// begunSegments is a directory with copies of the files of pg_wal that have a header. pg_waldump takes the size of segments from
// whichever it finds first, and a kill may leave one that is empty yet.
func begunSegments(t *testing.T, c *pgtest.Cluster) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "quorate-waldump-") // the servers' user may not look into t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(c.Dir, "pg_wal", "0*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(content) < 2 || content[0] == 0 && content[1] == 0 {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// compareWithWaldump runs pg_waldump on the end's timeline. It does not follow a switch, so it
// begins at the last switch point or at redo, whichever is later.
func compareWithWaldump(t *testing.T, c *pgtest.Cluster, end wal.End) {
	t.Helper()
	log, control := describeLog(t, c)
	start := control.Redo
	for _, entry := range log.History {
		if entry.Timeline < end.Timeline {
			start = max(start, entry.End)
		}
	}
	cmd := c.Command("pg_waldump", "-p", begunSegments(t, c), "-t", fmt.Sprint(end.Timeline), "-s", start.String())
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	last := lastDumped(t, out)
	if err := cmd.Wait(); err == nil || !strings.Contains(complaint.String(), "error") {
		t.Fatalf("pg_waldump should complain about the end: %v, %s", err, &complaint)
	}
	if last != end.LastRecord {
		t.Fatalf("pg_waldump's last record is at %s (%s), ours at %s (end %s, %s: %s)", last, &complaint, end.LastRecord, end.LSN, end.Stop, end.Detail)
	}
}

// lastDumped returns where the last record in pg_waldump's output begins. Its lines can be
// megabytes long, with what matters at the beginning.
func lastDumped(t *testing.T, out io.Reader) pg.LSN {
	t.Helper()
	var last pg.LSN
	lines := bufio.NewReaderSize(out, 1<<16)
	for more := false; ; {
		head, isPrefix, err := lines.ReadLine()
		if errors.Is(err, io.EOF) {
			return last
		}
		if err != nil {
			t.Fatal(err)
		}
		if !more {
			_, rest, ok := strings.Cut(string(head[:min(len(head), 200)]), " lsn: ")
			position, _, comma := strings.Cut(rest, ",")
			if !ok || !comma {
				t.Fatalf("no position in %q", head[:min(len(head), 200)])
			}
			last = mustLSN(t, position)
		}
		more = isPrefix
	}
}

// promoteAndCompare starts the directory as a standby of nobody: it replays all there is. Then
// it promotes it: the new history must say that the old timeline ended where we said.
func promoteAndCompare(t *testing.T, c *pgtest.Cluster, end wal.End) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(c.Dir, "standby.signal"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	c.Run()
	waitReplayed(t, c, end.LSN)
	if got := c.Exec("SELECT pg_promote()"); got != "t" {
		t.Fatalf("pg_promote returned %q", got)
	}
	tli := end.Timeline + 1
	content, err := os.ReadFile(filepath.Join(c.Dir, "pg_wal", pg.HistoryFileName(tli)))
	if err != nil {
		t.Fatal(err)
	}
	history, err := pg.ParseHistory(content, tli)
	if err != nil {
		t.Fatal(err)
	}
	if got := history[len(history)-1]; got.Timeline != end.Timeline || got.End != end.LSN {
		t.Fatalf("the server says that timeline %d ended at %s, we said timeline %d at %s", got.Timeline, got.End, end.Timeline, end.LSN)
	}
}

// waitReplayed polls until the standby has replayed to want.
func waitReplayed(t *testing.T, c *pgtest.Cluster, want pg.LSN) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	var last string
	for {
		if last = c.Exec("SELECT pg_last_wal_replay_lsn()"); last != "" && mustLSN(t, last) == want {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("the standby replayed to %s, we said %s", last, want)
		}
	}
}

func mustLSN(t *testing.T, text string) pg.LSN {
	t.Helper()
	lsn, err := pg.ParseLSN(text)
	if err != nil {
		t.Fatal(err)
	}
	return lsn
}
