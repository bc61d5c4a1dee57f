package pgctl

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/internal/pg"
)

// The database in which the agent's sessions usually are, and the one to which they turn when somebody has dropped it. A node
// without a session is blind: it can't say that it serves. Sessions in the second are in the way of CREATE DATABASE, which
// copies it, so they leave as soon as the first is back.
const (
	usualDatabase = "postgres"
	spareDatabase = "template1"
	// databaseAgain is how often it is looked for while it is missing; each look leaves a line in the server's log.
	databaseAgain = time.Minute
)

// databaseMissing is what people are told then.
const databaseMissing = "the database postgres is not there, so the agent uses template1, which is in the way of CREATE DATABASE, and pg_rewind " +
	"can't be used; make it again: CREATE DATABASE postgres TEMPLATE template0"

// databaseLooks says whether to look for the usual database now. missing is when it was last found missing, zero if it was not.
func databaseLooks(missing, now time.Time) bool {
	return missing.IsZero() || now.Sub(missing) >= databaseAgain
}

// connect opens a fresh session.
func (i *Instance) connect(ctx context.Context) (*session, error) {
	now := time.Now()
	if databaseLooks(i.withoutDatabase(), now) {
		s, err := i.connectTo(ctx, usualDatabase)
		if err == nil {
			i.note(func() { i.missing = time.Time{} })
		}
		if sqlState(err) != stateNoDatabase {
			return s, err
		}
		i.note(func() { i.missing = now })
	}
	s, err := i.connectTo(ctx, spareDatabase)
	if err != nil {
		return nil, err
	}
	s.spare = true
	return s, nil
}

// withoutDatabase is when the usual database was last found missing; zero: it is there, as far as is known.
func (i *Instance) withoutDatabase() (since time.Time) {
	i.note(func() { since = i.missing })
	return since
}

// outstays says that a session may leave the spare database, since the other one is back.
func (i *Instance) outstays(s *session) bool {
	return s != nil && s.spare && i.withoutDatabase().IsZero()
}

func (i *Instance) connectTo(ctx context.Context, database string) (*session, error) {
	cfg, err := pgconn.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s dbname=%s sslmode=disable",
		pg.QuoteConninfo(i.cfg.SocketDir), i.cfg.Port, AgentRole, database))
	if err != nil {
		return nil, fmt.Errorf("describe the local connection: %w", err)
	}
	cfg.RuntimeParams = map[string]string{"application_name": "quorate", "synchronous_commit": "local"}
	cfg.OnNotice = i.onNotice(i.deps.Guard.Record().Run)
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the local server: %w", err)
	}
	return &session{conn: conn}, nil
}
