package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func TestCount(t *testing.T) {
	for _, c := range []struct {
		name   string
		events []string
		want   totals
		shows  []string
		hides  []string
	}{
		{
			name: "a passing package shows only its own line",
			events: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"chatter\n"}`,
				`{"Action":"pass","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Output":"PASS\n"}`,
				`{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}`,
				`{"Action":"pass","Package":"p"}`,
			},
			want: totals{passed: 1}, shows: []string{"ok  \tp"}, hides: []string{"chatter", "PASS"},
		}, {
			name: "subtests count, their parent does not",
			events: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"run","Package":"p","Test":"TestA/x"}`,
				`{"Action":"run","Package":"p","Test":"TestA/y"}`,
				`{"Action":"output","Package":"p","Test":"TestA/y","Output":"y was wrong\n"}`,
				`{"Action":"pass","Package":"p","Test":"TestA/x"}`,
				`{"Action":"fail","Package":"p","Test":"TestA/y"}`,
				`{"Action":"fail","Package":"p","Test":"TestA"}`,
				`{"Action":"fail","Package":"p"}`,
			},
			want: totals{passed: 1, failed: 1}, shows: []string{"y was wrong"},
		}, {
			name: "a parent that fails by itself counts",
			events: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"run","Package":"p","Test":"TestA/x"}`,
				`{"Action":"pass","Package":"p","Test":"TestA/x"}`,
				`{"Action":"fail","Package":"p","Test":"TestA"}`,
				`{"Action":"fail","Package":"p"}`,
			},
			want: totals{passed: 1, failed: 1},
		}, {
			name: "a package that does not build is a failure",
			events: []string{
				`{"Action":"build-output","ImportPath":"p","Output":"p.go:1: undefined: x\n"}`,
				`{"Action":"build-fail","ImportPath":"p"}`,
				`{"Action":"output","Package":"p","Output":"FAIL\tp [build failed]\n"}`,
				`{"Action":"fail","Package":"p","FailedBuild":"p"}`,
			},
			want: totals{failed: 1}, shows: []string{"undefined: x", "[build failed]"},
		}, {
			name: "what a package says before its tests is shown, and once",
			events: []string{
				`{"Action":"start","Package":"p"}`,
				`{"Action":"output","Package":"p","Output":"waiting for another run\n"}`,
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Output":"chatter\n"}`,
				`{"Action":"pass","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}`,
				`{"Action":"pass","Package":"p"}`,
			},
			want: totals{passed: 1}, shows: []string{"waiting for another run\nok  \tp"}, hides: []string{"chatter"},
		}, {
			name: "a test that died with its process is a failure",
			events: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"output","Package":"p","Test":"TestA","Output":"panic: no\n"}`,
				`{"Action":"fail","Package":"p"}`,
			},
			want: totals{failed: 1}, shows: []string{"panic: no"},
		}, {
			name: "a package whose end is missing is a failure",
			events: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"pass","Package":"p","Test":"TestA"}`,
			},
			want: totals{passed: 1, failed: 1}, shows: []string{"ended without a result"},
		}, {
			name: "a skipped test is neither, and is named",
			events: []string{
				`{"Action":"run","Package":"p","Test":"TestA"}`,
				`{"Action":"skip","Package":"p","Test":"TestA"}`,
				`{"Action":"pass","Package":"p"}`,
			},
			want: totals{skipped: 1}, shows: []string{"skipped: p TestA"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			tally := filepath.Join(t.TempDir(), "tally")
			ok, err := count(strings.NewReader(strings.Join(c.events, "\n")+"\n"), &out, tally, false)
			if err != nil || ok != (c.want.failed == 0) {
				t.Fatalf("ok %v, error %v", ok, err)
			}
			for _, text := range c.shows {
				if !strings.Contains(out.String(), text) {
					t.Errorf("does not show %q:\n%s", text, out.String())
				}
			}
			for _, text := range c.hides {
				if strings.Contains(out.String(), text) {
					t.Errorf("shows %q:\n%s", text, out.String())
				}
			}
			// The sum over two phases is what ends the run.
			if _, err := count(strings.NewReader(""), &out, tally, false); err != nil {
				t.Fatal(err)
			}
			out.Reset()
			if err := report(&out, tally); err != nil {
				t.Fatal(err)
			}
			want := fmt.Sprintf("%d passed, %d failed\n", c.want.passed, c.want.failed)
			if !strings.HasSuffix(out.String(), want) {
				t.Errorf("sum is %q, want it to end with %q", out.String(), want)
			}
		})
	}
}

// What passes although nothing was tested would be called good.
func TestWhatProvesNothingFails(t *testing.T) {
	skipped := `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:7: needs root\n"}
{"Action":"skip","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}
`
	for _, c := range []struct {
		name, events string
		noSkip, want bool
		shows        []string
	}{
		{"a skipped test", skipped, false, true, []string{"skipped: p TestA", "needs root"}},
		{"a skipped test where none may be", skipped, true, false, []string{"needs root", "every test has to run", "  p TestA\n"}},
		{"no skipped test where none may be", strings.ReplaceAll(skipped, `"skip"`, `"pass"`), true, true, nil},
		{"no test at all", `{"Action":"output","Package":"p","Output":"?   p [no test files]\n"}
{"Action":"skip","Package":"p"}
`, false, false, []string{"no test was run"}},
		{"no output at all", "", false, false, []string{"no test was run"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out bytes.Buffer
			ok, err := count(strings.NewReader(c.events), &out, filepath.Join(t.TempDir(), "tally"), c.noSkip)
			if err != nil || ok != c.want {
				t.Errorf("ok %v, error %v, want %v\n%s", ok, err, c.want, out.String())
			}
			for _, text := range c.shows {
				if !strings.Contains(out.String(), text) {
					t.Errorf("does not show %q:\n%s", text, out.String())
				}
			}
		})
	}
}

// Somebody who waits is told what for while he waits.
func TestWhatComesBeforeTheTestsIsShownAtOnce(t *testing.T) {
	var out bytes.Buffer
	c := newCounter(&out)
	c.line([]byte(`{"Action":"output","Package":"p","Output":"waiting for another run\n"}`))
	if out.String() != "waiting for another run\n" {
		t.Errorf("shows %q", out.String())
	}
}
