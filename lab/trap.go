package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/lab/history"
	"github.com/quorate/quorate/lab/load"
	"github.com/quorate/quorate/lab/nemesis"
)

// handLimit is how long a server that is started by hand may take to answer, and to end.
const handLimit = 5 * time.Second

// byHand is what a round had somebody start beside the daemons, and what a busy session was told.
type byHand struct {
	mu      sync.Mutex
	started map[*Node]*exec.Cmd
	busy    []history.Write
}

// trap is what only traps do; nil for what others do.
func (t *turn) trap(do nemesis.Do) func(context.Context, *Node) error {
	replay := func(sql string) func(context.Context, *Node) error {
		return func(ctx context.Context, n *Node) error { return t.c.l.tell(ctx, n, sql) }
	}
	return map[nemesis.Do]func(context.Context, *Node) error{
		nemesis.Hold: replay("SELECT pg_wal_replay_pause()"), nemesis.Play: replay("SELECT pg_wal_replay_resume()"),
		nemesis.Begin: t.startByHand, nemesis.End: t.endByHand, nemesis.Busy: t.keepBusy,
	}[do]
}

// tell runs a statement of the superuser.
func (l *Lab) tell(ctx context.Context, n *Node, sql string) error {
	conn, err := l.connect(ctx, n)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("%s on %s: %w", sql, n.Name, err)
	}
	return nil
}

// startByHand starts the node's Postgres as its last start was, by nobody's leave, and waits until it answers. What is left of
// an earlier one may keep it from starting for a while.
func (t *turn) startByHand(ctx context.Context, n *Node) error {
	ctx, stop := context.WithTimeout(ctx, handLimit)
	defer stop()
	return until(ctx, "the Postgres of "+n.Name+" that was started by hand answers", func() (bool, error) {
		if !t.hands.runs(n) {
			if err := t.launchByHand(n); err != nil {
				return false, err
			}
		}
		conn, err := t.c.l.connect(ctx, n)
		if err != nil {
			return false, err
		}
		return true, conn.Close(ctx)
	})
}

func (t *turn) launchByHand(n *Node) error {
	opts, err := os.ReadFile(filepath.Join(n.PGData(), "postmaster.opts"))
	if err != nil {
		return fmt.Errorf("read how Postgres was started: %w", err)
	}
	argv := commandOf(string(opts))
	if len(argv) == 0 {
		return fmt.Errorf("postmaster.opts of %s is %q", n.Name, opts)
	}
	var dir syscall.Stat_t
	if err := syscall.Stat(n.PGData(), &dir); err != nil {
		return fmt.Errorf("see whose the data directory of %s is: %w", n.Name, err)
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = n.PGData(), environment()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if int(dir.Uid) != os.Getuid() {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: dir.Uid, Gid: dir.Gid}
	}
	if err := t.c.l.launch(cmd, t.c.l.namespace(n), n.Name); err != nil {
		return fmt.Errorf("start the Postgres of %s by hand: %w", n.Name, err)
	}
	t.hands.add(n, cmd)
	go func() { _ = cmd.Wait(); t.hands.gone(n, cmd) }() // only to reap it
	return nil
}

// commandOf reads postmaster.opts: the program, and each argument in quotation marks.
func commandOf(opts string) []string {
	program, args, some := strings.Cut(strings.TrimSpace(opts), ` "`)
	switch {
	case program == "":
		return nil
	case !some:
		return []string{program}
	}
	return append([]string{program}, strings.Split(strings.TrimSuffix(args, `"`), `" "`)...)
}

// endByHand ends what was started by hand on the node: at once, as its backends would be in the agent's way.
func (t *turn) endByHand(ctx context.Context, n *Node) error {
	t.hands.mu.Lock()
	cmd := t.hands.started[n]
	t.hands.mu.Unlock()
	if cmd == nil {
		return fmt.Errorf("%w: nothing runs there by hand", errNobody)
	}
	_ = cmd.Process.Signal(syscall.SIGQUIT) // it may have ended
	ctx, stop := context.WithTimeout(ctx, handLimit)
	defer stop()
	ended := func() (bool, error) { return !t.hands.runs(n), nil }
	return until(ctx, "the Postgres of "+n.Name+" that was started by hand has ended", ended)
}

// endAllByHand ends what a trap could not.
func (t *turn) endAllByHand(ctx context.Context) error {
	var errs []error
	for _, n := range t.c.l.Nodes {
		if t.hands.runs(n) {
			errs = append(errs, t.endByHand(ctx, n))
		}
	}
	return errors.Join(errs...)
}

func (h *byHand) runs(n *Node) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.started[n] != nil
}

func (h *byHand) add(n *Node, cmd *exec.Cmd) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.started == nil {
		h.started = map[*Node]*exec.Cmd{}
	}
	h.started[n] = cmd
}

func (h *byHand) gone(n *Node, cmd *exec.Cmd) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.started[n] == cmd {
		delete(h.started, n)
	}
}

// busyLoop commits until ten seconds are over, and says so after each. It never waits: neither for standbys, nor for its client,
// nor for time, since whoever waits in Postgres takes notice of the postmaster's end.
const busyLoop = `DO $$ DECLARE enough timestamptz := clock_timestamp() + interval '10 s'; BEGIN
 WHILE clock_timestamp() < enough LOOP
  PERFORM pg_logical_emit_message(true, 'lab', 'busy');
  COMMIT;
  RAISE NOTICE '% %', substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8), extract(epoch FROM clock_timestamp());
 END LOOP; END $$`

// keepBusy has a session of the node commit without a pause, and keeps what it said; it returns when that runs.
func (t *turn) keepBusy(ctx context.Context, n *Node) error {
	c, err := t.c.l.sessionOf(n)
	if err != nil {
		return err
	}
	c.RuntimeParams["synchronous_commit"] = "local"
	running := make(chan struct{})
	first := sync.OnceFunc(func() { close(running) })
	last := load.Now()
	ahead := last - time.Now().UnixNano() // of the clock of histories before the server's
	c.OnNotice = func(_ *pgconn.PgConn, m *pgconn.Notice) {
		w, ok := busyWrite(m.Message, n.Name, last, load.Now(), ahead)
		if !ok {
			return
		}
		last = w.End
		t.hands.mu.Lock()
		t.hands.busy = append(t.hands.busy, w)
		t.hands.mu.Unlock()
		first()
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", n.Name, err)
	}
	ended := make(chan error, 1)
	t.beside.Go(func() {
		_, err := conn.PgConn().Exec(ctx, busyLoop).ReadAll()
		_ = conn.Close(context.WithoutCancel(ctx)) // it is to be killed
		ended <- err
	})
	select {
	case <-running:
		return nil
	case err := <-ended:
		return fmt.Errorf("keep a session of %s busy: %w", n.Name, err)
	}
}

// busyWrite reads what a busy session said: the timeline that it wrote on, and when by the server's clock. What was said late
// happened when it says.
func busyWrite(said, node string, last, now, ahead int64) (w history.Write, ok bool) {
	timeline, at, _ := strings.Cut(said, " ")
	tli, errTimeline := strconv.ParseUint(timeline, 16, 32)
	seconds, errAt := strconv.ParseFloat(at, 64)
	if errTimeline != nil || errAt != nil {
		return w, false
	}
	end := min(now, int64(seconds*1e9)+ahead)
	w = history.Write{Node: node, Prober: true, Timeline: uint32(tli), Start: min(last, end), End: end, Outcome: history.OK}
	return w, true
}

// busyWrites are those of the round. They have no number, so that they count for who wrote and for nothing else.
func (t *turn) busyWrites() []history.Write {
	t.hands.mu.Lock()
	defer t.hands.mu.Unlock()
	return t.hands.busy
}
