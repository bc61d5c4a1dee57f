package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// line is what became of one control.
type line struct {
	control
	found  string // what was found without it, and is what it is to be found by; "" if nothing was
	passed string // what else was found, which is no catch
	seed   uint64 // of the catcher; 0: there is none
	after  string // how much of the catcher it took
	clean  string // what was found in the clean build, which shall be nothing
	may    bool   // be missed here, since another catcher is named for it
}

type table []line

// print shows the table; errMissed if a mechanism was not missed, or something was in the clean build.
func (t table) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	rows := []string{"mechanism\ttag\tfound by\tseed\tafter\tclean build"}
	var bad []string
	for _, l := range t {
		found, clean, seed := l.found, "nothing", "-"
		switch {
		case found == "" && l.may && l.passed != "":
			found = "no catch: " + l.passed
		case found == "" && l.may:
			found = "nothing"
		case found == "":
			found = "NOTHING"
			bad = append(bad, l.missed())
		}
		if l.clean != "" {
			clean = strings.ToUpper(l.clean)
			bad = append(bad, "the clean build shows "+l.clean+" beside "+l.tag)
		}
		if l.seed != 0 {
			seed = strconv.FormatUint(l.seed, 10)
		}
		rows = append(rows, strings.Join([]string{l.mechanism, "without_" + l.tag, found, seed, l.after, clean}, "\t"))
	}
	if _, err := fmt.Fprintln(w, strings.Join(rows, "\n")); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(bad) > 0 {
		return fmt.Errorf("%w: %s", errMissed, strings.Join(bad, "; "))
	}
	return nil
}

// missed says that the mechanism was not.
func (l line) missed() string {
	if l.passed != "" {
		return l.tag + " was not missed: what was found is no catch: " + l.passed
	}
	return l.tag + " was not missed"
}
