package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/quorate/quorate/internal/pg"
)

// The sizes of the two page headers in bytes; a segment's first page has the long one.
const (
	shortHeader = 24
	longHeader  = 40
)

// Flags of a page header.
const (
	flagContinuation = 0x0001 // the page begins with the remainder of a record
	flagLongHeader   = 0x0002
	flagOverwrite    = 0x0008 // the remainder expected here was never written and never will be
	flagsKnown       = 0x000F
)

// magicMajor returns the major version that writes pages with this magic number.
func magicMajor(magic uint16) (pg.MajorVersion, bool) {
	switch magic {
	case 0xD106:
		return 13, true
	case 0xD10D:
		return 14, true
	case 0xD110:
		return 15, true
	case 0xD113:
		return 16, true
	case 0xD116:
		return 17, true
	case 0xD118:
		return 18, true
	}
	return 0, false
}

// walker reads pages in order. Its page is valid from a load that returned nil to the next load.
type walker struct {
	log  Log
	keep bool // somebody looks at the records

	file     io.ReaderAt // nil before the first segment
	fileTLI  pg.Timeline
	segStart pg.LSN
	magic    uint16 // of the first page read; one log has one

	page     []byte
	pageAddr pg.LSN
	loaded   bool
	size     uint64 // of the page's header
	info     uint16
	remain   uint32 // bytes of the record that goes on in this page
}

// snap moves a position inside a page's header (or just after it) to the page's beginning, which
// is how PostgreSQL states the end of a record that fills the page before.
func (w *walker) snap(at pg.LSN) pg.LSN {
	offset := at % pg.LSN(w.log.BlockSize)
	if offset <= w.headerOf(at) {
		return at - offset
	}
	return at
}

// skipHeader is where the record begins that is said to begin at at, which may be the beginning of a page.
func (w *walker) skipHeader(at pg.LSN) pg.LSN {
	if at%pg.LSN(w.log.BlockSize) == 0 {
		return at + w.headerOf(at)
	}
	return at
}

// headerOf is the size of the header of the page that at is in.
func (w *walker) headerOf(at pg.LSN) pg.LSN {
	if at-at%pg.LSN(w.log.BlockSize) == pg.SegmentStart(at, w.log.SegmentSize) {
		return longHeader
	}
	return shortHeader
}

// load makes the page at addr, a page boundary, the current one, or says why it can't.
func (w *walker) load(addr pg.LSN) error {
	if w.loaded && w.pageAddr == addr {
		return nil
	}
	segStart := pg.SegmentStart(addr, w.log.SegmentSize)
	if w.file == nil || w.segStart != segStart {
		if err := w.open(segStart); err != nil {
			return err
		}
		// The first page's long header tells whether the file is what its name says, so it is
		// looked at even if the walk begins later in the segment.
		if addr != segStart {
			if err := w.read(segStart); err != nil {
				return err
			}
		}
	}
	return w.read(addr)
}

// open chooses the file for a segment as recovery does: the newest timeline that can have it,
// and none older than the file before.
func (w *walker) open(segStart pg.LSN) error {
	if err := w.close(); err != nil {
		return err
	}
	for i := len(w.log.History); i >= 0; i-- {
		tli, begin := w.log.Timeline, pg.LSN(0)
		if i < len(w.log.History) {
			tli = w.log.History[i].Timeline
		}
		if i > 0 {
			begin = w.log.History[i-1].End
		}
		if tli < w.fileTLI {
			break
		}
		if segStart < pg.SegmentStart(begin, w.log.SegmentSize) {
			continue
		}
		file, ok, err := w.log.Segments.Open(tli, segStart)
		if err != nil {
			return fmt.Errorf("open segment %s: %w", pg.SegmentName(tli, segStart, w.log.SegmentSize), err)
		}
		if ok {
			w.file, w.fileTLI, w.segStart = file, tli, segStart
			return nil
		}
	}
	return stop(StopSegment, "no segment for %s on timeline %d or its ancestors", segStart, w.log.Timeline)
}

// close gives the current segment back.
func (w *walker) close() error {
	closer, ok := w.file.(io.Closer)
	w.file, w.loaded = nil, false
	if !ok {
		return nil
	}
	if err := closer.Close(); err != nil {
		return fmt.Errorf("close segment at %s: %w", w.segStart, err)
	}
	return nil
}

// read takes the page at addr from the current segment and checks its header.
func (w *walker) read(addr pg.LSN) error {
	w.loaded = false
	n, err := w.file.ReadAt(w.page, int64(addr-w.segStart))
	if n < len(w.page) {
		if err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return stop(StopSegment, "segment %s ends before the page at %s", w.segmentName(), addr)
		}
		return fmt.Errorf("read segment %s: %w", w.segmentName(), err)
	}
	if err := w.checkHeader(addr); err != nil {
		return err
	}
	w.pageAddr, w.loaded = addr, true
	return nil
}

// checkHeader reads the header of the page, which should be the one at addr.
func (w *walker) checkHeader(addr pg.LSN) error {
	magic := binary.LittleEndian.Uint16(w.page)
	tli := pg.Timeline(binary.LittleEndian.Uint32(w.page[4:]))
	pageAddr := pg.LSN(binary.LittleEndian.Uint64(w.page[8:]))
	w.info = binary.LittleEndian.Uint16(w.page[2:])
	w.remain = binary.LittleEndian.Uint32(w.page[16:])
	if magic == 0 && pageAddr == 0 && tli == 0 {
		return stop(StopZero, "the page at %s of %s is empty", addr, w.segmentName())
	}
	if _, ok := magicMajor(magic); !ok || (w.magic != 0 && magic != w.magic) {
		return stop(StopPage, "magic number %04X in the page at %s of %s", magic, addr, w.segmentName())
	}
	if pageAddr != addr {
		return stop(StopPage, "the page at %s of %s was written for %s", addr, w.segmentName(), pageAddr)
	}
	// A page carries the timeline of its first byte. PostgreSQL asks only that it does not go
	// back, which would let through a page of a branch that is not in the history.
	if expected := w.timelineOf(addr); tli != expected {
		return stop(StopPage, "timeline %d in the page at %s of %s, expected %d", tli, addr, w.segmentName(), expected)
	}
	if w.info&^flagsKnown != 0 {
		return stop(StopPage, "flags %04X in the page at %s of %s", w.info, addr, w.segmentName())
	}
	if err := w.checkLongHeader(addr); err != nil {
		return err
	}
	w.magic = magic
	return nil
}

// checkLongHeader compares what only a segment's first page says, and sets the header's size.
func (w *walker) checkLongHeader(addr pg.LSN) error {
	long := w.info&flagLongHeader != 0
	if long != (addr == w.segStart) {
		return stop(StopPage, "flags %04X in the page at %s of %s: the long header belongs to the first page", w.info, addr, w.segmentName())
	}
	w.size = shortHeader
	if !long {
		return nil
	}
	w.size = longHeader
	system := pg.SystemID(binary.LittleEndian.Uint64(w.page[24:]))
	segSize := uint64(binary.LittleEndian.Uint32(w.page[32:]))
	blockSize := uint64(binary.LittleEndian.Uint32(w.page[36:]))
	if w.log.SystemID != 0 && system != w.log.SystemID {
		return stop(StopPage, "segment %s belongs to system %s, not %s", w.segmentName(), system, w.log.SystemID)
	}
	if segSize != w.log.SegmentSize || blockSize != w.log.BlockSize {
		return stop(StopPage, "segment %s has segments of %d and pages of %d bytes, not %d and %d", w.segmentName(), segSize, blockSize, w.log.SegmentSize, w.log.BlockSize)
	}
	return nil
}

// timelineOf returns the timeline that wrote the byte at lsn. A file of an older timeline that
// goes on after its switch point (the newer one was never received) holds that older timeline.
func (w *walker) timelineOf(lsn pg.LSN) pg.Timeline {
	tli := w.log.History.TimelineAt(lsn, w.log.Timeline)
	if w.fileTLI != 0 {
		return min(tli, w.fileTLI)
	}
	return tli
}

// segmentName names the current segment for messages.
func (w *walker) segmentName() string {
	return pg.SegmentName(w.fileTLI, w.segStart, w.log.SegmentSize)
}
