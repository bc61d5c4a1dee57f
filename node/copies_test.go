package node

import (
	"math"
	"testing"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// TestCopies: what counts as known of the others' logs.
func TestCopies(t *testing.T) {
	const fresh = time.Second
	s := threeNodes(3, "2")
	s.Lineage = []fsm.Lineage{
		{Epoch: 1, Node: "3", Timeline: 1, Promoted: true},
		{Epoch: 2, Node: "1", Timeline: 2, Parent: 1, SwitchLSN: 100, Promoted: true},
		{Epoch: 3, Node: "2", Timeline: 3, Parent: 2, SwitchLSN: 500},
		{Epoch: 4, Node: "2", Timeline: 3, Parent: 2, SwitchLSN: 500},
	}
	report := func(run failover.Run, tli pg.Timeline, flush pg.LSN, age time.Duration) failover.Sighting {
		return failover.Sighting{Age: age, Report: failover.Report{Run: run, Timeline: tli, Flush: flush}}
	}
	for _, c := range []struct {
		name string
		n3   failover.Sighting
		want bool
	}{
		{"one that streams", report(failover.RunRunning, 2, 480, 0), true},
		{"one that is down, its log examined", report(failover.RunStopped, 2, 480, 0), true},
		{"one that is being rebuilt", report(failover.RunCloning, 2, 480, 0), false},
		{"one not heard for long", report(failover.RunRunning, 2, 480, 2*fresh), false},
		{"one that says nothing of its log", report(failover.RunRunning, 2, 0, 0), false},
	} {
		got := copies(s, "2", map[fsm.NodeID]failover.Sighting{
			"2": report(failover.RunRunning, 2, 500, 0), "3": c.n3, "9": report(failover.RunRunning, 2, 900, 0),
		}, fresh)
		// First of all the primary before: whatever another has of its timeline, it has.
		if len(got) == 0 || got[0].Name != "n1" || got[0].Timeline != 2 || got[0].LSN < 1<<62 {
			t.Errorf("%s: %+v", c.name, got)
		}
		if has := len(got) == 2 && got[1].Name == "n3" && got[1].LSN == 480; has != c.want {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	// What was on another disk once counts for a survivor, however long ago it said so.
	old := map[fsm.NodeID]failover.Sighting{"3": report(failover.RunRunning, 3, 480, time.Hour)}
	if got := copies(s, "2", old, math.MaxInt64); len(got) != 2 || got[1].Name != "n3" || got[1].LSN != 480 {
		t.Errorf("%+v", got)
	}
	// Its first primary comes after nobody, and one that is no member any more counts for nothing.
	first := threeNodes(1, "1")
	if got := copies(first, "1", nil, fresh); len(got) > 0 {
		t.Errorf("%+v", got)
	}
	delete(s.Members, "1")
	if got := copies(s, "2", nil, fresh); len(got) > 0 {
		t.Errorf("%+v", got)
	}
}
