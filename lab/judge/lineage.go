package judge

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Branch says that a timeline left its parent at a position, both as Postgres writes them.
type Branch struct {
	Timeline, Parent uint32
	Switch           string
}

// Copy is what a node with a Postgres has when nobody writes any more.
type Copy struct {
	Node     string
	Timeline uint32
	History  string            // the file of its timeline, "" for the first one
	Tables   map[string]string // count and sum of the rows, by table
}

// SameLineage says that all nodes have one history and the same rows, and that the history is that which the cluster agreed on:
// agreed are the branches that the replicated state records, the present one last, of which it may have forgotten the oldest,
// and which may have some that were given up.
func SameLineage(copies []Copy, agreed []Branch) []Violation {
	if len(copies) == 0 {
		return []Violation{{Lineage, "no node was compared"}}
	}
	var found []Violation
	say := func(format string, args ...any) {
		found = append(found, Violation{Lineage, fmt.Sprintf(format, args...)})
	}
	first := copies[0]
	for _, c := range copies {
		if c.Timeline != first.Timeline {
			say("%s is on timeline %d and %s on %d", first.Node, first.Timeline, c.Node, c.Timeline)
		}
		if strings.TrimSpace(c.History) != strings.TrimSpace(first.History) {
			say("%s and %s have different histories of timeline %d: %q and %q", first.Node, c.Node, c.Timeline, first.History, c.History)
		}
		tables := slices.Sorted(maps.Keys(c.Tables))
		if len(tables) == 0 || len(tables) != len(first.Tables) {
			say("%s has %d tables to compare and %s has %d", first.Node, len(first.Tables), c.Node, len(tables))
		}
		for _, t := range tables {
			if c.Tables[t] != first.Tables[t] {
				say("%s differs: %s has %s and %s has %s", t, first.Node, first.Tables[t], c.Node, c.Tables[t])
			}
		}
	}
	branches, err := parseHistory(first.Timeline, first.History)
	if err != nil {
		say("the history of %s: %v", first.Node, err)
	}
	if n := len(agreed); n > 0 && agreed[n-1].Timeline != first.Timeline {
		say("the cluster is on timeline %d, and its nodes are on %d", agreed[n-1].Timeline, first.Timeline)
	}
	for tli := first.Timeline; ; {
		i := slices.IndexFunc(agreed, func(a Branch) bool { return a.Timeline == tli })
		if i < 0 || agreed[i].Parent == 0 {
			return found
		}
		a := agreed[i]
		if b := slices.IndexFunc(branches, func(b Branch) bool { return b.Timeline == tli }); b < 0 || branches[b] != a {
			say("the cluster agreed that timeline %d leaves %d at %s, and the nodes have %v", a.Timeline, a.Parent, a.Switch, branches)
			return found
		}
		tli = a.Parent
	}
}

// parseHistory reads a timeline's history file: a line for each ancestor, with where it was left for the next.
func parseHistory(timeline uint32, text string) (all []Branch, err error) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		var b Branch
		if _, err := fmt.Sscan(line, &b.Parent, &b.Switch); err != nil {
			return nil, fmt.Errorf("line %q: %w", line, err)
		}
		if n := len(all); n > 0 {
			all[n-1].Timeline = b.Parent
			if b.Parent <= all[n-1].Parent {
				return nil, fmt.Errorf("timeline %d comes after %d", b.Parent, all[n-1].Parent)
			}
		}
		all = append(all, b)
	}
	if n := len(all); n > 0 {
		all[n-1].Timeline = timeline
		if timeline <= all[n-1].Parent {
			return nil, fmt.Errorf("timeline %d comes after %d", timeline, all[n-1].Parent)
		}
	}
	return all, nil
}
