package lab

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/quorate/quorate/internal/pg"
)

// The roles of the lab's clients and the tables they write into.
const (
	loadRole    = "lab_load"
	proberRole  = "lab_prober"
	loadTable   = "lab.load"
	proberTable = "lab.beat"
	libpqTable  = "lab.libpq"
	registers   = "lab.register"
	database    = "postgres"
)

// sessionOf makes what connects the superuser through the node's unix socket.
func (l *Lab) sessionOf(n *Node) (*pgx.ConnConfig, error) {
	c, err := pgx.ParseConfig("sslmode=disable")
	if err != nil {
		return nil, fmt.Errorf("make a configuration: %w", err)
	}
	number, err := strconv.ParseUint(port(n.Postgres), 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port of %s: %w", n.Name, err)
	}
	c.Host, c.Port, c.Database, c.User, c.Password = n.PGSocket(), uint16(number), database, "postgres", l.Password
	c.Fallbacks, c.RuntimeParams = nil, map[string]string{"application_name": "lab"}
	return c, nil
}

// connect opens a session of the superuser through the node's unix socket.
func (l *Lab) connect(ctx context.Context, n *Node) (*pgx.Conn, error) {
	c, err := l.sessionOf(n)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", n.Name, err)
	}
	return conn, nil
}

// MakeTables waits until the cluster is whole and makes what the lab's clients need. It waits itself, since a cluster that was whole a
// moment ago need not be: one that was just formed moves its Raft leader off the primary when it can. The passwords are kept as md5, so
// that what a search for the primary takes is Postgres's time and not that of hashing passwords.
func (l *Lab) MakeTables(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, upLimit)
	defer stop()
	s, err := l.AwaitHealthy(ctx)
	if err != nil {
		return fmt.Errorf("make the lab's tables: %w", err)
	}
	conn, err := l.connect(ctx, l.Node(s.Primary))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	password := pg.QuoteLiteral(l.Password)
	for _, sql := range []string{
		"SET password_encryption = md5",
		"CREATE SCHEMA lab",
		"CREATE ROLE " + loadRole + " LOGIN PASSWORD " + password,
		"CREATE ROLE " + proberRole + " LOGIN PASSWORD " + password,
		// Standbys refuse its writes, many times a second.
		"ALTER ROLE " + proberRole + " SET log_min_messages = fatal",
		"CREATE TABLE " + loadTable + " (id bigint PRIMARY KEY, node text NOT NULL, ts timestamptz NOT NULL)",
		"CREATE TABLE " + proberTable + " (id bigint PRIMARY KEY, node text NOT NULL, ts timestamptz NOT NULL)",
		"CREATE TABLE " + libpqTable + " (id bigint PRIMARY KEY, node text NOT NULL, ts timestamptz NOT NULL)",
		"CREATE TABLE " + registers + " (key bigint PRIMARY KEY, value bigint NOT NULL)",
		"GRANT USAGE ON SCHEMA lab TO " + loadRole + ", " + proberRole,
		"GRANT SELECT, INSERT ON " + loadTable + ", " + libpqTable + " TO " + loadRole,
		"GRANT SELECT, INSERT, UPDATE ON " + registers + " TO " + loadRole,
		"GRANT SELECT, INSERT ON " + proberTable + " TO " + proberRole,
	} {
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("make the lab's tables: %w", err)
		}
	}
	return nil
}

// present returns which ids from first to last the node's Postgres has in the table.
func (l *Lab) present(ctx context.Context, n *Node, table string, first, last int64) (map[int64]bool, error) {
	conn, err := l.connect(ctx, n)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, err := conn.Query(ctx, "SELECT id FROM "+table+" WHERE id BETWEEN $1 AND $2", first, last)
	if err != nil {
		return nil, fmt.Errorf("read what %s has: %w", n.Name, err)
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("read what %s has: %w", n.Name, err)
	}
	have := make(map[int64]bool, len(ids))
	for _, id := range ids {
		have[id] = true
	}
	return have, nil
}

// URI is how a client connects to whichever node is primary; see Client for where that works.
func (l *Lab) URI() string {
	hosts := ""
	for i, n := range l.data() {
		if i > 0 {
			hosts += ","
		}
		hosts += n.Postgres
	}
	return fmt.Sprintf("postgresql://postgres:%s@%s/%s?target_session_attrs=read-write", l.Password, hosts, database)
}
