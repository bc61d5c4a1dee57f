package fsm

import (
	"slices"
	"testing"
)

// TestLossToken: whoever accepts a loss accepts it in one cluster, in one epoch, for one node, and with one set of logs, in whatever
// order they are known.
func TestLossToken(t *testing.T) {
	logs := []Position{{Node: "n2", Detached: 7, Timeline: 3, LSN: 0x5000}, {Node: "n3", Detached: 7, Timeline: 3, LSN: 0x4000}}
	changed := func(change func(*Position)) []Position {
		other := slices.Clone(logs)
		change(&other[1])
		return other
	}
	shown := LossToken("c", 7, "n2", logs)
	for name, token := range map[string]string{
		"another cluster":         LossToken("d", 7, "n2", logs),
		"another epoch":           LossToken("c", 8, "n2", logs),
		"another node":            LossToken("c", 7, "n3", logs),
		"a log less":              LossToken("c", 7, "n2", logs[:1]),
		"a log of somebody else":  LossToken("c", 7, "n2", changed(func(p *Position) { p.Node = "n4" })),
		"a log on another branch": LossToken("c", 7, "n2", changed(func(p *Position) { p.Timeline = 2 })),
		"a longer log":            LossToken("c", 7, "n2", changed(func(p *Position) { p.LSN++ })),
	} {
		if token == shown {
			t.Errorf("%s has the same token", name)
		}
	}
	if LossToken("c", 7, "n2", []Position{logs[1], logs[0]}) != shown {
		t.Error("the order of the logs matters")
	}
	if LossToken("c", 7, "n2", changed(func(p *Position) { p.Detached++ })) != shown {
		t.Error("it matters when they were told")
	}
}
