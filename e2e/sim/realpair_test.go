package sim

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/internal/pgtest"
)

// limit bounds every wait for something that has to come. grace is how long is waited for what shall not come: longer than it took
// where it did, so that a slow machine can only make a test pass that should fail.
const (
	limit = 30 * time.Second
	grace = 2 * time.Second
)

// realPair is servers made of PostgreSQL.
type realPair struct {
	t      *testing.T
	p, s   *pgtest.Cluster
	n      int
	newest *realCommit
	acked  pg.LSN
	busy   chan struct{} // a commit of the busy session
	wedged int           // pid of a stopped backend
}

// realCommit is one under way.
type realCommit struct {
	pid  uint32
	done chan string
}

func newRealPair(t *testing.T) servers {
	r := &realPair{t: t}
	r.p = pgtest.Start(t, pgtest.Options{Settings: map[string]string{
		"wal_level": "replica", "max_wal_senders": "5", "hot_standby": "on", "wal_keep_size": "128MB", "autovacuum": "off",
		"wal_retrieve_retry_interval": "100ms", "restart_after_crash": "off", "fsync": "on",
	}})
	r.p.Exec("CREATE TABLE t (n int)")
	r.s = pgtest.Start(t, pgtest.Options{NoRun: true})
	if err := os.RemoveAll(r.s.Dir); err != nil {
		t.Fatal(err)
	}
	copied := r.s.Command("pg_basebackup", "-D", r.s.Dir, "-h", r.p.Socket, "-p", strconv.Itoa(r.p.Port), "-U", "postgres", "--checkpoint=fast")
	if out, err := copied.CombinedOutput(); err != nil {
		t.Fatalf("copy the primary: %v: %s", err, out)
	}
	r.set(r.s, "unix_socket_directories", r.s.Socket)
	r.set(r.s, "port", strconv.Itoa(r.s.Port))
	r.set(r.s, "primary_conninfo", fmt.Sprintf("host=%s port=%d user=postgres application_name=n2", r.p.Socket, r.p.Port))
	r.signal(r.s, true)
	r.s.Run()
	r.follows()
	return r
}

// set adds a setting to a server's file; the last one counts.
func (r *realPair) set(c *pgtest.Cluster, name, value string) {
	r.t.Helper()
	f, err := os.OpenFile(filepath.Join(c.Dir, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%s = '%s'\n", name, value)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// signal puts standby.signal there or takes it away.
func (r *realPair) signal(c *pgtest.Cluster, there bool) {
	r.t.Helper()
	path := filepath.Join(c.Dir, "standby.signal")
	err := os.Remove(path)
	if there {
		err = os.WriteFile(path, nil, 0o644)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		r.t.Fatal(err)
	}
}

// until waits for a state, and fails with its name.
func (r *realPair) until(what string, is func() bool) {
	r.t.Helper()
	if !r.within(limit, is) {
		r.t.Fatalf("not so within %s: %s", limit, what)
	}
}

// within says whether it comes to be so.
func (r *realPair) within(d time.Duration, is func() bool) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	over := time.After(d)
	for !is() {
		select {
		case <-over:
			return false
		case <-tick.C:
		}
	}
	return true
}

// shows asks a server that may be away.
func (r *realPair) shows(c *pgtest.Cluster, sql, want string) func() bool {
	return func() bool {
		got, err := c.TryExec(r.t.Context(), sql)
		return err == nil && got == want
	}
}

func (r *realPair) follows() {
	r.t.Helper()
	r.until("the standby streams", r.shows(r.p, "SELECT count(*) FROM pg_stat_replication WHERE application_name = 'n2' AND state = 'streaming'", "1"))
}

func (r *realPair) rule(copies int) {
	names, mode := "", "async"
	if copies > 0 {
		names, mode = "ANY "+strconv.Itoa(copies)+" (n2)", "quorum"
	}
	r.set(r.p, "synchronous_standby_names", names)
	r.p.Exec("SELECT pg_reload_conf()")
	r.until("a new session shows the rule", r.shows(r.p, "SHOW synchronous_standby_names", names))
	if copies > 0 {
		r.p.Exec("CHECKPOINT") // the checkpointer publishes that there is a rule
		r.until("the walsender knows the rule", r.shows(r.p, "SELECT sync_state FROM pg_stat_replication WHERE application_name = 'n2'", mode))
	}
}

// connect opens a session whose warnings are heard.
func (r *realPair) connect(heard func(*pgconn.Notice)) *pgconn.PgConn {
	r.t.Helper()
	cfg, err := pgconn.ParseConfig(r.p.ConnString())
	if err != nil {
		r.t.Fatal(err)
	}
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { heard(n) }
	conn, err := pgconn.ConnectConfig(r.t.Context(), cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // its server may be gone
	})
	return conn
}

func (r *realPair) commit() string {
	r.n++
	warned := false
	conn := r.connect(func(n *pgconn.Notice) { warned = warned || n.Code == "01000" })
	c := &realCommit{pid: conn.PID(), done: make(chan string, 1)}
	r.newest = c
	sql := fmt.Sprintf("INSERT INTO t VALUES (%d)", r.n)
	go func() {
		// The context is none of the test's: its end would cancel the statement, which acknowledges it.
		_, err := conn.Exec(context.Background(), sql).ReadAll()
		if err != nil || warned {
			c.done <- "unknown"
			return
		}
		c.done <- "acknowledged"
	}()
	waits := r.shows(r.p, fmt.Sprintf("SELECT wait_event FROM pg_stat_activity WHERE pid = %d", c.pid), "SyncRep")
	asked := time.Now()
	result := ""
	r.until("the commit is acknowledged, or waits for a standby", func() bool {
		select {
		case result = <-c.done:
			return true
		default:
		}
		if waits() && time.Since(asked) > grace { // with a standby that is there every commit waits for a moment
			result = "waits"
		}
		return result != ""
	})
	if result == "acknowledged" {
		r.noteAcked()
	}
	return result
}

// noteAcked remembers where the last acknowledged commit ends, or a little after.
func (r *realPair) noteAcked() {
	at, err := r.p.TryExec(r.t.Context(), "SELECT flush_lsn FROM pg_stat_replication WHERE application_name = 'n2'")
	if err != nil || at == "" {
		return
	}
	if r.acked, err = pg.ParseLSN(at); err != nil {
		r.t.Fatal(err)
	}
}

func (r *realPair) outcome() string {
	select {
	case out := <-r.newest.done:
		return out
	case <-time.After(limit):
		return "waits"
	}
}

func (r *realPair) readable() string {
	if r.within(grace, r.shows(r.p, fmt.Sprintf("SELECT count(*) FROM t WHERE n = %d", r.n), "1")) {
		return "yes"
	}
	return "no"
}

func (r *realPair) cancel() { r.p.Exec(fmt.Sprintf("SELECT pg_cancel_backend(%d)", r.newest.pid)) }

// lag makes commits due an hour after they were made, in this run and the next.
func (r *realPair) lag() {
	r.set(r.s, "recovery_min_apply_delay", "1h")
	r.s.Exec("SELECT pg_reload_conf()")
	r.until("replay is late", r.shows(r.s, "SHOW recovery_min_apply_delay", "1h"))
}

func (r *realPair) leave() {
	r.set(r.s, "primary_conninfo", "")
	r.s.Exec("SELECT pg_reload_conf()")
	r.until("a new session shows no upstream", r.shows(r.s, "SHOW primary_conninfo", ""))
}

func (r *realPair) receiver() string {
	if r.within(grace, r.shows(r.s, "SELECT count(*) FROM pg_stat_wal_receiver", "0")) {
		return "none"
	}
	return "runs"
}

func (r *realPair) endReceiver() {
	pid, err := strconv.Atoi(r.s.Exec("SELECT pid FROM pg_stat_wal_receiver"))
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGTERM)
	}
	if err != nil {
		r.t.Fatalf("end the walreceiver: %v", err)
	}
}

func (r *realPair) lose() {
	r.s.Kill()
	r.until("the primary sees that the standby is gone", r.shows(r.p, "SELECT count(*) FROM pg_stat_replication", "0"))
}

func (r *realPair) alone() {
	r.set(r.s, "primary_conninfo", "")
	r.s.Run()
}

func (r *realPair) position(function string) pg.LSN {
	text := r.s.Exec("SELECT " + function)
	if text == "" {
		return 0
	}
	at, err := pg.ParseLSN(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return at
}

func (r *realPair) received() string { return behind(r.position("pg_last_wal_receive_lsn()"), r.acked) }
func (r *realPair) replayed() string { return behind(r.position("pg_last_wal_replay_lsn()"), r.acked) }

// logEnds is how pg_waldump says where it found no record any more.
var logEnds = regexp.MustCompile(`at ([0-9A-F]+/[0-9A-F]+)`)

// log looks for the end of what is valid in the standby's log.
func (r *realPair) log() string {
	from := r.position("pg_last_wal_replay_lsn()")
	out, _ := r.s.Command("pg_waldump", "-p", filepath.Join(r.s.Dir, "pg_wal"), "-s", from.String()).CombinedOutput() // it ends with an error
	found := logEnds.FindAllStringSubmatch(string(out), -1)
	if len(found) == 0 {
		r.t.Fatalf("pg_waldump does not say where the log ends: %s", out)
	}
	at, err := pg.ParseLSN(found[len(found)-1][1])
	if err != nil {
		r.t.Fatal(err)
	}
	return behind(at, r.acked)
}

func (r *realPair) end(mode string) { r.p.Stop(mode) }

func (r *realPair) start(signal bool) string {
	r.signal(r.p, signal)
	r.p.Run()
	if r.p.Exec("SELECT pg_is_in_recovery()") == "t" {
		return "reads"
	}
	return "writes"
}

// killPostmaster makes a session commit without end and kills the postmaster beside it. It speaks at every twentieth commit only: a
// session that has to wait until its client has read, as on a busy machine, ends with its postmaster at that wait.
func (r *realPair) killPostmaster() {
	r.busy = make(chan struct{}, 1)
	conn := r.connect(func(*pgconn.Notice) {
		select {
		case r.busy <- struct{}{}:
		default:
		}
	})
	go func() { // ends when it is killed
		_ = conn.Exec(context.Background(),
			"DO $$ BEGIN LOOP FOR i IN 1..20 LOOP INSERT INTO t VALUES (0); COMMIT; END LOOP; RAISE NOTICE 'committed'; END LOOP; END $$").Close()
	}()
	r.heard("the session commits")
	pid := r.p.Pid()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
	r.until("the postmaster is gone", func() bool { return syscall.Kill(pid, 0) != nil })
}

func (r *realPair) heard(what string) {
	r.t.Helper()
	select {
	case <-r.busy:
	case <-time.After(limit):
		r.t.Fatalf("not so within %s: %s", limit, what)
	}
}

func (r *realPair) goesOn() string {
	// What was said before the kill may wait still; so many commits after it were made after it.
	for range 100 {
		select {
		case <-r.busy:
		case <-time.After(grace):
			return "end"
		}
	}
	return "go on"
}

func (r *realPair) killRest() { r.p.Kill() }

func (r *realPair) wedge() {
	conn := r.connect(func(*pgconn.Notice) {})
	r.wedged = int(conn.PID())
	if err := syscall.Kill(r.wedged, syscall.SIGSTOP); err != nil {
		r.t.Fatal(err)
	}
}

func (r *realPair) unwedge() {
	if err := syscall.Kill(r.wedged, syscall.SIGCONT); err != nil {
		r.t.Fatal(err)
	}
}

func (r *realPair) ask(string) {
	if err := syscall.Kill(r.p.Pid(), syscall.SIGINT); err != nil {
		r.t.Fatal(err)
	}
}

// crash kills a backend that has nothing to do with the wedged one.
func (r *realPair) crash() {
	conn := r.connect(func(*pgconn.Notice) {})
	if err := syscall.Kill(int(conn.PID()), syscall.SIGKILL); err != nil {
		r.t.Fatal(err)
	}
}

// ended: the pid is reaped by pgtest as soon as it ends.
func (r *realPair) ended() bool { return syscall.Kill(r.p.Pid(), 0) != nil }

func (r *realPair) there() string {
	if r.within(grace, r.ended) {
		return "gone"
	}
	return "there"
}

func (r *realPair) gone() string {
	if r.within(limit, r.ended) {
		return "gone"
	}
	return "there"
}

func (r *realPair) raise() {
	r.p.Stop("fast")
	r.set(r.p, "max_connections", "80")
	r.p.Run()
	r.follows()
}

func (r *realPair) still() string {
	// From PostgreSQL 14 on; 13 ends the server.
	if r.within(limit, r.shows(r.s, "SELECT pg_is_wal_replay_paused()", "t")) {
		return "stands still"
	}
	return "goes on"
}

func (r *realPair) restarted(enough bool) string {
	if r.s.Pid() != 0 {
		r.s.Stop("immediate")
	}
	if enough {
		r.set(r.s, "max_connections", "80")
		r.s.Run()
		r.follows()
		return "reads"
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), limit)
	defer cancel()
	cmd := r.s.Command("postgres", "-D", r.s.Dir)
	out := &strings.Builder{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		exit := (*exec.ExitError)(nil)
		if errors.As(err, &exit) && strings.Contains(out.String(), "insufficient parameter settings") {
			return "ends"
		}
		return fmt.Sprintf("fails: %v: %s", err, out)
	case <-ctx.Done():
		_ = cmd.Process.Signal(syscall.SIGQUIT) // pgtest ends what is left
		return "reads"
	}
}
