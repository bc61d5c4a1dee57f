// Package raftstore is what Raft keeps on this node's disk: its log and its votes in one file of bbolt, and its snapshots.
//
// A node that has forgotten a vote, or an entry that it said it has, can help to elect two leaders of one term or to lose what was
// committed. So what is read here is what was written, or it is ErrDamaged: the package must never give other content, and never an
// older state of the file as if it were the newest. bbolt itself checks its two meta pages only, goes on from the older one if the
// newer is damaged, reads whatever page a pointer leads to, and panics, partly in goroutines of its own, over one that can't be.
// What is added to it:
//
//   - before bbolt sees the file, all pages that it would use are walked through (pages.go), and both meta pages have to be
//     whole: one that is not would be the newest. A disk that tears a sector in a loss of power damages the file in this sense;
//   - every entry carries a CRC-32C of its index, of all that is in it and of the sum of the entry before it (entry.go);
//   - the sequence number of each bucket, which bbolt writes together with the place of its pages in every transaction, is a
//     checksum of where the log begins, where it ends and the sum of its last entry, or of all votes. A pointer that leads to pages of
//     before leads to something that does not match it. A third bucket, with nothing in it, has the number of the transaction: the
//     page with all three, if the disk dropped what was written there last, does not match the meta page.
//
// All is checked when the file is opened, an entry and the votes again whenever they are read. What nothing in the file can show is
// that all of it is of before: a disk that drops the last meta page which it said it wrote, or a machine that is set back
// (docs/limits.md). Why not raft-boltdb: docs/decisions/0023.
package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

var (
	// ErrDamaged says that the disk does not hold what was written. Nobody but a person may decide what to do about it.
	ErrDamaged = errors.New("it is not what was written")
	// ErrOlder says that the file is raft-boltdb's. That is no damage, but has nothing to check it by, and is not read.
	ErrOlder = errors.New("it is in the form of an older build")
	// ErrInUse says that another process has the file open.
	ErrInUse = errors.New("another process uses it")

	errOrder = errors.New("entries are stored after the last one only")
	// errNotFound has the text by which Raft knows that a value was never set.
	errNotFound = errors.New("not found")
)

const (
	// openLimit is how long to wait for another process to let go of the file.
	openLimit  = time.Second
	lockPause  = 20 * time.Millisecond
	writtenSum = 1 << 32 // in a sequence number: some sum was written, be it 0
)

// The buckets.
func logBucket() []byte   { return []byte("log") }
func votesBucket() []byte { return []byte("votes") }
func timeBucket() []byte  { return []byte("written") }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Store is Raft's log and its stable store. Its methods may be called from any goroutine.
type Store struct {
	path string
	db   *bbolt.DB
}

// Open opens or creates the file at path and checks all of it. ErrDamaged, ErrOlder, ErrInUse, or errors of the operating system; the text
// names the file.
func Open(path string) (*Store, error) {
	s := &Store{path: path}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("open the raft log %s: %w", path, err)
	}
	if err := s.begin(); err != nil {
		return nil, fmt.Errorf("open the raft log %s: %w", path, errors.Join(err, s.db.Close()))
	}
	return s, nil
}

// open has bbolt open the file after it was locked and looked through.
func (s *Store) open() (err error) {
	var file *os.File
	defer func() {
		if p := recover(); p != nil { // the check of the pages leaves bbolt little to panic about
			err = errors.Join(fmt.Errorf("%w: %v", ErrDamaged, p), file.Close())
		}
	}()
	s.db, err = bbolt.Open(s.path, 0o600, &bbolt.Options{
		// Writing the freelist on every commit costs more than rebuilding it at start.
		NoFreelistSync: true, FreelistType: bbolt.FreelistMapType,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			if file, err = os.OpenFile(name, flag, mode); err != nil {
				return nil, err
			}
			if err := look(file); err != nil {
				return nil, errors.Join(err, file.Close())
			}
			return file, nil
		},
	})
	return err
}

// look checks the pages of a file that nobody else writes to. What a process wrote that was killed before it had synced it is seen
// here, and would be acted on, but is on no disk yet: so it is synced first.
func look(file *os.File) error {
	if err := lock(file); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("sync it: %w", err)
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if size := uint64(info.Size()); size > 0 && !unborn(file, size) {
		return checkContent(file, size)
	}
	return file.Truncate(0) // bbolt begins what is empty; whether this node may is for its identity to say
}

// lock takes the lock that bbolt takes. It is the file's as long as that is open.
func lock(file *os.File) error {
	for waited := time.Duration(0); ; waited += lockPause {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("lock it: %w", err)
		case waited >= openLimit:
			return ErrInUse
		}
		time.Sleep(lockPause)
	}
}

// begin makes the buckets of a new file, or checks those that are there.
func (s *Store) begin() error {
	fresh := false
	err := s.db.View(func(tx *bbolt.Tx) error {
		if fresh = tx.ID() < 2; fresh { // the first transaction makes the buckets
			return nil
		}
		return check(tx)
	})
	if err != nil || !fresh {
		return err
	}
	return s.update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{logBucket(), votesBucket(), timeBucket()} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return nil
	})
}

// update changes the file. When it returns nil that is durable, else nothing was changed, or nobody knows.
func (s *Store) update(change func(*bbolt.Tx) error) error {
	err := s.db.Update(func(tx *bbolt.Tx) error {
		if err := change(tx); err != nil {
			return err
		}
		return tx.Bucket(timeBucket()).SetSequence(uint64(tx.ID()))
	})
	if err != nil {
		return fmt.Errorf("write to the raft log %s: %w", s.path, err)
	}
	return nil
}

// check reads everything.
func check(tx *bbolt.Tx) error {
	if tx.Bucket([]byte("logs")) != nil && tx.Bucket([]byte("conf")) != nil {
		return ErrOlder
	}
	buckets := 0
	_ = tx.ForEach(func([]byte, *bbolt.Bucket) error { buckets++; return nil })
	log, votes, written := tx.Bucket(logBucket()), tx.Bucket(votesBucket()), tx.Bucket(timeBucket())
	if buckets != 3 || log == nil || votes == nil || written == nil {
		return fmt.Errorf("%w: it is not a log and votes", ErrDamaged)
	}
	if at := written.Sequence(); at != uint64(tx.ID()) {
		return fmt.Errorf("%w: what was written in transaction %d is not there, but what was in %d", ErrDamaged, tx.ID(), at)
	}
	if err := checkLog(log); err != nil {
		return err
	}
	return checkVotes(votes)
}

// checkLog reads all entries, and whether each follows the one before. After a snapshot from the leader entries may begin beyond
// those that are there: such a one knows of none before it.
func checkLog(log *bbolt.Bucket) error {
	before, sum := uint64(0), uint32(0)
	for k, v := range pairs(log) {
		e, err := decode(k, v)
		if err != nil {
			return err
		}
		follows := before != 0 && e.entry.Index == before+1
		if follows && e.previous != sum || !follows && before != 0 && e.previous != 0 {
			return fmt.Errorf("%w: entry %d does not follow entry %d, which is before it", ErrDamaged, e.entry.Index, before)
		}
		before, sum = e.entry.Index, e.sum
	}
	return checkSeal(log)
}

// checkSeal comes before every change too: a new seal would make damage good.
func checkSeal(log *bbolt.Bucket) error {
	if log.Sequence() != sealOf(log) {
		return fmt.Errorf("%w: its log does not begin and end where it did when it was written", ErrDamaged)
	}
	return nil
}

// sealOf is a checksum of where the log begins, where it ends, and through the sum of its last entry of all in between. 0: it is
// empty.
func sealOf(log *bbolt.Bucket) uint64 {
	c := log.Cursor()
	first, _ := c.First() // before Last, which never returns in a transaction that emptied several pages
	if first == nil {
		return 0
	}
	first = bytes.Clone(first)
	last, value := c.Last()
	sum := sumIn(value)
	all := append(append(first, last...), binary.BigEndian.AppendUint32(nil, sum)...)
	return writtenSum | uint64(crc32.Checksum(all, castagnoli))
}

func checkVotes(votes *bbolt.Bucket) error {
	if votes.Sequence() != votesSum(votes) {
		return fmt.Errorf("%w: its votes", ErrDamaged)
	}
	return nil
}

// votesSum is a checksum of all that is in the bucket. 0: that is nothing.
func votesSum(votes *bbolt.Bucket) uint64 {
	var all []byte
	for k, v := range pairs(votes) {
		for _, part := range [][]byte{k, v} {
			all = append(binary.BigEndian.AppendUint32(all, uint32(len(part))), part...)
		}
	}
	if all == nil {
		return 0
	}
	return writtenSum | uint64(crc32.Checksum(all, castagnoli))
}

// pairs are the keys and values of a bucket in order.
func pairs(b *bbolt.Bucket) func(yield func(k, v []byte) bool) {
	return func(yield func(k, v []byte) bool) {
		c := b.Cursor()
		for k, v := c.First(); k != nil && yield(k, v); k, v = c.Next() {
		}
	}
}

// Close lets go of the file.
func (s *Store) Close() error { return s.db.Close() }

// FirstIndex is the index of the first entry, 0 if there is none.
func (s *Store) FirstIndex() (uint64, error) {
	return s.index(func(c *bbolt.Cursor) ([]byte, []byte) { return c.First() })
}

// LastIndex is the index of the last entry, 0 if there is none.
func (s *Store) LastIndex() (uint64, error) {
	return s.index(func(c *bbolt.Cursor) ([]byte, []byte) { return c.Last() })
}

func (s *Store) index(find func(*bbolt.Cursor) ([]byte, []byte)) (at uint64, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		if k, _ := find(tx.Bucket(logBucket()).Cursor()); len(k) == keySize {
			at = binary.BigEndian.Uint64(k)
		}
		return nil
	})
	return at, err
}

// GetLog reads an entry. raft.ErrLogNotFound: there is none at that index.
func (s *Store) GetLog(index uint64, entry *raft.Log) error {
	return s.db.View(func(tx *bbolt.Tx) error {
		k := key(index)
		v := tx.Bucket(logBucket()).Get(k)
		if v == nil {
			return raft.ErrLogNotFound
		}
		e, err := decode(k, v)
		if err != nil {
			return fmt.Errorf("read the raft log %s: %w", s.path, err)
		}
		*entry = e.entry
		return nil
	})
}

// StoreLog appends an entry, durably.
func (s *Store) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

// StoreLogs appends entries, durably and together.
func (s *Store) StoreLogs(entries []*raft.Log) error {
	return s.update(func(tx *bbolt.Tx) error {
		log := tx.Bucket(logBucket())
		if err := checkSeal(log); err != nil {
			return err
		}
		before, sum := uint64(0), uint32(0)
		if k, v := log.Cursor().Last(); k != nil {
			before, sum = binary.BigEndian.Uint64(k), sumIn(v)
		}
		for _, entry := range entries {
			switch {
			case entry.Index <= before:
				return fmt.Errorf("%w: entry %d, and there is entry %d", errOrder, entry.Index, before)
			case entry.Index > before+1:
				sum = 0 // a snapshot holds what is between them
			}
			k, v := key(entry.Index), encode(entry, sum)
			if err := log.Put(k, v); err != nil {
				return err
			}
			before, sum = entry.Index, sumIn(v)
		}
		return log.SetSequence(sealOf(log))
	})
}

// DeleteRange removes the entries from lowest to highest, both included, durably.
func (s *Store) DeleteRange(lowest, highest uint64) error {
	return s.update(func(tx *bbolt.Tx) error {
		log := tx.Bucket(logBucket())
		if err := checkSeal(log); err != nil {
			return err
		}
		c := log.Cursor()
		for k, _ := c.Seek(key(lowest)); k != nil && binary.BigEndian.Uint64(k) <= highest; k, _ = c.Seek(key(lowest)) {
			if err := c.Delete(); err != nil {
				return err
			}
		}
		return log.SetSequence(sealOf(log))
	})
}

// Set stores a value of Raft's own, durably.
func (s *Store) Set(k, v []byte) error {
	return s.update(func(tx *bbolt.Tx) error {
		votes := tx.Bucket(votesBucket())
		if err := checkVotes(votes); err != nil { // the new sum would make damage good
			return err
		}
		if err := votes.Put(k, v); err != nil {
			return err
		}
		return votes.SetSequence(votesSum(votes))
	})
}

// Get reads what Set stored. Raft takes the error "not found" for a value that was never set.
func (s *Store) Get(k []byte) (v []byte, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		votes := tx.Bucket(votesBucket())
		if err := checkVotes(votes); err != nil {
			return fmt.Errorf("read the raft log %s: %w", s.path, err)
		}
		if v = bytes.Clone(votes.Get(k)); v == nil {
			return errNotFound
		}
		return nil
	})
	return v, err
}

// SetUint64 is Set for a number.
func (s *Store) SetUint64(k []byte, v uint64) error {
	return s.Set(k, binary.BigEndian.AppendUint64(nil, v))
}

// GetUint64 is Get for a number.
func (s *Store) GetUint64(k []byte) (uint64, error) {
	v, err := s.Get(k)
	if err == nil && len(v) != 8 {
		err = fmt.Errorf("%w: %s is no number", ErrDamaged, k)
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}
