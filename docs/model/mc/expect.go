package mc

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Outcome is what a variant of a model has to show.
type Outcome int

const (
	// Complete: the search exhausts every state and finds no violation.
	Complete Outcome = iota
	// Clean: no violation in the states that a short search reaches; the long run exhausts it.
	Clean
	// Broken: a violation is found. A mutation that is not caught means that the model cannot see that rule.
	Broken
)

// Expect names a variant and what it has to show.
type Expect struct {
	Name string
	Want Outcome
	// States is how many a complete search visits; 0: not said. A rule that falls out of the model, or one that comes in, changes
	// the number, and whoever changed it has to know why.
	States int
}

// Judge returns an error when r is not what was expected.
func (e Expect) Judge(r Result) error {
	switch {
	case e.Want == Broken && r.Violation == "":
		return fmt.Errorf("%s: the mutation was not caught (%d states)", e.Name, r.States)
	case e.Want != Broken && r.Violation != "":
		return fmt.Errorf("%s: must hold, but: %s", e.Name, r.Violation)
	case e.Want == Complete && !r.Complete:
		return fmt.Errorf("%s: must be exhausted, but was cut off at %d states", e.Name, r.States)
	case e.Want == Complete && e.States != 0 && e.States != r.States:
		return fmt.Errorf("%s: has %d states, not %d: the model is another one", e.Name, r.States, e.States)
	}
	return nil
}

// Search looks through a variant within its limits; known is false when there is no such variant.
type Search func(name string, states int, limit time.Duration) (r Result, known bool)

// Limits of one search. In a short run clean searches stop at shortStates; the others end by themselves long before
// mostStates, which only keeps a model that grew by mistake from eating the machine. A long run takes 3 GiB at most.
const (
	shortStates = 300_000
	mostStates  = 3_000_000
	longStates  = 10_000_000
	shortTime   = 5 * time.Minute
	longTime    = 30 * time.Minute
)

// Short runs every expectation. It writes one line each to w, and the trace where one was not to be, and returns everything
// that was not as expected.
func Short(w io.Writer, all []Expect, search Search) error {
	var failed []error
	for _, e := range all {
		states := mostStates
		if e.Want == Clean {
			states = shortStates
		}
		failed = append(failed, e.run(w, search, states, shortTime))
	}
	return errors.Join(failed...)
}

// Long looks further where a short run is cut off: it runs what is Clean in all, and everything named beside.
func Long(w io.Writer, all []Expect, beside []string, search Search) error {
	var failed []error
	for _, e := range all {
		if e.Want == Clean {
			failed = append(failed, e.run(w, search, longStates, longTime))
		}
	}
	for _, name := range beside {
		failed = append(failed, Expect{Name: name, Want: Clean}.run(w, search, longStates, longTime))
	}
	return errors.Join(failed...)
}

func (e Expect) run(w io.Writer, search Search, states int, limit time.Duration) error {
	r, known := search(e.Name, states, limit)
	if !known {
		return fmt.Errorf("%s: the model has no such variant", e.Name)
	}
	fmt.Fprintf(w, "%-32s %s\n", e.Name, r)
	err := e.Judge(r)
	if err != nil {
		for i, line := range r.Trace {
			fmt.Fprintf(w, "      %2d %s\n", i+1, line)
		}
	}
	return err
}

// Named reports whether a variant is among those asked for: PREFIX[,PREFIX...].
func Named(name, prefixes string) bool {
	for _, p := range strings.Split(prefixes, ",") {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// Arguments reads the command line of a model: variants, then how long each may take. It ends the process
// with status 2 when they make no sense.
func Arguments(args []string, each time.Duration) (string, time.Duration) {
	usage := func() {
		fmt.Fprintf(os.Stderr, "usage: %s short | long | PREFIX[,PREFIX...] [DURATION]\n", args[0])
		os.Exit(2)
	}
	if len(args) < 2 || len(args) > 3 {
		usage()
	}
	if len(args) == 3 {
		d, err := time.ParseDuration(args[2])
		if err != nil {
			usage()
		}
		each = d
	}
	return args[1], each
}
