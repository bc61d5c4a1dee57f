package wal

import (
	"errors"

	"github.com/quorate/quorate/internal/pg"
)

// previous returns where the last record begins that begins before start; a record at start has to say that it follows that one. It
// is 0 when the log does not show it.
//
// Without it the first record of a walk would be believed on its checksum alone, and behind the end of a log lie whole records with
// good checksums: PostgreSQL 15 fills the rest of a new timeline's first segment with repetitions of the page in which it begins
// (XLogFileCopy), a copy of that file is made by pg_rewind or a base backup, and a walreceiver overwrites it to the byte. One in a
// few ends of such a log is where a record begins in the page underneath. A node that counted it would claim log that it has not
// got, and could be chosen before one that has more.
func (l Log) previous(start pg.LSN) (pg.LSN, error) {
	w := &walker{log: l, page: make([]byte, l.BlockSize)}
	last, err := w.lastBefore(start)
	if closeErr := w.close(); closeErr != nil {
		return 0, closeErr
	}
	return last, err
}

// lastBefore goes back page by page, to the beginning of the segment before at the furthest, until in one a record begins, and from
// there on to start.
func (w *walker) lastBefore(start pg.LSN) (pg.LSN, error) {
	block, segment := pg.LSN(w.log.BlockSize), pg.LSN(w.log.SegmentSize)
	page := (start - 1) - (start-1)%block
	floor := pg.SegmentStart(page, w.log.SegmentSize)
	floor -= min(floor, segment)
	for ; page > 0 && page >= floor; page -= block {
		at, err := w.beginsIn(page)
		var stopped *stopError
		switch {
		case errors.As(err, &stopped) && stopped.stop == StopSegment:
			return 0, nil
		case errors.As(err, &stopped): // after a switch of segments the rest of one is not written
		case err != nil:
			return 0, err
		case at != 0 && at < start:
			return w.lastFrom(at, start)
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
// that start is in the middle of it, is the last too: nothing that follows it begins at start.
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
