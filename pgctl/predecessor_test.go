package pgctl

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/pg"
)

// A node was replaced while its agent was dead and its Postgres streamed on: that loses its slot, at the primary and at a standby
// that is promoted later, and asks for it in vain. The new member of its name streams from a slot of its own.
func TestAnEarlierMemberStreamsInVain(t *testing.T) {
	c := boot(t, "n1", "n2", "n3")
	n1, n2, n3 := c.members[0], c.members[1], c.members[2]
	n1.drive(c.want(n1), "both", func(s Status) bool { return len(s.Senders) == 2 })
	old, present := slotOf("n3"), SlotName("id-of-the-next", "n3")
	members := []Member{local("n1"), local("n2"), {Name: "n3", Host: "127.0.0.1", Slot: present}}
	for _, n := range []*node{n1, n2} {
		if err := n.SetMembers(t.Context(), members); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "n3 to count no more", func() bool {
		s := n1.Status(t.Context())
		return len(s.Senders) == 1 && s.Senders[0].Name == "n2" && len(s.Impostors) == 1 && s.Impostors[0].Stray
	})
	w := c.want(n1)
	w.Slots = []string{slotOf("n2"), present}
	n1.drive(w, "the slots of the members", func(s Status) bool { return sameNames(s.Slots, w.Slots) && len(s.Impostors) == 0 })
	eventually(t, "n3 to be refused", func() bool {
		log, err := os.ReadFile(n3.cfg.LogFile())
		return err == nil && strings.Contains(string(log), `replication slot "`+old+`" does not exist`)
	})
	if got := n1.sql("SELECT count(*) FROM pg_stat_replication WHERE application_name = 'n3' AND state <> 'startup'"); got != "0" {
		t.Errorf("%s walsenders serve what is no member", got)
	}

	// n2 has the old spare slot still, as one that was appointed before it was told anything.
	if got := n2.sql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '" + old + "'"); got != "1" {
		n2.sql("SELECT pg_create_physical_replication_slot('" + old + "')")
	}
	follows := c.want(n3)
	follows.Upstream.Slot = present
	n3.drive(follows, "the next member of the name", func(s Status) bool {
		there := n1.Status(t.Context()).Senders
		return streaming(s) && len(there) == 2 && (there[0].Slot == present || there[1].Slot == present)
	})

	detach(t, n2, 1, 0)
	n2.hold(2)
	if _, err := n2.Promote(t.Context(), PromoteOrder{Epoch: 2, Timeline: 2, Slots: []string{slotOf("n1"), present}}); err != nil {
		t.Fatal(err)
	}
	if s := n2.Status(t.Context()); s.Run != pg.RunPrimary || !sameNames(slices.Concat(s.Slots, s.SpareSlots), []string{slotOf("n1"), present}) {
		t.Errorf("promoted: %s with slots %v and %v", s.Run, s.Slots, s.SpareSlots)
	}
}
