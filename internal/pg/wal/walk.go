package wal

import (
	"errors"

	"github.com/quorate/quorate/internal/pg"
)

// StopAsked means that the visitor wanted no more.
const StopAsked Stop = "asked"

// Record is one complete, valid record.
type Record struct {
	Start, End pg.LSN
	Timeline   pg.Timeline
	Manager    uint8 // resource manager; see ManagerName
	Info       uint8
	XID        uint32  // of the record's header, 0 if it belongs to no transaction
	Commit     *Commit // of a record that commits a transaction, else nil
}

// Checkpoint says that the record is a checkpoint, of a shutdown or while running.
func (r Record) Checkpoint() bool {
	return r.Manager == managerXLOG && (r.Info&infoMask == infoCheckpointShutdown || r.Info&infoMask == infoCheckpointOnline)
}

// Walk is FindEnd that shows every record to visit on the way, in order, until it returns false.
func (l Log) Walk(start pg.LSN, visit func(Record) bool) (End, error) {
	if err := l.check(start); err != nil {
		return End{}, err
	}
	w := &walker{log: l, page: make([]byte, l.BlockSize), keep: visit != nil}
	end := End{LSN: w.snap(start)}
	previous, err := l.previous(end.LSN)
	if err != nil {
		return End{}, err
	}
	for {
		rec, err := w.next(end.LSN, previous)
		if err != nil {
			return w.finish(end, err)
		}
		previous = rec.start
		end.LSN, end.LastRecord, end.Timeline = rec.end, rec.start, rec.timeline
		end.Records++
		if visit != nil && !visit(rec.shown(w.magic)) {
			return w.finish(end, stop(StopAsked, "the reader wanted no more"))
		}
	}
}

// FirstRecord returns where the first record begins whose beginning is in the page at page, a page boundary, or in one
// after it: what a page begins with may be the remainder of a record. It is false when the log does not hold that.
func (l Log) FirstRecord(page pg.LSN) (pg.LSN, bool, error) {
	if err := l.check(page); err != nil {
		return 0, false, err
	}
	w := &walker{log: l, page: make([]byte, l.BlockSize)}
	at, err := w.firstRecord(page - page%pg.LSN(l.BlockSize))
	if closeErr := w.close(); closeErr != nil {
		return 0, false, closeErr
	}
	var stopped *stopError
	if errors.As(err, &stopped) {
		return 0, false, nil
	}
	return at, err == nil, err
}

func (w *walker) firstRecord(page pg.LSN) (pg.LSN, error) {
	for {
		at, err := w.beginsIn(page)
		if at != 0 || err != nil {
			return at, err
		}
		page += pg.LSN(w.log.BlockSize)
	}
}
