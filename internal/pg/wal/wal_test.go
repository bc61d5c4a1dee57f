package wal

import (
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/quorate/quorate/internal/pg"
)

// expect walks from start and compares the end with the record want, which stopped the walk for
// the reason given.
func expect(t *testing.T, log Log, start pg.LSN, want placed, reason Stop) {
	t.Helper()
	end, err := log.FindEnd(start)
	if err != nil {
		t.Fatal(err)
	}
	if end.LSN != want.end || end.LastRecord != want.start || end.Timeline != want.timeline || end.Stop != reason {
		t.Fatalf("got end %s timeline %d, last record %s, stop %s (%s)\nwant end %s timeline %d, last record %s, stop %s",
			end.LSN, end.Timeline, end.LastRecord, end.Stop, end.Detail, want.end, want.timeline, want.start, reason)
	}
}

// fillTo adds records until the next one would begin at offset in its page.
func fillTo(b *builder, offset pg.LSN) {
	b.add(0)
	for b.pos%testBlock != offset {
		b.add(0)
		if rest := (offset + testBlock - b.pos%testBlock) % testBlock; rest >= recordHeader && b.pos%testBlock < offset {
			b.add(int(rest) - recordHeader)
		}
	}
}

func TestWholeLogs(t *testing.T) {
	cases := []struct {
		name   string
		build  func(b *builder)
		reason Stop
	}{
		{"one record", func(b *builder) { b.add(10) }, StopZero},
		{"unaligned lengths", func(b *builder) { b.add(1); b.add(2); b.add(7); b.add(8) }, StopZero},
		{"over pages", func(b *builder) { b.add(10); b.add(5 * testBlock); b.add(3) }, StopZero},
		{"length alone on its page", func(b *builder) { fillTo(b, testBlock-8); b.add(100) }, StopZero},
		{"header split after 16 bytes", func(b *builder) { fillTo(b, testBlock-16); b.add(100) }, StopZero},
		{"header split, no payload", func(b *builder) { fillTo(b, testBlock-8); b.add(0) }, StopZero},
		{"fills its page", func(b *builder) { fillTo(b, testBlock-64); b.add(64 - recordHeader) }, StopZero},
		{"fills a later page", func(b *builder) { fillTo(b, testBlock-64); b.add(64 - recordHeader + testBlock - shortHeader) }, StopZero},
		{"fills the segment", func(b *builder) { b.add(1000*testBlock - 1000); fillSegment(b) }, StopSegment},
		{"over three segments", func(b *builder) { b.add(5); b.add(2*testSegment + 100); b.add(9) }, StopZero},
		{"segment switch at the end", func(b *builder) { b.add(5); b.switchSegment() }, StopSegment},
		{"segment switch, then more", func(b *builder) { b.add(5); b.switchSegment(); b.add(6); b.add(7) }, StopZero},
		{"switch ends with its segment", func(b *builder) { fillSegmentBut(b, recordHeader); b.switchSegment(); b.add(1) }, StopZero},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBuilder()
			c.build(b)
			want := b.records[len(b.records)-1]
			for _, from := range []pg.LSN{testSegment, testSegment + longHeader} {
				expect(t, b.log(), from, want, c.reason)
			}
			for i := 0; i < len(b.records); i += 1 + len(b.records)/50 {
				expect(t, b.log(), b.records[i].start, want, c.reason)
				if i > 0 {
					expect(t, b.log(), b.records[i-1].end, want, c.reason)
				}
			}
			expect(t, b.log(), want.start, want, c.reason)
			stale(t, b)
			end, err := b.log().FindEnd(testSegment)
			if err != nil || end.Records != uint64(len(b.records)) {
				t.Fatalf("%d records, %v; %d were written", end.Records, err, len(b.records))
			}
		})
	}
}

// stale puts a whole record of another place behind the end of the log, as what is not overwritten of a file may have it there. A walk
// that begins right at the end must not take it for one that follows, nor may one that begins before.
func stale(t *testing.T, b *builder) {
	t.Helper()
	end, at := b.pos, b.pos
	if at%testBlock == 0 {
		at = b.header(at, 0, 0)
	}
	copy(b.bytesAt(at), encodeRecord(testSegment+longHeader+8, 16, 1, 0))
	starts := []pg.LSN{testSegment, b.records[len(b.records)-1].start}
	if end%testSegment != 0 { // where no page of another place has the right address
		starts = append(starts, end)
	}
	for _, from := range starts {
		got, err := b.log().FindEnd(from)
		if err != nil || got.LSN != end || got.Stop != StopRecord || (got.LastRecord == 0) != (from == end) {
			t.Errorf("from %s: end %s (%s %s), %v; the log ends at %s", from, got.LSN, got.Stop, got.Detail, err, end)
		}
	}
}

// fillSegment ends the log exactly at the end of the segment.
func fillSegment(b *builder) { fillSegmentBut(b, 0) }

// fillSegmentBut leaves so many bytes before the end of the segment.
func fillSegmentBut(b *builder, rest pg.LSN) {
	for {
		left := testSegment - b.pos%testSegment
		if left <= testBlock {
			b.add(int(testBlock - b.pos%testBlock - recordHeader - rest))
			return
		}
		fillTo(b, testBlock-32)
		b.add(32 - recordHeader)
		if b.pos%testBlock == 0 && testSegment-b.pos%testSegment == testBlock {
			b.add(testBlock - shortHeader - recordHeader - int(rest))
			return
		}
	}
}

// TestEveryCut ends the writing of a log after each of its bytes: the end must be that of the
// last record that is there in full.
func TestEveryCut(t *testing.T) {
	b := newBuilder()
	for i, payload := range []int{0, 30, 200, 1, 900, 3 * testBlock, 17, testBlock, 0, 0, 40, 2*testBlock - 48, 8} {
		b.add(payload)
		if i == 6 {
			b.fork()
		}
	}
	for limit := pg.LSN(testSegment); limit <= b.pos; limit++ {
		want := placed{end: testSegment, timeline: 1}
		for _, p := range b.records {
			if p.last <= limit {
				want = p
			}
		}
		log := b.log()
		log.Segments = cut{memory{b.files}, limit}
		end, err := log.FindEnd(testSegment)
		if err != nil {
			t.Fatal(err)
		}
		if end.LSN != want.end || end.LastRecord != want.start || end.Timeline != want.timeline {
			t.Fatalf("cut at %s: end %s timeline %d (%s %s), want %s timeline %d", limit, end.LSN, end.Timeline, end.Stop, end.Detail, want.end, want.timeline)
		}
	}
}

func TestDamage(t *testing.T) {
	le := binary.LittleEndian
	pageOf := func(at pg.LSN) pg.LSN { return at &^ (testBlock - 1) }
	cases := []struct {
		name   string
		damage func(b *builder, last placed) // last is a record over several pages
		reason Stop
	}{
		{"payload bit", func(b *builder, p placed) { b.bytesAt(p.last - 1)[0] ^= 1 }, StopChecksum},
		{"transaction id", func(b *builder, p placed) { b.bytesAt(p.start)[5] ^= 1 }, StopChecksum},
		{"checksum", func(b *builder, p placed) { b.bytesAt(p.start)[offChecksum] ^= 1 }, StopChecksum},
		{"length below a header", func(b *builder, p placed) { le.PutUint32(b.bytesAt(p.start), 23) }, StopRecord},
		{"length too small", func(b *builder, p placed) { le.PutUint32(b.bytesAt(p.start), 40) }, StopChecksum},
		{"length too large", func(b *builder, p placed) { le.PutUint32(b.bytesAt(p.start), 0xFFFFFFFF) }, StopContinuation},
		{"link", func(b *builder, p placed) { b.bytesAt(p.start)[offPrevious] ^= 8 }, StopRecord},
		{"remaining length", func(b *builder, p placed) { b.bytesAt(pageOf(p.last))[16]++ }, StopContinuation},
		{"no remaining length", func(b *builder, p placed) { le.PutUint32(b.bytesAt(pageOf(p.last))[16:], 0) }, StopContinuation},
		{"no continuation flag", func(b *builder, p placed) { b.bytesAt(pageOf(p.last))[2] = 0 }, StopContinuation},
		{"unknown flag", func(b *builder, p placed) { b.bytesAt(pageOf(p.last))[2] |= 0x10 }, StopPage},
		{"long header inside a segment", func(b *builder, p placed) { b.bytesAt(pageOf(p.last))[2] |= flagLongHeader }, StopPage},
		{"recycled page", func(b *builder, p placed) { le.PutUint64(b.bytesAt(pageOf(p.last))[8:], 0x1000) }, StopPage},
		{"unknown magic", func(b *builder, p placed) { le.PutUint16(b.bytesAt(pageOf(p.last)), 0xD109) }, StopPage},
		{"another version's magic", func(b *builder, p placed) { le.PutUint16(b.bytesAt(pageOf(p.last)), 0xD10D) }, StopPage},
		{"another timeline", func(b *builder, p placed) { b.bytesAt(pageOf(p.last))[4] = 2 }, StopPage},
		{"empty page", func(b *builder, p placed) { clear(b.bytesAt(pageOf(p.last))[:testBlock]) }, StopZero},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBuilder()
			b.add(50)
			want := b.add(60)
			c.damage(b, b.add(2*testBlock))
			b.add(70)
			expect(t, b.log(), testSegment, want, c.reason)
		})
	}
}

func TestFirstPageOfASegment(t *testing.T) {
	le := binary.LittleEndian
	cases := []struct {
		name   string
		damage func(first []byte)
	}{
		{"no long header", func(first []byte) { first[2] = 0 }},
		{"another system", func(first []byte) { le.PutUint64(first[24:], 5) }},
		{"another segment size", func(first []byte) { le.PutUint32(first[32:], 2*testSegment) }},
		{"another page size", func(first []byte) { le.PutUint32(first[36:], 8192) }},
		{"recycled segment", func(first []byte) { le.PutUint64(first[8:], 0) }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := newBuilder()
			b.add(10)
			want := b.switchSegment()
			b.add(3 * testBlock)
			deep := b.add(5)
			c.damage(b.bytesAt(2 * testSegment))
			expect(t, b.log(), testSegment, want, StopPage)
			// Also when the walk begins far behind that page.
			end, err := b.log().FindEnd(deep.start)
			if err != nil || end.LastRecord != 0 || end.LSN != deep.start || end.Stop != StopPage {
				t.Fatalf("from inside: %+v, %v", end, err)
			}
		})
	}
}

// TestOverwrittenRecord: a crash cut a record short; the server that came up again marked the
// page where it would have gone on and continued there.
func TestOverwrittenRecord(t *testing.T) {
	b := newBuilder()
	b.add(30)
	before := b.add(40)
	torn := b.add(3 * testBlock)
	page := (torn.start + testBlock) &^ (testBlock - 1)
	b.pos, b.prev = page, before.start
	for at := page; at < torn.end; at += testBlock {
		clear(b.bytesAt(at)[:testBlock])
	}
	expect(t, b.log(), testSegment, before, StopZero)
	b.put(encodeRecord(b.prev, 16, managerXLOG, 0xD0), flagOverwrite)
	want := b.add(12)
	for _, from := range []pg.LSN{testSegment, torn.start, page, page + shortHeader} {
		expect(t, b.log(), from, want, StopZero)
	}
	stale(t, b)
}

func TestTimelines(t *testing.T) {
	t.Run("switch inside a page, twice", func(t *testing.T) {
		b := newBuilder()
		b.add(30)
		b.fork()
		b.add(40)
		b.fork()
		want := b.add(3 * testBlock)
		expect(t, b.log(), testSegment, want, StopZero)
		stale(t, b)
	})
	t.Run("the segment before is of a branch that was left", func(t *testing.T) {
		b := newBuilder()
		b.add(30)
		stray := *b
		stray.records = nil
		b.fork()
		b.switchSegment()
		want := b.add(20)
		delete(b.files, pg.SegmentName(2, testSegment, testSegment))
		stray.add(3 * testBlock)
		expect(t, b.log(), 2*testSegment, want, StopZero)
	})
	t.Run("switch at a page's boundary", func(t *testing.T) {
		b := newBuilder()
		fillTo(b, testBlock-64)
		b.add(64 - recordHeader)
		b.fork()
		want := b.add(10)
		expect(t, b.log(), testSegment, want, StopZero)
	})
	t.Run("switch at a segment's boundary", func(t *testing.T) {
		b := newBuilder()
		old := b.switchSegment()
		b.fork()
		want := b.add(10)
		expect(t, b.log(), testSegment, want, StopZero)
		delete(b.files, pg.SegmentName(2, want.start, testSegment))
		expect(t, b.log(), testSegment, old, StopSegment)
	})
	t.Run("old timeline went on elsewhere", func(t *testing.T) {
		b := newBuilder()
		b.add(30)
		fork := *b
		fork.add(500)
		stray := fork.add(3 * testBlock)
		b.fork()
		want := b.add(40)
		expect(t, b.log(), testSegment, want, StopZero)
		// Without a file of the new timeline recovery would replay the stray one, so it counts.
		delete(b.files, pg.SegmentName(2, want.start, testSegment))
		expect(t, b.log(), testSegment, stray, StopZero)
	})
	t.Run("never back to the older one", func(t *testing.T) {
		b := newBuilder()
		b.add(30)
		stray := *b
		stray.records = nil
		b.fork()
		want := b.switchSegment()
		stray.switchSegment()
		stray.add(20)
		expect(t, b.log(), testSegment, want, StopSegment)
	})
	t.Run("newer file shorter than the older", func(t *testing.T) {
		b := newBuilder()
		want := b.add(30)
		torn := b.add(2 * testBlock)
		b.add(30)
		b.fork()
		clear(b.bytesAt(torn.start))
		expect(t, b.log(), testSegment, want, StopZero)
	})
	t.Run("history of another branch", func(t *testing.T) {
		b := newBuilder()
		want := b.add(30)
		b.fork()
		fillTo(b, testBlock-64)
		b.add(200)
		log := b.log()
		log.History = pg.History{{Timeline: 1, End: b.pos}}
		end, err := log.FindEnd(want.start)
		if err != nil || end.Stop != StopPage || end.LSN > b.records[len(b.records)-1].start {
			t.Fatalf("%+v, %v", end, err)
		}
	})
}

// A log that ends with a segment, past the switch of a history that it got to know later, has come there on its own timeline.
func TestTheEndOfASegmentIsOfTheTimelineOfItsFile(t *testing.T) {
	b := newBuilder()
	left := b.add(30)
	b.add(40)
	end := b.switchSegment().end
	log := b.log()
	log.Timeline, log.History = 2, pg.History{{Timeline: 1, End: left.end}}
	if got, err := log.FindEnd(end); err != nil || got.LSN != end || got.Timeline != 1 || got.LastRecord != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	b.files[pg.SegmentName(2, left.start, testSegment)] = b.files[pg.SegmentName(1, left.start, testSegment)]
	if got, err := log.FindEnd(end); err != nil || got.Timeline != 2 {
		t.Errorf("with a file of timeline 2: %+v, %v", got, err)
	}
}

func TestNothingAtStart(t *testing.T) {
	b := newBuilder()
	b.add(30)
	starts := map[pg.LSN]pg.LSN{b.pos: b.pos, 3 * testSegment: 3 * testSegment, 3*testSegment + longHeader: 3 * testSegment}
	for start, want := range starts {
		end, err := b.log().FindEnd(start)
		if err != nil || end.LastRecord != 0 || end.Records != 0 || end.LSN != want || end.Timeline != 1 {
			t.Fatalf("from %s: %+v, %v", start, end, err)
		}
	}
	// What is inside of a record is none, whatever it looks like.
	big := b.add(500)
	copy(b.bytesAt(big.start+40), encodeRecord(b.records[0].start, 16, 1, 0))
	if end, err := b.log().FindEnd(big.start + 40); err != nil || end.LastRecord != 0 {
		t.Fatalf("a record in a record: %+v, %v", end, err)
	}
	b.pos, b.prev = big.start, b.records[0].start
	big = b.add(3 * testBlock)
	inside := (big.start + testBlock) &^ (testBlock - 1)
	if end, err := b.log().FindEnd(inside); err != nil || end.Stop != StopContinuation || end.LastRecord != 0 {
		t.Fatalf("inside a record: %+v, %v", end, err)
	}
}

func TestInput(t *testing.T) {
	good := newBuilder()
	good.add(10)
	cases := []struct {
		name   string
		change func(l *Log, start *pg.LSN)
	}{
		{"segment size", func(l *Log, _ *pg.LSN) { l.SegmentSize = 0 }},
		{"block size", func(l *Log, _ *pg.LSN) { l.BlockSize = 1000 }},
		{"start 0", func(_ *Log, start *pg.LSN) { *start = 0 }},
		{"start unaligned", func(_ *Log, start *pg.LSN) { *start |= 4 }},
		{"no timeline", func(l *Log, _ *pg.LSN) { l.Timeline = 0 }},
		{"history", func(l *Log, _ *pg.LSN) { l.History = pg.History{{Timeline: 1, End: 8}} }},
	}
	for _, c := range cases {
		log, start := good.log(), pg.LSN(testSegment)
		c.change(&log, &start)
		if end, err := log.FindEnd(start); !errors.Is(err, ErrInput) || end != (End{}) {
			t.Errorf("%s: %+v, %v", c.name, end, err)
		}
	}
}

var errDisk = errors.New("disk on fire")

// failing serves segments that can't be opened, read or closed.
type failing struct {
	memory
	open, read, close error
	closed            *int
}

func (f failing) Open(tli pg.Timeline, start pg.LSN) (io.ReaderAt, bool, error) {
	r, ok, _ := f.memory.Open(tli, start)
	return failingReader{r, f}, ok, f.open
}

type failingReader struct {
	io.ReaderAt
	f failing
}

func (r failingReader) ReadAt(p []byte, off int64) (int, error) {
	if r.f.read != nil {
		return 0, r.f.read
	}
	return r.ReaderAt.ReadAt(p, off)
}

func (r failingReader) Close() error { *r.f.closed++; return r.f.close }

func TestErrorsOfTheDiskAreNotEnds(t *testing.T) {
	b := newBuilder()
	b.switchSegment()
	b.add(10)
	for name, f := range map[string]failing{"open": {open: errDisk}, "read": {read: errDisk}, "close": {close: errDisk}} {
		log := b.log()
		f.memory, f.closed = memory{b.files}, new(int)
		log.Segments = f
		if end, err := log.FindEnd(testSegment); !errors.Is(err, errDisk) || end != (End{}) {
			t.Errorf("%s: %+v, %v", name, end, err)
		}
	}
	log, f := b.log(), failing{memory: memory{b.files}, closed: new(int)}
	log.Segments = f
	if _, err := log.FindEnd(testSegment); err != nil || *f.closed != 2 {
		t.Errorf("%d segments closed of 2, %v", *f.closed, err)
	}
}
