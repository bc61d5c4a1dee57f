package pg

import (
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestLSN(t *testing.T) {
	good := map[string]LSN{"0/0": 0, "0/3000060": 0x3000060, "16/B374D848": 0x16B374D848, "FFFFFFFF/FFFFFFFF": 1<<64 - 1}
	for text, want := range good {
		got, err := ParseLSN(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("%s: %s, %v", text, got, err)
		}
	}
	if got, err := ParseLSN("00000000/0aB"); err != nil || got != 0xAB {
		t.Errorf("leading zeros and lower case: %s, %v", got, err)
	}
	for _, text := range []string{"", "/", "0/", "/0", "0", "0/0/0", "123456789/0", "0/123456789", "-1/0", "+1/0", "0x1/0", " 0/1", "0/1 ", "0/1_0", "g/0"} {
		if got, err := ParseLSN(text); !errors.Is(err, ErrLSN) || got != 0 {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

func TestJSON(t *testing.T) {
	type all struct {
		At     LSN
		System SystemID
		Line   Timeline
	}
	want := all{At: 0x16B374D848, System: 7121739110011544578, Line: 3}
	text, err := json.Marshal(want)
	if err != nil || string(text) != `{"At":"16/B374D848","System":"7121739110011544578","Line":3}` {
		t.Fatalf("%s, %v", text, err)
	}
	var got all
	if err := json.Unmarshal(text, &got); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, bad := range []string{`{"At":"1"}`, `{"At":5}`, `{"System":"-1"}`, `{"System":"x"}`} {
		got := want
		if err := json.Unmarshal([]byte(bad), &got); err == nil || got != want {
			t.Errorf("%s: %+v, %v", bad, got, err)
		}
	}
}

func TestHistory(t *testing.T) {
	text := "# comment\n1\t0/50000A0\tno recovery target specified\n\n  2 0/6000000\n"
	want := History{{1, 0x50000A0, "no recovery target specified"}, {2, 0x6000000, ""}}
	got, err := ParseHistory([]byte(text), 3)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
	if again, err := ParseHistory(got.Format(), 3); err != nil || !reflect.DeepEqual(again, want) {
		t.Fatalf("%q: %+v, %v", got.Format(), again, err)
	}
	if name := HistoryFileName(0x1F); name != "0000001F.history" {
		t.Error(name)
	}
	at := map[LSN]Timeline{1: 1, 0x500009F: 1, 0x50000A0: 2, 0x5FFFFFF: 2, 0x6000000: 3, 1 << 60: 3}
	for lsn, want := range at {
		if tli := got.TimelineAt(lsn, 3); tli != want {
			t.Errorf("at %s: timeline %d, want %d", lsn, tli, want)
		}
	}
	if end, ok := got.SwitchPoint(2); !ok || end != 0x6000000 {
		t.Errorf("switch point %s, %v", end, ok)
	}
	if _, ok := got.SwitchPoint(3); ok {
		t.Error("the timeline itself has no switch point")
	}
	lines := History{{1, 8, "two\nlines\r"}}
	if string(lines.Format()) != "1\t0/8\ttwo lines \n" {
		t.Errorf("%q", lines.Format())
	}
}

func TestHistoryRefuses(t *testing.T) {
	cases := []struct {
		text string
		tli  Timeline
	}{
		{"x\t0/1\t", 2}, {"1\n", 2}, {"1\t0/\n", 2}, {"-1\t0/1\n", 2}, {"0\t0/1\n", 2}, {"4294967296\t0/1\n", 2},
		{"1\t0/10\n1\t0/20\n", 3}, {"2\t0/10\n1\t0/20\n", 3}, {"1\t0/20\n2\t0/10\n", 3}, {"2\t0/10\n", 2}, {"3\t0/10\n", 2}, {"", 0},
	}
	for _, c := range cases {
		if got, err := ParseHistory([]byte(c.text), c.tli); !errors.Is(err, ErrHistory) || got != nil {
			t.Errorf("%q of %d: %+v, %v", c.text, c.tli, got, err)
		}
	}
	if got, err := ParseHistory(nil, 1); err != nil || len(got) != 0 {
		t.Errorf("timeline 1: %+v, %v", got, err)
	}
}

func TestSegments(t *testing.T) {
	cases := []struct {
		tli   Timeline
		start LSN
		size  uint64
		name  string
	}{
		{1, 0x1000000, 16 << 20, "000000010000000000000001"},
		{2, 0xFF000000, 16 << 20, "0000000200000000000000FF"},
		{2, 0x100000000, 16 << 20, "000000020000000100000000"},
		{0xFFFFFFFF, 0x1500100000, 1 << 20, "FFFFFFFF0000001500000001"},
		{1, 0xC0000000, 1 << 30, "000000010000000000000003"},
	}
	for _, c := range cases {
		for _, at := range []LSN{c.start, c.start + 8, c.start + LSN(c.size) - 1} {
			if name := SegmentName(c.tli, at, c.size); name != c.name || SegmentStart(at, c.size) != c.start {
				t.Errorf("%s: %s from %s, want %s", at, name, SegmentStart(at, c.size), c.name)
			}
		}
		tli, start, err := ParseSegmentName(c.name, c.size)
		if err != nil || tli != c.tli || start != c.start {
			t.Errorf("%s: timeline %d, %s, %v", c.name, tli, start, err)
		}
	}
	for _, name := range []string{"", "00000001000000000000000", "0000000100000000000000011", "000000000000000000000001", "000000010000000000000100",
		"00000001000000000000000g", "00000002000000000000000a", "00000002.history", "000000010000000000000001.partial", "+0000001000000000000001 "} {
		if _, _, err := ParseSegmentName(name, 16<<20); !errors.Is(err, ErrSegment) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, size := range []uint64{0, 1, 1 << 19, 3 << 20, 1 << 31} {
		if _, _, err := ParseSegmentName("000000010000000000000001", size); !errors.Is(err, ErrSegment) {
			t.Errorf("size %d: %v", size, err)
		}
	}
}

func TestVersions(t *testing.T) {
	output := map[string]MajorVersion{
		"postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n": 15, "postgres (PostgreSQL) 18beta1": 18, "postgres (PostgreSQL) 16devel\n": 16, "postgres (PostgreSQL) 13": 13,
		"": 0, "postgres (PostgreSQL) ": 0, "postgres (PostgreSQL) 9.6.24": 0, "postgres 15": 0, "postgres (PostgreSQL) x15": 0, "postgres (PostgreSQL) 99999999999999999999": 0,
	}
	for text, want := range output {
		if got, err := ParseVersionOutput(text); got != want || (want == 0) != errors.Is(err, ErrVersion) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	number := map[string]int{
		"postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n": 150014, "postgres (PostgreSQL) 18beta1": 0, "postgres (PostgreSQL) 16devel\n": 0,
		"postgres (PostgreSQL) 13": 0, "postgres (PostgreSQL) 17.0\n": 170000, "postgres (PostgreSQL) 17.": 0, "postgres (PostgreSQL) 17.x": 0,
	}
	for text, want := range number {
		if got, err := ParseVersionNumber(text); got != want || err != nil {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "postgres 15.1", "postgres (PostgreSQL) 9.6.24", "postgres (PostgreSQL) 15.99999"} {
		if got, err := ParseVersionNumber(text); !errors.Is(err, ErrVersion) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	if got := VersionText(150014); got != "15.14" {
		t.Error(got)
	}
	file := map[string]MajorVersion{"15\n": 15, "10": 10, "9.6\n": 0, "": 0, "-15": 0, "+15": 0, "15 16": 0}
	for text, want := range file {
		if got, err := ParseVersionFile(text); got != want || (want == 0) != errors.Is(err, ErrVersion) {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for v, want := range map[MajorVersion]bool{12: false, 13: true, 18: true, 19: false} {
		if v.Supported() != want {
			t.Errorf("supported %d: %v", v, !want)
		}
	}
}

func TestQuoting(t *testing.T) {
	cases := []struct{ in, ident, literal, conninfo string }{
		{"", `""`, `''`, `''`},
		{"n1", `"n1"`, `'n1'`, `'n1'`},
		{`a"b`, `"a""b"`, `'a"b'`, `'a"b'`},
		{`it's`, `"it's"`, `'it''s'`, `'it\'s'`},
		{`c:\x'`, `"c:\x'"`, ` E'c:\\x'''`, `'c:\\x\''`},
		{"a\x00b", `"ab"`, `'ab'`, `'ab'`},
	}
	for _, c := range cases {
		if got := QuoteIdent(c.in); got != c.ident {
			t.Errorf("ident %q: %s", c.in, got)
		}
		if got := QuoteLiteral(c.in); got != c.literal {
			t.Errorf("literal %q: %s", c.in, got)
		}
		if got := QuoteConninfo(c.in); got != c.conninfo {
			t.Errorf("conninfo %q: %s", c.in, got)
		}
	}
}

func TestSSN(t *testing.T) {
	cases := []struct {
		k     int
		names []string
		text  string
	}{
		{1, []string{"n2", "n3"}, `ANY 1 ("n2","n3")`},
		{2, []string{"n2"}, `ANY 2 ("n2")`},
		{1, []string{`a"),("b`, "x y"}, `ANY 1 ("a""),(""b","x y")`},
	}
	for _, c := range cases {
		if got := FormatSSN(c.k, c.names); got != c.text {
			t.Errorf("%d %q: %s", c.k, c.names, got)
		}
		if k, names, err := ParseSSN(c.text); err != nil || k != c.k || !slices.Equal(names, c.names) {
			t.Errorf("%s: %d %q %v", c.text, k, names, err)
		}
	}
	for _, empty := range []string{FormatSSN(0, []string{"n2"}), FormatSSN(1, nil), FormatSSN(-1, []string{"n2"}), " "} {
		if k, names, err := ParseSSN(empty); strings.TrimSpace(empty) != "" || k != 0 || names != nil || err != nil {
			t.Errorf("%q: %d %q %v", empty, k, names, err)
		}
	}
	if k, names, err := ParseSSN("any  1\t( \"n2\" , \"n3\" ) "); err != nil || k != 1 || !slices.Equal(names, []string{"n2", "n3"}) {
		t.Errorf("blanks: %d %q %v", k, names, err)
	}
	for _, bad := range []string{`*`, `n2`, `"n2"`, `FIRST 1 ("n2")`, `ANY 1 (n2)`, `ANY 0 ("n2")`, `ANY ("n2")`, `ANY +1 ("n2")`, `ANY 1 ()`, `ANY 1 ("")`,
		`ANY 1 ("n2"`, `ANY 1 ("n2",)`, `ANY 1 ("n2" "n3")`, `ANY 1 ("n2))`, `ANY1 ("n2")`, `ANY 1 ("n2") x`, `ANY 99999999999 ("n2")`, `1 ("n2")`} {
		if k, names, err := ParseSSN(bad); !errors.Is(err, ErrSSN) || k != 0 || names != nil {
			t.Errorf("%s: %d %q %v", bad, k, names, err)
		}
	}
}
