package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/cluster/raftstore"
)

const (
	// writeLimit is how long a write of the log may take. A leader whose disk hangs keeps its leadership for ever, because
	// heartbeats don't touch the disk; so the process ends instead. Postgres and its guard are not touched by that.
	writeLimit      = 2 * time.Second
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
	log, err := raftstore.Open(filepath.Join(dir, logFile))
	if err != nil {
		return stores{}, storeError(dir, err)
	}
	snapshots, err := raftstore.OpenSnapshots(dir, snapshotsRetain, logger.Named("snapshot"))
	if err != nil {
		return stores{}, errors.Join(err, log.Close())
	}
	watched := watchedStore{LogStore: log, StableStore: log, limit: writeLimit, exit: exit}
	return stores{log: watched, stable: watched, snapshots: snapshots, closer: log}, nil
}

// storeError says what to do where the log in dir can't be opened.
func storeError(dir string, err error) error {
	switch {
	case errors.Is(err, raftstore.ErrDamaged):
		return fmt.Errorf("%w: %w; %s", ErrRaftDamaged, err, raftRemedy(dir))
	case errors.Is(err, raftstore.ErrOlder):
		return fmt.Errorf("%w, which this one does not read, and nothing is damaged: go on with that build, or move cluster.data_dir of every node away "+
			"and found the cluster anew with its data (quorate init --adopt-from NODE)", err)
	case errors.Is(err, raftstore.ErrInUse):
		return fmt.Errorf("%w: does another quorate use this cluster.data_dir?", err)
	}
	return err
}

// raftRemedy is what to do about a raft directory that is not what this node left. Its log may lack a vote or an entry that others
// count on, so nothing but the directory as it was lets this node go on as the member that it is.
func raftRemedy(dir string) string {
	return fmt.Sprintf("restore %s from this node's own disk, or wipe cluster.data_dir and join the node as a new member", dir)
}

// whole checks that every entry after the newest readable snapshot is there, and that the log goes as far as this node had applied
// it. Raft panics at the first entry that is not there, which would be repeated at every start and say nothing to anybody; it takes
// a log without entries and snapshots for one that never had any.
func (st stores) whole(applied uint64) error {
	snapshots, listErr := st.snapshots.List() // the newest first
	last, lastErr := st.log.LastIndex()
	if err := errors.Join(listErr, lastErr); err != nil {
		return fmt.Errorf("%w: %w", ErrRaftDamaged, err)
	}
	from, unread := uint64(0), error(nil)
	for _, kept := range snapshots {
		_, content, err := st.snapshots.Open(kept.ID)
		if err == nil {
			from, unread = kept.Index, nil
			_ = content.Close()
			break
		}
		unread = errors.Join(unread, fmt.Errorf("snapshots/%s: %w", kept.ID, err))
	}
	if unread != nil { // Raft does not start without one, though the log may hold all
		return fmt.Errorf("%w: %w", ErrRaftDamaged, unread)
	}
	if end := max(from, last); end < applied {
		return fmt.Errorf("%w: its log ends at %d, and this node has applied entry %d", ErrRaftDamaged, end, applied)
	}
	for at := from + 1; at <= last; at++ {
		if err := st.log.GetLog(at, &raft.Log{}); err != nil {
			return fmt.Errorf("%w: entry %d of its log, which ends at %d: %w", ErrRaftDamaged, at, last, err)
		}
	}
	return nil
}

// watchedStore ends the process when a write hangs or fails, and when what is read is not what was written. To give a hanging write up
// with an error would wedge replication and let it land after that. A write that failed may have landed too, and then Raft, which
// counts on it that it did not, can append nothing any more; the next start looks at what is there. Of damage Raft makes a panic or
// tries again for ever, and the next start says what is damaged.
//
// Only where there is no room Raft gets the error of a write of entries, or of whom it votes for: it goes on by itself when there is some, and
// if such a write did land the append after it fails for another reason. Without a term it can't go on: that is a panic of Raft's
// (setCurrentTerm), at each election again for as long as the disk is full. So the process ends then too, and says why.
type watchedStore struct {
	raft.LogStore
	raft.StableStore
	limit time.Duration
	exit  func(string)
}

func (d watchedStore) watch(what string, write func() error) error {
	timer := time.AfterFunc(d.limit, func() {
		d.exit(fmt.Sprintf("a write of the raft log (%s) has not returned for %s: the disk under cluster.data_dir hangs", what, d.limit))
	})
	defer timer.Stop()
	err := write()
	switch {
	case err == nil, noRoom(err):
	case errors.Is(err, raftstore.ErrDamaged):
		return d.sound(err)
	default:
		d.exit(fmt.Sprintf("a write of the raft log (%s) failed, and nobody knows what of it is on the disk: %v", what, err))
	}
	return err
}

// noRoom says that a write failed for want of room alone. bbolt tells only the text where it makes its file longer (db.go, grow).
func noRoom(err error) bool {
	for _, want := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, want) || strings.Contains(err.Error(), want.Error()) {
			return true
		}
	}
	return false
}

func (d watchedStore) StoreLog(entry *raft.Log) error {
	return d.watch("store entry", func() error { return d.LogStore.StoreLog(entry) })
}

func (d watchedStore) StoreLogs(entries []*raft.Log) error {
	return d.watch("store entries", func() error { return d.LogStore.StoreLogs(entries) })
}

func (d watchedStore) DeleteRange(from, to uint64) error {
	return d.watch("delete entries", func() error { return d.LogStore.DeleteRange(from, to) })
}

func (d watchedStore) Set(key, value []byte) error {
	return d.watch("set", func() error { return d.StableStore.Set(key, value) })
}

func (d watchedStore) SetUint64(key []byte, value uint64) error {
	return d.watch("set number", func() error {
		err := d.StableStore.SetUint64(key, value)
		if err != nil && noRoom(err) {
			d.exit(fmt.Sprintf("no room for the number of an election, and a node without it takes part in none: %v; make room on the disk of cluster.data_dir, "+
				"then the next start goes on", err))
		}
		return err
	})
}

func (d watchedStore) GetLog(index uint64, entry *raft.Log) error {
	return d.sound(d.LogStore.GetLog(index, entry))
}

func (d watchedStore) Get(key []byte) ([]byte, error) {
	v, err := d.StableStore.Get(key)
	return v, d.sound(err)
}

func (d watchedStore) GetUint64(key []byte) (uint64, error) {
	v, err := d.StableStore.GetUint64(key)
	return v, d.sound(err)
}

func (d watchedStore) sound(err error) error {
	if errors.Is(err, raftstore.ErrDamaged) {
		d.exit(err.Error())
	}
	return err
}
