package node

import (
	"slices"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/rejoin"
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

// TestWhatAnAppointedOldPrimaryLacksMayBeAcknowledged: n2 was primary on timeline 2, n1 took over at 0/5000 on timeline 3, acknowledged
// alone and was lost; n2, whose own log went on to 0/5800, was appointed by an accepted loss. So what is given up begins long before the
// switch to timeline 4. Also where n3 was appointed in between, and is what was lost then.
func TestWhatAnAppointedOldPrimaryLacksMayBeAcknowledged(t *testing.T) {
	two := []fsm.Lineage{{Epoch: 1, Node: "n2", Timeline: 2}, {Epoch: 2, Node: "n1", Timeline: 3, Parent: 2, SwitchLSN: 0x5000}}
	direct := fsm.State{Lineage: append(slices.Clone(two), fsm.Lineage{Epoch: 3, Node: "n2", Timeline: 4, Parent: 2, SwitchLSN: 0x5800, Async: true})}
	later := fsm.State{Lineage: append(slices.Clone(two), fsm.Lineage{Epoch: 3, Node: "n3", Timeline: 4, Parent: 3, SwitchLSN: 0x6000},
		fsm.Lineage{Epoch: 4, Node: "n2", Timeline: 5, Parent: 2, SwitchLSN: 0x5800, Async: true})}
	for _, c := range []struct {
		name     string
		s        fsm.State
		tli, new pg.Timeline
		from, to pg.LSN
		lossy    bool
	}{
		{"the log of the primary that was lost", direct, 3, 4, 0x5000, 0x7000, true},
		{"the same, with another one lost after it", later, 3, 5, 0x5000, 0x7000, true},
		{"a log that nobody knows", direct, 9, 4, 0x5000, 0x7000, true},
		{"a log that nobody knows, and nothing was given up", fsm.State{Lineage: two}, 9, 3, 0x5000, 0x7000, false},
		{"what a primary in between did not have either", later, 3, 4, 0x6000, 0x7000, false},
		{"the old primary's tail, and nothing was given up", fsm.State{Lineage: two}, 2, 3, 0x5000, 0x5800, false},
	} {
		mine, known := c.s.LineageHistory(c.tli)
		theirs, _ := c.s.LineageHistory(c.new)
		fork, forked := rejoin.Fork(rejoin.Branch{Timeline: c.tli, History: mine}, rejoin.Branch{Timeline: c.new, History: theirs})
		if known && (fork != c.from || !forked) {
			t.Errorf("%s: it leaves the history at %s, not %s", c.name, fork, c.from)
		}
		d := discardOf(c.s, "n1", pgctl.Evidence{ID: "a", Epoch: 3, Timeline: c.tli, From: c.from, To: c.to, Commits: 5, Way: "rewind"})
		if d.Lossy != c.lossy {
			t.Errorf("%s: perhaps acknowledged: %t", c.name, d.Lossy)
		}
	}
}
