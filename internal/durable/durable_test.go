package durable

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

type record struct {
	Epoch uint64   `json:"epoch"`
	Names []string `json:"names,omitempty"`
}

func TestSaveThenLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "voter.bin")
	for _, want := range []record{{Epoch: 1}, {}, {Epoch: 1 << 63, Names: []string{"n1", "n2"}}} {
		if err := Save(path, 3, want); err != nil {
			t.Fatal(err)
		}
		got, err := Load[record](path, 3)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, %v; want %+v", got, err, want)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("mode %v, %v; want 0600", info.Mode(), err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Fatalf("directory holds %v, %v; want the record alone", entries, err)
	}
}

// TestALinkIsNotFollowed: whoever puts a link where a record or its temporary file belongs does not get at what it leads to.
func TestALinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "voter.bin"), filepath.Join(dir, "other")
	if err := os.WriteFile(other, []byte("somebody's"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, link := range []string{path, path + tempSuffix} {
		if err := os.Symlink(other, link); err != nil {
			t.Fatal(err)
		}
		if err := Save(path, 1, record{Epoch: 7}); err != nil {
			t.Fatal(err)
		}
		if content, err := os.ReadFile(other); err != nil || string(content) != "somebody's" {
			t.Errorf("%s led to %q, %v", filepath.Base(link), content, err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("after a link at %s the record is %v, %v", filepath.Base(link), info, err)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	whole, err := encode(1, record{Epoch: 7, Names: []string{"n1"}})
	if err != nil {
		t.Fatal(err)
	}
	reseal := func(payload string) []byte {
		content, err := encode(1, "x")
		if err != nil {
			t.Fatal(err)
		}
		content = append(content[:headerSize], payload...)
		content[12] = byte(len(payload))
		sum := checksum(content)
		content[16], content[17], content[18], content[19] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
		return content
	}
	flip := func(at int) []byte {
		content := append([]byte(nil), whole...)
		content[at] ^= 0x10
		return content
	}
	cases := []struct {
		name    string
		content []byte
		version uint32
		want    error
	}{
		{"empty file", nil, 1, ErrDamaged},
		{"header cut", whole[:headerSize-1], 1, ErrDamaged},
		{"header alone", whole[:headerSize], 1, ErrDamaged},
		{"last byte missing", whole[:len(whole)-1], 1, ErrDamaged},
		{"one byte too many", append(append([]byte(nil), whole...), '\n'), 1, ErrDamaged},
		{"magic", flip(0), 1, ErrDamaged},
		{"bit of the version flipped", flip(8), 1, ErrDamaged},
		{"length", flip(12), 1, ErrDamaged},
		{"checksum", flip(16), 1, ErrDamaged},
		{"payload", flip(headerSize + 3), 1, ErrDamaged},
		{"zeros of the right size", make([]byte, len(whole)), 1, ErrDamaged},
		{"null under a right checksum", reseal("null"), 1, ErrDamaged},
		{"no JSON under a right checksum", reseal("{"), 1, ErrDamaged},
		{"two values", reseal(`{"epoch":1}{"epoch":2}`), 1, ErrDamaged},
		{"unknown field", reseal(`{"epoch":1,"more":2}`), 1, ErrDamaged},
		{"wrong type", reseal(`{"epoch":"one"}`), 1, ErrDamaged},
		{"another version", whole, 2, ErrVersion},
	}
	path := filepath.Join(t.TempDir(), "state.bin")
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := Load[record](path, c.version)
			if !errors.Is(err, c.want) || !reflect.DeepEqual(got, record{}) {
				t.Fatalf("got %+v, %v; want %v", got, err, c.want)
			}
		})
	}
}

// TestWhatMayNotBeOnTheDiskIsNotLoaded: the directory may hold the name in memory only. That of /proc can't be synced.
func TestWhatMayNotBeOnTheDiskIsNotLoaded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "voter.bin")
	if err := Save(path, 1, record{Epoch: 7}); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got, err := Load[record](fmt.Sprintf("/proc/self/fd/%d", file.Fd()), 1)
	if !errors.Is(err, unix.EINVAL) || errors.Is(err, ErrAbsent) || errors.Is(err, ErrDamaged) || got.Epoch != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestAbsentIsNotDamaged(t *testing.T) {
	dir := t.TempDir()
	if _, err := Load[record](filepath.Join(dir, "none"), 1); !errors.Is(err, ErrAbsent) {
		t.Fatalf("missing file: %v", err)
	}
	if _, err := Load[record](dir, 1); err == nil || errors.Is(err, ErrAbsent) || errors.Is(err, ErrDamaged) {
		t.Fatalf("a directory must give the operating system's error, got %v", err)
	}
}

func TestSaveRefusesWhatLoadCouldNotReturn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := Save(path, 1, (*record)(nil)); !errors.Is(err, ErrValue) {
		t.Fatalf("nil: %v", err)
	}
	if err := Save(path, 1, func() {}); !errors.Is(err, ErrValue) {
		t.Fatalf("function: %v", err)
	}
	if err := Save(filepath.Join(path, "no", "such", "dir"), 1, record{}); err == nil {
		t.Fatal("a missing directory must be an error")
	}
	if _, err := Load[record](path, 1); !errors.Is(err, ErrAbsent) {
		t.Fatalf("a refused Save left something: %v", err)
	}
}

// TestCrashBetweenSteps stops a Save after each byte of the temporary file and after each of
// its later steps; the old value must be there before the rename and the new one after it, and
// the next Save must succeed in spite of what was left.
func TestCrashBetweenSteps(t *testing.T) {
	before, after, next := record{Epoch: 1}, record{Epoch: 2, Names: []string{"n2"}}, record{Epoch: 3}
	content, err := encode(1, after)
	if err != nil {
		t.Fatal(err)
	}
	for written := 0; written <= len(content)+1; written++ {
		path := filepath.Join(t.TempDir(), "rule.bin")
		if err := Save(path, 1, before); err != nil {
			t.Fatal(err)
		}
		want := before
		temp := path + tempSuffix
		if err := os.WriteFile(temp, content[:min(written, len(content))], 0o400); err != nil {
			t.Fatal(err)
		}
		if written > len(content) {
			want = after
			if err := os.Rename(temp, path); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := Load[record](path, 1); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("after %d bytes: got %+v, %v; want %+v", written, got, err, want)
		}
		if err := Save(path, 1, next); err != nil {
			t.Fatalf("save over a leftover of %d bytes: %v", written, err)
		}
		if got, err := Load[record](path, 1); err != nil || !reflect.DeepEqual(got, next) {
			t.Fatalf("after recovery: got %+v, %v", got, err)
		}
	}
}

const endlessSaver = "QUORATE_TEST_DURABLE_PATH"

// TestKilledWriter kills a real process that saves without end; whatever it left is whole.
func TestKilledWriter(t *testing.T) {
	if path := os.Getenv(endlessSaver); path != "" {
		for epoch := uint64(1); ; epoch++ {
			if err := Save(path, 1, record{Epoch: epoch}); err != nil {
				t.Fatal(err)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "voter.bin")
	var last uint64
	for range 5 {
		child := exec.Command(os.Args[0], "-test.run=^TestKilledWriter$")
		child.Env = append(os.Environ(), endlessSaver+"="+path)
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		seen := waitForSaves(t, path, last)
		if err := child.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.Wait() // it says "killed", which is what was asked for
		got, err := Load[record](path, 1)
		if err != nil || got.Epoch < seen {
			t.Fatalf("after the kill: %+v, %v; %d had been seen", got, err, seen)
		}
		last = got.Epoch
	}
}

// waitForSaves polls until the record differs from last, with every Load on the way whole.
func waitForSaves(t *testing.T, path string, last uint64) uint64 {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case <-deadline:
			t.Fatal("the child saved nothing in 30 s")
		case <-tick.C:
			got, err := Load[record](path, 1)
			if errors.Is(err, ErrAbsent) {
				continue
			}
			if err != nil {
				t.Fatalf("read beside the writer: %v", err)
			}
			if got.Epoch != last {
				return got.Epoch
			}
		}
	}
}

func FuzzLoad(f *testing.F) {
	for _, v := range []record{{}, {Epoch: 9, Names: []string{"n1"}}} {
		content, err := encode(1, v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content, true)
		f.Add(content, false)
		f.Add(content[:len(content)-1], false)
	}
	f.Add([]byte(nil), false)
	f.Fuzz(func(t *testing.T, content []byte, whole bool) {
		if whole && len(content) > headerSize { // so that what is behind the checksum is reached
			content = bytes.Clone(content)
			copy(content, magic[:])
			binary.LittleEndian.PutUint32(content[12:], uint32(len(content)-headerSize))
			binary.LittleEndian.PutUint32(content[16:], checksum(content))
		}
		payload, err := unwrap(content, 1)
		if err != nil {
			if !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrVersion) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		v, err := decode[record](payload)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		again, err := encode(1, v)
		if err != nil {
			t.Fatal(err)
		}
		if payload, err = unwrap(again, 1); err != nil {
			t.Fatal(err)
		}
		if w, err := decode[record](payload); err != nil || w.Epoch != v.Epoch || len(w.Names) != len(v.Names) {
			t.Fatalf("%+v became %+v, %v", v, w, err)
		}
	})
}
