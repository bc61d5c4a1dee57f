package load

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/lab/history"
)

// pool finds the primary for all writers of an application, as connection pools do: one of them searches and the others
// follow it. Each for itself would mean a dozen dials at once, and where a new backend costs tens of milliseconds of CPU
// (virtual machines), they would all run into their limit for ever.
type pool struct {
	hosts   []Host
	configs []*pgconn.Config
	known   atomic.Int64 // index of the primary, or unknown
	search  sync.Mutex   // held by who searches
}

const unknown = -1

func newPool(spec Spec) (*pool, error) {
	p := &pool{hosts: spec.Hosts}
	for _, h := range spec.Hosts {
		c, err := configOf(h, spec.Database, spec.Load, map[string]string{"application_name": "lab_load"})
		if err != nil {
			return nil, err
		}
		p.configs = append(p.configs, c)
	}
	p.known.Store(unknown)
	return p, nil
}

// get returns a writable session and the index of its host; nil when ctx ends.
func (p *pool) get(ctx context.Context) (*session, int64) {
	for ctx.Err() == nil {
		if i := p.known.Load(); i != unknown {
			if s, _ := p.try(ctx, i); s != nil {
				return s, i
			}
			p.forget(i)
		}
		p.search.Lock()
		if p.known.Load() == unknown {
			s, i := p.find(ctx)
			if s != nil {
				p.known.Store(i)
			}
			p.search.Unlock()
			return s, i
		}
		p.search.Unlock()
	}
	return nil, unknown
}

// forget says that host i is the primary no more, if that is what was believed.
func (p *pool) forget(i int64) { p.known.CompareAndSwap(i, unknown) }

// try dials one host and returns the session if it is writable, else when to try this host again.
func (p *pool) try(ctx context.Context, i int64) (*session, time.Duration) {
	s, err := dial(ctx, p.configs[i], dialLimit)
	if err != nil {
		return nil, retryAfter
	}
	if !s.writable {
		s.close()
		return nil, standbyAfter
	}
	return s, 0
}

// find dials all hosts at once, each again shortly after it answered, failed or let its limit pass, and keeps the first
// session that is writable. So what is measured is when the cluster can be written to, not in which order a client tries
// its hosts.
func (p *pool) find(ctx context.Context) (*session, int64) {
	type found struct {
		s *session
		i int64
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	first := make(chan found)
	for i := range int64(len(p.hosts)) {
		go func() {
			for ctx.Err() == nil {
				s, again := p.try(ctx, i)
				if s != nil {
					select {
					case first <- found{s, i}:
					case <-ctx.Done():
						s.close()
					}
					return
				}
				wait(ctx, again)
			}
		}()
	}
	select {
	case f := <-first:
		return f.s, f.i
	case <-ctx.Done():
		return nil, unknown
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
