package sim

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// tape is the log of a run: one line per event, in columns.
type tape struct{ out io.Writer }

// say writes a line. Callers that format anything ask w.tape first, because most runs have none.
func (w *World) say(h *host, what, format string, args ...any) {
	if w.tape == nil {
		return
	}
	who := "-"
	if h != nil {
		who = h.name
	}
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", " ")
	fmt.Fprintf(w.tape.out, "%10.3f  %-3s %-9s %s\n", float64(w.now)/float64(time.Second), who, what, text)
}
