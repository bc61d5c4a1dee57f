package bubble

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// TestALossIsAccepted: the primary is gone, and of the other two only one has data, so that nobody knows who has every acknowledged
// commit. An operator's word for what he was shown makes that one primary; a word for anything else is dropped.
func TestALossIsAccepted(t *testing.T) {
	inBubble(t, 3, func(w *world) {
		old, leader := w.settle()
		empty := w.other(old, leader)
		empty.loseData()
		w.isolate(old)
		var v failover.View
		var token string
		w.wait("nobody qualifies", func() bool {
			var d failover.Decision
			var err error
			if v, d, err = leader.running().Explain(w.t.Context()); err != nil || d.Verdict != failover.Stuck {
				return false
			}
			var against string
			token, against = failover.AcceptLoss(v, leader.id())
			return against == ""
		})
		if _, against := failover.AcceptLoss(v, empty.id()); against == "" {
			w.t.Error("a node without data could be taken")
		}
		ask := func(id, loss string) {
			w.t.Helper()
			err := leader.running().Submit(w.t.Context(), fsm.AskFailover{ID: id, To: leader.id(), Epoch: 1, Loss: loss}, 0, id)
			if err != nil {
				w.t.Fatal(err)
			}
		}
		ask("w1", "of another day")
		w.wait("the word for something else is dropped", func() bool {
			s := leader.running().State()
			return s.Wish == nil && fsm.WishDropped(s.Events[len(s.Events)-1].Text)
		})
		if w.epoch() != 1 {
			w.t.Fatalf("epoch %d", w.epoch())
		}
		ask("w2", token)
		w.wait("the node that was named serves", func() bool { return leader.serving() == 2 })
		s := leader.running().State()
		if last := s.Lineage[len(s.Lineage)-1]; !last.Async || !s.Sync.Has(leader.id()) {
			w.t.Errorf("lineage %+v, sync %+v", last, s.Sync)
		}
		if e, known := s.Appointment(2); !known || e.By != failover.RuleAcceptedLoss || !strings.Contains(e.Text, "accepted") {
			w.t.Errorf("the history says %+v", e)
		}
		w.rejoin(old)
		w.settle()
		if w.epoch() != 2 {
			w.t.Errorf("epoch %d after healing, want 2", w.epoch())
		}
	})
}

// loseData leaves nothing of the Postgres here; the rest of the node goes on.
func (n *node) loseData() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.timeline, n.lsn = 0, 0
}
