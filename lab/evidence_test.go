package lab

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/lab/judge"
)

// What the log in the evidence of these tests is of.
const (
	testSystem   = 7121739110011544578
	testSegment  = 1 << 20
	testTimeline = 2
)

// sealed puts the sum of all before it at a place.
func sealed(content []byte, at int) []byte {
	binary.LittleEndian.PutUint32(content[at:], crc32.Checksum(content[:at], crc32.MakeTable(crc32.Castagnoli)))
	return content
}

// testControl is a pg_control of PostgreSQL 15 as far as it matters for reading log.
func testControl() []byte {
	le, c := binary.LittleEndian, make([]byte, 8192)
	le.PutUint64(c[0:], testSystem)
	le.PutUint32(c[8:], 1300)
	le.PutUint32(c[16:], uint32(pg.ControlShutDown))
	le.PutUint64(c[32:], testSegment+40)
	le.PutUint64(c[40:], testSegment+40)
	le.PutUint32(c[48:], testTimeline)
	le.PutUint32(c[52:], testTimeline)
	le.PutUint64(c[208:], math.Float64bits(1234567.0))
	le.PutUint32(c[216:], 8192)
	le.PutUint32(c[224:], 8192)
	le.PutUint32(c[228:], testSegment)
	return sealed(c, 288)
}

// testLog is a segment whose first page holds a commit of each of these transactions. It begins at testSegment.
func testLog(xids []uint32) (segment []byte, from, to pg.LSN) {
	le, s := binary.LittleEndian, make([]byte, testSegment)
	le.PutUint16(s[0:], 0xD110)
	le.PutUint16(s[2:], 2)              // a long header
	le.PutUint32(s[4:], testTimeline-1) // of the page's first byte: the timeline begins in its middle
	le.PutUint64(s[8:], testSegment)
	le.PutUint64(s[24:], testSystem)
	le.PutUint32(s[32:], testSegment)
	le.PutUint32(s[36:], 8192)
	at, before := 40, 0
	for _, xid := range xids {
		rec := s[at : at+34] // a header, and a time behind a head of two bytes
		le.PutUint32(rec[0:], 34)
		le.PutUint32(rec[4:], xid)
		if before > 0 {
			le.PutUint64(rec[8:], testSegment+uint64(before))
		}
		rec[16], rec[17], rec[24], rec[25] = 0, 1, 255, 8
		table := crc32.MakeTable(crc32.Castagnoli)
		le.PutUint32(rec[20:], crc32.Update(crc32.Checksum(rec[24:], table), table, rec[:20]))
		at, before = at+40, at
	}
	return s, testSegment + 40, pg.LSN(testSegment + at)
}

// testEvidence writes evidence of log with these commits. It returns what the cluster records of it.
func testEvidence(t *testing.T, xids ...uint32) Kept {
	t.Helper()
	dir := t.TempDir()
	segment, from, to := testLog(xids)
	list := ""
	for _, x := range xids {
		list += fmt.Sprintf(`{"lsn":"0/0","xid":%d}`+"\n", x)
	}
	name := "wal/" + pg.SegmentName(testTimeline, from, testSegment)
	files := map[string][]byte{name: segment, "pg_control": testControl(), "commits.jsonl": []byte(list)}
	m := map[string]any{
		"id": "n1-1", "bytes": uint64(to - from),
		"discard": map[string]any{"timeline": testTimeline, "from": from, "to": to, "history": pg.History{{Timeline: 1, End: from + 40}}},
	}
	var listed []map[string]any
	for name, content := range files {
		sum := sha256.Sum256(content)
		listed = append(listed, map[string]any{"path": name, "bytes": len(content), "sha256": hex.EncodeToString(sum[:])})
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m["files"] = listed
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "manifest.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return Kept{ID: "n1-1", Node: "n1", Way: "rewind", Commits: len(xids), Path: dir}
}

// TestEvidenceIsRead: what counts is the log that is there, record for record, and not what the manifest says.
func TestEvidenceIsRead(t *testing.T) {
	segment := filepath.Join("wal", pg.SegmentName(testTimeline, testSegment, testSegment))
	replace := func(file, old, with string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			b, err := os.ReadFile(filepath.Join(dir, file))
			if err == nil && !strings.Contains(string(b), old) {
				t.Fatalf("%s has no %q: %s", file, old, b)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, file), []byte(strings.Replace(string(b), old, with, 1)), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	remove := func(file string) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	second := func(t *testing.T, dir string) { // a bit flips in the second commit
		b, err := os.ReadFile(filepath.Join(dir, segment))
		if err == nil {
			b[40+40+30] ^= 1
			err = os.WriteFile(filepath.Join(dir, segment), b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	const from = pg.LSN(testSegment + 40)
	whole := []judge.Stretch{{Timeline: 1, From: from, To: from + 40}, {Timeline: 2, From: from + 40, To: from + 120}}
	for _, c := range []struct {
		name   string
		change func(*testing.T, string)
		log    []judge.Stretch
		broken []string
	}{
		{"as it was kept", func(*testing.T, string) {}, whole, nil},
		{"a bit flips", second, whole[:1], []string{segment + " has another sum", "its log has 1 commits and its list has 3"}},
		{"a file is cut", func(t *testing.T, dir string) {
			if err := os.Truncate(filepath.Join(dir, segment), 4096); err != nil {
				t.Fatal(err)
			}
		}, nil, []string{segment + " has 4096 bytes and not 1048576", "its log has 0 commits"}},
		{"a file is gone", remove(segment), nil, []string{segment, "its log has 0 commits"}},
		{"a commit is not listed", replace("commits.jsonl", `{"lsn":"0/0","xid":732}`+"\n", ""), whole, []string{"commits.jsonl has", "its log has 3 commits and its list has 2"}},
		{"there is no manifest", remove("manifest.json"), nil, []string{"its manifest can't be read"}},
		{"there is no list", remove("commits.jsonl"), whole, []string{"commits.jsonl", "its log has 3 commits and its list has 0"}},
		{"the list is none", replace("commits.jsonl", "{", "x"), whole, []string{"commits.jsonl has", "read the list of commits", "its list has 0"}},
		{"nobody knows how to read the log", remove("pg_control"), nil, []string{"pg_control", "its log can't be read"}},
		{"the manifest is of another", replace("manifest.json", "n1-1", "n1-2"), nil, []string{"its manifest is of n1-2"}},
		{"the manifest counts wrong", replace("manifest.json", `"bytes":120`, `"bytes":121`), nil, []string{"says 121 bytes"}},
	} {
		k := testEvidence(t, 731, 732, 733)
		c.change(t, k.Path)
		e := readKept(k, 7)
		if e.ID != k.ID || e.Node != "n1" || e.Whole != (judge.Span{}) || !slices.Equal(e.Log, c.log) {
			t.Errorf("%s: %+v", c.name, e)
		}
		if len(e.Broken) != len(c.broken) {
			t.Errorf("%s: broken %q, want %q", c.name, e.Broken, c.broken)
			continue
		}
		for i, w := range c.broken {
			if !strings.Contains(e.Broken[i], w) {
				t.Errorf("%s: %q does not say %q", c.name, e.Broken[i], w)
			}
		}
	}
}

// TestADirectoryThatWasSetAside has all that its node acknowledged before.
func TestADirectoryThatWasSetAside(t *testing.T) {
	dir := t.TempDir()
	k := Kept{ID: "n1-data.quarantine.1", Node: "n1", Way: "quarantine", Commits: -1, Path: dir}
	if e := readKept(k, 7); len(e.Broken) != 1 {
		t.Errorf("an empty one: %+v", e)
	}
	if err := os.WriteFile(filepath.Join(dir, "PG_VERSION"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if e := readKept(k, 7); len(e.Broken) != 0 || e.Whole != (judge.Span{From: 0, To: 7}) {
		t.Errorf("%+v", e)
	}
	k.Way = "clone" // log that can't be read to its end is none that was set aside
	if e := readKept(k, 7); len(e.Broken) != 1 || e.Whole != (judge.Span{}) {
		t.Errorf("evidence without anything: %+v", e)
	}
}
