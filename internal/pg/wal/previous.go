package wal

import (
	"errors"

	"github.com/quorate/quorate/internal/pg"
)

// previous returns where the last record begins that begins before start; a record at start has to say that it follows that one. It
// is 0 when the log does not show it.
//
// Without it the first record of a walk would be believed on its checksum alone, and behind the end of a log lie whole records with
// good checksums. A walreceiver writes to the byte into a file that was recycled, or that a promotion began: with PostgreSQL 15 the
// first segment of a new timeline was seen filled with repetitions of the page in which it begins, and pg_rewind and base backups
// copy that. One in a few ends of such a log is where a record begins in the page underneath. A node that counted it would claim log
// that it has not got, and could be chosen before one that has more.
//
// Only start's own segment is looked at: the one before may be gone, or be another branch's. So nothing is known of the first record
// that begins in a segment. There a stale one would need a page with the right address in its header, or to follow right after a
// record that came over from the segment before.
func (l Log) previous(start pg.LSN) (pg.LSN, error) {
	w := &walker{log: l, page: make([]byte, l.BlockSize)}
	last, err := w.lastBefore(start)
	if closeErr := w.close(); closeErr != nil {
		return 0, closeErr
	}
	return last, err
}

// lastBefore goes back page by page until in one a record begins, and from there on to start.
func (w *walker) lastBefore(start pg.LSN) (pg.LSN, error) {
	block := pg.LSN(w.log.BlockSize)
	for page := start; page > pg.SegmentStart(start, w.log.SegmentSize); {
		page -= 1 + (page-1)%block
		at, err := w.beginsIn(page)
		var stopped *stopError
		if errors.As(err, &stopped) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		if at == 0 || at >= start {
			continue
		}
		if last, err := w.lastFrom(at, start); last != 0 || err != nil {
			return last, err
		}
	}
	return 0, nil
}

// beginsIn returns where the first record begins in a page, 0 if none does.
func (w *walker) beginsIn(page pg.LSN) (pg.LSN, error) {
	if err := w.load(page); err != nil {
		return 0, err
	}
	at := page + pg.LSN(w.size)
	if w.info&flagContinuation != 0 {
		at += align(uint64(w.remain))
	}
	if at >= page+pg.LSN(w.log.BlockSize) {
		return 0, nil
	}
	return at, nil
}

// lastFrom follows the records from the one at at, and returns where the last before start begins. One that is not there in full, so
// that start is in the middle of it, is the last too: nothing that follows it begins at start. It is 0 where all of them were given up.
func (w *walker) lastFrom(at, start pg.LSN) (last pg.LSN, err error) {
	for at < start {
		rec, err := w.next(at, last)
		var stopped *stopError
		if errors.As(err, &stopped) {
			return w.skipHeader(at), nil
		}
		if err != nil || rec.start >= start {
			return last, err
		}
		last, at = rec.start, rec.end
	}
	return last, nil
}
