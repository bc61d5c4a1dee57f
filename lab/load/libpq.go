package load

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/lab/history"
)

// libpqLimit is connect_timeout=2, the least that libpq takes, and tcp_user_timeout=2000, without which it waits minutes
// for a host that has vanished.
const libpqLimit = 2 * time.Second

// libpq is a client that looks for the primary as libpq does with several hosts and target_session_attrs=read-write: only
// after a failure, one host after another in the order of its list, and with a new connection to each.
type libpq struct {
	pool  *pool // for its hosts alone
	table string
	ids   *atomic.Int64
	rec   *recorder
}

func (c *libpq) run(ctx context.Context) {
	for ctx.Err() == nil {
		for i := range c.pool.configs {
			s, err := dial(ctx, c.pool.configs[i], libpqLimit)
			if err != nil {
				continue
			}
			if s.writable {
				c.writeAll(ctx, s, c.pool.hosts[i].Node)
				s.close()
				break
			}
			s.close()
		}
		wait(ctx, retryAfter)
	}
}

// writeAll writes until something goes wrong.
func (c *libpq) writeAll(ctx context.Context, s *session, node string) {
	for ctx.Err() == nil {
		began := time.Now()
		w := s.write(c.table, node, c.ids.Add(1), libpqLimit)
		w.Client = history.Libpq
		c.rec.add(w)
		if w.Outcome != history.OK {
			return
		}
		wait(ctx, WriteEvery-time.Since(began))
	}
}
