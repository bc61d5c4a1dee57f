package node

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/durable"
)

const recordVersion = 1

// served is written before Postgres is opened for writing in an epoch: a Postgres that is found down in that epoch has
// crashed, and the node must release rather than start it again.
type served struct {
	Epoch fsm.Epoch `json:"epoch"`
}

// records are the node's own promises on disk (DETAILS 37). They are written before the thing they speak of happens.
type records struct {
	dir string

	mu       sync.Mutex
	served   served
	released *fsm.Release
	promise  *fsm.Promise
}

func openRecords(dir string) (*records, error) {
	r := &records{dir: dir}
	var err error
	if r.served, err = load[served](r.path("served")); err != nil {
		return nil, err
	}
	released, err := load[fsm.Release](r.path("released"))
	if err != nil {
		return nil, err
	}
	if released.Epoch > 0 {
		r.released = &released
	}
	promise, err := load[fsm.Promise](r.path("promise"))
	if err != nil {
		return nil, err
	}
	if promise.Rev > 0 {
		r.promise = &promise
	}
	return r, nil
}

// load returns the zero value for a file that never was; a damaged one is an error, never a zero value.
func load[T any](path string) (T, error) {
	v, err := durable.Load[T](path, recordVersion)
	if errors.Is(err, durable.ErrAbsent) {
		return v, nil
	}
	if err != nil {
		return v, fmt.Errorf("read this node's promises: %w", err)
	}
	return v, nil
}

func (r *records) path(name string) string { return filepath.Join(r.dir, name+".bin") }

// Serve records that Postgres is about to be opened for epoch.
func (r *records) Serve(epoch fsm.Epoch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.served.Epoch >= epoch {
		return nil
	}
	if err := durable.Save(r.path("served"), recordVersion, served{Epoch: epoch}); err != nil {
		return fmt.Errorf("record serving: %w", err)
	}
	r.served.Epoch = epoch
	return nil
}

// Release records that this node never serves rel.Epoch again; its Postgres is gone already.
func (r *records) Release(rel fsm.Release) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.released != nil && r.released.Epoch >= rel.Epoch {
		return nil
	}
	if err := durable.Save(r.path("released"), recordVersion, rel); err != nil {
		return fmt.Errorf("record the release: %w", err)
	}
	r.released = &rel
	return nil
}

// Promise records the sync rule that this node's Postgres enforces from now on until a higher Rev is applied.
func (r *records) Promise(p fsm.Promise) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := durable.Save(r.path("promise"), recordVersion, p); err != nil {
		return fmt.Errorf("record the promise: %w", err)
	}
	r.promise = &p
	return nil
}

// Released is the newest release, nil if there never was one.
func (r *records) Released() *fsm.Release {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.released
}

// ReleasedEpoch is its epoch, 0 if there never was one.
func (r *records) ReleasedEpoch() fsm.Epoch {
	if rel := r.Released(); rel != nil {
		return rel.Epoch
	}
	return 0
}

// Served is the highest epoch for which Postgres was about to be opened.
func (r *records) Served() fsm.Epoch {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.served.Epoch
}

// Promised is the promise as long as it binds a node that applied rev, else nil.
func (r *records) Promised(rev uint64) *fsm.Promise {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.promise.Binds(rev) {
		return nil
	}
	return r.promise
}
