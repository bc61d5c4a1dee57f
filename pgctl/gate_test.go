package pgctl

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/rejoin"
)

func TestIsArriving(t *testing.T) {
	for title, want := range map[string]bool{
		"postgres: s/n1: app app 10.0.0.9(4711) authentication":       true,
		"postgres: s/n1: app app 10.0.0.9(4711) startup\x00\x00":      true,
		"postgres: s/n1: app app [local] initializing":                true,
		"postgres: s/n1: app app 10.0.0.9(4711) idle":                 false,
		"postgres: s/n1: quorate postgres [local] authentication":     false,
		"postgres: s/n1: startup recovering 000000010000000000000003": false,
		"postgres: s/n1: startup":                                     false,
	} {
		if got := isArriving(title, "s/n1"); got != want {
			t.Errorf("%q: %t", title, got)
		}
	}
}

// unacknowledged commits a row that nobody else has: its client waits for a standby until it gives up.
func unacknowledged(t *testing.T, n *node) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	before := n.Status(t.Context()).Flush
	if _, err := n.trySQL(ctx, "INSERT INTO t VALUES (2)"); err == nil {
		t.Fatal("a commit was acknowledged without a standby")
	}
	if after := n.Status(t.Context()).Flush; after <= before {
		t.Fatalf("nothing was flushed beyond %s", before)
	}
}

// refused checks that a client is turned away by the gate, and that quorate's own are not.
func refused(t *testing.T, c *cluster, n *node) {
	t.Helper()
	if v, err := n.trySQL(t.Context(), "SELECT count(*) FROM t"); err == nil || sqlState(err) != "28000" {
		t.Errorf("a client was let in, or failed otherwise: %q, %v", v, err)
	}
	for _, other := range c.members {
		if other == n {
			continue
		}
		if _, err := other.identify(t.Context(), n.upstream(other, c.epoch)); err != nil {
			t.Errorf("replication from %s: %v", other.name, err)
		}
	}
	s, err := n.connect(t.Context())
	if err != nil {
		t.Fatalf("the agent: %v", err)
	}
	s.close()
}

// A primary whose commit nobody else has crashes and is started again in place. Recovery makes the row visible; a client
// may see it only when the standby has it.
func TestCrashShowsNothingUnreplicated(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	c.rule(t)
	acked(n1)
	if err := n2.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	unacknowledged(t, n1)
	n1.hold(0)
	if err := n1.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}

	c.epoch = 2
	n1.hold(2)
	n1.took()
	s := n1.drive(c.want(n1), "to run behind the gate", isRun(pg.RunPrimary))
	if got, want := n1.took(), "examine start-writer mark"; got != want || !s.Gated {
		t.Errorf("n1 took %q, want %q; gated %t", got, want, s.Gated)
	}
	refused(t, c, n1)

	// An agent that ends here leaves the gate to the next one.
	n1.stopAgent()
	n1.startAgent()
	if err := n1.SetMembers(t.Context(), []Member{local("n2")}); err != nil {
		t.Fatal(err)
	}
	if s := n1.drive(c.want(n1), "the next agent", isRun(pg.RunPrimary)); !s.Gated {
		t.Error("the next agent finds the gate open")
	}
	refused(t, c, n1)

	n2.drive(c.want(n2), "to stream", streaming)
	s = n1.drive(c.want(n1), "the gate to open", func(s Status) bool { return !s.Gated })
	if len(s.Senders) != 1 || s.Senders[0].Flush < s.Opened {
		t.Errorf("the gate opened at %s with %+v", s.Opened, s.Senders)
	}
	eventually(t, "a client to be let in", func() bool {
		v, err := n1.trySQL(t.Context(), "SELECT count(*) FROM t")
		return err == nil && v == "2"
	})
	eventually(t, "the row on n2", func() bool {
		v, err := n2.trySQL(t.Context(), "SELECT count(*) FROM t")
		return err == nil && v == "2"
	})

	// In good order, and the standby is known to have all of it: no gate.
	n1.hold(0)
	if err := n1.StopFast(t.Context(), patience); err != nil {
		t.Fatal(err)
	}
	c.epoch = 3
	n1.hold(3)
	want := c.want(n1)
	stopped := n1.Status(t.Context()).Dir.Control
	want.Copies = []Copy{{Name: "n2", Timeline: 1, LSN: n2.Status(t.Context()).Flush}}
	if want.Copies[0].LSN < stopped.Checkpoint {
		t.Errorf("n2 has the log up to %s, the shutdown checkpoint is at %s", want.Copies[0].LSN, stopped.Checkpoint)
	}
	if s := n1.drive(want, "to run", isRun(pg.RunPrimary)); s.Gated {
		t.Error("the gate is closed")
	}
	if v := n1.sql("SELECT count(*) FROM t"); v != "2" {
		t.Errorf("%s rows", v)
	}
}

// arriving is a connection whose client has said who it is and never answers the question for its password.
func arriving(t *testing.T, n *node) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n.cfg.Port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	f := pgproto3.NewFrontend(conn, conn)
	f.Send(&pgproto3.StartupMessage{ProtocolVersion: pgproto3.ProtocolVersionNumber, Parameters: map[string]string{"user": "postgres", "database": "postgres"}})
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	if m, err := f.Receive(); err != nil {
		t.Fatalf("%+v, %v", m, err)
	}
	return conn
}

// A standby whose log nobody else is known to have is promoted. Who could read there is sent away first.
func TestPromotionBehindTheGate(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	c.rule(t)
	acked(n1)
	n1.hold(0)
	if err := n1.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	at := detach(t, n2, 1, 0)

	standing, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := n2.trySQL(standing, "SELECT pg_sleep(600)")
		ended <- err
	}()
	eventually(t, "the session", func() bool {
		return n2.sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'") == "1"
	})
	knocking := arriving(t, n2)

	c.epoch, c.primary, c.final = 2, n2, false
	c.target = rejoin.Branch{Timeline: 2, History: pg.History{{Timeline: 1, End: at.LSN}}}
	n2.hold(2)
	n2.took()
	if s := n2.drive(c.want(n2), "the promotion", isRun(pg.RunPrimary)); !s.Gated || s.Timeline != 2 {
		t.Errorf("%+v", s)
	}
	if got := n2.took(); !strings.HasPrefix(got, "promote") || strings.Contains(got, "open-gate") {
		t.Errorf("n2 took %q", got)
	}
	if err := <-ended; sqlState(err) != "57P01" {
		t.Errorf("the session that was there: %v", err)
	}
	if err := knocking.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := knocking.Read(make([]byte, 1024)); err != nil {
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				t.Error("the client that was connecting still is")
			}
			break
		}
	}
	refused(t, c, n2)

	c.final, c.target.History = true, pg.History{{Timeline: 1, End: switchOf(t, n2, 2)}}
	n1.drive(c.want(n1), "the old primary to rejoin", streaming)
	n2.drive(c.want(n2), "the gate to open", func(s Status) bool { return !s.Gated })
	eventually(t, "a client to be let in", func() bool {
		_, err := n2.trySQL(t.Context(), "INSERT INTO t VALUES (3)")
		return err == nil
	})
}
