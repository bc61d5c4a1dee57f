package node

import (
	"os"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// A promise is worth what the next process knows of it.
func TestAPromiseOutlivesTheAgent(t *testing.T) {
	dir := t.TempDir()
	r, err := openRecords(dir)
	if err != nil {
		t.Fatal(err)
	}
	p := fsm.Promise{Node: "1", Rev: 7, Rule: fsm.SyncRule{Members: []fsm.NodeID{"1", "2"}, Copies: 2}}
	if err := r.Promise(p); err != nil {
		t.Fatal(err)
	}
	if r, err = openRecords(dir); err != nil {
		t.Fatal(err)
	}
	got := r.Promised(7)
	if got == nil || got.Rev != 7 || !got.Rule.Equal(p.Rule) {
		t.Fatalf("after a restart it promised %+v, before %+v", got, p)
	}
	if r.Promised(8) != nil {
		t.Error("a promise of revision 7 binds under revision 8")
	}
	if err := os.WriteFile(r.path("promise"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openRecords(dir); err == nil {
		t.Error("a damaged promise counts as none")
	}
}

// The barrier of lease.md rule 18c: only members of the new D count, only verified ones that stream, and only what is
// flushed.
func TestCopiesAtTheBarrier(t *testing.T) {
	ids := map[string]fsm.NodeID{"n1": "1", "n2": "2", "n3": "3"}
	two := fsm.SyncRule{Members: []fsm.NodeID{"1", "2"}, Copies: 2}
	sender := func(name string, streaming bool, flush pg.LSN) pgctl.Sender {
		return pgctl.Sender{Slot: name, Streaming: streaming, Flush: flush}
	}
	for _, c := range []struct {
		name           string
		have           pgctl.Status
		flushed, there int
	}{
		{"both", pgctl.Status{Run: pg.RunPrimary, Flush: 9, Senders: []pgctl.Sender{sender("n2", true, 5)}}, 2, 2},
		{"the standby is behind", pgctl.Status{Run: pg.RunPrimary, Flush: 9, Senders: []pgctl.Sender{sender("n2", true, 4)}}, 1, 2},
		{"the standby catches up still", pgctl.Status{Run: pg.RunPrimary, Flush: 9, Senders: []pgctl.Sender{sender("n2", false, 5)}}, 1, 1},
		{"a standby that leaves D", pgctl.Status{Run: pg.RunPrimary, Flush: 9, Senders: []pgctl.Sender{sender("n3", true, 9)}}, 1, 1},
		{"a stranger", pgctl.Status{Run: pg.RunPrimary, Flush: 9, Senders: []pgctl.Sender{sender("x", true, 9)}}, 1, 1},
		{"not a primary", pgctl.Status{Run: pg.RunStandby, Flush: 9, Senders: []pgctl.Sender{sender("n2", true, 9)}}, 1, 1},
	} {
		if flushed, there := copiesAt(c.have, ids, "1", two, 5); flushed != c.flushed || there != c.there {
			t.Errorf("%s: %d flushed, %d there", c.name, flushed, there)
		}
	}
}

// What streams under the name of a member from an earlier member's slot is not that member, whatever Postgres was told by then.
func TestOnlyAMembersOwnSlotCounts(t *testing.T) {
	s := fsm.State{Members: map[fsm.NodeID]fsm.Member{"id-2": {ID: "id-2", Name: "n2"}}}
	for id, want := range map[string]int{"id-2": 1, "id-of-the-earlier-n2": 0} {
		have := pgctl.Status{Senders: []pgctl.Sender{{Name: "n2", Slot: pgctl.SlotName(id, "n2"), Streaming: true}}}
		if got := streaming(have, bySlot(s)); len(got) != want {
			t.Errorf("from the slot of %s: %v", id, got)
		}
	}
}
