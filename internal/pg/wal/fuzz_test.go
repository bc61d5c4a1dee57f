package wal

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/quorate/quorate/internal/pg"
)

// found holds what must be true of any end: it is not before the start, says why the log ends there, and belongs to records
// that follow each other.
func found(t *testing.T, log Log, start pg.LSN) (End, []Record) {
	t.Helper()
	end, err := log.FindEnd(start)
	if err != nil {
		t.Fatal(err)
	}
	if end.LSN+longHeader < start || end.Stop == "" || end.Detail == "" || (end.Records == 0) != (end.LastRecord == 0) {
		t.Fatalf("from %s: %+v", start, end)
	}
	var records []Record
	walked, err := log.Walk(start, func(r Record) bool {
		if n := len(records); r.Start >= r.End || n > 0 && r.Start < records[n-1].End {
			t.Fatalf("%+v follows %+v", r, records[max(0, n-1)])
		}
		records = append(records, r)
		return true
	})
	if err != nil || walked != end || uint64(len(records)) != end.Records {
		t.Fatalf("from %s: %+v, and looked at %+v with %d records, %v", start, end, walked, len(records), err)
	}
	if n := len(records); n > 0 && (records[n-1].Start != end.LastRecord || records[n-1].End != end.LSN) {
		t.Fatalf("%+v, and the last record is %+v", end, records[n-1])
	}
	if _, _, err := log.FirstRecord(start - start%testBlock); err != nil {
		t.Fatal(err)
	}
	return end, records
}

func FuzzFindEnd(f *testing.F) {
	b := newBuilder()
	for _, payload := range []int{0, 30, 900, 3 * testBlock, 17} {
		b.add(payload)
	}
	const size = 8 * testBlock
	f.Add(b.bytesAt(testSegment)[:size], uint32(0))
	f.Add(b.bytesAt(testSegment)[:size-5], uint32(48))
	f.Fuzz(func(t *testing.T, content []byte, skip uint32) {
		log := b.log()
		log.Segments = memory{map[string][]byte{pg.SegmentName(1, testSegment, testSegment): content}}
		found(t, log, testSegment+pg.LSN(skip%size)&^7)
	})
}

// A good log that was damaged in one place, or that other log was copied over: everything before that place is found, no
// record that was touched is, and no record appears that nobody wrote.
func FuzzDamage(f *testing.F) {
	f.Add([]byte{0, 30, 200, 3, 17}, uint32(100), []byte{0xff})
	f.Add([]byte{255, 255, 1}, uint32(testBlock), []byte{0, 0, 0, 0})
	f.Add([]byte{9, 0xfe, 9}, uint32(2*testBlock+20), []byte("\x06\xd1\x05\x00"))
	f.Fuzz(func(t *testing.T, payloads []byte, at uint32, over []byte) {
		if len(payloads) == 0 || len(payloads) > 64 || len(over) == 0 || len(over) > 4*testBlock {
			return
		}
		b := newBuilder()
		for _, p := range payloads {
			b.add(int(p) * 7) // up to two pages
		}
		size := b.pos - testSegment
		first := pg.LSN(at) % size
		content := b.bytesAt(testSegment)
		before := append([]byte{}, content...)
		copy(content[first:], over)
		changed := pg.LSN(0)
		for i := range content {
			if content[i] != before[i] {
				changed = testSegment + pg.LSN(i)
				break
			}
		}
		// The walk begins in the second page when the first one's header was hit: it is looked at in any case.
		end, records := found(t, b.log(), testSegment)
		for i, r := range records {
			if i >= len(b.records) || r.Start != b.records[i].start || r.End != b.records[i].end {
				t.Fatalf("changed at %s: record %d is %+v, and nobody wrote it", changed, i, r)
			}
		}
		whole := 0
		for changed != 0 && whole < len(b.records) && b.records[whole].last <= changed {
			whole++
		}
		if changed == 0 {
			whole = len(b.records)
		}
		if changed-testSegment >= longHeader && len(records) < whole {
			t.Fatalf("changed at %s: %d of %d records before that are found: %+v", changed, len(records), whole, end)
		}
		for i := whole; i < len(records); i++ {
			if p := b.records[i]; p.start <= changed && changed < p.last && !inHeader(changed) {
				t.Fatalf("changed at %s: record %s to %s is taken all the same", changed, p.start, p.last)
			}
		}
	})
}

// inHeader says that a byte is of a page's header, of which not every one means something.
func inHeader(at pg.LSN) bool {
	size := pg.LSN(shortHeader)
	if at%testSegment < testBlock {
		size = longHeader
	}
	return at%testBlock < size
}

// Whatever a record's body is, a commit is read out of it or none, within its bytes.
func FuzzCommitRecord(f *testing.F) {
	commit := append([]byte{blockDataShort, 20}, make([]byte, 8)...)
	commit = binary.LittleEndian.AppendUint32(commit, hasDatabase|hasSubXacts|hasTwoPhase)
	commit = append(commit, make([]byte, 8)...)
	commit = binary.LittleEndian.AppendUint32(commit, 1)
	commit = append(commit, 1, 0, 0, 0, 9, 0, 0, 0)
	f.Add(byte(xactHasInfo|xactCommitPrep), commit, uint16(0xD110))
	f.Add(byte(xactCommit), commit[:10], uint16(0xD118))
	f.Add(byte(xactHasInfo|xactCommitPrep), append([]byte{blockOrigin, 0, 0, blockTopLevelXID, 1, 2, 3, 4}, commit...), uint16(0xD118))
	f.Add(byte(xactHasInfo|xactCommitPrep), []byte{blockDataLong, 0xff, 0xff, 0xff, 0xff}, uint16(0))
	f.Fuzz(func(t *testing.T, info byte, body []byte, magic uint16) {
		r := record{start: 8, end: 16, timeline: 1, body: body}
		r.header[offManager], r.header[offInfo] = managerXact, info
		binary.LittleEndian.PutUint32(r.header[offXID:], 7)
		got := r.shown(magic)
		op := info & xactOperation
		if isCommit := op == xactCommit || op == xactCommitPrep; isCommit != (got.Commit != nil) {
			t.Fatalf("info %x: %+v", info, got)
		}
		if got.Commit == nil {
			return
		}
		if c := got.Commit; c.Prepared != (op == xactCommitPrep) || !c.Prepared && c.XID != 7 {
			t.Fatalf("info %x: %+v", info, c)
		}
	})
}

// A log that can't be is refused before anything of it is read.
func FuzzLog(f *testing.F) {
	f.Add(uint64(testSegment), uint64(testBlock), uint64(testSegment), uint32(1))
	f.Add(uint64(0), uint64(0), uint64(0), uint32(0))
	f.Add(uint64(16<<20), uint64(8192), uint64(1<<63), uint32(3))
	f.Add(uint64(1<<30), uint64(65536), uint64(1<<64-8), uint32(3))
	f.Fuzz(func(t *testing.T, segment, block, start uint64, tli uint32) {
		log := Log{Segments: memory{}, SegmentSize: segment, BlockSize: block, Timeline: pg.Timeline(tli)}
		end, err := log.FindEnd(pg.LSN(start))
		if err != nil {
			if !errors.Is(err, ErrInput) || end != (End{}) {
				t.Fatalf("%+v, %v", end, err)
			}
			return
		}
		if end.Stop != StopSegment || end.Records != 0 {
			t.Fatalf("there is no log, and it ends by %+v", end)
		}
	})
}
