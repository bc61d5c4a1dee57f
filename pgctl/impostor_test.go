package pgctl

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/internal/pg"
)

// guarded is a primary among n2 at 10.0.0.2 and n3 at 10.0.0.3.
func guarded() *Instance {
	return &Instance{
		cfg: Config{Replication: Credentials{Name: "repl"}}, log: hclog.NewNullLogger(),
		names:   map[string][]string{"n2": {"10.0.0.2"}, "n3": {"10.0.0.3"}},
		members: map[string]Member{"n2": local("n2"), "n3": local("n3")},
	}
}

// streamed is what i makes of one walsender that streams from it, and has it ended if need be.
func streamed(t *testing.T, i *Instance, name, user, addr string) Status {
	t.Helper()
	var s Status
	row := []string{name, user, addr, "99", "streaming", "0/5000000", "0/5000000", "quorum", "1", slotOf(strings.ToLower(name))}
	if err := i.fillSenders(&s, [][]string{row}); err != nil {
		t.Fatal(err)
	}
	if len(s.Impostors) > 0 {
		s.Run, s.Timeline, s.Dir.StandbySignal = pg.RunPrimary, 1, true
		want := Want{Role: RolePrimary, Epoch: 1, LeaseLive: true}
		want.Target.Timeline = 1
		if step := Next(want, s); step.Kind != Evict || len(step.Impostors) != 1 {
			t.Errorf("an impostor is met by %+v", step)
		}
		i.accuse(s.Impostors[0])
	}
	return s
}

// said is what people are told.
func said(i *Instance) string {
	var s Status
	i.judge()
	i.recorded(&s)
	return s.Corrected
}

// TestAMemberThatMovedIsNoImpostor: until its address is on record its walsenders are ended and count for nothing; of them
// nothing is ever said.
func TestAMemberThatMovedIsNoImpostor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := guarded()
		for range 10 {
			if s := streamed(t, i, "n2", "repl", "10.0.0.112"); len(s.Senders) > 0 || len(s.Impostors) != 1 {
				t.Fatalf("before its address is on record: senders %+v, impostors %+v", s.Senders, s.Impostors)
			}
			if got := said(i); got != "" {
				t.Fatalf("a member that moved is taken for an impostor: %s", got)
			}
			time.Sleep(100 * time.Millisecond)
		}
		i.names["n2"] = []string{"10.0.0.112"}
		if s := streamed(t, i, "n2", "repl", "10.0.0.112"); len(s.Senders) != 1 || len(s.Impostors) > 0 {
			t.Errorf("at the address on record: senders %+v, impostors %+v", s.Senders, s.Impostors)
		}
		for range 2 * moveBox / time.Second {
			if got := said(i); got != "" {
				t.Fatalf("a member that moved is taken for an impostor: %s", got)
			}
			time.Sleep(time.Second)
		}
	})
}

// TestImpostorsAreReported: an impostor counts for nothing, and if it can't be the member, or turns out not to be, it is said
// who it was.
func TestImpostorsAreReported(t *testing.T) {
	for _, c := range []struct {
		name              string
		bears, user, addr string
		records           map[string][]string // afterwards
		box               time.Duration       // until it is said
		want              string
	}{
		{"from elsewhere", "n2", "repl", "10.0.0.9", nil, moveBox, "10.0.0.9, which is not on record as its address; it was ended"},
		{"the name in capitals", "N2", "repl", "10.0.0.9", nil, moveBox, "it is n2 and comes from 10.0.0.9"},
		{"from another member", "n2", "repl", "10.0.0.3", nil, moveBox, "it is n2 and comes from 10.0.0.3"},
		{"while the member moves elsewhere", "n2", "repl", "10.0.0.9", map[string][]string{"n2": {"10.0.0.112"}}, moveBox, "10.0.0.9"},
		{"while another moves there", "n2", "repl", "10.0.0.9", map[string][]string{"n3": {"10.0.0.9"}}, moveBox, "10.0.0.9"},
		{"another role", "n2", "app", "10.0.0.2", nil, 0, "a walsender says that it is n2 and has logged in as app; it was ended"},
		{"another role from elsewhere", "n2", "app", "10.0.0.9", map[string][]string{"n2": {"10.0.0.9"}}, 0, "has logged in as app"},
		{"from the host itself", "n2", "repl", "", nil, 0, "n2 and comes over the local socket; it was ended"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				i := guarded()
				if s := streamed(t, i, c.bears, c.user, c.addr); len(s.Senders) > 0 || len(s.Impostors) != 1 {
					t.Fatalf("senders %+v, impostors %+v", s.Senders, s.Impostors)
				}
				if c.records != nil {
					i.names = c.records
				}
				if c.box > 0 {
					time.Sleep(c.box - time.Nanosecond)
					if got := said(i); got != "" {
						t.Errorf("said before its time: %s", got)
					}
					time.Sleep(time.Nanosecond)
				}
				if got := said(i); !strings.Contains(got, c.want) {
					t.Errorf("it is said %q, not %q", got, c.want)
				}
				time.Sleep(driftShown)
				if got := said(i); got != "" {
					t.Errorf("still said: %s", got)
				}
			})
		})
	}
}

// TestAnImpostorThatComesAgain gains no time by that, and takes no room.
func TestAnImpostorThatComesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := guarded()
		for range moveBox / time.Second {
			streamed(t, i, "n2", "repl", "10.0.0.9")
			time.Sleep(time.Second)
		}
		for range 2 * driftShown / time.Second {
			streamed(t, i, "n2", "repl", "10.0.0.9")
			if got := said(i); !strings.Contains(got, "10.0.0.9") || len(i.accused) > 1 {
				t.Fatalf("it is said %q; accused are %v", got, i.accused)
			}
			time.Sleep(time.Second)
		}
	})
}

// TestAnEarlierMemberOfTheName is an impostor by its slot alone. One that has no slot yet, because it has just begun, is nothing at all.
func TestAnEarlierMemberOfTheName(t *testing.T) {
	for _, c := range []struct{ name, state, slot, want, said string }{
		{"the member", "streaming", slotOf("n2"), "sender", ""},
		{"an earlier one", "streaming", SlotName("id-of-an-earlier-one", "n2"), "impostor", "which is not that member's"},
		{"without a slot", "catchup", "", "impostor", "it is n2 and uses no slot"},
		{"just begun", "startup", "", "", ""},
	} {
		i, s := guarded(), Status{}
		row := []string{"n2", "repl", "10.0.0.2", "99", c.state, "0/5000000", "0/5000000", "quorum", "1", c.slot}
		if err := i.fillSenders(&s, [][]string{row}); err != nil {
			t.Fatal(err)
		}
		got := strings.Repeat("sender", len(s.Senders)) + strings.Repeat("impostor", len(s.Impostors))
		if got != c.want {
			t.Errorf("%s: it is %q, want %q", c.name, got, c.want)
		}
		if got == "impostor" && !strings.Contains(s.Impostors[0].accusation(), c.said) {
			t.Errorf("%s: %s", c.name, s.Impostors[0].accusation())
		}
	}
}

// TestAWalsenderWithoutASlot is ended at once, but a member's own has none either while it ends: nothing is said unless one
// comes again and again.
func TestAWalsenderWithoutASlot(t *testing.T) {
	ends := func(t *testing.T, i *Instance) {
		t.Helper()
		var s Status
		row := []string{"n2", "repl", "10.0.0.2", "99", "streaming", "0/5000000", "0/5000000", "quorum", "1", ""}
		if err := i.fillSenders(&s, [][]string{row}); err != nil || len(s.Impostors) != 1 {
			t.Fatalf("impostors %v, %v", s.Impostors, err)
		}
		i.accuse(s.Impostors[0])
	}
	t.Run("a member that ended, a minute ago too", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			i := guarded()
			for range 3 {
				ends(t, i)
				for range 60 {
					if got := said(i); got != "" {
						t.Fatalf("a member that ended is taken for an impostor: %s", got)
					}
					time.Sleep(time.Second)
				}
			}
		})
	})
	t.Run("an impostor", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			i := guarded()
			for range 2 { // a walreceiver tries every 5 s
				ends(t, i)
				if got := said(i); got != "" {
					t.Fatalf("said before its time: %s", got)
				}
				time.Sleep(5 * time.Second)
			}
			ends(t, i)
			if got := said(i); !strings.Contains(got, "n2 and uses no slot; it was ended") {
				t.Errorf("it is said %q", got)
			}
		})
	})
}

// TestConnectionsBesidesTheStream bear no name that a member can have.
func TestConnectionsBesidesTheStream(t *testing.T) {
	for _, purpose := range []string{"clone", "probe", "rewind"} {
		i, s := guarded(), Status{}
		for _, name := range []string{"n2" + purpose, "n2-" + purpose, "n2_" + purpose} {
			i.names[name], i.members[name] = []string{"10.0.0.9"}, local(name)
		}
		row := []string{Config{Name: "n2"}.besides(purpose), "repl", "10.0.0.2", "99", "backup", "", "", "async", "0", ""}
		if err := i.fillSenders(&s, [][]string{row}); err != nil || len(s.Senders)+len(s.Impostors) > 0 {
			t.Errorf("%s: senders %v, impostors %v, %v", row[0], s.Senders, s.Impostors, err)
		}
	}
}

// TestAddressesOfAnEarlierMember: what was known of a host that can't be looked up now goes to nobody else who has the name.
func TestAddressesOfAnEarlierMember(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	n2 := Member{Name: "n2", Host: "n2.example", Slot: slotOf("n2")}
	next := n2
	next.Slot = SlotName("id-of-the-next", "n2")
	moved := n2
	moved.Host = "elsewhere.example"
	for _, c := range []struct {
		name  string
		m     Member
		known int
	}{{"the same", n2, 1}, {"another of its name", next, 0}, {"at another host", moved, 0}} {
		i := guarded()
		i.members["n2"] = n2
		if names, _, err := i.lookUp(ended, []Member{c.m}); err == nil || len(names["n2"]) != c.known {
			t.Errorf("%s: %v, %v", c.name, names, err)
		}
	}
}
