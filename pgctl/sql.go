package pgctl

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/internal/pg"
)

// session is one connection of the agent's role over the unix socket. Its commits wait for nobody
// (synchronous_commit=local), so that nothing the agent does can hang on a standby and no cancel of ours, which pgconn
// sends when a context ends, can acknowledge a commit (DETAILS 22).
type session struct {
	conn  *pgconn.PgConn
	spare bool // it is in spareDatabase
}

// closeLimit bounds saying goodbye.
const closeLimit = 100 * time.Millisecond

// close may be called on nil.
func (s *session) close() {
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	_ = s.conn.Close(ctx) // the server may be dead or frozen
}

// rows runs one or more statements and returns the rows of each.
func (s *session) rows(ctx context.Context, sql string) ([][][]string, error) {
	results, err := s.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	out := make([][][]string, len(results))
	for n, r := range results {
		for _, row := range r.Rows {
			fields := make([]string, len(row))
			for f, v := range row {
				fields[f] = string(v)
			}
			out[n] = append(out[n], fields)
		}
	}
	return out, nil
}

// value runs one statement and returns the first field of its first row.
func (s *session) value(ctx context.Context, sql string) (string, error) {
	out, err := s.rows(ctx, sql)
	if err != nil {
		return "", err
	}
	if len(out) == 0 || len(out[len(out)-1]) == 0 {
		return "", fmt.Errorf("read the answer to %q: it has no row", sql)
	}
	return out[len(out)-1][0][0], nil
}

// control returns the session that steps use, opening it if need be. The caller holds i.mu.
func (i *Instance) control(ctx context.Context) (*session, error) {
	if i.ctl != nil && !i.ctl.conn.IsClosed() && !i.outstays(i.ctl) {
		return i.ctl, nil
	}
	i.ctl.close()
	s, err := i.connect(ctx)
	if err != nil {
		return nil, err
	}
	i.ctl = s
	return s, nil
}

// exec runs statements of a step; a session that failed for a reason other than the statement's is dropped.
func (i *Instance) exec(ctx context.Context, sql string) ([][][]string, error) {
	s, err := i.control(ctx)
	if err != nil {
		return nil, err
	}
	out, err := s.rows(ctx, sql)
	if sqlState(err) == "" && err != nil {
		i.ctl.close()
		i.ctl = nil
	}
	return out, err
}

// execValue is exec for one field.
func (i *Instance) execValue(ctx context.Context, sql string) (string, error) {
	out, err := i.exec(ctx, sql)
	if err != nil {
		return "", err
	}
	if len(out) == 0 || len(out[len(out)-1]) == 0 {
		return "", fmt.Errorf("read the answer to %q: it has no row", sql)
	}
	return out[len(out)-1][0][0], nil
}

// sqlState is the SQLSTATE inside err, empty when the server didn't send one.
func sqlState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// SQLSTATEs that say what a server is doing.
const (
	stateCannotConnect = "57P03" // starting up, shutting down, or not yet consistent
	stateCrash         = "57P02" // a process crashed, so all sessions are ended
	stateShutdown      = "57P01" // sessions are ended because it shuts down
	stateTooMany       = "53300" // no connection slot is free
	stateNoDatabase    = "3D000"
	stateInUse         = "55006" // of an object, here a slot
	stateNoFile        = "58P01" // the requested log segment has been removed
)

// lsnField reads a position that may be NULL, which is 0.
func lsnField(text string) (pg.LSN, error) {
	if text == "" {
		return 0, nil
	}
	return pg.ParseLSN(text)
}

// intField reads a number that may be NULL, which is 0.
func intField(text string) (uint64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read number: %w", err)
	}
	return n, nil
}
