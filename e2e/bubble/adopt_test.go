package bubble

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/internal/pg"
)

// TestAClusterGoesOnFromAdoptedData: the first epoch is on the timeline of the data, and the first failover on the next one,
// with all that was before.
func TestAClusterGoesOnFromAdoptedData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 3)
		defer w.stop()
		w.nodes[0].data = &cluster.DataFacts{SystemID: 42, State: pg.ControlShutDown, Timeline: 3, End: 0x900000,
			History: pg.History{{Timeline: 1, End: 0x100000}, {Timeline: 2, End: 0x200000}}}
		for _, n := range w.nodes {
			n.run()
		}
		old, _ := w.settle()
		if s := old.running().State(); old.name != "n1" || s.SystemID != 42 || s.Lineage[0].Timeline != 3 {
			t.Fatalf("%s is primary of system %s, lineage %+v", old.name, s.SystemID, s.Lineage)
		}
		w.isolate(old)
		w.wait("another primary has told its timeline", func() bool {
			next := w.primary()
			if next == nil || next == old || next.serving() != 2 {
				return false
			}
			s := next.running().State()
			return s.Lineage[len(s.Lineage)-1].Promoted
		})
		h, _ := w.primary().running().State().LineageHistory(4)
		if got := fmt.Sprint(h[:2]); len(h) != 3 || got != "[{1 0/100000 } {2 0/200000 }]" || h[2].Timeline != 3 {
			t.Errorf("the history of the second primary: %v", h)
		}
		w.rejoin(old)
		w.wait("the old primary has applied epoch 2", func() bool { return old.running().State().Epoch == 2 })
		w.checkOneWriter()
	})
}
