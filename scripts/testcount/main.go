// Command testcount reads the output of go test -json, shows it the way go test does, with the full output of
// every test that failed, and adds what it counted to a file. ./check ends with the sum.
//
// It must never count as passed what did not report that it passed: a package that fails to build, panics, or
// ends before its tests do counts as a failure even when no test of it failed. That no test ran at all is a failure too.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

func main() {
	tally := flag.String("tally", "", "read go test -json from stdin and add its counts to this `file`")
	noSkip := flag.Bool("noskip", false, "with -tally: fail when a test was skipped")
	sum := flag.String("sum", "", "print the sum of the counts in this `file`")
	flag.Parse()
	var err error
	ok := true
	switch {
	case *tally != "":
		ok, err = count(os.Stdin, os.Stdout, *tally, *noSkip)
	case *sum != "":
		err = report(os.Stdout, *sum)
	default:
		flag.Usage()
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testcount:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// count shows the events read from in and adds one line to the file tally. It returns false when anything failed, when nothing
// was run, and with noSkip when a test was skipped.
func count(in io.Reader, out io.Writer, tally string, noSkip bool) (bool, error) {
	c := newCounter(out)
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			c.line(line)
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return false, fmt.Errorf("read the test events: %w", err)
		}
	}
	total := c.finish()
	f, err := os.OpenFile(tally, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return false, fmt.Errorf("open the tally: %w", err)
	}
	if _, err := fmt.Fprintln(f, total.passed, total.failed, total.skipped); err != nil {
		return false, fmt.Errorf("write the tally: %w", err)
	}
	if err := f.Close(); err != nil {
		return false, fmt.Errorf("close the tally: %w", err)
	}
	ok := total.failed == 0
	if total == (totals{}) {
		fmt.Fprintln(out, "no test was run: a phase without tests proves nothing")
		ok = false
	}
	if noSkip && len(c.skips) > 0 {
		fmt.Fprintf(out, "skipped, where every test has to run (the reasons are above):\n  %s\n", strings.Join(c.skips, "\n  "))
		ok = false
	}
	return ok, nil
}

// report prints the sum of all lines of the file tally; skipped tests get a line of their own, above it.
func report(out io.Writer, tally string) error {
	f, err := os.Open(tally)
	if err != nil {
		return fmt.Errorf("open the tally: %w", err)
	}
	defer f.Close()
	var all totals
	for {
		var t totals
		_, err := fmt.Fscanln(f, &t.passed, &t.failed, &t.skipped)
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("read the tally: %w", err)
		}
		all = totals{all.passed + t.passed, all.failed + t.failed, all.skipped + t.skipped}
	}
	if all.skipped > 0 {
		fmt.Fprintf(out, "%d skipped (named above)\n", all.skipped)
	}
	fmt.Fprintf(out, "%d passed, %d failed\n", all.passed, all.failed)
	return nil
}
