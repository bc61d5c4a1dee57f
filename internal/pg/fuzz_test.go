package pg

import (
	"bytes"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func FuzzParseLSN(f *testing.F) {
	for _, s := range []string{"0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF", "1/", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		lsn, err := ParseLSN(text)
		if err != nil {
			return
		}
		if again, err := ParseLSN(lsn.String()); err != nil || again != lsn {
			t.Fatalf("%q: %s became %s, %v", text, lsn, again, err)
		}
	})
}

func FuzzParseHistory(f *testing.F) {
	f.Add([]byte("1\t0/50000A0\tno recovery target specified\n\n2\t0/6000000\tx\n"), uint32(3))
	f.Add([]byte("# nothing\n"), uint32(1))
	f.Add([]byte("2\t0/1\n1\t0/2\n"), uint32(9))
	f.Fuzz(func(t *testing.T, content []byte, tli uint32) {
		history, err := ParseHistory(content, Timeline(tli))
		if err != nil {
			if !errors.Is(err, ErrHistory) || history != nil {
				t.Fatalf("%+v, %v", history, err)
			}
			return
		}
		again, err := ParseHistory(history.Format(), Timeline(tli))
		if err != nil || len(again) != len(history) {
			t.Fatalf("%q became %q, %v", content, history.Format(), err)
		}
		for i := range history {
			if again[i].Timeline != history[i].Timeline || again[i].End != history[i].End {
				t.Fatalf("line %d: %+v became %+v", i, history[i], again[i])
			}
		}
		for i, e := range history { // what a position is on is what the lines say
			begin := LSN(0)
			if i > 0 {
				begin = history[i-1].End
			}
			if begin < e.End && (history.TimelineAt(e.End-1, Timeline(tli)) != e.Timeline || history.TimelineAt(begin, Timeline(tli)) != e.Timeline) {
				t.Fatalf("%+v from %s is not found in %+v", e, begin, history)
			}
			if end, ok := history.SwitchPoint(e.Timeline); !ok || end != e.End {
				t.Fatalf("%+v ends at %s, %t", e, end, ok)
			}
		}
	})
}

func FuzzParseSegmentName(f *testing.F) {
	f.Add("000000010000000000000001", uint64(16<<20))
	f.Add("FFFFFFFFFFFFFFFF00000FFF", uint64(1<<20))
	f.Add("00000002.history", uint64(1<<30))
	f.Fuzz(func(t *testing.T, name string, size uint64) {
		tli, start, err := ParseSegmentName(name, size)
		if err != nil {
			return
		}
		if again := SegmentName(tli, start, size); again != name {
			t.Fatalf("%s became %s", name, again)
		}
	})
}

func FuzzParseVersions(f *testing.F) {
	f.Add("postgres (PostgreSQL) 15.14 (Debian)")
	f.Add("15\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string) (MajorVersion, error){ParseVersionFile, ParseVersionOutput} {
			if v, err := parse(text); (err == nil) != (v >= 10) {
				t.Fatalf("%q: %d, %v", text, v, err)
			}
		}
		n, err := ParseVersionNumber(text)
		if v, _ := ParseVersionOutput(text); n != 0 && n/10000 != int(v) || err != nil && n != 0 {
			t.Fatalf("%q: %d of release %d, %v", text, n, v, err)
		}
	})
}

func FuzzParseSSN(f *testing.F) {
	for _, s := range []string{"", `ANY 1 ("n2","n3")`, `any 2 ( "a""b" )`, `ANY 1 ("`, `FIRST 1 (a)`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, names, err := ParseSSN(text)
		if err != nil {
			return
		}
		k2, names2, err := ParseSSN(FormatSSN(k, names))
		if slices.ContainsFunc(names, func(n string) bool { return slices.Contains([]byte(n), 0) }) {
			return // a NUL can't be in a setting; quoting drops it
		}
		if err != nil || k2 != k || !reflect.DeepEqual(names2, names) {
			t.Fatalf("%q: %d %q became %d %q, %v", text, k, names, k2, names2, err)
		}
	})
}

// Content with the right checksum is a pg_control whose sizes the reader of the log can work with, or it is refused; with one
// bit changed, or cut short, it is damaged.
func FuzzParseControl(f *testing.F) {
	for _, version := range []uint32{1300, 1700, 1800} {
		f.Add(sampleControl(version)[:296], uint(0))
	}
	f.Add([]byte("short"), uint(3))
	f.Fuzz(func(t *testing.T, content []byte, flip uint) {
		for _, c := range [][]byte{content, sealed(content)} {
			control, err := ParseControl(c)
			if err != nil {
				if !errors.Is(err, ErrControlDamaged) && !errors.Is(err, ErrControlVersion) || control != (Control{}) {
					t.Fatalf("%+v, %v", control, err)
				}
				continue
			}
			block := control.WalBlockSize
			if !ValidSegmentSize(control.WalSegmentSize) || control.State > ControlInProduction || block == 0 || block&(block-1) != 0 ||
				control.WalSegmentSize%block != 0 {
				t.Fatalf("%+v", control)
			}
			at, _ := controlCRCOffset(control.PgControlVersion)
			broken := bytes.Clone(c)
			broken[flip/8%uint(at+4)] ^= 1 << (flip % 8)
			if _, err := ParseControl(broken); err == nil {
				t.Fatalf("bit %d was changed, and it was read", flip)
			}
			if _, err := ParseControl(c[:at+3]); err == nil {
				t.Fatal("cut short, it was read")
			}
		}
	})
}

// sealed is content with the checksum that its format wants, so that what is behind the checksum is reached.
func sealed(content []byte) []byte {
	out := bytes.Clone(content)
	if len(out) >= 296 {
		sealControl(out)
	}
	return out
}

// Positions and system ids travel in JSON as they are written for people, and nothing else is taken for one.
func FuzzTexts(f *testing.F) {
	f.Add("16/B374D848")
	f.Add("7121739110011544578")
	f.Add("0/0")
	f.Add("-1")
	f.Fuzz(func(t *testing.T, text string) {
		lsn, id := LSN(7), SystemID(7)
		if err := lsn.UnmarshalText([]byte(text)); err != nil {
			if lsn != 7 {
				t.Fatalf("%q: refused, and set to %s", text, lsn)
			}
		} else if back, err := lsn.MarshalText(); err != nil || lsn.UnmarshalText(back) != nil || string(back) != lsn.String() {
			t.Fatalf("%q is written %q, %v", text, back, err)
		}
		if err := id.UnmarshalText([]byte(text)); err != nil {
			if id != 7 {
				t.Fatalf("%q: refused, and set to %s", text, id)
			}
		} else if back, err := id.MarshalText(); err != nil || string(back) != id.String() {
			t.Fatalf("%q is written %q, %v", text, back, err)
		} else if again := SystemID(0); again.UnmarshalText(back) != nil || again != id {
			t.Fatalf("%q became %s and %s", text, id, again)
		}
	})
}

// What is quoted for SQL or libpq ends where it shall: no text gets out of its quotes.
func FuzzQuotes(f *testing.F) {
	f.Add(`it's`)
	f.Add(`a\' OR "b"`)
	f.Fuzz(func(t *testing.T, text string) {
		plain := strings.ReplaceAll(text, "\x00", "")
		if name, rest, ok := cutQuoted(QuoteIdent(text)); !ok || name != plain || rest != "" {
			t.Fatalf("%q is quoted %s, which reads %q, %q, %t", text, QuoteIdent(text), name, rest, ok)
		}
		conninfo, literal := QuoteConninfo(text), strings.TrimPrefix(QuoteLiteral(text), " E")
		if got, ok := unquoted(conninfo, false); !ok || got != plain {
			t.Fatalf("%q is quoted %s, which reads %q, %t", text, conninfo, got, ok)
		}
		if got, ok := unquoted(literal, true); !ok || got != plain {
			t.Fatalf("%q is quoted %s, which reads %q, %t", text, literal, got, ok)
		}
	})
}

// unquoted reads one text in single quotes as Postgres does, where a backslash takes the meaning from what follows it; doubled
// says that two quotes stand for one.
func unquoted(text string, doubled bool) (string, bool) {
	escapes := strings.Contains(text, `\`)
	var out strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case escapes && text[i] == '\\' && i+1 < len(text):
			i++
			out.WriteByte(text[i])
		case text[i] != '\'':
			out.WriteByte(text[i])
		case doubled && i+1 < len(text) && text[i+1] == '\'':
			i++
			out.WriteByte('\'')
		default:
			return out.String(), i == len(text)-1
		}
	}
	return "", false
}
