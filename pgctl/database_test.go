package pgctl

import (
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/guard"
)

// doorman answers like a server up to the point where a session is ready. Databases in gone are not there.
type doorman struct {
	mu    sync.Mutex
	gone  map[string]string // with the SQLSTATE that it refuses them by
	asked []string
}

func (d *doorman) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	b := pgproto3.NewBackend(conn, conn)
	hello, err := b.ReceiveStartupMessage()
	start, ok := hello.(*pgproto3.StartupMessage)
	if err != nil || !ok {
		return
	}
	database := start.Parameters["database"]
	d.mu.Lock()
	d.asked = append(d.asked, database)
	code := d.gone[database]
	d.mu.Unlock()
	if code != "" {
		b.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: code, Message: "not today"})
		_ = b.Flush()
		return
	}
	b.Send(&pgproto3.AuthenticationOk{})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	_ = b.Flush()
	_, _ = b.Receive() // until the client says goodbye
}

// questions returns which databases were asked for since the last call.
func (d *doorman) questions() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.asked
	d.asked = nil
	return out
}

// idleGuard has a record and nothing else.
type idleGuard struct{ Guard }

func (idleGuard) Record() guard.View { return guard.View{} }

func behindADoor(t *testing.T) (*Instance, *doorman) {
	t.Helper()
	i := &Instance{cfg: Config{SocketDir: t.TempDir(), Port: 5432}, deps: Deps{Guard: idleGuard{}}, log: hclog.NewNullLogger()}
	l, err := net.Listen("unix", i.cfg.SocketPath())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	d := &doorman{gone: map[string]string{}}
	go func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			go d.serve(conn)
		}
	}()
	return i, d
}

// TestConnectWithoutItsDatabase: where postgres was dropped the agent works in template1, does not look for the other with every
// session, and leaves when that is back.
func TestConnectWithoutItsDatabase(t *testing.T) {
	i, d := behindADoor(t)
	open := func() *session {
		t.Helper()
		s, err := i.connect(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.close)
		return s
	}
	if s := open(); s.spare || !slices.Equal(d.questions(), []string{"postgres"}) {
		t.Fatal("it does not use its own database")
	}
	d.mu.Lock()
	d.gone["postgres"] = stateNoDatabase
	d.mu.Unlock()
	spare := open()
	if !spare.spare || !slices.Equal(d.questions(), []string{"postgres", "template1"}) || i.outstays(spare) {
		t.Fatal("it does not turn to template1")
	}
	if s := open(); !s.spare || !slices.Equal(d.questions(), []string{"template1"}) {
		t.Fatal("it looks for the lost one with every session")
	}
	d.mu.Lock()
	delete(d.gone, "postgres")
	d.mu.Unlock()
	i.note(func() { i.missing = i.missing.Add(-databaseAgain) })
	if s := open(); s.spare || !slices.Equal(d.questions(), []string{"postgres"}) || i.outstays(s) || !i.outstays(spare) {
		t.Fatal("it does not come back")
	}
}

// TestTheLookComesBack: the session by which the agent looks leaves template1 as soon as its own database is back.
func TestTheLookComesBack(t *testing.T) {
	i, d := behindADoor(t)
	d.gone["postgres"] = stateNoDatabase
	spare, err := i.connect(t.Context())
	if err != nil || !spare.spare {
		t.Fatalf("it does not turn to template1: %v", err)
	}
	i.watch = spare
	d.mu.Lock()
	delete(d.gone, "postgres")
	d.mu.Unlock()
	i.note(func() { i.missing = time.Time{} })
	d.questions()
	_, err = i.query(t.Context()) // Nobody answers at this door.
	if got := d.questions(); err == nil || !slices.Equal(got, []string{"postgres"}) || i.watch == spare {
		t.Errorf("%q, %v", got, err)
	}
	i.watch.close()
}

// TestConnectRefused: any other refusal is what it is.
func TestConnectRefused(t *testing.T) {
	i, d := behindADoor(t)
	for _, code := range []string{stateTooMany, stateCannotConnect, "28000"} {
		d.gone["postgres"] = code
		if _, err := i.connect(t.Context()); sqlState(err) != code || !slices.Equal(d.questions(), []string{"postgres"}) || !i.withoutDatabase().IsZero() {
			t.Errorf("%s: %v", code, err)
		}
	}
}

// TestADatabaseThatIsDropped: the agent sees the server, and says what it lacks, until somebody makes it again.
func TestADatabaseThatIsDropped(t *testing.T) {
	c, n := alone(t)
	n.drive(c.want(n), "a primary", isRun(pg.RunPrimary))
	n.sqlIn("template1", "DROP DATABASE postgres WITH (FORCE)")
	eventually(t, "a look without its database", func() bool {
		n.lookAgain()
		return n.Status(t.Context()).Run == pg.RunPrimary && !n.withoutDatabase().IsZero()
	})
	if got, err := n.Warnings(t.Context(), true); err != nil || !slices.Contains(got, databaseMissing) {
		t.Errorf("%q, %v", got, err)
	}
	n.sqlIn("template1", "CREATE DATABASE postgres TEMPLATE template0")
	n.note(func() { n.missing = time.Now().Add(-databaseAgain) })
	if got, err := n.Warnings(t.Context(), true); err != nil || len(got) > 0 {
		t.Errorf("when it is back: %q, %v", got, err)
	}
	n.lookAgain()
	if s := n.Status(t.Context()); s.Run != pg.RunPrimary || n.watch.spare {
		t.Errorf("it sees %s, and stays in template1: %t", s.Run, n.watch.spare)
	}
}
