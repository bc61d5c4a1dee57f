package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"go.etcd.io/bbolt"
)

// open opens a store that the end of the test closes, if nobody did before.
func open(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// content is all that a store gives back.
type content struct {
	First, Last uint64
	Entries     []raft.Log
	Votes       map[string]string
}

func voteKeys() []string { return []string{"CurrentTerm", "LastVoteTerm", "LastVoteCand"} }

func read(s *Store) (content, error) {
	c := content{Votes: map[string]string{}}
	var errFirst, errLast error
	c.First, errFirst = s.FirstIndex()
	c.Last, errLast = s.LastIndex()
	if err := errors.Join(errFirst, errLast); err != nil {
		return c, err
	}
	for at := c.First; at <= c.Last && at > 0; at++ {
		var entry raft.Log
		switch err := s.GetLog(at, &entry); {
		case err == nil:
			c.Entries = append(c.Entries, entry)
		case !errors.Is(err, raft.ErrLogNotFound):
			return c, err
		}
	}
	for _, name := range voteKeys() {
		v, err := s.Get([]byte(name))
		if err == nil {
			c.Votes[name] = string(v)
		} else if err.Error() != "not found" {
			return c, err
		}
	}
	return c, nil
}

func entry(index, term uint64, size int) *raft.Log {
	return &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: bytes.Repeat([]byte{byte(index), byte(term)}, size/2),
		AppendedAt: time.Unix(1700000000, int64(index))}
}

func entries(from, to, term uint64, size int) (out []*raft.Log) {
	for at := from; at <= to; at++ {
		out = append(out, entry(at, term, size))
	}
	return out
}

// TestWhatIsStoredIsGivenBack, by the store and by the next process's.
func TestWhatIsStoredIsGivenBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	s := open(t, path)
	if is, err := read(s); err != nil || is.Last != 0 || len(is.Votes) != 0 {
		t.Fatalf("a new one has %+v, %v", is, err)
	}
	bare := &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration}
	rich := &raft.Log{Index: 2, Term: 1, Type: raft.LogBarrier, Data: []byte("data"), Extensions: []byte("more"), AppendedAt: time.Unix(1, 2)}
	long := entry(3, 1<<40, 100000)
	err := errors.Join(s.StoreLog(bare), s.StoreLogs([]*raft.Log{rich, long}), s.StoreLogs(nil), s.Set([]byte("LastVoteCand"), []byte("n1")),
		s.SetUint64([]byte("CurrentTerm"), 7), s.SetUint64([]byte("CurrentTerm"), 8))
	if err != nil {
		t.Fatal(err)
	}
	want := content{First: 1, Last: 3, Entries: []raft.Log{*bare, *rich, *long},
		Votes: map[string]string{"LastVoteCand": "n1", "CurrentTerm": "\x00\x00\x00\x00\x00\x00\x00\x08"}}
	for range 2 {
		if is, err := read(s); err != nil || !reflect.DeepEqual(is, want) {
			t.Fatalf("%v: it gives back %.500v\nand not %.500v", err, fmt.Sprint(is), fmt.Sprint(want))
		}
		if term, err := s.GetUint64([]byte("CurrentTerm")); err != nil || term != 8 {
			t.Errorf("term %d, %v", term, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path)
	}
}

// TestWhatRaftDoesToALog: entries go at both ends, others come in their place, and after a snapshot from a leader some are left
// out.
func TestWhatRaftDoesToALog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	for _, step := range []struct {
		name        string
		do          func(s *Store) error
		first, last uint64
		fails       error
	}{
		{"begin", func(s *Store) error { return s.StoreLogs(entries(1, 400, 1, 100)) }, 1, 400, nil},
		{"one in the place of another", func(s *Store) error { return s.StoreLog(entry(400, 2, 10)) }, 1, 400, errOrder},
		{"two in a wrong order", func(s *Store) error { return s.StoreLogs([]*raft.Log{entry(402, 2, 10), entry(401, 2, 10)}) }, 1, 400, errOrder},
		{"the end is another leader's", func(s *Store) error { return s.DeleteRange(301, 400) }, 1, 300, nil},
		{"his entries", func(s *Store) error { return s.StoreLogs(entries(301, 310, 2, 50)) }, 1, 310, nil},
		{"compact", func(s *Store) error { return s.DeleteRange(1, 250) }, 251, 310, nil},
		{"nothing of it", func(s *Store) error { return s.DeleteRange(1, 250) }, 251, 310, nil},
		{"a snapshot goes further", func(s *Store) error { return s.StoreLogs(entries(500, 520, 3, 50)) }, 251, 520, nil},
		{"compact up to it", func(s *Store) error { return s.DeleteRange(251, 499) }, 500, 520, nil},
		{"all", func(s *Store) error { return s.DeleteRange(500, 520) }, 0, 0, nil},
		{"again", func(s *Store) error { return s.StoreLog(entry(521, 3, 50)) }, 521, 521, nil},
		{"many", func(s *Store) error { return s.StoreLogs(entries(522, 921, 3, 100)) }, 521, 921, nil},
		{"all of several pages", func(s *Store) error { return s.DeleteRange(521, 921) }, 0, 0, nil},
	} {
		s := open(t, path)
		if err := step.do(s); !errors.Is(err, step.fails) {
			t.Fatalf("%s: %v", step.name, err)
		}
		before, err := read(s)
		if err != nil || before.First != step.first || before.Last != step.last {
			t.Fatalf("%s: %d to %d, %v; want %d to %d", step.name, before.First, before.Last, err, step.first, step.last)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path)
		if after, err := read(s); err != nil || !reflect.DeepEqual(before, after) {
			t.Fatalf("%s: another process reads something else: %v", step.name, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOneProcessAtATime: a second one is refused before it looks at anything.
func TestOneProcessAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	open(t, path)
	if _, err := Open(path); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("a second one: %v", err)
	}
	// What another process is writing is not looked at: it need not be whole.
	torn := filepath.Join(t.TempDir(), "log.db")
	if err := os.WriteFile(torn, []byte("half a page"), 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := os.Open(torn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if err := lock(other); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(torn); !errors.Is(err, ErrInUse) || errors.Is(err, ErrDamaged) {
		t.Errorf("one that is being written: %v", err)
	}
	if _, err := Open(t.TempDir()); err == nil || errors.Is(err, ErrDamaged) {
		t.Errorf("a directory: %v", err)
	}
}

// TestWhatIsNoStoreIsRefused and left as it is.
func TestWhatIsNoStoreIsRefused(t *testing.T) {
	for name, text := range map[string]string{"text": strings.Repeat("something else\n", 1000), "a byte": "x", "zeros": strings.Repeat("\x00", 32768)} {
		path := filepath.Join(t.TempDir(), "log.db")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if is, err := os.ReadFile(path); err != nil || string(is) != text {
			t.Errorf("%s: it was changed, %v", name, err)
		}
	}
}

// plain is a file of bbolt in which only its first transaction was, if any.
func plain(t *testing.T, first func(tx *bbolt.Tx) error) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log.db")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if first != nil {
		err = db.Update(first)
	}
	b, errRead := os.ReadFile(path)
	if err := errors.Join(err, errRead, db.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestAStoreThatWasCutShortAtItsBirthBeginsAnew, as where the disk was full then. Once the buckets are there a file that is too short
// is damaged, whatever is in it.
func TestAStoreThatWasCutShortAtItsBirthBeginsAnew(t *testing.T) {
	born := plain(t, nil)
	older := plain(t, func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucket([]byte("log"))
		return err
	})
	for size := 1024; size < len(born); size += 1024 {
		path := filepath.Join(t.TempDir(), "log.db")
		if err := os.WriteFile(path, born[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, path)
		if err := errors.Join(s.StoreLog(entry(1, 1, 10)), s.Close()); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		s = open(t, path)
		if last, err := s.LastIndex(); err != nil || last != 1 {
			t.Errorf("%d bytes: the next to open it reads up to %d, %v", size, last, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, older[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, ErrDamaged) {
			t.Errorf("%d bytes of one in which something was: %v", size, err)
		}
	}
}

// TestAnOlderFormIsNoDamage: the file of raft-boltdb, which has two buckets.
func TestAnOlderFormIsNoDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	image := plain(t, func(tx *bbolt.Tx) error {
		_, errLogs := tx.CreateBucket([]byte("logs"))
		_, errConf := tx.CreateBucket([]byte("conf"))
		return errors.Join(errLogs, errConf)
	})
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); !errors.Is(err, ErrOlder) || errors.Is(err, ErrDamaged) {
		t.Errorf("%v", err)
	}
	if is, err := os.ReadFile(path); err != nil || !bytes.Equal(is, image) {
		t.Errorf("it was changed, %v", err)
	}
}

func BenchmarkStoreLog(b *testing.B) {
	s := open(b, filepath.Join(b.TempDir(), "log.db"))
	at := uint64(0)
	for b.Loop() {
		at++
		if err := s.StoreLog(entry(at, 1, 500)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	path := filepath.Join(b.TempDir(), "log.db")
	s := open(b, path)
	if err := errors.Join(s.StoreLogs(entries(1, 3000, 1, 500)), s.Close()); err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s, err := Open(path)
		if err := errors.Join(err, s.Close()); err != nil {
			b.Fatal(err)
		}
	}
}
