package wal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/quorate/quorate/internal/pg"
)

const (
	testSegment = 1 << 20
	testBlock   = 1024 // small, so that records meet page boundaries often
	testSystem  = pg.SystemID(7121739110011544578)
)

// placed is a record that the builder wrote. last is the position after its last byte.
type placed struct {
	start, last, end pg.LSN
	timeline         pg.Timeline
}

// builder writes a log into memory the way a server does.
type builder struct {
	files   map[string][]byte
	tli     pg.Timeline
	history pg.History
	pos     pg.LSN
	prev    pg.LSN
	magic   uint16
	records []placed
}

func newBuilder() *builder {
	return &builder{files: map[string][]byte{}, tli: 1, pos: testSegment, magic: 0xD110}
}

func (b *builder) log() Log {
	return Log{Segments: memory{b.files}, SegmentSize: testSegment, BlockSize: testBlock, SystemID: testSystem, Timeline: b.tli, History: b.history}
}

// file returns the segment that holds at, made on demand.
func (b *builder) file(at pg.LSN) []byte {
	name := pg.SegmentName(b.tli, at, testSegment)
	if b.files[name] == nil {
		b.files[name] = make([]byte, testSegment)
	}
	return b.files[name]
}

// bytesAt returns the log from at to the end of its segment, for tests that damage it.
func (b *builder) bytesAt(at pg.LSN) []byte {
	return b.file(at)[at%testSegment:]
}

// header writes the page header at a boundary and returns the position after it.
func (b *builder) header(at pg.LSN, flags uint16, remain int) pg.LSN {
	page := b.bytesAt(at)
	size := pg.LSN(shortHeader)
	if at%testSegment == 0 {
		size, flags = longHeader, flags|flagLongHeader
		binary.LittleEndian.PutUint64(page[24:], uint64(testSystem))
		binary.LittleEndian.PutUint32(page[32:], testSegment)
		binary.LittleEndian.PutUint32(page[36:], testBlock)
	}
	binary.LittleEndian.PutUint16(page, b.magic)
	binary.LittleEndian.PutUint16(page[2:], flags)
	binary.LittleEndian.PutUint32(page[4:], uint32(b.tli))
	binary.LittleEndian.PutUint64(page[8:], uint64(at))
	binary.LittleEndian.PutUint32(page[16:], uint32(remain))
	return at + size
}

// encodeRecord renders a record; its payload has no zero byte, so that each one counts.
func encodeRecord(prev pg.LSN, payload int, manager, info byte) []byte {
	rec := append(make([]byte, recordHeader), bytes.Repeat([]byte{0xA5}, payload)...)
	binary.LittleEndian.PutUint32(rec, uint32(len(rec)))
	binary.LittleEndian.PutUint64(rec[offPrevious:], uint64(prev))
	rec[offInfo], rec[offManager] = info, manager
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := crc32.Update(crc32.Checksum(rec[recordHeader:], table), table, rec[:offChecksum])
	binary.LittleEndian.PutUint32(rec[offChecksum:], sum)
	return rec
}

// add writes a record of some resource manager with a payload of so many bytes.
func (b *builder) add(payload int) placed {
	return b.put(encodeRecord(b.prev, payload, 10, 0), 0)
}

// put writes rec; flags are those of a page that begins with it.
func (b *builder) put(rec []byte, flags uint16) placed {
	at := b.pos
	if at%testBlock == 0 {
		at = b.header(at, flags, 0)
	}
	p := placed{start: at, timeline: b.tli}
	for len(rec) > 0 {
		if at%testBlock == 0 {
			at = b.header(at, flagContinuation, len(rec))
		}
		n := min(len(rec), int(testBlock-at%testBlock))
		copy(b.bytesAt(at), rec[:n])
		at, rec = at+pg.LSN(n), rec[n:]
	}
	p.last = at
	p.end = (at + 7) &^ 7
	b.pos, b.prev = p.end, p.start
	b.records = append(b.records, p)
	return p
}

// switchSegment writes a segment switch.
func (b *builder) switchSegment() placed {
	p := b.put(encodeRecord(b.prev, 0, managerXLOG, infoSegSwitch), 0)
	p.end = pg.SegmentStart(p.end+testSegment-1, testSegment)
	b.pos = p.end
	b.records[len(b.records)-1] = p
	return p
}

// fork begins a new timeline here, as a promotion does.
func (b *builder) fork() {
	old := b.tli
	b.history = append(b.history, pg.HistoryEntry{Timeline: old, End: b.pos})
	used := int(b.pos % testSegment)
	b.tli++
	if used > 0 {
		copy(b.file(b.pos), b.files[pg.SegmentName(old, b.pos, testSegment)][:used])
	}
}

// memory serves segments from a map of file names.
type memory struct{ files map[string][]byte }

func (m memory) Open(tli pg.Timeline, start pg.LSN) (io.ReaderAt, bool, error) {
	content, ok := m.files[pg.SegmentName(tli, start, testSegment)]
	return bytes.NewReader(content), ok, nil
}

// cut serves a log of which nothing from limit on was written; it reads as zeros.
type cut struct {
	memory
	limit pg.LSN
}

func (c cut) Open(tli pg.Timeline, start pg.LSN) (io.ReaderAt, bool, error) {
	r, ok, err := c.memory.Open(tli, start)
	return cutReader{r, int64(c.limit) - int64(start)}, ok, err
}

type cutReader struct {
	io.ReaderAt
	limit int64
}

func (r cutReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.ReaderAt.ReadAt(p, off)
	if keep := max(0, r.limit-off); keep < int64(n) {
		clear(p[keep:n])
	}
	return n, err
}
