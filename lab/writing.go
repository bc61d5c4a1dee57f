package lab

import (
	"context"
	"errors"

	"github.com/quorate/quorate/lab/history"
	"github.com/quorate/quorate/lab/load"
)

// Writing is the lab's load beside what somebody does to the cluster.
type Writing struct {
	l *Lab
	c *clients
}

// Write starts to write on every node with a Postgres, whether it is a member or not, and probes all of them. It returns when
// writes are acknowledged. The history goes to the file events.
func (l *Lab) Write(ctx context.Context, events string) (*Writing, error) {
	c, err := l.startLoad(events, loadOptions{probe: true})
	if err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, healLimit)
	defer stop()
	if err := c.flowing(ctx, 1); err != nil {
		return nil, errors.Join(err, errors.New(l.Report()), c.stop())
	}
	return &Writing{l: l, c: c}, nil
}

// Stop ends it. Stopping again does nothing.
func (w *Writing) Stop() error { return w.c.stop() }

// Compare stops and returns what was written, and what of it was acknowledged and is not on the primary.
func (w *Writing) Compare(ctx context.Context, primary *Node) (writes, lost []history.Write, err error) {
	if err := w.c.stop(); err != nil {
		return nil, nil, err
	}
	if writes, err = load.Read(w.c.events); err != nil {
		return nil, nil, err
	}
	present, err := w.l.survivors(ctx, primary, writes)
	if err != nil {
		return writes, nil, err
	}
	return writes, lostOf(writes, present), nil
}
