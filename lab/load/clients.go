package load

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/lab/history"
)

// writer is an application's connection: it looks for the primary among its hosts and writes at a steady pace.
type writer struct {
	hosts   []Host
	configs []*pgconn.Config
	table   string
	ids     *atomic.Int64
	rec     *recorder
}

func newWriter(spec Spec, ids *atomic.Int64, rec *recorder) (*writer, error) {
	w := &writer{hosts: spec.Hosts, table: spec.Load.Table, ids: ids, rec: rec}
	for _, h := range spec.Hosts {
		c, err := configOf(h, spec.Database, spec.Load, map[string]string{"application_name": "lab_load"})
		if err != nil {
			return nil, err
		}
		w.configs = append(w.configs, c)
	}
	return w, nil
}

func (w *writer) run(ctx context.Context) {
	for ctx.Err() == nil {
		s, node := w.connect(ctx)
		if s == nil {
			return
		}
		w.writeAll(ctx, s, node)
		s.close()
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

// connect dials all hosts at once, each again shortly after it answered, failed or let its limit pass, and keeps the
// first session that is writable. So what is measured is when the cluster can be written to, not in which order a client
// tries its hosts.
func (w *writer) connect(ctx context.Context) (*session, string) {
	type found struct {
		s    *session
		node string
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	first := make(chan found)
	for i, c := range w.configs {
		go func() {
			for ctx.Err() == nil {
				s, err := dial(ctx, c, dialLimit)
				if err == nil && s.writable {
					select {
					case first <- found{s, w.hosts[i].Node}:
					case <-ctx.Done():
						s.close()
					}
					return
				}
				if err == nil {
					s.close()
				}
				wait(ctx, retryAfter)
			}
		}()
	}
	select {
	case f := <-first:
		return f.s, f.node
	case <-ctx.Done():
		return nil, ""
	}
}

// prober asks one node again and again whether it takes writes, out of everybody's way: by its unix socket, with a new
// connection each time, and without waiting for standbys. So it finds a primary that still writes though nobody else
// would notice, and it makes an old primary's history end elsewhere than the new one's begins.
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

func (p *prober) run(ctx context.Context) {
	tick := time.NewTicker(ProbeEvery)
	defer tick.Stop()
	slots := make(chan struct{}, outstanding)
	for {
		select {
		case <-ctx.Done():
			for range outstanding {
				slots <- struct{}{} // all probes have ended: each is bounded
			}
			return
		case <-tick.C:
		}
		select {
		case slots <- struct{}{}:
			go func() {
				defer func() { <-slots }()
				p.probe(ctx)
			}()
		default: // the node hangs and enough probes wait for it
		}
	}
}

// probe makes one attempt. Refusals are not kept: a standby refuses fifty times per second.
func (p *prober) probe(ctx context.Context) {
	s, err := dial(ctx, p.config, writeLimit)
	if err != nil {
		return
	}
	defer s.close()
	if !s.writable {
		return
	}
	w := s.write(p.table, p.host.Node, p.ids.Add(1), writeLimit)
	w.Prober = true
	if w.Outcome != history.Failed {
		p.rec.add(w)
	}
}
