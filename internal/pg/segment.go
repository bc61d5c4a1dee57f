package pg

import (
	"errors"
	"fmt"
)

// ErrSegment says that a name is not that of a write-ahead log segment, or that the segment
// size is not one that PostgreSQL uses.
var ErrSegment = errors.New("not a log segment")

// MinSegmentSize and MaxSegmentSize bound the size of a log segment in bytes; it is a power of
// two chosen at initdb.
const (
	MinSegmentSize uint64 = 1 << 20
	MaxSegmentSize uint64 = 1 << 30
)

// ValidSegmentSize reports whether size (bytes) is a power of two from 1 MB to 1 GB.
func ValidSegmentSize(size uint64) bool {
	return size >= MinSegmentSize && size <= MaxSegmentSize && size&(size-1) == 0
}

// ValidBlockSize reports whether size is one that a page of the log can have, a power of two from 1 to 64 kB.
func ValidBlockSize(size uint64) bool { return size >= 1<<10 && size <= 1<<16 && size&(size-1) == 0 }

// SegmentStart returns the first position of the segment that contains lsn. segSize is in bytes
// and must be valid.
func SegmentStart(lsn LSN, segSize uint64) LSN {
	return lsn &^ LSN(segSize-1)
}

// SegmentName names the file in pg_wal that holds the byte at lsn on tli. A position on a
// boundary belongs to the segment that begins there. segSize is in bytes and must be valid.
func SegmentName(tli Timeline, lsn LSN, segSize uint64) string {
	segno := uint64(lsn) / segSize
	perID := (uint64(1) << 32) / segSize
	return fmt.Sprintf("%08X%08X%08X", uint32(tli), uint32(segno/perID), uint32(segno%perID))
}

// ParseSegmentName reads a segment's file name and returns its timeline and the position of its
// first byte. Names with a suffix (.partial, .backup, .history) are ErrSegment.
func ParseSegmentName(name string, segSize uint64) (Timeline, LSN, error) {
	if !ValidSegmentSize(segSize) {
		return 0, 0, fmt.Errorf("%w: segment size %d is no power of two from 1 MB to 1 GB", ErrSegment, segSize)
	}
	if len(name) != 24 {
		return 0, 0, fmt.Errorf("%w: %q has not 24 characters", ErrSegment, name)
	}
	tli, ok1 := parseHex32(name[:8])
	id, ok2 := parseHex32(name[8:16])
	seg, ok3 := parseHex32(name[16:])
	if !ok1 || !ok2 || !ok3 || tli == 0 {
		return 0, 0, fmt.Errorf("%w: %q", ErrSegment, name)
	}
	if uint64(seg) >= (uint64(1)<<32)/segSize {
		return 0, 0, fmt.Errorf("%w: %q does not exist with segments of %d bytes", ErrSegment, name, segSize)
	}
	start := LSN(id)<<32 | LSN(uint64(seg)*segSize)
	// Comparing with what we would have written also refuses lower-case digits.
	if SegmentName(Timeline(tli), start, segSize) != name {
		return 0, 0, fmt.Errorf("%w: %q is not in upper case", ErrSegment, name)
	}
	return Timeline(tli), start, nil
}
