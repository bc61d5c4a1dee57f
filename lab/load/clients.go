package load

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/lab/history"
)

// pool finds the primary for all writers of an application, as connection pools do: it keeps one session to each host and
// asks it whether that is a standby still. A writer for itself would dial every host again and again, and where a new
// backend costs tens of milliseconds of CPU (virtual machines), a dozen dials at once run into their limit for ever.
type pool struct {
	hosts   []Host
	configs []*pgconn.Config
	limit   time.Duration // of a dial
	found   chan found    // the first session to a new primary
	mu      sync.Mutex
	primary int           // index of the host that was writable last, or unknown
	changed chan struct{} // closed when primary changes
}

// found is a session to a host that has just become writable.
type found struct {
	session *session
	host    int
}

const unknown = -1

func newPool(spec Spec) (*pool, error) {
	p := &pool{hosts: spec.Hosts, limit: cmp.Or(spec.DialLimit, dialLimit), found: make(chan found), primary: unknown, changed: make(chan struct{})}
	for _, h := range spec.Hosts {
		c, err := configOf(h, spec.Database, spec.Load, map[string]string{"application_name": "lab_load"})
		if err != nil {
			return nil, err
		}
		p.configs = append(p.configs, c)
	}
	return p, nil
}

// get returns a writable session and the index of its host; nil when ctx ends. The first writer that waits gets the
// session on which a new primary was found, the others dial that host.
func (p *pool) get(ctx context.Context) (*session, int) {
	for ctx.Err() == nil {
		i, changed := p.known()
		if i == unknown {
			select {
			case f := <-p.found:
				return f.session, f.host
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		if s, err := dial(ctx, p.configs[i], p.limit); err == nil {
			if s.writable {
				return s, i
			}
			s.close()
		}
		p.forget(i)
		wait(ctx, retryAfter)
	}
	return nil, unknown
}

func (p *pool) known() (int, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.primary, p.changed
}

func (p *pool) set(i int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.primary != i {
		p.primary = i
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// forget says that host i is the primary no more, if that is what was believed.
func (p *pool) forget(i int) {
	if now, _ := p.known(); now == i {
		p.set(unknown)
	}
}

// watch keeps a session to host i while it is a standby, and hands it over when it is one no more: sessions outlive a
// promotion. All hosts are watched at once, so what is measured is when the cluster can be written to, not in which order
// a client tries its hosts. One that is gone, or is the primary already, is dialled again shortly after.
func (p *pool) watch(ctx context.Context, i int) {
	fresh := true // it has not been the primary since it was last seen as a standby
	for ctx.Err() == nil {
		if now, changed := p.known(); now == i {
			select {
			case <-changed:
			case <-ctx.Done():
			}
			continue
		}
		s, err := dial(ctx, p.configs[i], p.limit)
		for err == nil && !s.writable && wait(ctx, retryAfter) {
			fresh = true
			err = s.look(p.limit)
		}
		now, _ := p.known()
		switch {
		case err == nil && s.writable && (fresh || now == unknown):
			fresh = false
			p.hand(ctx, s, i)
			p.set(i)
		case err == nil && s.writable:
			// Where two are writable, nobody goes back to the one that was the primary before.
			s.close()
			wait(ctx, answeredAfter)
		case s != nil:
			s.close()
		}
		wait(ctx, again(err))
	}
}

// again is when to dial a host again. A refusal costs the host nothing; a server that says that it is starting or shutting
// down has forked a process to say so, and shuts down the later the more of these it has.
func again(err error) time.Duration {
	var answer *pgconn.PgError
	if errors.As(err, &answer) {
		return answeredAfter
	}
	return retryAfter
}

// hand gives a session to a writer that waits for one; all do, unless the old primary is frozen and holds them.
func (p *pool) hand(ctx context.Context, s *session, i int) {
	select {
	case p.found <- found{s, i}:
	case <-time.After(retryAfter):
		s.close()
	case <-ctx.Done():
		s.close()
	}
}

// writer is one of an application's connections and writes at a steady pace.
type writer struct {
	pool  *pool
	table string
	ids   *atomic.Int64
	rec   *recorder
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		s, i := w.pool.get(ctx)
		if s == nil {
			return
		}
		w.writeAll(ctx, s, w.pool.hosts[i].Node)
		s.close()
		if ctx.Err() == nil {
			w.pool.forget(i)
		}
		wait(ctx, retryAfter)
	}
}

// writeAll writes until something goes wrong.
func (w *writer) writeAll(ctx context.Context, s *session, node string) {
	for ctx.Err() == nil {
		began := time.Now()
		ack := s.write(w.table, node, w.ids.Add(1), writeLimit)
		w.rec.add(ack)
		if ack.Outcome != history.OK {
			return
		}
		wait(ctx, WriteEvery-time.Since(began))
	}
}

// prober asks one node again and again whether it takes writes, out of everybody's way: by its unix socket and without
// waiting for standbys. So it finds a primary that still writes though nobody else would notice, and it makes an old
// primary's history end elsewhere than the new one's begins.
type prober struct {
	host   Host
	config *pgconn.Config
	table  string
	ids    *atomic.Int64
	rec    *recorder
}

func newProber(h Host, spec Spec, ids *atomic.Int64, rec *recorder) (*prober, error) {
	c, err := configOf(h, spec.Database, spec.Prober, map[string]string{"application_name": "lab_prober", "synchronous_commit": "local"})
	if err != nil {
		return nil, err
	}
	return &prober{host: h, config: c, table: spec.Prober.Table, ids: ids, rec: rec}, nil
}

// stand writes every ProbeEvery on a session that it keeps: backends that exist already are what goes on writing when
// a fence is a bad one. Lost sessions are replaced.
func (p *prober) stand(ctx context.Context) {
	for ctx.Err() == nil {
		if s, err := dial(ctx, p.config, writeLimit); err == nil {
			p.writeAll(ctx, s)
			s.close()
		}
		wait(ctx, redialAfter)
	}
}

func (p *prober) writeAll(ctx context.Context, s *session) {
	for ctx.Err() == nil {
		began := time.Now()
		if w := p.write(s); w.Outcome == history.Unknown {
			return
		}
		wait(ctx, ProbeEvery-time.Since(began))
	}
}

// knock writes every KnockEvery on a new connection.
func (p *prober) knock(ctx context.Context) {
	for wait(ctx, KnockEvery) {
		s, err := dial(ctx, p.config, writeLimit)
		if err != nil {
			continue
		}
		p.write(s)
		s.close()
	}
}

// write makes one attempt. Refusals are not kept: a standby refuses fifty times per second, and its session is as good
// as before.
func (p *prober) write(s *session) history.Write {
	w := s.write(p.table, p.host.Node, p.ids.Add(1), writeLimit)
	w.Prober = true
	if w.Outcome != history.Failed {
		p.rec.add(w)
	}
	return w
}
