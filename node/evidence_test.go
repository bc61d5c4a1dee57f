package node

import (
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl"
)

// What was discarded may have been acknowledged only if the history left it without a promise.
func TestDiscardOf(t *testing.T) {
	s := fsm.State{Lineage: []fsm.Lineage{
		{Epoch: 1, Node: "n1", Timeline: 1}, {Epoch: 2, Node: "n2", Timeline: 2, Parent: 1, SwitchLSN: 100, Async: true},
		{Epoch: 3, Node: "n3", Timeline: 3, Parent: 2, SwitchLSN: 200},
	}}
	for _, c := range []struct {
		self  fsm.NodeID
		e     pgctl.Evidence
		lossy bool
	}{
		{"n1", pgctl.Evidence{ID: "a", Epoch: 3, Timeline: 1, From: 100, To: 180, Commits: 2, Way: "clone", Path: "/p", SHA256: "f"}, true},
		{"n1", pgctl.Evidence{ID: "b", Epoch: 3, Timeline: 2, From: 200, To: 220}, false},
		{"n1", pgctl.Evidence{ID: "set aside after it was replaced in async", Epoch: 3, Way: "quarantine"}, true},
		{"n1", pgctl.Evidence{ID: "set aside before", Epoch: 1, Way: "quarantine"}, false},
		{"n2", pgctl.Evidence{ID: "set aside after it was replaced in quorum", Epoch: 3, Way: "quarantine"}, false},
		{"n3", pgctl.Evidence{ID: "set aside, never replaced", Epoch: 3, Way: "quarantine"}, false},
		{"n3", pgctl.Evidence{ID: "of a standby, set aside after the loss", Epoch: 2, Way: "quarantine"}, true},
		{"n4", pgctl.Evidence{ID: "of a standby, set aside an epoch later", Epoch: 3, Way: "quarantine"}, true},
		{"n4", pgctl.Evidence{ID: "of a standby, set aside before", Epoch: 1, Way: "quarantine"}, false},
		{"n2", pgctl.Evidence{ID: "of the one that was appointed", Epoch: 2, Way: "quarantine"}, false},
	} {
		d := discardOf(s, c.self, c.e)
		want := fsm.Discard{
			ID: c.e.ID, Node: c.self, Epoch: fsm.Epoch(c.e.Epoch), Timeline: c.e.Timeline, From: c.e.From, To: c.e.To, Commits: c.e.Commits, Way: c.e.Way,
			Path: c.e.Path, SHA256: c.e.SHA256, Lossy: c.lossy,
		}
		if d != want {
			t.Errorf("%s: %+v", c.e.ID, d)
		}
	}
}
