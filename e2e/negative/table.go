package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// line is what became of one control.
type line struct {
	control
	found string // what was found without it; "" if nothing was
	text  string
	after string // how much of the catcher it took
	clean string // what was found in the clean build, which shall be nothing
	may   bool   // be missed here, since another catcher is named for it
}

type table []line

// print shows the table; errMissed if a mechanism was not missed, or something was in the clean build.
func (t table) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	rows := []string{"mechanism\ttag\tfound\tafter\tclean build"}
	var bad []string
	for _, l := range t {
		found, clean := l.found, "nothing"
		switch {
		case found == "" && l.may:
			found = "nothing"
		case found == "":
			found = "NOTHING"
			bad = append(bad, l.tag+" was not missed")
		}
		if l.clean != "" {
			clean = strings.ToUpper(l.clean)
			bad = append(bad, "the clean build shows "+l.clean+" beside "+l.tag)
		}
		rows = append(rows, strings.Join([]string{l.mechanism, "without_" + l.tag, found, l.after, clean}, "\t"))
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
