package lab

import (
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/lab/nemesis"
)

// TestCommandOf reads what PostgreSQL writes into postmaster.opts.
func TestCommandOf(t *testing.T) {
	for _, c := range []struct {
		opts string
		want []string
	}{
		{"", nil},
		{"/usr/lib/postgresql/15/bin/postgres\n", []string{"/usr/lib/postgresql/15/bin/postgres"}},
		{"/bin/postgres \"-D\" \"/a b/pg\" \"-c\" \"hba_file=/x\" \"-c\" \"cluster_name=main/n1\"\n",
			[]string{"/bin/postgres", "-D", "/a b/pg", "-c", "hba_file=/x", "-c", "cluster_name=main/n1"}},
	} {
		if got := commandOf(c.opts); !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, want %q", c.opts, got, c.want)
		}
	}
}

// TestABusySessionWroteWhenItSays: its words may wait in a socket for as long as their reader is slow, and that must not look
// like a write after the fence.
func TestABusySessionWroteWhenItSays(t *testing.T) {
	const second = int64(1e9)
	ahead := -90 * second
	w, ok := busyWrite("00000003 100.5", "n1", 9*second, 12*second, ahead)
	if !ok || w.End != 105*second/10 || w.Start != 9*second || w.Timeline != 3 || !w.Prober || w.XID != 0 || w.Node != "n1" {
		t.Errorf("said late: %+v, %v", w, ok)
	}
	if w, ok = busyWrite("0000000A 104", "n1", 9*second, 12*second, ahead); !ok || w.End != 12*second || w.Timeline != 10 {
		t.Errorf("by a clock that went ahead: %+v, %v", w, ok)
	}
	if w, ok = busyWrite("00000003 98", "n1", 9*second, 12*second, ahead); !ok || w.Start > w.End {
		t.Errorf("by a clock that went back: %+v, %v", w, ok)
	}
	for _, said := range []string{"", "00000003", "x 1", "00000003 x"} {
		if w, ok := busyWrite(said, "n1", 0, 1, 0); ok {
			t.Errorf("%q: %+v", said, w)
		}
	}
}

// TestWhatANodeIsToldByItsEnvironment: nothing that would overrule its file, but that it may lack a mechanism.
func TestWhatANodeIsToldByItsEnvironment(t *testing.T) {
	t.Setenv("QUORATE_NAME", "n9")
	t.Setenv("QUORATE_NEGATIVE_CONTROL", "1")
	got := slices.DeleteFunc(environment(), func(kv string) bool { return !strings.HasPrefix(kv, "QUORATE_") })
	if want := []string{"QUORATE_NEGATIVE_CONTROL=1"}; !slices.Equal(got, want) {
		t.Errorf("a node is told %q, want %q", got, want)
	}
}

// TestEveryTrapCanBeSprung: no step of a trap is one that nobody knows.
func TestEveryTrapCanBeSprung(t *testing.T) {
	known := []nemesis.Do{nemesis.Kill, nemesis.Stop, nemesis.Resume, nemesis.Vanish, nemesis.Return}
	d := nemesis.NewTraps(1, nemesis.Can{Data: 3, Network: true})
	for range d.Kinds() {
		for _, s := range d.Deal().Steps {
			if (&turn{}).trap(s.Do) == nil && !slices.Contains(known, s.Do) {
				t.Errorf("nobody knows how to %s", s)
			}
		}
	}
}
