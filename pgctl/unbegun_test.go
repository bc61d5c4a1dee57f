package pgctl

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/internal/pg"
)

// A promotion that was killed after its history and before the first record of its timeline left a standby that waited for
// that timeline for ever. Chaos met it; the rest of such a promotion is put there by hand here.
func TestAStandbyForgetsATimelineThatItNeverBegan(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	n1.sql("CREATE TABLE t (id int)")
	if err := n2.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	p, err := n2.Examine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(n2.walDir(), pg.HistoryFileName(2))
	begun := pg.History{{Timeline: 1, End: p.LSN, Reason: "no recovery target specified"}}
	if err := n2.writeFile(file, begun.Format()); err != nil {
		t.Fatal(err)
	}

	n2.drive(c.want(n2), "to stream timeline 1", streaming)
	if exists(file) {
		t.Error("the history of timeline 2 is still there")
	}
	if kept, err := os.ReadFile(file + asideSuffix); err != nil || string(kept) != string(begun.Format()) {
		t.Errorf("what was set aside: %q, %v", kept, err)
	}
}

// The primary of a timeline may end before its first record is here. What followed it runs on, waits for that timeline, and can't be
// told another one. Chaos met that, too.
func TestARunningStandbyForgetsATimelineThatEndedBeforeItsFirstRecord(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	begun := pg.History{{Timeline: 1, End: n2.Status(t.Context()).Flush + 1<<24, Reason: "no recovery target specified"}}
	file := filepath.Join(n2.walDir(), pg.HistoryFileName(2))
	if err := n2.writeFile(file, begun.Format()); err != nil {
		t.Fatal(err)
	}
	if p := detach(t, n2, 1, 0); p.Timeline != 1 || !slices.Equal(p.Awaits, []pg.Timeline{2}) {
		t.Fatalf("detached at %+v", p)
	}
	c.epoch = 2
	n1.hold(2)
	n1.drive(c.want(n1), "to serve epoch 2", isRun(pg.RunPrimary))
	n2.took()
	n2.drive(c.want(n2), "to stream timeline 1", streaming)
	if got, want := n2.took(), "stop start-reader"; !strings.HasPrefix(got, want) || exists(file) {
		t.Errorf("n2 took %q, want %q first; the history is still there: %t", got, want, exists(file))
	}
}

// A standby that is killed while it receives the beginning of a new timeline has a file of it that ends before the log which it had
// acknowledged on the old one, or an empty one. Chaos met the empty one, which kept the node down. With part of it the node would
// have been taken for one that lacks what it has.
func TestANewTimelineThatWasHardlyReceivedHidesNoLog(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	n1.sql("CREATE TABLE t AS SELECT generate_series(1, 1000)")
	eventually(t, "all of it on n2", func() bool { return n2.sql("SELECT count(*) FROM pg_class WHERE relname = 't'") == "1" })
	if err := n2.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	has, err := n2.Examine(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	size := n2.Status(t.Context()).Dir.Control.WalSegmentSize
	old, err := os.ReadFile(filepath.Join(n2.walDir(), pg.SegmentName(1, has.LSN, size)))
	if err != nil {
		t.Fatal(err)
	}
	begun := pg.History{{Timeline: 1, End: has.LSN, Reason: "no recovery target specified"}}
	if err := n2.writeFile(filepath.Join(n2.walDir(), pg.HistoryFileName(2)), begun.Format()); err != nil {
		t.Fatal(err)
	}
	for _, received := range []int{1 << 16, 0} {
		file := make([]byte, size)
		copy(file, old[:received])
		if err := n2.writeFile(filepath.Join(n2.walDir(), pg.SegmentName(2, has.LSN, size)), file); err != nil {
			t.Fatal(err)
		}
		n2.stopAgent() // what it had seen of the log goes with it
		n2.startAgent()
		p, err := n2.Examine(t.Context())
		if err != nil || p.LSN != has.LSN || p.Timeline != 1 || !slices.Equal(p.Awaits, []pg.Timeline{2}) {
			t.Errorf("with %d bytes of the new file: %+v, %v; it has %s", received, p, err, has.LSN)
		}
	}
	// One that can't be read may hold more than all others: nothing is reported.
	newer := filepath.Join(n2.walDir(), pg.SegmentName(2, has.LSN, size))
	if err := errors.Join(os.Remove(newer), os.Mkdir(newer, 0o700)); err != nil {
		t.Fatal(err)
	}
	if p, err := n2.Examine(t.Context()); err == nil {
		t.Errorf("with a file that can't be read: %+v", p)
	}
	if err := os.Remove(newer); err != nil {
		t.Fatal(err)
	}
	if err := n2.SetMembers(t.Context(), []Member{local("n1")}); err != nil {
		t.Fatal(err)
	}
	n2.drive(c.want(n2), "to stream timeline 1", streaming)
}

// Where the examined log ends on the highest timeline, or nothing was examined, every history stays.
func TestOnlyTimelinesAboveTheEndOfTheLogAreSetAside(t *testing.T) {
	for _, c := range []struct {
		name      string
		end, base pg.Timeline
		stays     bool
	}{
		{"nothing was examined", 0, 1, true}, {"the log ends before it", 2, 1, false}, {"the log ends on it", 3, 1, true},
		{"pg_control is on it, and its log is lost", 2, 3, true},
	} {
		i := &Instance{cfg: Config{DataDir: t.TempDir()}, log: hclog.NewNullLogger()}
		if err := os.Mkdir(i.walDir(), 0o700); err != nil {
			t.Fatal(err)
		}
		for tli := pg.Timeline(2); tli <= 3; tli++ {
			h := pg.History{{Timeline: 1, End: 0x3000000}}
			if err := os.WriteFile(filepath.Join(i.walDir(), pg.HistoryFileName(tli)), h.Format(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if c.end > 0 {
			i.cached = &Position{Timeline: c.end}
		}
		if err := i.clearTimelines(pg.Control{CheckpointTimeline: c.base}); err != nil {
			t.Fatal(err)
		}
		if !exists(filepath.Join(i.walDir(), pg.HistoryFileName(2))) {
			t.Errorf("%s: the history of timeline 2 is gone", c.name)
		}
		if got := exists(filepath.Join(i.walDir(), pg.HistoryFileName(3))); got != c.stays {
			t.Errorf("%s: the history of timeline 3 stays: %t, want %t", c.name, got, c.stays)
		}
	}
}
