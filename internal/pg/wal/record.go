package wal

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/quorate/quorate/internal/pg"
)

// The record header: length 4, xid 4, previous record 8, info 1, resource manager 1, padding 2,
// checksum 4.
const (
	recordHeader  = 24
	offXID        = 4
	offPrevious   = 8
	offInfo       = 16
	offManager    = 17
	offChecksum   = 20
	managerXLOG   = 0
	infoMask      = 0xF0
	infoSegSwitch = 0x40 // the rest of the segment is unused

	infoCheckpointShutdown = 0x00
	infoCheckpointOnline   = 0x10
)

// record is where a complete record lies.
type record struct {
	start, end pg.LSN
	timeline   pg.Timeline
	header     [recordHeader]byte
	body       []byte // what follows the header, of a transaction's record and when somebody looks
}

// next reads the record at the position where the last one ended. previous is where that one
// began, 0 when that is not known.
func (w *walker) next(at, previous pg.LSN) (record, error) {
	for {
		rec, again, err := w.readRecord(at, previous)
		if err != nil || again == 0 {
			return rec, err
		}
		at = again
	}
}

// readRecord reads one record. again is not 0 when the record there was given up for good by a
// later start of the server: then the log goes on at that page.
func (w *walker) readRecord(at, previous pg.LSN) (rec record, again pg.LSN, err error) {
	offset := uint64(at) % w.log.BlockSize
	if err := w.load(at - pg.LSN(offset)); err != nil {
		return record{}, 0, err
	}
	if offset == 0 {
		if w.info&flagContinuation != 0 {
			return record{}, 0, stop(StopContinuation, "the page at %s begins in the middle of a record", at)
		}
		offset = w.size
	}
	rec.start = w.pageAddr + pg.LSN(offset)
	rec.timeline = w.timelineOf(rec.start)
	a := assembly{start: rec.start, previous: previous, keep: w.keep, total: uint64(binary.LittleEndian.Uint32(w.page[offset:]))}
	if a.total == 0 {
		return record{}, 0, stop(StopZero, "no record at %s", rec.start)
	}
	if a.total < recordHeader {
		return record{}, 0, stop(StopRecord, "the record at %s has %d bytes", rec.start, a.total)
	}
	if err := a.add(w.page[offset:min(offset+a.total, w.log.BlockSize)]); err != nil {
		return record{}, 0, err
	}
	rec.end = rec.start + align(a.total)
	for a.got < a.total {
		if rec.end, again, err = w.addPage(&a); err != nil || again != 0 {
			return record{}, again, err
		}
	}
	if err := a.verify(); err != nil {
		return record{}, 0, err
	}
	if a.header[offManager] == managerXLOG && a.header[offInfo]&infoMask == infoSegSwitch {
		rec.end = pg.SegmentStart(rec.end+pg.LSN(w.log.SegmentSize-1), w.log.SegmentSize)
	}
	rec.header, rec.body = a.header, a.body
	return rec, 0, nil
}

// addPage adds to a record what the following page holds of it, and returns where the record
// ends if that was all.
func (w *walker) addPage(a *assembly) (end, again pg.LSN, err error) {
	if err := w.load(w.pageAddr + pg.LSN(w.log.BlockSize)); err != nil {
		return 0, 0, err
	}
	if w.info&flagOverwrite != 0 {
		return 0, w.pageAddr, nil
	}
	if w.info&flagContinuation == 0 {
		return 0, 0, stop(StopContinuation, "the record at %s does not go on in the page at %s", a.start, w.pageAddr)
	}
	remain := uint64(w.remain)
	if remain == 0 || a.got+remain != a.total {
		return 0, 0, stop(StopContinuation, "the page at %s continues a record by %d bytes, the one at %s needs %d", w.pageAddr, remain, a.start, a.total-a.got)
	}
	if err := a.add(w.page[w.size:min(w.size+remain, w.log.BlockSize)]); err != nil {
		return 0, 0, err
	}
	return w.pageAddr + pg.LSN(w.size) + align(remain), 0, nil
}

// assembly is a record under way. Of its bytes only the header is kept, and up to 1 MiB of what a visitor wants; the rest
// goes into the checksum, which PostgreSQL computes over the payload first and the header after it.
type assembly struct {
	start, previous pg.LSN
	total, got      uint64
	header          [recordHeader]byte
	sum             uint32
	keep            bool // the body of a transaction's record
	body            []byte
}

// add takes the record's next bytes. The link to the previous record is checked as soon as it
// is there, so that a stale length does not send the walk through pages for nothing.
func (a *assembly) add(chunk []byte) error {
	if a.got < recordHeader {
		n := copy(a.header[a.got:], chunk)
		a.got += uint64(n)
		chunk = chunk[n:]
		if a.got == recordHeader {
			if err := a.checkLink(); err != nil {
				return err
			}
		}
	}
	if a.keep && a.got >= recordHeader && a.header[offManager] == managerXact {
		a.body = append(a.body, chunk[:min(len(chunk), maxBody-len(a.body))]...)
	}
	a.sum = crc32.Update(a.sum, crc32.MakeTable(crc32.Castagnoli), chunk)
	a.got += uint64(len(chunk))
	return nil
}

// checkLink compares the record's own idea of its predecessor. Where that is not known it must only point backwards.
func (a *assembly) checkLink() error {
	link := pg.LSN(binary.LittleEndian.Uint64(a.header[offPrevious:]))
	if (a.previous != 0 && link != a.previous) || link >= a.start {
		return stop(StopRecord, "the record at %s follows one at %s, not %s", a.start, link, a.previous)
	}
	return nil
}

// verify compares the checksum of a record whose bytes are all there.
func (a *assembly) verify() error {
	sum := crc32.Update(a.sum, crc32.MakeTable(crc32.Castagnoli), a.header[:offChecksum])
	if stored := binary.LittleEndian.Uint32(a.header[offChecksum:]); stored != sum {
		return stop(StopChecksum, "the record at %s has checksum %08X, computed %08X", a.start, stored, sum)
	}
	return nil
}

// align rounds a length up to the 8 bytes on which records begin.
func align(length uint64) pg.LSN {
	return pg.LSN((length + 7) &^ 7)
}
