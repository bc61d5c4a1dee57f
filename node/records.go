package node

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/durable"
)

const recordVersion = 1

// served is written before Postgres is opened for writing in an epoch: a Postgres that is found down in that epoch has
// crashed, and the node must release rather than start it again.
type served struct {
	Epoch fsm.Epoch `json:"epoch"`
}

// records are the node's own promises on disk (DETAILS 37). They are written before the thing they speak of happens, and shown
// after they are written. Who looks never waits for the disk: the beats and the API go on, and say what is so, while it hangs.
type records struct {
	dir  string
	save func(name string, v any) error // returns once v is on the disk

	mu       sync.Mutex // held over a save: one at a time
	served   atomic.Uint64
	released atomic.Pointer[fsm.Release]
	promise  atomic.Pointer[fsm.Promise]
}

func openRecords(dir string) (*records, error) {
	r := &records{dir: dir}
	r.save = func(name string, v any) error { return durable.Save(r.path(name), recordVersion, v) }
	before, err := load[served](r.path("served"))
	if err != nil {
		return nil, err
	}
	r.served.Store(uint64(before.Epoch))
	released, err := load[fsm.Release](r.path("released"))
	if err != nil {
		return nil, err
	}
	if released.Epoch > 0 {
		r.released.Store(&released)
	}
	promise, err := load[fsm.Promise](r.path("promise"))
	if err != nil {
		return nil, err
	}
	if promise.Rev > 0 {
		r.promise.Store(&promise)
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
	if r.Served() >= epoch {
		return nil
	}
	if err := r.save("served", served{Epoch: epoch}); err != nil {
		return fmt.Errorf("record serving: %w", err)
	}
	r.served.Store(uint64(epoch))
	return nil
}

// Release records that this node never serves rel.Epoch again; its Postgres is gone already.
func (r *records) Release(rel fsm.Release) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ReleasedEpoch() >= rel.Epoch {
		return nil
	}
	if err := r.save("released", rel); err != nil {
		return fmt.Errorf("record the release: %w", err)
	}
	r.released.Store(&rel)
	return nil
}

// Promise records the sync rule that this node's Postgres enforces from now on until a higher Rev is applied.
func (r *records) Promise(p fsm.Promise) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.save("promise", p); err != nil {
		return fmt.Errorf("record the promise: %w", err)
	}
	r.promise.Store(&p)
	return nil
}

// Released is the newest release, nil if there never was one.
func (r *records) Released() *fsm.Release { return r.released.Load() }

// ReleasedEpoch is its epoch, 0 if there never was one. While one is being written it is the one before: Postgres is gone then,
// and what could start it again is the agent, which waits for that write, or was barred before by fence.stop.
func (r *records) ReleasedEpoch() fsm.Epoch {
	if rel := r.Released(); rel != nil {
		return rel.Epoch
	}
	return 0
}

// Served is the highest epoch for which Postgres was about to be opened.
func (r *records) Served() fsm.Epoch { return fsm.Epoch(r.served.Load()) }

// Promised is the promise as long as it binds a node that applied rev, else nil.
func (r *records) Promised(rev uint64) *fsm.Promise {
	p := r.promise.Load()
	if !p.Binds(rev) {
		return nil
	}
	return p
}
