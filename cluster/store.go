package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

const (
	// writeLimit is how long a write of the log may take. A leader whose disk hangs keeps its leadership for ever, because
	// heartbeats don't touch the disk; so the process ends instead. Postgres and its guard are not touched by that.
	writeLimit = 2 * time.Second
	// openLimit is how long to wait for another process to let go of the log file.
	openLimit       = time.Second
	snapshotsRetain = 2
	logFile         = "log.db"
)

// stores are where Raft keeps its log, its votes and its snapshots.
type stores struct {
	log       raft.LogStore
	stable    raft.StableStore
	snapshots raft.SnapshotStore
	closer    io.Closer
}

// openStores opens or creates the stores in dir.
func openStores(dir string, logger hclog.Logger, exit func(string)) (stores, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return stores{}, fmt.Errorf("create raft directory: %w", err)
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(dir, logFile),
		// Writing the freelist on every commit costs more than rebuilding it at start.
		BoltOptions:             &bbolt.Options{Timeout: openLimit, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
		MsgpackUseNewTimeFormat: true,
	})
	if err != nil {
		return stores{}, fmt.Errorf("open raft log %s (does another quorate use this cluster.data_dir?): %w", filepath.Join(dir, logFile), err)
	}
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsRetain, logger.Named("snapshot"))
	if err != nil {
		_ = bolt.Close()
		return stores{}, fmt.Errorf("open raft snapshots: %w", err)
	}
	watched := deadlineStore{LogStore: bolt, StableStore: bolt, limit: writeLimit, exit: exit}
	return stores{log: watched, stable: watched, snapshots: snapshots, closer: bolt}, nil
}

// whole checks that every entry after the newest readable snapshot is there. Raft panics at the first that is not, which would
// be repeated at every start and say nothing to anybody.
func (st stores) whole() error {
	snapshots, listErr := st.snapshots.List() // the newest first
	last, lastErr := st.log.LastIndex()
	if err := errors.Join(listErr, lastErr); err != nil {
		return fmt.Errorf("%w: %w", ErrRaftDamaged, err)
	}
	from := uint64(0)
	for _, kept := range snapshots {
		if _, content, err := st.snapshots.Open(kept.ID); err == nil {
			from = kept.Index
			_ = content.Close()
			break
		}
	}
	for at := from + 1; at <= last; at++ {
		if err := st.log.GetLog(at, &raft.Log{}); err != nil {
			return fmt.Errorf("%w: entry %d of its log, which ends at %d: %w", ErrRaftDamaged, at, last, err)
		}
	}
	return nil
}

// deadlineStore ends the process when a write hangs. Returning an error instead would wedge replication and let the late
// write land after it was given up.
type deadlineStore struct {
	raft.LogStore
	raft.StableStore
	limit time.Duration
	exit  func(string)
}

func (d deadlineStore) watch(what string, write func() error) error {
	timer := time.AfterFunc(d.limit, func() {
		d.exit(fmt.Sprintf("a write of the raft log (%s) has not returned for %s: the disk under cluster.data_dir hangs", what, d.limit))
	})
	defer timer.Stop()
	return write()
}

func (d deadlineStore) StoreLog(entry *raft.Log) error {
	return d.watch("store entry", func() error { return d.LogStore.StoreLog(entry) })
}

func (d deadlineStore) StoreLogs(entries []*raft.Log) error {
	return d.watch("store entries", func() error { return d.LogStore.StoreLogs(entries) })
}

func (d deadlineStore) DeleteRange(from, to uint64) error {
	return d.watch("delete entries", func() error { return d.LogStore.DeleteRange(from, to) })
}

func (d deadlineStore) Set(key, value []byte) error {
	return d.watch("set", func() error { return d.StableStore.Set(key, value) })
}

func (d deadlineStore) SetUint64(key []byte, value uint64) error {
	return d.watch("set number", func() error { return d.StableStore.SetUint64(key, value) })
}
