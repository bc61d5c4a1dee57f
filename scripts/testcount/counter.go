package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// event is one line of go test -json (go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

type totals struct{ passed, failed, skipped int }

// suite is what is known of one package while it runs.
type suite struct {
	output  map[string][]string // by test, in order; "" is the package's own
	started []string            // tests in order
	result  map[string]string   // pass, fail or skip, by test
	shown   int                 // how much of the package's own output was shown
}

// counter turns events into what a person reads, and into totals.
type counter struct {
	out    io.Writer
	suites map[string]*suite
	total  totals
	skips  []string // package and test
}

func newCounter(out io.Writer) *counter {
	return &counter{out: out, suites: map[string]*suite{}}
}

// line takes one line of input. What is not an event comes from go itself and is shown as it is.
func (c *counter) line(line []byte) {
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		fmt.Fprintf(c.out, "%s", line)
		return
	}
	switch e.Action {
	case "build-output":
		fmt.Fprint(c.out, e.Output)
	case "build-fail":
	default:
		c.test(e)
	}
}

func (c *counter) test(e event) {
	s := c.suites[e.Package]
	if s == nil {
		s = &suite{output: map[string][]string{}, result: map[string]string{}}
		c.suites[e.Package] = s
	}
	switch e.Action {
	case "run":
		s.started = append(s.started, e.Test)
	case "output":
		s.output[e.Test] = append(s.output[e.Test], e.Output)
		// What comes before the first test may be that it waits for something, and is of use at once only.
		if e.Test == "" && len(s.started) == 0 {
			fmt.Fprint(c.out, e.Output)
			s.shown++
		}
	case "pass", "fail", "skip":
		if e.Test != "" {
			s.result[e.Test] = e.Action
			return
		}
		c.close(e, s)
		delete(c.suites, e.Package)
	}
}

// close counts and shows a package that reported its end.
func (c *counter) close(e event, s *suite) {
	t := c.tally(e.Package, s)
	if e.Action == "fail" && t.failed == 0 {
		t.failed = 1
	}
	c.add(t)
	// Of a package that passed only go test's own line is worth showing; of one that failed, all it said.
	own, from := s.output[""], s.shown
	if e.Action != "fail" {
		from = max(from, len(own)-1)
	}
	for _, text := range own[from:] {
		fmt.Fprint(c.out, text)
	}
}

// tally counts the tests of a package. A test with subtests is their sum, and counts itself only if it failed
// although none of them did. A test that never reported its end failed: the process died under it.
func (c *counter) tally(name string, s *suite) totals {
	var t totals
	for _, test := range s.started {
		below := func(other string) bool { return strings.HasPrefix(other, test+"/") }
		isParent := slices.ContainsFunc(s.started, below)
		switch s.result[test] {
		case "pass":
			if !isParent {
				t.passed++
			}
		case "skip":
			t.skipped++
			c.skips = append(c.skips, name+" "+test)
			fmt.Fprintf(c.out, "skipped: %s %s\n%s", name, test, strings.Join(s.output[test], ""))
		default:
			failedBelow := slices.ContainsFunc(s.started, func(o string) bool {
				return below(o) && s.result[o] != "pass" && s.result[o] != "skip"
			})
			if !failedBelow {
				t.failed++
			}
			fmt.Fprint(c.out, strings.Join(s.output[test], ""))
		}
	}
	return t
}

// finish counts the packages that never reported their end: go test was killed, or crashed.
func (c *counter) finish() totals {
	for name, s := range c.suites {
		t := c.tally(name, s)
		t.failed = max(1, t.failed)
		c.add(t)
		fmt.Fprintf(c.out, "%s\nFAIL\t%s\tended without a result\n", strings.Join(s.output[""][s.shown:], ""), name)
	}
	return c.total
}

func (c *counter) add(t totals) {
	c.total = totals{c.total.passed + t.passed, c.total.failed + t.failed, c.total.skipped + t.skipped}
}
