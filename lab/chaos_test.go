package lab

import (
	"errors"
	"math"
	"os"
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
	want := []Strike{{"a", 20, true}, {"b", 50, false}, {"c", 70, true}, {"d", 0, false}}
	if got := turn.strikes(); !slices.Equal(got, want) {
		t.Errorf("%+v, want %+v\n%s", got, want, said.String())
	}
}

// TestGapsPerFault: each fault that was made stands in the histogram with its own gap, under whom it hit.
func TestGapsPerFault(t *testing.T) {
	var said strings.Builder
	c := &chaos{
		archive: archive{l: &Lab{out: &said}, dir: t.TempDir()}, kinds: []string{"kill agent", "flapping", "never dealt"},
		made: map[string]int{}, failed: map[string]int{}, gaps: map[string][]float64{},
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
	c.count([]Strike{{"kill agent", 10*second + 1, true}, {"kill agent", 15 * second, false}, {"kill agent", 0, false}, {"flapping", 28 * second, true}}, run)
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
		"kill agent 2 1", "flapping 1 0",
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
