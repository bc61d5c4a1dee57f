package load

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/lab/history"
)

// SQLSTATE of a statement that was cancelled; what waited for a standby is committed all the same.
const canceled = "57014"

// session is one connection after its startup. It is taken from pgconn, which sends a cancel request when a statement
// takes too long; here the socket is closed and nothing else.
type session struct {
	conn     net.Conn
	frontend *pgproto3.Frontend
	writable bool // what the server said last: it is no standby
}

// configOf makes what connects to one host.
func configOf(h Host, database string, a Account, settings map[string]string) (*pgconn.Config, error) {
	c, err := pgconn.ParseConfig("sslmode=disable")
	if err != nil {
		return nil, fmt.Errorf("make a configuration: %w", err)
	}
	number, err := strconv.ParseUint(h.Port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port of %s: %w", h.Node, err)
	}
	c.Host, c.Port, c.Database = h.Addr, uint16(number), database
	c.User, c.Password = a.User, a.Password
	c.Fallbacks = nil
	c.RuntimeParams = settings
	return c, nil
}

// dial connects and starts a session, within limit for both.
func dial(ctx context.Context, c *pgconn.Config, limit time.Duration) (*session, error) {
	ctx, stop := context.WithTimeout(ctx, limit)
	defer stop()
	pc, err := pgconn.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	h, err := pc.Hijack()
	if err != nil {
		return nil, fmt.Errorf("take the connection over: %w", err)
	}
	s := &session{conn: h.Conn, frontend: h.Frontend}
	s.writable = h.ParameterStatuses["in_hot_standby"] == "off" && h.ParameterStatuses["default_transaction_read_only"] == "off"
	return s, nil
}

// look asks whether the server still is a standby; after an error the session must be closed.
func (s *session) look(limit time.Duration) error {
	a := s.do("SHOW in_hot_standby", limit)
	if a.outcome != history.OK {
		return fmt.Errorf("ask whether it is a standby: %s", a.why)
	}
	s.writable = a.value == "off"
	return nil
}

func (s *session) close() { _ = s.conn.Close() }

// answer is what the server said to one statement.
type answer struct {
	outcome history.Outcome
	value   string // first column of the row
	why     string
}

// do runs one statement. The answer is unknown unless the server plainly said that it did it or that it did not; after
// unknown the session must be closed.
func (s *session) do(sql string, limit time.Duration) answer {
	if err := s.conn.SetDeadline(time.Now().Add(limit)); err != nil {
		return answer{outcome: history.Failed, why: err.Error()} // nothing was sent
	}
	s.frontend.Send(&pgproto3.Query{String: sql})
	if err := s.frontend.Flush(); err != nil {
		return answer{outcome: history.Unknown, why: err.Error()}
	}
	a := answer{outcome: history.Unknown, why: "no answer"}
	warned := ""
	for {
		msg, err := s.frontend.Receive()
		if err != nil {
			if a.outcome != history.Failed {
				a = answer{outcome: history.Unknown, why: err.Error()}
			}
			return a
		}
		switch m := msg.(type) {
		case *pgproto3.DataRow:
			if len(m.Values) > 0 {
				a.value = string(m.Values[0])
			}
		case *pgproto3.NoticeResponse:
			if m.SeverityUnlocalized == "WARNING" {
				warned = m.Code + " " + m.Message
			}
		case *pgproto3.CommandComplete:
			a.outcome, a.why = history.OK, ""
		case *pgproto3.ErrorResponse:
			a.outcome, a.why = history.Failed, m.Code+" "+m.Message
			if m.SeverityUnlocalized != "ERROR" || m.Code == canceled {
				a.outcome = history.Unknown
				return a
			}
		case *pgproto3.ReadyForQuery:
			// "canceling wait for synchronous replication" comes as a warning before the command completes.
			if warned != "" && a.outcome == history.OK {
				a.outcome, a.why = history.Unknown, warned
			}
			return a
		}
	}
}

// insert is the statement of all clients. It returns the timeline the server writes on, eight hex digits, the transaction's number
// and where its log was when the row was in it.
func insert(table, node string, id int64) string {
	return fmt.Sprintf("INSERT INTO %s (id, node, ts) VALUES (%d, '%s', clock_timestamp()) "+
		"RETURNING substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) || ' ' || pg_current_xact_id() || ' ' || pg_current_wal_insert_lsn()",
		table, id, node)
}

// write does one insert and says what became of it.
func (s *session) write(table, node string, id int64, limit time.Duration) history.Write {
	w := history.Write{ID: id, Node: node, Start: Now()}
	a := s.do(insert(table, node, id), limit)
	w.End, w.Outcome, w.Why = Now(), a.outcome, a.why
	timeline, rest, _ := strings.Cut(a.value, " ")
	xid, lsn, _ := strings.Cut(rest, " ")
	if tli, err := strconv.ParseUint(timeline, 16, 32); err == nil {
		w.Timeline = uint32(tli)
	}
	w.XID, _ = strconv.ParseUint(xid, 10, 64) // zero where there is no answer
	w.LSN, _ = pg.ParseLSN(lsn)
	return w
}
