// Package wal finds the end of the write-ahead log that a data directory holds: the position
// after the last complete, valid record. Elections compare nothing else.
//
// The package must never report a position that PostgreSQL would not reach by replaying the
// same files, for a node is promoted on the strength of it. So it judges pages and records by
// the rules of PostgreSQL's own reader, is stricter where a stricter rule can't be wrong
// (page timelines), and chooses among files of several timelines as recovery does: for each
// segment the newest timeline of the history that has a file, never going back to an older one.
//
// It reads through io.ReaderAt alone. Memory is one page, whatever the size of a record; a Walk keeps up to 1 MiB more.
package wal

import (
	"errors"
	"fmt"
	"io"

	"github.com/quorate/quorate/internal/pg"
)

// ErrInput says that the description of the log or the start position can't be right; nothing
// was read.
var ErrInput = errors.New("can't walk this log")

// Segments gives access to the files of pg_wal.
type Segments interface {
	// Open returns the file of timeline tli whose first byte is start, and false when there is
	// none. At most one segment is in use at a time: when the value is an io.Closer, it is
	// closed before the next Open and at the end.
	Open(tli pg.Timeline, start pg.LSN) (io.ReaderAt, bool, error)
}

// Log describes the log to walk.
type Log struct {
	Segments Segments
	// SegmentSize and BlockSize are in bytes, from pg_control (WalSegmentSize, WalBlockSize).
	SegmentSize uint64
	BlockSize   uint64
	// SystemID must be the one in the segments' headers; 0 accepts any.
	SystemID pg.SystemID
	// Timeline is the newest one to look for and History its ancestry.
	Timeline pg.Timeline
	History  pg.History
}

// Stop names why the walk ended. The first three are how healthy logs end.
type Stop string

// The reasons for an end.
const (
	// StopZero means that the next record's place holds zeros.
	StopZero Stop = "zero"
	// StopSegment means that the next segment does not exist or is too short.
	StopSegment Stop = "segment"
	// StopPage means that a page header is not the expected one; in a recycled segment that is
	// the header of the page that was there before.
	StopPage Stop = "page"
	// StopContinuation means that a record begins and its remainder is not there: a crash in
	// the middle of writing it, or a start that is no record boundary.
	StopContinuation Stop = "continuation"
	// StopRecord means that a record's length or its link to the record before is impossible.
	StopRecord Stop = "record"
	// StopChecksum means that a record is there in full and fails its checksum.
	StopChecksum Stop = "checksum"
)

// End is the end of the valid log.
type End struct {
	// LSN is the position after the last complete record, as PostgreSQL states it: aligned to
	// 8 bytes, a page's boundary when the record fills the page, the next segment's beginning
	// after a segment switch. It equals pg_last_wal_replay_lsn() once all is replayed.
	LSN pg.LSN
	// Timeline is the one on which the byte before LSN was written.
	Timeline pg.Timeline
	// LastRecord is where the last complete record begins. It is 0 when no record was found at
	// start: then nothing here proves that the log reaches even LSN (see FindEnd).
	LastRecord pg.LSN
	// Records counts the complete records found.
	Records uint64
	Stop    Stop
	// Detail is for people.
	Detail string
}

// FindEnd walks the log from start, which is the beginning of a record or where the next one
// would begin; the beginning of a page and any place in its header are taken as the same.
//
// When not even one record is found, End.LSN is start and End.LastRecord is 0. For a position
// that was replayed or flushed on this node that is the true end. For a primary's insert
// position it is not: PostgreSQL gives that out before the bytes are written, so after a crash
// the disk may end before it; walk again from pg_control's redo position.
//
// An error (ErrInput, or what Segments or a segment returned) means that the end is unknown;
// a damaged log is no error but an End.
func (l Log) FindEnd(start pg.LSN) (End, error) {
	return l.Walk(start, nil)
}

// check refuses what would make the walk divide by zero, read wildly or believe nonsense.
func (l Log) check(start pg.LSN) error {
	if !pg.ValidSegmentSize(l.SegmentSize) {
		return fmt.Errorf("%w: segment size %d", ErrInput, l.SegmentSize)
	}
	if !pg.ValidBlockSize(l.BlockSize) {
		return fmt.Errorf("%w: block size %d", ErrInput, l.BlockSize)
	}
	if start == 0 || start%8 != 0 {
		return fmt.Errorf("%w: no record can begin at %s", ErrInput, start)
	}
	if err := l.History.Check(l.Timeline); err != nil {
		return fmt.Errorf("%w: %w", ErrInput, err)
	}
	return nil
}

// finish turns what ended the walk into the answer.
func (w *walker) finish(end End, err error) (End, error) {
	if closeErr := w.close(); closeErr != nil {
		return End{}, closeErr
	}
	var stopped *stopError
	if !errors.As(err, &stopped) {
		return End{}, err
	}
	end.Stop, end.Detail = stopped.stop, stopped.detail
	if end.LastRecord == 0 {
		if err := w.before(end.LSN); err != nil {
			return End{}, err
		}
		end.Timeline = w.timelineOf(end.LSN - 1)
	}
	return end, nil
}

// before looks which file holds the byte before at, where that is the end of a segment and the next one is not there: the log may
// have come to it on a timeline that the history has left long before.
func (w *walker) before(at pg.LSN) error {
	segment := pg.LSN(w.log.SegmentSize)
	if w.fileTLI != 0 || at%segment != 0 || at < segment {
		return nil
	}
	err := w.open(at - segment)
	var stopped *stopError
	if errors.As(err, &stopped) {
		return nil // it is not there either
	}
	return errors.Join(err, w.close())
}

// stopError carries the reason of an end through the walker; it never leaves the package.
type stopError struct {
	stop   Stop
	detail string
}

func (e *stopError) Error() string {
	return string(e.stop) + ": " + e.detail
}

// stop builds a stopError.
func stop(reason Stop, format string, args ...any) error {
	return &stopError{stop: reason, detail: fmt.Sprintf(format, args...)}
}
