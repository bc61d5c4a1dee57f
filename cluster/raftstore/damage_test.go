package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"go.etcd.io/bbolt"
)

// lived is a store after a life, as it was after each transaction: entries that came and went, votes that changed, pages used
// again. The files are of several pages, with branches where the entries are many.
func lived(t testing.TB, many uint64, size int) (images [][]byte, want content) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log.db")
	s := open(t, path)
	did := func(err error) {
		t.Helper()
		image, errRead := os.ReadFile(path)
		if err := errors.Join(err, errRead); err != nil {
			t.Fatal(err)
		}
		images = append(images, image)
	}
	did(s.SetUint64([]byte("CurrentTerm"), 1))
	did(s.StoreLogs(entries(1, many, 1, size)))
	did(s.Set([]byte("LastVoteCand"), []byte("n1")))
	did(s.DeleteRange(many-3, many))
	did(s.SetUint64([]byte("CurrentTerm"), 2))
	did(s.StoreLogs(entries(many-3, many, 2, size)))
	did(s.SetUint64([]byte("LastVoteTerm"), 2))
	did(s.DeleteRange(1, 3))
	did(s.Set([]byte("LastVoteCand"), []byte("n2")))
	did(s.StoreLog(entry(many+1, 2, size)))
	did(s.StoreLog(entry(many+2, 2, size)))
	want, err := read(s)
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	return images, want
}

// trial is a directory for damaged files.
type trial struct {
	testing.TB
	path     string
	want     content
	refused  int
	harmless int
}

func newTrial(t testing.TB, want content) *trial {
	return &trial{TB: t, path: filepath.Join(t.TempDir(), "log.db"), want: want}
}

// with opens a file of these bytes and reads all of it: that is refused, or it is what was written.
func (tr *trial) with(image []byte, format string, args ...any) {
	tr.Helper()
	if err := os.WriteFile(tr.path, image, 0o600); err != nil {
		tr.Fatal(err)
	}
	s, err := Open(tr.path)
	var is content
	if err == nil {
		is, err = read(s)
		if err := s.Close(); err != nil {
			tr.Error(err)
		}
	}
	switch {
	case errors.Is(err, ErrDamaged):
		tr.refused++
	case err != nil:
		tr.Fatalf("%s: %v", fmt.Sprintf(format, args...), err)
	case !reflect.DeepEqual(is, tr.want):
		tr.Fatalf("%s: it gives back %.300s\nand not %.300s", fmt.Sprintf(format, args...), fmt.Sprint(is), fmt.Sprint(tr.want))
	default:
		tr.harmless++
	}
}

// ends says how it went, and that the trial was one.
func (tr *trial) ends(what string) {
	tr.Helper()
	tr.Logf("%s: %d refused, %d harmless", what, tr.refused, tr.harmless)
	if tr.refused == 0 {
		tr.Errorf("%s: nothing was refused, so nothing was tried", what)
	}
}

// TestAFlippedBitIsRefusedOrHarmless: every byte of a small file in which there is something, and a sample of the rest.
func TestAFlippedBitIsRefusedOrHarmless(t *testing.T) {
	for _, c := range []struct {
		many uint64
		size int
		step int // of the bytes that are not zero
	}{{8, 30, 1}, {300, 100, 41}} {
		images, want := lived(t, c.many, c.size)
		image := images[len(images)-1]
		tr, random := newTrial(t, want), rand.New(rand.NewPCG(1, c.many))
		for at, n := 0, 0; at < len(image); at++ {
			if n++; image[at] == 0 && n%97 != 0 || image[at] != 0 && n%c.step != 0 {
				continue
			}
			damaged := slices.Clone(image)
			damaged[at] ^= 1 << random.IntN(8)
			tr.with(damaged, "%d entries, byte %d from %02x to %02x", c.many, at, image[at], damaged[at])
		}
		tr.ends(fmt.Sprintf("%d entries, %d bytes", c.many, len(image)))
	}
}

const page = 4096

// TestAPageOfBeforeIsNotTakenForTheNewest: a write that the disk dropped, and pointers to pages of before, which are whole and
// have the right checksums.
func TestAPageOfBeforeIsNotTakenForTheNewest(t *testing.T) {
	if os.Getpagesize() != page {
		t.Skipf("bbolt makes pages of %d bytes here", os.Getpagesize())
	}
	for _, many := range []uint64{8, 300} {
		images, want := lived(t, many, 100)
		image := images[len(images)-1]
		dropped, turned := newTrial(t, want), newTrial(t, want)
		for _, before := range images[:len(images)-1] {
			for at := 2 * page; at+page <= min(len(image), len(before)); at += page {
				if !bytes.Equal(image[at:at+page], before[at:at+page]) {
					damaged := slices.Concat(image[:at], before[at:at+page], image[at+page:])
					dropped.with(damaged, "%d entries, page %d of before", many, at/page)
				}
			}
		}
		for _, before := range images[:len(images)-3] { // of a newer one nobody can tell that the last transaction ever was
			for _, at := range []int{0, page} {
				damaged := slices.Concat(image[:at], before[at:at+page], image[at+page:])
				dropped.with(damaged, "%d entries, meta page %d of before", many, at/page)
			}
		}
		dropped.ends("dropped writes")
		pages := uint64(len(image) / page)
		for at := 2 * page; at+8 <= len(image); at += 4 {
			if id := binary.NativeEndian.Uint64(image[at:]); id < 2 || id >= pages {
				continue
			}
			for other := range pages {
				damaged := slices.Clone(image)
				binary.NativeEndian.PutUint64(damaged[at:], other)
				turned.with(damaged, "%d entries, the pointer at byte %d to page %d", many, at, other)
			}
		}
		turned.ends("turned pointers")
	}
}

// TestACrashInTheMiddleOfAWriteIsNoDamage: until the meta page is there, which is written last, it is the store of before.
func TestACrashInTheMiddleOfAWriteIsNoDamage(t *testing.T) {
	if os.Getpagesize() != page {
		t.Skipf("bbolt makes pages of %d bytes here", os.Getpagesize())
	}
	for _, many := range []uint64{8, 300} {
		images, _ := lived(t, many, 100)
		for n, next := range images[1:] {
			before := append(slices.Clone(images[n]), make([]byte, len(next)-len(images[n]))...) // it grows first
			path := filepath.Join(t.TempDir(), "log.db")
			if err := os.WriteFile(path, before, 0o600); err != nil {
				t.Fatal(err)
			}
			s := open(t, path)
			want, err := read(s)
			if err := errors.Join(err, s.Close()); err != nil {
				t.Fatal(err)
			}
			tr := newTrial(t, want)
			tr.with(before, "transaction %d, nothing written", n)
			for at := 2 * page; at < len(next); at += page {
				if !bytes.Equal(before[at:at+page], next[at:at+page]) {
					copy(before[at:], next[at:at+page])
					tr.with(before, "transaction %d, written up to page %d", n, at/page)
				}
			}
			if tr.refused > 0 || tr.harmless < 2 {
				t.Errorf("%d entries, transaction %d: %d refused, %d harmless", many, n, tr.refused, tr.harmless)
			}
		}
	}
}

// TestATornOrShortFileIsRefused, wherever it ends.
func TestATornOrShortFileIsRefused(t *testing.T) {
	images, want := lived(t, 300, 100)
	image := images[len(images)-1]
	tr := newTrial(t, want)
	for size := 1; size < len(image); size += 509 {
		tr.with(image[:size], "cut to %d bytes", size)
	}
	tr.with(append(slices.Clone(image), make([]byte, page)...), "longer than it was")
	tr.ends("cut")
	// What is gone was of no use any more. Nobody knows that of a file that others have read as whole.
	path := filepath.Join(t.TempDir(), "log.db")
	s := open(t, path)
	if err := errors.Join(s.StoreLogs(entries(1, 300, 1, 100)), s.DeleteRange(1, 300), s.DeleteRange(1, 300), s.Close()); err != nil {
		t.Fatal(err)
	}
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := readMeta(bytes.NewReader(image), 0)
	if err != nil {
		t.Fatal(err)
	}
	free, used := newTrial(t, content{Votes: map[string]string{}}), m.pages*m.pageSize
	free.with(image[:used], "cut to what is in use")
	if free.with(image[:used-1], "cut to a byte less"); free.refused != 1 || free.harmless != 1 {
		t.Errorf("of a cut at the end of the pages in use and one before it %d were refused", free.refused)
	}
}

// TestNoPageIsLookedAtTwice: bbolt panics when a page with two pointers to it is set free for the second time. That is looked for
// whatever else is wrong with what such a pointer leads to.
func TestNoPageIsLookedAtTwice(t *testing.T) {
	images, _ := lived(t, 300, 100)
	image := images[len(images)-1]
	m := meta{}
	for _, at := range []uint64{0, uint64(os.Getpagesize())} {
		is, err := readMeta(bytes.NewReader(image), at)
		if err != nil {
			t.Fatal(err)
		}
		if is.written > m.written {
			m = is
		}
	}
	roots := map[string][]byte{} // the pointer in the root page to the page of each bucket
	root := image[m.root*m.pageSize:]
	for n := range int(binary.NativeEndian.Uint16(root[10:])) {
		k, v, err := parts(root[pageHead+n*elementSize:], kindLeaf)
		if err != nil {
			t.Fatal(err)
		}
		roots[string(k)] = v[:8]
	}
	copy(roots["votes"], roots["log"])
	if err := checkContent(bytes.NewReader(image), uint64(len(image))); !errors.Is(err, ErrDamaged) {
		t.Errorf("the votes are where the log is: %v", err)
	}
}

// FuzzOpen: whatever is written over a part of the file, it is refused, and left as it is, or gives back what was written.
func FuzzOpen(f *testing.F) {
	images, want := lived(f, 60, 100)
	image := images[len(images)-1]
	for at := 0; at < len(image); at += page {
		f.Add(at, image[at:at+64])
		f.Add(at+pageHead, []byte{1})
	}
	f.Fuzz(func(t *testing.T, at int, over []byte) {
		if at < 0 || at > len(image) {
			return
		}
		damaged := slices.Clone(image)
		copy(damaged[at:], over)
		tr := newTrial(t, want)
		tr.with(damaged, "%x at byte %d", over, at)
		if is, err := os.ReadFile(tr.path); err != nil || !bytes.Equal(is, damaged) {
			t.Errorf("%x at byte %d: the file was changed, %v", over, at, err)
		}
	})
}

// FuzzDecode: what is taken for an entry is what encode makes of it.
func FuzzDecode(f *testing.F) {
	for _, e := range entries(1, 3, 7, 20) {
		f.Add(key(e.Index), encode(e, 9))
	}
	f.Fuzz(func(t *testing.T, k, v []byte) {
		e, err := decode(k, v)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("refused as %v", err)
			}
			return
		}
		if again := encode(&e.entry, e.previous); !bytes.Equal(again, v) || !bytes.Equal(key(e.entry.Index), k) {
			t.Errorf("%x is read as %+v, which is %x", v, e, again)
		}
	})
}

// rot changes the content of an open store below it, as a disk does, and nothing else: no sum is made right.
func rot(t *testing.T, s *Store, bucket []byte, change func(*bbolt.Bucket) error) {
	t.Helper()
	if err := s.db.Update(func(tx *bbolt.Tx) error { return change(tx.Bucket(bucket)) }); err != nil {
		t.Fatal(err)
	}
}

// TestNothingIsSealedOverDamage: while the store is open what was written is gone at either end of the log, or a vote. Neither a write
// nor a removal gives that a new sum, so the next to open the file finds it too.
func TestNothingIsSealedOverDamage(t *testing.T) {
	logs := map[string]func(*bbolt.Bucket) error{
		"the first entry is gone": func(b *bbolt.Bucket) error { return b.Delete(key(1)) },
		"the last entry is gone":  func(b *bbolt.Bucket) error { return b.Delete(key(9)) },
		"it has one that is not": func(b *bbolt.Bucket) error {
			return b.Put(key(10), encode(entry(10, 1, 20), sumIn(b.Get(key(9)))))
		},
	}
	votes := map[string]func(*bbolt.Bucket) error{
		"a vote is gone":     func(b *bbolt.Bucket) error { return b.Delete([]byte("CurrentTerm")) },
		"a vote is another":  func(b *bbolt.Bucket) error { return b.Put([]byte("LastVoteCand"), []byte("n2")) },
		"a vote that is not": func(b *bbolt.Bucket) error { return b.Put([]byte("LastVoteTerm"), []byte("12345678")) },
	}
	try := func(bucket []byte, name string, damage func(*bbolt.Bucket) error, uses map[string]func(s *Store) error) {
		for use, do := range uses {
			path := filepath.Join(t.TempDir(), "log.db")
			s := open(t, path)
			if err := errors.Join(s.StoreLogs(entries(1, 9, 1, 20)), s.SetUint64([]byte("CurrentTerm"), 1), s.Set([]byte("LastVoteCand"), []byte("n1"))); err != nil {
				t.Fatal(err)
			}
			rot(t, s, bucket, damage)
			if err := do(s); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, %s: %v", name, use, err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			// What rot leaves is damaged in another way too: the number of its transaction. So only what it changed is looked at.
			if err := checkBucket(path, bucket); !errors.Is(err, ErrDamaged) {
				t.Errorf("%s, %s, and the next to open it: %v", name, use, err)
			}
		}
	}
	for name, damage := range logs {
		try(logBucket(), name, damage, map[string]func(s *Store) error{
			"store":  func(s *Store) error { return s.StoreLog(entry(20, 1, 20)) },
			"remove": func(s *Store) error { return s.DeleteRange(1, 2) },
		})
	}
	for name, damage := range votes {
		try(votesBucket(), name, damage, map[string]func(s *Store) error{
			"get":        func(s *Store) error { _, err := s.Get([]byte("LastVoteCand")); return err },
			"get number": func(s *Store) error { _, err := s.GetUint64([]byte("CurrentTerm")); return err },
			"set":        func(s *Store) error { return s.Set([]byte("LastVoteCand"), []byte("n3")) },
			"set number": func(s *Store) error { return s.SetUint64([]byte("CurrentTerm"), 2) },
		})
	}
}

// checkBucket is the part of check that is of one bucket.
func checkBucket(path string, name []byte) (err error) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bbolt.Tx) error {
		if bytes.Equal(name, logBucket()) {
			return checkLog(tx.Bucket(name))
		}
		return checkVotes(tx.Bucket(name))
	})
}
