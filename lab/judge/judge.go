// Package judge finds in what was recorded of a run what may never be: each check takes a history and returns what is wrong
// with it.
//
// It must never ask a cluster, read a clock or a file, and must never take an answer that did not come for a yes or a no: what
// is unknown may have happened or not.
package judge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/lab/history"
)

// Check names a checker.
type Check string

// The checks.
const (
	Appends   Check = "append-set"
	Writers   Check = "dual-writer"
	Registers Check = "linearizability"
	Reads     Check = "monotone-reads"
	Evidence  Check = "evidence"
	Lineage   Check = "lineage"
	Liveness  Check = "liveness"
	Secrets   Check = "no-secret"
)

// Checks are all checks, in the order in which they are shown.
func Checks() []Check {
	return []Check{Appends, Writers, Registers, Reads, Evidence, Lineage, Liveness, Secrets}
}

// Violation is one thing that may not be.
type Violation struct {
	Check Check  `json:"check"`
	What  string `json:"what"`
}

func (v Violation) String() string { return string(v.Check) + ": " + v.What }

// examples is how many single cases a violation names.
const examples = 5

// of makes a violation that counts cases and shows some.
func of[T any](c Check, cases []T, what string, show func(T) string) []Violation {
	if len(cases) == 0 {
		return nil
	}
	var words []string
	for _, one := range cases[:min(len(cases), examples)] {
		words = append(words, show(one))
	}
	more := ""
	if len(cases) > examples {
		more = ", ..."
	}
	return []Violation{{c, fmt.Sprintf("%d %s: %s%s", len(cases), what, strings.Join(words, ", "), more)}}
}

func showWrite(w history.Write) string {
	return fmt.Sprintf("%d on %s (timeline %d, transaction %d)", w.ID, w.Node, w.Timeline, w.XID)
}

// Span is a time on the clock of histories.
type Span struct{ From, To int64 }

// Unfenced are the nodes that nobody could fence, and when. Their superuser may write by their own socket, and they may answer
// reads with what was true, until somebody can; what they acknowledge for standbys is judged as ever.
type Unfenced map[string][]Span

// at says whether the node was unfenced at any instant from one to the other.
func (u Unfenced) at(node string, from, to int64) bool {
	return slices.ContainsFunc(u[node], func(s Span) bool { return from <= s.To && s.From <= to })
}

// UnfencedOf says when nobody could fence a node: while its guard is stopped and its agent is stopped or gone. It takes grace
// until one who goes on has looked at the clock.
func UnfencedOf(guards, agents map[string][]Span, grace int64) Unfenced {
	u := Unfenced{}
	for node, all := range guards {
		for _, g := range all {
			for _, a := range agents[node] {
				if from, to := max(g.From, a.From), min(g.To, a.To); from <= to {
					u[node] = append(u[node], Span{from, to + grace})
				}
			}
		}
	}
	return u
}
