package mc

import (
	"errors"
	"fmt"
	"io"
	"os"
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
	}
	return nil
}

// Limits of one short search. Clean searches stop at cleanStates; the others end by themselves long before
// mostStates, which only keeps a model that grew by mistake from eating the machine.
const (
	cleanStates = 300_000
	mostStates  = 3_000_000
	mostTime    = 5 * time.Minute
)

// Short runs every expectation through search, which is given the variant's name and its limits and says
// whether there is such a variant. It writes one line each to w, and the trace where one was not to be, and
// returns everything that was not as expected.
func Short(w io.Writer, all []Expect, search func(name string, states int, limit time.Duration) (Result, bool)) error {
	var failed []error
	for _, e := range all {
		states := mostStates
		if e.Want == Clean {
			states = cleanStates
		}
		r, known := search(e.Name, states, mostTime)
		if !known {
			failed = append(failed, fmt.Errorf("%s: the model has no such variant", e.Name))
			continue
		}
		fmt.Fprintf(w, "%-32s %s\n", e.Name, r)
		err := e.Judge(r)
		if err == nil {
			continue
		}
		failed = append(failed, err)
		for i, line := range r.Trace {
			fmt.Fprintf(w, "      %2d %s\n", i+1, line)
		}
	}
	return errors.Join(failed...)
}

// Arguments reads the command line of a model: variants, then how long each may take. It ends the process
// with status 2 when they make no sense.
func Arguments(args []string, each time.Duration) (string, time.Duration) {
	usage := func() {
		fmt.Fprintf(os.Stderr, "usage: %s short | PREFIX[,PREFIX...] [DURATION]\n", args[0])
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
