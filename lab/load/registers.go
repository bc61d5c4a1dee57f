package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/lab/history"
)

// How registers are used: few enough attempts on each that a history can be decided, often enough at once to be one.
const (
	registerClients = 4
	registers       = 8
	accessEvery     = 50 * time.Millisecond
	sightEvery      = 100 * time.Millisecond // per node
	sightOver       = 500                    // ids below the highest that was seen: more than are given out in a second
)

// startRegisters starts clients on registers and readers. Registers are as many ids from first on, which nobody has used before.
// closing completes their histories, when they have ended.
func startRegisters(ctx context.Context, wg *sync.WaitGroup, spec Spec, p *pool, first int64) (closing func() error, err error) {
	accesses, err := newJournal(spec.Registers.Accesses)
	if err != nil {
		return nil, err
	}
	sights, err := newJournal(spec.Registers.Sights)
	if err != nil {
		return nil, errors.Join(err, accesses.close())
	}
	values := &atomic.Int64{}
	for i := range registerClients {
		c := &register{pool: p, table: spec.Registers.Table, first: first, last: map[int64]int64{}, values: values, client: i, journal: accesses}
		wg.Go(func() { c.run(ctx) })
	}
	for i, h := range spec.Hosts {
		r := &reader{
			host: h, config: p.configs[i], limit: cmp.Or(spec.DialLimit, dialLimit), table: spec.Load.Table, first: first, highest: first, journal: sights,
		}
		wg.Go(func() { r.run(ctx) })
	}
	return func() error { return errors.Join(accesses.close(), sights.close()) }, nil
}

// register is a client that reads and changes registers, one attempt after the other.
type register struct {
	pool    *pool
	table   string
	first   int64
	last    map[int64]int64 // what this client knows of each, to swap it
	values  *atomic.Int64   // no value is written twice
	client  int
	journal *journal
}

func (r *register) run(ctx context.Context) {
	for ctx.Err() == nil {
		s, i := r.pool.get(ctx)
		if s == nil {
			return
		}
		for ctx.Err() == nil {
			began := time.Now()
			if a := r.attempt(s, r.pool.hosts[i].Node); a.Outcome != history.OK {
				break
			}
			wait(ctx, accessEvery-time.Since(began))
		}
		s.close()
		if ctx.Err() == nil {
			r.pool.forget(i)
		}
		wait(ctx, retryAfter)
	}
}

// attempt makes one attempt of any kind on any register.
func (r *register) attempt(s *session, node string) history.Access {
	a := history.Access{Key: r.first + int64(rand.IntN(registers)), Client: r.client, Node: node}
	switch rand.IntN(4) {
	case 0:
		a.Kind, a.New = history.Put, r.values.Add(1)
	case 1:
		a.Kind, a.Old, a.New = history.Swap, r.last[a.Key], r.values.Add(1)
	default:
		a.Kind = history.Get
	}
	a = s.access(r.table, a, writeLimit)
	switch {
	case a.Kind == history.Get && a.Outcome == history.OK:
		r.last[a.Key] = a.Got
	case a.Kind == history.Put, a.Swapped:
		r.last[a.Key] = a.New
	}
	r.journal.add(a)
	return a
}

// access makes the attempt and says what became of it. The statement of a swap that finds no row to insert nor to change returns
// none. A register that is not there holds 0, and only a swap of 0 makes one.
func (s *session) access(table string, a history.Access, limit time.Duration) history.Access {
	var sql string
	switch a.Kind {
	case history.Get:
		sql = fmt.Sprintf("SELECT coalesce((SELECT value FROM %s WHERE key = %d), 0)", table, a.Key)
	case history.Put:
		sql = fmt.Sprintf("INSERT INTO %s AS r VALUES (%d, %d) ON CONFLICT (key) DO UPDATE SET value = excluded.value RETURNING r.value", table, a.Key, a.New)
	case history.Swap:
		sql = fmt.Sprintf("UPDATE %s SET value = %d WHERE key = %d AND value = %d RETURNING value", table, a.New, a.Key, a.Old)
		if a.Old == 0 {
			sql = fmt.Sprintf("INSERT INTO %s AS r VALUES (%d, %d) ON CONFLICT (key) DO NOTHING RETURNING r.value", table, a.Key, a.New)
		}
	}
	a.Start = Now()
	got := s.do(sql, limit)
	a.End, a.Outcome, a.Why = Now(), got.outcome, got.why
	if a.Outcome != history.OK {
		return a
	}
	switch a.Kind {
	case history.Get:
		value, err := strconv.ParseInt(got.value, 10, 64)
		if err != nil {
			a.Outcome, a.Why = history.Unknown, "read "+strconv.Quote(got.value)
		}
		a.Got = value
	case history.Swap:
		a.Swapped = got.value != ""
	}
	return a
}

// reader looks again and again at which of the load's writes one node has, those of about the last second.
type reader struct {
	host           Host
	config         *pgconn.Config
	limit          time.Duration
	table          string
	first, highest int64
	journal        *journal
}

func (r *reader) run(ctx context.Context) {
	for ctx.Err() == nil {
		if s, err := dial(ctx, r.config, r.limit); err == nil {
			for ctx.Err() == nil && r.look(s) {
				wait(ctx, sightEvery)
			}
			s.close()
		}
		wait(ctx, redialAfter)
	}
}

// look looks once; false: the session is no good any more.
func (r *reader) look(s *session) bool {
	seen := history.Sight{Node: r.host.Node, From: max(r.first, r.highest-sightOver), Start: Now()}
	a := s.do(fmt.Sprintf("SELECT pg_is_in_recovery()::text || coalesce(string_agg(' ' || id, ''), '') FROM %s WHERE id >= %d", r.table, seen.From), writeLimit)
	seen.End = Now()
	if a.outcome != history.OK {
		return false
	}
	words := strings.Fields(a.value)
	if len(words) == 0 {
		return false
	}
	seen.Primary = words[0] == "false"
	for _, w := range words[1:] {
		id, err := strconv.ParseInt(w, 10, 64)
		if err != nil {
			return false
		}
		seen.IDs = append(seen.IDs, id)
		r.highest = max(r.highest, id)
	}
	slices.Sort(seen.IDs)
	r.journal.add(seen)
	return true
}
