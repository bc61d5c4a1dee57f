package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// What bbolt 1.4 keeps in a file: pages of one size, the first two of which are meta pages written in turn, and trees of branch
// and leaf pages. A page begins with its number (8 bytes), its kind (2), how many elements it has (2) and how many pages follow
// that belong to it (4). Numbers are in the machine's own order.
const (
	pageHead    = 16
	elementSize = 16
	metaSize    = 64
	kindBranch  = 0x01
	kindLeaf    = 0x02
	bucketFlag  = 0x01 // of an element of a leaf: a bucket
	bucketHead  = 16   // its root page, 0 if its one page follows here, and its sequence
	metaMagic   = 0xED0CDAED
	metaVersion = 2
	minPage     = 512
	maxPage     = 1 << 20
	maxDepth    = 64
	firstPages  = 4 // that bbolt makes, in one write: both meta pages, and two that are empty
)

// meta is what a meta page says.
type meta struct {
	pageSize uint64
	root     uint64 // page of the root bucket
	pages    uint64 // no page at or beyond that is in use
	written  uint64 // number of the transaction
}

// unborn says that a file is the beginning of what bbolt writes first of all, as a disk leaves it that was full then: nothing was ever
// kept in it. The first transaction, which makes the buckets, is number 2 and goes over the first page.
func unborn(file io.ReaderAt, size uint64) bool {
	m, err := readMeta(file, 0)
	return err == nil && m.written == 0 && size < firstPages*m.pageSize
}

// checkContent looks at every page that bbolt would follow a pointer to, before it does: both meta pages are whole and of the last
// two transactions, every page is in the file, is the one meant, has one pointer to it, and holds its elements, in order and
// between those of the page above.
func checkContent(file io.ReaderAt, size uint64) error {
	even, err := readMeta(file, 0)
	if err != nil {
		return err
	}
	odd, err := readMeta(file, even.pageSize)
	if err != nil {
		return err
	}
	last := even
	if odd.written > even.written {
		last = odd
	}
	switch {
	case odd.pageSize != even.pageSize, even.written+1 != odd.written && odd.written+1 != even.written:
		return fmt.Errorf("%w: its meta pages are of transactions %d and %d", ErrDamaged, even.written, odd.written)
	case last.pages > size/last.pageSize:
		return fmt.Errorf("%w: it has %d bytes, and %d pages of %d are in use", ErrDamaged, size, last.pages, last.pageSize)
	}
	w := walk{file: file, meta: last, seen: map[uint64]bool{0: true, 1: true}}
	return w.page(last.root, bounds{}, 0)
}

func readMeta(file io.ReaderAt, at uint64) (meta, error) {
	b := make([]byte, pageHead+metaSize)
	if err := readAt(file, b, at); err != nil {
		return meta{}, err
	}
	b = b[pageHead:]
	sum := fnv.New64a()
	_, _ = sum.Write(b[:metaSize-8])
	long := func(at int) uint64 { return binary.NativeEndian.Uint64(b[at:]) }
	m := meta{pageSize: uint64(binary.NativeEndian.Uint32(b[8:])), root: long(16), pages: long(40), written: long(48)}
	if binary.NativeEndian.Uint32(b) != metaMagic || binary.NativeEndian.Uint32(b[4:]) != metaVersion || long(56) != sum.Sum64() ||
		m.pageSize < minPage || m.pageSize > maxPage {
		return meta{}, fmt.Errorf("%w: the meta page at byte %d", ErrDamaged, at)
	}
	return m, nil
}

func readAt(file io.ReaderAt, b []byte, at uint64) error {
	_, err := file.ReadAt(b, int64(at))
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: it was cut short, at byte %d or before", ErrDamaged, at)
	}
	return err
}

// bounds are those of the keys below an element: from it on, and before the next one's. nil: none.
type bounds struct{ from, before []byte }

// walk goes through the trees of a file.
type walk struct {
	file io.ReaderAt
	meta meta
	seen map[uint64]bool
}

func (w *walk) wrong(id uint64, what string, args ...any) error {
	return fmt.Errorf("%w: page %d: %s", ErrDamaged, id, fmt.Sprintf(what, args...))
}

// page looks at a page and at all below it.
func (w *walk) page(id uint64, in bounds, depth int) error {
	if id >= w.meta.pages || depth > maxDepth {
		return w.wrong(id, "there is no such page")
	}
	head := make([]byte, pageHead)
	if err := readAt(w.file, head, id*w.meta.pageSize); err != nil {
		return err
	}
	more := uint64(binary.NativeEndian.Uint32(head[12:]))
	if is := binary.NativeEndian.Uint64(head); is != id || id+more >= w.meta.pages {
		return w.wrong(id, "it says that it is page %d, and that %d belong to it", is, more)
	}
	for at := id; at <= id+more; at++ {
		if w.seen[at] {
			return w.wrong(at, "there is more than one pointer to it")
		}
		w.seen[at] = true
	}
	content := make([]byte, (more+1)*w.meta.pageSize)
	if err := readAt(w.file, content, id*w.meta.pageSize); err != nil {
		return err
	}
	return w.elements(id, content, in, depth)
}

// elements looks at what is in a page.
func (w *walk) elements(id uint64, content []byte, in bounds, depth int) error {
	kind, count := binary.NativeEndian.Uint16(content[8:]), int(binary.NativeEndian.Uint16(content[10:]))
	if kind != kindBranch && kind != kindLeaf || pageHead+count*elementSize > len(content) || kind == kindBranch && count == 0 {
		return w.wrong(id, "it is of kind %d, with %d elements", kind, count)
	}
	keys := make([][]byte, count)
	for n := range keys {
		element := content[pageHead+n*elementSize:]
		k, v, err := parts(element, kind)
		if err != nil {
			return w.wrong(id, "element %d: %v", n, err)
		}
		switch {
		case n == 0 && bytes.Compare(k, in.from) < 0, n > 0 && bytes.Compare(k, keys[n-1]) <= 0,
			in.before != nil && bytes.Compare(k, in.before) >= 0:
			return w.wrong(id, "element %d is out of order", n)
		}
		keys[n] = k
		if kind == kindLeaf && binary.NativeEndian.Uint32(element) == bucketFlag {
			if err := w.bucket(id, v, depth); err != nil {
				return err
			}
		}
	}
	if kind == kindLeaf {
		return nil
	}
	for n, k := range keys {
		below := bounds{from: k, before: in.before}
		if n+1 < len(keys) {
			below.before = keys[n+1]
		}
		if err := w.page(binary.NativeEndian.Uint64(content[pageHead+n*elementSize+8:]), below, depth+1); err != nil {
			return err
		}
	}
	return nil
}

var errOutside = errors.New("it is not inside of the page")

// parts are the key and the value of an element, which begins the slice and names them by their distance from there.
func parts(element []byte, kind uint16) (k, v []byte, err error) {
	number := func(at int) uint64 { return uint64(binary.NativeEndian.Uint32(element[at:])) }
	from, keySize, valueSize := number(0), number(4), uint64(0)
	if kind == kindLeaf {
		if number(0) > bucketFlag {
			return nil, nil, errors.New("it is of no kind that there is")
		}
		from, keySize, valueSize = number(4), number(8), number(12)
	}
	if from+keySize+valueSize > uint64(len(element)) {
		return nil, nil, errOutside
	}
	return element[from : from+keySize], element[from+keySize : from+keySize+valueSize], nil
}

// bucket looks at a bucket, whose one page may be in the value itself.
func (w *walk) bucket(id uint64, value []byte, depth int) error {
	if len(value) < bucketHead {
		return w.wrong(id, "a bucket in it is too short")
	}
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return w.page(root, bounds{}, depth+1)
	}
	page := value[bucketHead:]
	if len(page) < pageHead || binary.NativeEndian.Uint16(page[8:]) != kindLeaf || depth > maxDepth {
		return w.wrong(id, "a bucket in it has no page")
	}
	return w.elements(id, page, bounds{}, depth+1)
}
