package pg

import (
	"reflect"
	"slices"
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

func FuzzParseControl(f *testing.F) {
	f.Add(sampleControl(1300))
	f.Add(sampleControl(1800))
	f.Add([]byte("short"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if c, err := ParseControl(content); err == nil && (!ValidSegmentSize(c.WalSegmentSize) || c.State > ControlInProduction) {
			t.Fatalf("%+v", c)
		}
	})
}
