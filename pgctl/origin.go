package pgctl

import (
	"context"
	"fmt"

	"github.com/quorate/quorate/internal/pg"
)

// Origin says of a running primary on which timeline it writes and where that began; Parent and Switch are 0 on the
// first timeline, which began nowhere. It tells again what Promote returned, for an agent that was not there.
func (i *Instance) Origin(ctx context.Context) (Promotion, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	first, err := i.exec(ctx, "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8), system_identifier FROM pg_control_system()")
	if err != nil {
		return Promotion{}, fmt.Errorf("read the timeline: %w", err)
	}
	if first[0][0][0] != "00000001" {
		return i.promoted(ctx)
	}
	id, err := intField(first[0][0][1])
	if err != nil {
		return Promotion{}, err
	}
	return Promotion{Timeline: 1, SystemID: pg.SystemID(id)}, nil
}
