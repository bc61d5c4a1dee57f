package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Finding is one thing to say about a node file or a document: a warning, or what is wrong with it.
type Finding struct {
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"` // 0: no line says it; it is missing, a default, or from the environment
	Key  string `json:"key,omitempty"`  // with its sections, such as postgresql.listen
	Text string `json:"text"`
}

// String begins with the place, as editors jump to it if the file is known.
func (f Finding) String() string {
	var b strings.Builder
	switch {
	case f.File != "" && f.Line > 0:
		fmt.Fprintf(&b, "%s:%d: ", f.File, f.Line)
	case f.File != "":
		fmt.Fprintf(&b, "%s: ", f.File)
	case f.Line > 0:
		fmt.Fprintf(&b, "line %d: ", f.Line)
	}
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	return b.String() + f.Text
}

// Invalid is the error of a file that can't be used: everything that is wrong with it, in the order of its lines.
type Invalid []Finding

// Error has one line for each.
func (v Invalid) Error() string {
	lines := make([]string, len(v))
	for i, f := range v {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// sorted puts what has a line first, in order.
func sorted(findings []Finding) []Finding {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Compare(a.Line, b.Line)
	})
	return findings
}
