package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/lab/history"
	"github.com/quorate/quorate/lab/judge"
	"github.com/quorate/quorate/lab/nemesis"
)

// TestChaosAgain: the command that a run prints makes the same lab, or the same seed would make other faults.
func TestChaosAgain(t *testing.T) {
	for _, c := range []struct {
		o    ChaosOptions
		want string
	}{
		{ChaosOptions{For: 5 * time.Minute, Seed: 7}, "quorate lab chaos --minutes 5 --seed 7"},
		{ChaosOptions{For: time.Hour, Seed: 8, Nodes: 2, Witnesses: 1, Durability: "async", Failover: 2 * time.Second},
			"quorate lab chaos --minutes 60 --seed 8 --data 2 --witness 1 --durability async --failover-after 2s"},
		{ChaosOptions{For: time.Minute, Seed: 9, Nodes: 5, Traps: true}, "quorate lab chaos --minutes 1 --seed 9 --data 5 --traps"},
	} {
		if got := c.o.again(); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

func TestSeating(t *testing.T) {
	nodes := []*Node{{Name: "n1"}, {Name: "w1", Witness: true}, {Name: "n2"}, {Name: "n3"}}
	for primary, want := range map[string]string{"n2": "n2 n1 n3 w1", "n1": "n1 n2 n3 w1", "": "n1 n2 n3 w1"} {
		if got := strings.Join(namesOf(seating(nodes, primary)), " "); got != want {
			t.Errorf("primary %q: %s, want %s", primary, got, want)
		}
	}
}

func TestDropsOfFaultsThatOverlap(t *testing.T) {
	cuts := map[int][]nemesis.Drop{
		0: {{At: "n1", From: []string{"n2"}}, {At: "n2", From: []string{"n1"}}},
		2: {{At: "n1", From: []string{"n3"}, Port: nemesis.PostgresPort}},
	}
	var got []string
	for _, d := range dropsAt("n1", cuts) {
		got = append(got, strings.Join(d.From, "+")+":"+string(d.Port))
	}
	slices.Sort(got)
	if want := []string{"n2:", "n3:postgres"}; !slices.Equal(got, want) {
		t.Errorf("n1 drops %v, want %v", got, want)
	}
	delete(cuts, 0)
	if d := dropsAt("n2", cuts); d != nil {
		t.Errorf("n2 drops %v", d)
	}
	for _, p := range []nemesis.Port{nemesis.AnyPort, nemesis.PostgresPort, nemesis.ClusterPort, "other"} {
		if port, err := (&Lab{}).denied(p); (err != nil) != (p == "other") || (port == "") != (p == nemesis.AnyPort || p == "other") {
			t.Errorf("port %q: %q, %v", p, port, err)
		}
	}
}

// TestWhatCountsAsMade: what undoes a fault is none, and a kill in the middle of something was made only when it was.
func TestWhatCountsAsMade(t *testing.T) {
	turn := &turn{r: nemesis.Round{Steps: []nemesis.Step{
		{Fault: 0, Do: nemesis.Ambush}, {Fault: 0, Do: nemesis.Kill}, {Fault: 1, Do: nemesis.Cut}, {Fault: 1, Do: nemesis.Mend},
	}}}
	for i, want := range []bool{true, false, true, false} {
		if got := turn.counts(turn.r.Steps[i]); got != want {
			t.Errorf("%s: %v", turn.r.Steps[i], got)
		}
	}
}

// TestAStrikeIsItsFirstStep: a fault strikes when its first step begins, in whatever order they are done, and it hits the primary if
// any of them does.
func TestAStrikeIsItsFirstStep(t *testing.T) {
	n1, n2 := &Node{Name: "n1"}, &Node{Name: "n2"}
	var said strings.Builder
	turn := (&chaos{archive: archive{l: &Lab{out: &said}}}).newTurn(nemesis.Round{Faults: []string{"a", "b", "c", "d"}}, State{})
	for fault := range 4 {
		turn.seats[fault] = []*Node{n1, n2}
	}
	restore, kill := nemesis.Step{Do: nemesis.SlowRestore, Seat: 1}, nemesis.Step{Do: nemesis.Kill}
	turn.done(kill, n1, 30, nil)
	turn.done(restore, n2, 20, nil)
	turn.done(restore, n2, 40, nil)
	turn.done(nemesis.Step{Fault: 1, Do: nemesis.Kill, Seat: 1}, n2, 50, nil)
	turn.done(nemesis.Step{Fault: 1, Do: nemesis.Right}, n1, 60, nil)
	turn.done(nemesis.Step{Fault: 2, Do: nemesis.Cut, Shape: nemesis.Everywhere, Seat: 1}, n2, 70, nil)
	turn.done(nemesis.Step{Fault: 3, Do: nemesis.Kill}, n1, 80, errNobody)
	turn.done(nemesis.Step{Fault: 3, Do: nemesis.Kill}, n1, 81, errNobody)
	turn.done(nemesis.Step{Fault: 3, Do: nemesis.Kill}, n1, 82, errors.New("no answer"))
	turn.done(nemesis.Step{Fault: 3, Do: nemesis.Mend}, n1, 83, errors.New("not mended"))
	want := []Strike{
		{Fault: "a", At: 20, Primary: true}, {Fault: "b", At: 50}, {Fault: "c", At: 70, Primary: true}, {Fault: "d", Why: "nobody to hit; no answer"},
	}
	if got := turn.strikes(); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v\n%s", got, want, said.String())
	}
}

// TestASetThatWasHitInPart: as long as no step of a fault hits the whole set, it was made in part only.
func TestASetThatWasHitInPart(t *testing.T) {
	n1 := &Node{Name: "n1"}
	var said strings.Builder
	turn := (&chaos{archive: archive{l: &Lab{out: &said}}}).newTurn(nemesis.Round{Faults: []string{"a", "b", "c", "d", "e"}}, State{})
	both := []nemesis.Part{nemesis.Agent, nemesis.Guard}
	misses := []error{fmt.Errorf("%w: no guard on n1", errNobody)}
	for fault, steps := range [][]error{{nil}, {reach(1, misses)}, {reach(1, misses), nil}, {nil, reach(1, misses)}, {reach(0, misses)}} {
		turn.done(nemesis.Step{Fault: fault, Do: nemesis.Hold}, n1, 9, errNobody)
		for _, err := range steps {
			turn.done(nemesis.Step{Fault: fault, Do: nemesis.Stop, Parts: both}, n1, 7, err)
			turn.done(nemesis.Step{Fault: fault, Do: nemesis.Resume}, n1, 8, nil)
		}
	}
	want := []Strike{{Fault: "a", At: 7}, {Fault: "b", At: 7, Part: true}, {Fault: "c", At: 7}, {Fault: "d", At: 7}, {Fault: "e", At: 8}}
	if got := turn.strikes(); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if !strings.Contains(said.String(), "(b): n1, in part: no guard on n1\n") {
		t.Error(said.String())
	}
}

// TestAKillSaysWhomItMissed: of a daemon without a guard both are asked for and one is hit, and of one that has ended nobody.
func TestAKillSaysWhomItMissed(t *testing.T) {
	n1, both := &Node{Name: "n1", Dir: t.TempDir()}, []nemesis.Part{nemesis.Agent, nemesis.Guard}
	l := &Lab{Nodes: []*Node{n1}, out: io.Discard}
	turn := (&chaos{archive: archive{l: l}}).newTurn(nemesis.Round{Faults: []string{"a"}}, State{})
	daemon := exec.Command("cat")
	stdin, err := daemon.StdinPipe() // until the test ends
	if err == nil {
		err = daemon.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	o, err := owner(daemon.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(o)
	if err == nil {
		err = os.WriteFile(l.pidFile(n1), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	stop := nemesis.Step{Do: nemesis.Stop, Parts: both}
	if err := turn.stop(stop, n1); !errors.Is(err, errInPart) || !strings.Contains(err.Error(), "who guards n1") {
		t.Errorf("stop: %v", err)
	}
	if err := turn.kill(0, n1, both[:1], false); err != nil {
		t.Errorf("the daemon alone: %v", err)
	}
	_ = daemon.Wait() // it was killed
	if err := turn.kill(0, n1, both, false); !errors.Is(err, errNobody) || errors.Is(err, errInPart) {
		t.Errorf("kill of nobody: %v", err)
	}
	if err := turn.stop(stop, n1); !errors.Is(err, errNobody) || errors.Is(err, errInPart) {
		t.Errorf("stop of nobody: %v", err)
	}
}

// TestAnAmbushSaysWhatCameOfIt: one whose word nobody logs in the round was not made, and says so.
func TestAnAmbushSaysWhatCameOfIt(t *testing.T) {
	for _, c := range []struct{ log, want, why string }{
		{"a clone ends\n", "", `nobody logged "clone begins" until the round was healed`},
		{"a clone begins\n", "n1", "nobody to hit"},
	} {
		n1 := &Node{Name: "n1", Dir: t.TempDir()}
		var said strings.Builder
		turn := (&chaos{archive: archive{l: &Lab{Nodes: []*Node{n1}, out: &said}}}).newTurn(nemesis.Round{Faults: []string{"kill in clone"}}, State{})
		if err := os.WriteFile(n1.Log(), []byte("clone begins, long ago\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, heal := context.WithCancel(t.Context())
		turn.ambush(ctx, nemesis.Step{Do: nemesis.Ambush, Word: "clone begins", Parts: []nemesis.Part{nemesis.Agent}})
		f, err := os.OpenFile(n1.Log(), os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = f.WriteString(c.log)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
		if c.want == "" {
			heal()
		}
		turn.beside.Wait()
		heal()
		s := turn.strikes()[0]
		if s.At != 0 || !strings.Contains(s.Why, c.why) || strings.Count(said.String(), "not made: ") != 1 {
			t.Errorf("%q: %+v\n%s", c.log, s, said.String())
		}
	}
}

// TestAKindThatIsNeverMade is an error once it was dealt often enough, with its name and the reason, and is told before.
func TestAKindThatIsNeverMade(t *testing.T) {
	var said strings.Builder
	c := &chaos{archive: archive{l: &Lab{out: &said}, dir: t.TempDir()}, kinds: []string{"pause", "reinit", "power", "flapping"}}
	miss := []Strike{{Fault: "pause", Why: "no answer"}, {Fault: "power", Why: "nobody to hit"}}
	for range dealtEnough - 1 {
		c.tally.count(miss, history.Run{})
	}
	c.tally.count([]Strike{{Fault: "reinit", At: 1}, {Fault: "reinit", At: 2, Part: true}}, history.Run{})
	if err := errors.Join(c.sum(), c.tally.tried(c.kinds)); err != nil {
		t.Errorf("dealt %d times: %v", dealtEnough-1, err)
	}
	for _, want := range []string{
		"NEVER MADE: pause (dealt 4 times; the last time: no answer)", "NEVER MADE: power", "1 of 4 kinds of faults were never dealt",
	} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("the summary does not say %q:\n%s", want, said.String())
		}
	}
	c.tally.count(miss[:1], history.Run{})
	err := c.tally.tried(c.kinds)
	if !errors.Is(err, errNeverMade) || !strings.HasSuffix(err.Error(), ": pause (dealt 5 times; the last time: no answer)") {
		t.Errorf("dealt 5 times: %v", err)
	}
	c.tally.count([]Strike{{Fault: "pause", At: 3}}, history.Run{})
	if err := c.tally.tried(c.kinds); err != nil {
		t.Errorf("made at last: %v", err)
	}
}

// TestARoundThatSawNothingIsNoGoodOne: what a check needs to find anything is missed, one by one.
func TestARoundThatSawNothingIsNoGoodOne(t *testing.T) {
	full := func() histories {
		return histories{
			writes:   []history.Write{{ID: 1, Outcome: history.OK, XID: 700, LSN: 0x3000000}, {ID: 2, Prober: true, Outcome: history.OK}},
			accesses: []history.Access{{Kind: history.Put, Outcome: history.OK}, {Kind: history.Get, Outcome: history.OK}},
			sights:   []history.Sight{{}, {Primary: true}},
		}
	}
	for _, c := range []struct {
		name   string
		change func(*histories)
		want   string
	}{
		{"all is there", func(*histories) {}, ""},
		{"nothing", func(h *histories) { *h = histories{past: judge.Past{Timeline: 1}} },
			"no acknowledged write, no place of a write in the log, no write of a prober, no change of a register, no look of a reader, no look at a primary was recorded"},
		{"no write was acknowledged", func(h *histories) { h.writes[0].Outcome = history.Unknown }, ": no acknowledged write was"},
		{"no transaction was named", func(h *histories) { h.writes[0].XID = 0 }, ": no place of a write in the log was"},
		{"no place was named", func(h *histories) { h.writes[0].LSN = 0 }, ": no place of a write in the log was"},
		{"a busy session is no prober", func(h *histories) { h.writes[1].ID = 0 }, ": no write of a prober was"},
		{"only the lab read registers", func(h *histories) { h.accesses = h.accesses[1:] }, ": no change of a register was"},
		{"no change was answered", func(h *histories) { h.accesses[0].Outcome = history.Unknown }, ": no change of a register was"},
		{"no primary was looked at", func(h *histories) { h.sights = h.sights[:1] }, ": no look at a primary was"},
		{"nobody looked", func(h *histories) { h.sights = nil }, ": no look of a reader, no look at a primary was"},
	} {
		h := full()
		c.change(&h)
		err := h.blind(true)
		if (err != nil) != (c.want != "") || err != nil && (!errors.Is(err, errBlind) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	quiet := full()
	quiet.writes = quiet.writes[:1]
	if err := quiet.blind(false); err != nil {
		t.Errorf("a round without probers: %v", err)
	}
}

// TestRegistersThatWereNotDecidedAreSaid beside the violations.
func TestRegistersThatWereNotDecidedAreSaid(t *testing.T) {
	var said strings.Builder
	c := &chaos{archive: archive{l: &Lab{out: &said}, dir: t.TempDir()}}
	c.tally.registers, c.tally.undecided = 80, 3
	if err := c.sum(); err != nil || !strings.Contains(said.String(), "linearizability  0 violations; of 80 registers 3 were not decided\n") {
		t.Errorf("%v: %s", err, said.String())
	}
}

// TestGapsPerFault: each fault that was made stands in the histogram with its own gap, under whom it hit.
func TestGapsPerFault(t *testing.T) {
	var said strings.Builder
	c := &chaos{
		archive: archive{l: &Lab{out: &said}, dir: t.TempDir()}, kinds: []string{"kill agent", "flapping", "never dealt"},
	}
	run, second := history.Run{Survived: map[int64]bool{}}, int64(time.Second)
	for id := int64(1); id <= 300; id++ { // every 100 ms, but not for 1.2 s after 10 s, and what is acknowledged at 11 s is lost
		at := id * second / 10
		if at > 10*second && at < 11*second+second/5 && at != 11*second {
			continue
		}
		run.Writes = append(run.Writes, history.Write{ID: id, Node: "n1", Start: at - 1, End: at, Outcome: history.OK})
		run.Survived[id] = at != 11*second
	}
	run.Until = 30 * second
	c.tally.count([]Strike{
		{Fault: "kill agent", At: 10*second + 1, Primary: true}, {Fault: "kill agent", At: 15 * second, Part: true}, {Fault: "kill agent"},
		{Fault: "flapping", At: 28 * second, Primary: true},
	}, run)
	if err := c.sum(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(said.String()) {
		if f := strings.Fields(line); strings.Contains(line, "kill agent") || strings.Contains(line, "flapping") || strings.Contains(line, "<=") {
			got = append(got, strings.Join(f, " "))
		}
	}
	want := []string{
		"kill agent 2 1 1", "flapping 1 0 0",
		"<=0.1 <=0.25 <=0.5 <=1.0 <=1.5 <=2.0 <=5.0 <=10.0 more",
		"kill agent (others) 1 . . . . . . . .", "kill agent (the primary) . . . . 1 . . . .", "flapping (the primary) 1 . . . . . . . .",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want\n%q\n%s", got, want, said.String())
	}
}

// TestWhoCouldNotBeFenced: while guard and agent of one node are down at once, and a moment longer.
func TestWhoCouldNotBeFenced(t *testing.T) {
	n1, n2 := &Node{Name: "n1"}, &Node{Name: "n2"}
	turn := &turn{}
	turn.down(n1, nemesis.Guard, 0, 0)
	turn.down(n1, nemesis.Agent, 1, int64(time.Hour))
	turn.down(n2, nemesis.Agent, 1, 0)
	turn.down(n1, nemesis.Backend, 1, 0)
	open := turn.unfenced()
	if len(open) != 1 || len(open["n1"]) != 1 || open["n1"][0].From == 0 {
		t.Fatalf("%v", open)
	}
	turn.over(1)
	if d := turn.downs[1]; d.span.To == math.MaxInt64 || d.span.To-d.span.From != int64(time.Hour) {
		t.Errorf("an agent that comes back by itself: %+v", d)
	}
	turn.over(0)
	closed := turn.unfenced()
	if s := closed["n1"][0]; s.To >= open["n1"][0].To || s.To < s.From+grace {
		t.Errorf("%v, was %v", closed, open)
	}
	turn.down(n2, nemesis.Guard, 3, 0)
	turn.over(healed)
	for _, d := range turn.downs {
		if d.span.To == math.MaxInt64 {
			t.Errorf("not over: %+v", d)
		}
	}
}

func TestWithWorkMem(t *testing.T) {
	for doc, want := range map[string]string{
		`{}`: `{"postgresql":{"parameters":{"work_mem":"7MB"}}}`,
		`{"failover_after":"1s","postgresql":{"parameters":{"work_mem":"9MB","max_connections":50}}}`: `{"failover_after":"1s","postgresql":{"parameters":{"max_connections":50,"work_mem":"7MB"}}}`,
	} {
		if got, err := withWorkMem([]byte(doc), 7); err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", doc, got, err)
		}
	}
	if _, err := withWorkMem([]byte("no"), 7); err == nil {
		t.Error("no error")
	}
}

func TestNewLines(t *testing.T) {
	file, n, ends := filepath.Join(t.TempDir(), "log"), &Node{Name: "n1"}, map[*Node]int64{}
	if got := newLines(file, ends, n); got != "" {
		t.Errorf("of no file: %q", got)
	}
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ add, want string }{{"one\ntw", "one\n"}, {"", ""}, {"o\n", "two\n"}, {"three\nfour\n", "three\nfour\n"}} {
		if _, err := f.WriteString(c.add); err != nil {
			t.Fatal(err)
		}
		if got := newLines(file, ends, n); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestSourceOf(t *testing.T) {
	info := "29 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n" +
		"90 29 7:3 / /x/n1/disk rw,relatime shared:2 - ext4 /dev/loop3 rw,errors=remount-ro\n" +
		"91 29 7:4 / /x/n1/disk2 rw - ext4 /dev/loop4 rw\n"
	for at, want := range map[string]string{"/x/n1/disk": "/dev/loop3", "/": "/dev/sda1", "/x": ""} {
		if got := sourceOf(info, at); got != want {
			t.Errorf("%s: %q, want %q", at, got, want)
		}
	}
}

// TestARoundIsJudged: a violation in the histories of a round is found, and reads are not judged where async may take them back.
func TestARoundIsJudged(t *testing.T) {
	c := &chaos{archive: archive{l: &Lab{Durability: "quorum"}}}
	h := histories{load: map[int64]bool{}, all: map[int64]bool{}, past: judge.Past{Timeline: 1}}
	h.sights = append(h.sights, history.Sight{Node: "n1", Primary: true, IDs: []int64{1}, Start: 1, End: 2})
	same, moved := course{Before: 1, After: 1}, course{Before: 1, After: 2}
	if found := c.judge(h, same); len(found) != 1 || found[0].Check != judge.Reads {
		t.Errorf("quorum: %v", found)
	}
	if found := c.judge(h, moved); len(found) != 1 {
		t.Errorf("quorum, after a failover: %v", found)
	}
	c.l.Durability = "async"
	if found := c.judge(h, same); len(found) != 1 {
		t.Errorf("async, without a failover: %v", found)
	}
	if found := c.judge(h, moved); len(found) != 0 || c.tally.unjudged != 1 {
		t.Errorf("async, after a failover: %v", found)
	}
	lost := histories{load: map[int64]bool{}, all: map[int64]bool{7: true}, past: judge.Past{Timeline: 1}}
	lost.writes = append(lost.writes, history.Write{ID: 7, Node: "n1", Timeline: 2, LSN: 0x5000000, Start: 5, End: 6, Outcome: history.OK, Prober: true})
	if found := c.judge(lost, moved); len(found) != 1 || found[0].Check != judge.Evidence || !strings.Contains(found[0].What, "its log of timeline 2") {
		t.Errorf("log that was discarded without a trace: %v", found)
	}
}

// TestWhatIsFoundIsKept: it stands in a file, it is counted, and it ends the run.
func TestWhatIsFoundIsKept(t *testing.T) {
	var said strings.Builder
	c := &chaos{archive: archive{l: &Lab{out: &said}, dir: t.TempDir()}}
	if err := c.violated(nil); err != nil {
		t.Error(err)
	}
	err := c.violated([]judge.Violation{{Check: judge.Secrets, What: "a log has it"}})
	b, errRead := os.ReadFile(filepath.Join(c.dir, "violations.json"))
	if !errors.Is(err, errFound) || errRead != nil || !strings.Contains(string(b), "a log has it") || len(c.found) != 1 ||
		!strings.Contains(said.String(), "VIOLATION in round 0: no-secret: a log has it") {
		t.Errorf("%v, %v, %s, %q", err, errRead, b, said.String())
	}
	if err := c.sum(); err != nil || !strings.Contains(said.String(), "no-secret        1 violations") {
		t.Errorf("%v: %s", err, said.String())
	}
}

func TestHeldStill(t *testing.T) {
	ms := int64(time.Millisecond)
	log := []logLine{
		{"n1", 100 * ms, "decided: rule=primary-silent verdict=acting"}, {"n1", 200 * ms, "decided: rule=backing-off verdict=waiting"},
		{"n1", 300 * ms, "next step: step=stop"}, {"n2", 500 * ms, "decided: rule=best-standby verdict=acting"},
		{"n2", 900 * ms, "decided: rule=backing-off verdict=waiting"},
	}
	for _, c := range []struct {
		lines    int
		from, to int64
		want     time.Duration
	}{{5, 0, 1000, 400}, {5, 300, 950, 250}, {5, 600, 800, 0}, {1, 0, 1000, 0}, {2, 0, 1000, 800}} {
		if got := heldStill(log[:c.lines], c.from*ms, c.to*ms); got != c.want*time.Millisecond {
			t.Errorf("%+v: held still for %s", c, got)
		}
	}
}
