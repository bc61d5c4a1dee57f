package pgctl

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/rejoin"
)

// TestNext runs the stories in testdata/next. A line "want ..." or "have ..." changes the value from there on, "next"
// prints the step and why, and "reset" begins anew.
func TestNext(t *testing.T) {
	datadriven.Walk(t, "testdata/next", func(t *testing.T, path string) {
		want, have := freshWant(), Status{}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "reset":
				want, have = freshWant(), Status{}
				return "ok"
			case "next":
				for line := range strings.Lines(d.Input) {
					for _, field := range strings.Fields(line)[1:] {
						key, value, _ := strings.Cut(field, "=")
						if strings.HasPrefix(line, "want") {
							setWant(t, &want, key, value)
						} else {
							setHave(t, &have, key, value)
						}
					}
				}
				return render(Next(want, have))
			}
			t.Fatalf("unknown command %s", d.Cmd)
			return ""
		})
	})
}

// freshWant is a cluster with data, in its first epoch on timeline 1.
func freshWant() Want {
	return Want{Epoch: 1, SystemID: 7, Target: rejoin.Branch{Timeline: 1}, Final: true}
}

func render(s Step) string {
	out := string(s.Kind)
	if s.Epoch > 0 {
		out += fmt.Sprintf(" epoch=%d", s.Epoch)
	}
	if s.Timeline > 0 {
		out += fmt.Sprintf(" timeline=%d", s.Timeline)
	}
	if s.Upstream.Name != "" {
		out += " upstream=" + s.Upstream.Name
	}
	if s.Stop != "" {
		out += " " + string(s.Stop)
	}
	if s.StopBox > 0 {
		out += " within " + s.StopBox.String()
	}
	if s.Kind == Configure {
		out += fmt.Sprintf(" %q", s.Sync.SSN())
	}
	if len(s.Slots) > 0 {
		out += " slots=" + strings.Join(s.Slots, ",")
	}
	if s.KeepLog {
		out += " keep-log"
	}
	if s.Gate {
		out += " gate"
	}
	if s.Anew {
		out += " anew"
	}
	return out + ": " + s.Because
}

// number reads a value in the tests.
func number(t *testing.T, text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// lsn reads a hexadecimal position.
func lsn(t *testing.T, text string) pg.LSN {
	n, err := strconv.ParseUint(text, 16, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pg.LSN(n)
}

// branch reads "3" or "1@100,3": timelines with where they were left.
func branch(t *testing.T, text string) rejoin.Branch {
	var out rejoin.Branch
	for _, part := range strings.Split(text, ",") {
		tli, end, left := strings.Cut(part, "@")
		if left {
			out.History = append(out.History, pg.HistoryEntry{Timeline: pg.Timeline(number(t, tli)), End: lsn(t, end)})
		} else {
			out.Timeline = pg.Timeline(number(t, tli))
		}
	}
	return out
}

func names(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// up reads "n1/2": a node as primary of an epoch.
func up(t *testing.T, text string) Upstream {
	if text == "" {
		return Upstream{}
	}
	name, epoch, _ := strings.Cut(text, "/")
	return Upstream{Name: name, Host: name, Port: 5432, Epoch: number(t, epoch)}
}

// copies reads "n1@2:500,n3@2:400": who has which timeline up to where.
func copies(t *testing.T, text string) []Copy {
	var out []Copy
	for _, part := range names(text) {
		name, at, _ := strings.Cut(part, "@")
		tli, end, _ := strings.Cut(at, ":")
		out = append(out, Copy{Name: name, Timeline: pg.Timeline(number(t, tli)), LSN: lsn(t, end)})
	}
	return out
}

func setWant(t *testing.T, w *Want, key, value string) {
	switch key {
	case "role":
		w.Role = Role(value)
	case "epoch":
		w.Epoch = number(t, value)
	case "lease":
		w.LeaseLive = value == "yes"
	case "may-init":
		w.MayInit = value == "yes"
	case "system":
		w.SystemID = pg.SystemID(number(t, value))
	case "target":
		w.Target = branch(t, value)
	case "final":
		w.Final = value == "yes"
	case "upstream":
		w.Upstream = up(t, value)
	case "sync":
		w.Sync = Sync{K: min(1, len(value)), Names: names(value)}
	case "slots":
		w.Slots = names(value)
	case "copies":
		w.Copies = copies(t, value)
	case "reads":
		w.Reads = value == "yes"
	case "reinit":
		w.Reinit = value == "yes"
	case "sealed":
		w.Sealed = number(t, value)
	case "stop":
		mode, box, _ := strings.Cut(value, ":")
		w.Stop = StopMode(mode)
		if box != "" {
			w.StopBox, _ = time.ParseDuration(box)
		}
	case "adopt":
		w.Adopt = pg.SystemID(number(t, value))
	case "keep":
		w.Keep = value == "yes"
	case "aside":
		w.Aside = value == "yes"
	default:
		t.Fatalf("want has no %q", key)
	}
}

func setHave(t *testing.T, s *Status, key, value string) {
	switch key {
	case "run":
		setRun(s, value)
	case "system":
		s.SystemID, s.Dir.Control.SystemID = pg.SystemID(number(t, value)), pg.SystemID(number(t, value))
	case "control":
		s.Dir.Control.State = map[string]pg.ControlState{"production": pg.ControlInProduction, "shutdown": pg.ControlShutDown,
			"recovery": pg.ControlInArchiveRecovery, "shutdown-in-recovery": pg.ControlShutDownInRecovery}[value]
	case "timeline":
		s.Timeline, s.Dir.Control.CheckpointTimeline = pg.Timeline(number(t, value)), pg.Timeline(number(t, value))
	case "position":
		s.Position = nil
		if b, end, ok := strings.Cut(value, ":"); ok {
			p := branch(t, b)
			s.Position = &Position{Timeline: p.Timeline, History: p.History, LSN: lsn(t, end), Oldest: 1}
		}
	case "sync":
		s.Sync, s.SyncInForce = Sync{K: min(1, len(value)), Names: names(value)}, true
	case "in-force":
		s.SyncInForce = value == "yes"
	case "slots":
		s.Slots = names(value)
	case "spare-slots":
		s.SpareSlots = names(value)
	case "signal":
		s.Dir.StandbySignal = value == "yes"
	case "upstream":
		s.Upstream, s.Configured = up(t, value), true
	case "receiver":
		s.Receiver = value
	case "unstreamed":
		s.Unstreamed = time.Duration(number(t, value)) * time.Millisecond
	default:
		setRare(t, s, key, value)
	}
}

// setRun begins with what a server of this cluster in that state shows.
func setRun(s *Status, state string) {
	*s = Status{Run: pg.RunState(state), SystemID: 7, Timeline: 1, SyncInForce: true}
	s.Dir = Dir{Empty: s.Run == pg.RunAbsent, StandbySignal: true}
	if !s.Dir.Empty {
		s.Dir.Control = pg.Control{SystemID: 7, CheckpointTimeline: 1, State: pg.ControlInArchiveRecovery, WalLogHints: true}
	}
	s.Promoting = s.Run == pg.RunPrimary
}

func setRare(t *testing.T, s *Status, key, value string) {
	switch key {
	case "detached":
		s.Detached = number(t, value)
	case "rebuilding":
		s.Rebuilding = value == "yes"
	case "clone":
		s.Clone = nil
		if source, ok := strings.CutPrefix(value, "running:"); ok {
			s.Clone = &CloneState{Source: up(t, source), Running: true}
		} else if value != "" {
			s.Clone = &CloneState{Source: up(t, value)}
		}
	case "rewind":
		s.Rewind = rewindState(t, value)
	case "gone":
		s.Dir.Gone = value
	case "corrupt":
		s.Dir.Corrupt, s.Dir.Problem = true, value
	case "oldest":
		s.Position.Oldest = lsn(t, value)
	case "promoting":
		s.Promoting, s.PromotingFor = true, time.Duration(number(t, value))*time.Millisecond
	case "died":
		s.Died = value
	case "wal-gone":
		s.WALGone = value == "yes"
	case "foreign":
		s.Dir.Foreign, s.Dir.StandbySignal = value == "yes", value != "yes"
	case "server":
		s.Dir.Server = int(number(t, value))
	case "mismatch":
		s.Dir.Mismatch = value
	case "problem":
		s.Dir.Problem = value
	case "foreign-ssn":
		s.ForeignSSN = value
	case "senders":
		s.Senders = nil
		for _, c := range copies(t, value) {
			s.Senders = append(s.Senders, Sender{Name: c.Name, Streaming: true, Flush: c.LSN})
		}
	case "gated":
		s.Gated = value == "yes"
	case "awaits":
		s.Position.Awaits = nil
		for _, tli := range names(value) {
			s.Position.Awaits = append(s.Position.Awaits, pg.Timeline(number(t, tli)))
		}
	case "shown":
		s.Position.Shown = lsn(t, value)
	case "admitted":
		s.Admitted = value == "yes"
	case "own":
		s.Own = pg.Timeline(number(t, value))
	case "opened":
		s.Opened = lsn(t, value)
	case "checkpoint":
		s.Dir.Control.Checkpoint = lsn(t, value)
	case "drift":
		s.Drift = names(value)
	case "impostor":
		name, addr, _ := strings.Cut(value, "@")
		s.Impostors = []Sender{{Name: name, Addr: addr, PID: 99, Elsewhere: true}}
	default:
		t.Fatalf("have has no %q", key)
	}
}

// rewindState reads "running:n2/2", "writing:n2/2", "torn:n2/2", "over:n2/2" or "waits:n2/2".
func rewindState(t *testing.T, text string) *RewindState {
	how, source, ok := strings.Cut(text, ":")
	if !ok {
		return nil
	}
	r := &RewindState{Source: up(t, source), Running: how == "running" || how == "writing", Writing: how == "writing" || how == "torn", Torn: how == "torn"}
	if how == "over" {
		r.Over = "a rewind failed"
	}
	return r
}

// TestFollowWithAnotherSlot: a new slot at the same primary is no reason to believe that the log has not parted since.
func TestFollowWithAnotherSlot(t *testing.T) {
	want := Want{Role: RoleStandby, Epoch: 5, SystemID: 42, Upstream: Upstream{Name: "n3", Epoch: 5, Slot: "new"},
		Target: rejoin.Branch{Timeline: 4, History: branch(t, "1@500,2@580,3@700,4").History}, Final: true}
	for epoch, step := range map[uint64]StepKind{5: Follow, 2: Detach} {
		have := Status{Run: pg.RunStandby, SystemID: 42, Timeline: 2, Configured: true, Upstream: Upstream{Name: "n3", Epoch: epoch, Slot: "old"}}
		if s := Next(want, have); s.Kind != step {
			t.Errorf("it follows n3 of epoch %d: %s because %s, want %s", epoch, s.Kind, s.Because, step)
		}
	}
}
