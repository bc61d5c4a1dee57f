package nemesis_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/lab/nemesis"
)

var whole = nemesis.Can{Data: 3, Network: true, Disks: true, Clocks: true, Members: true}

func TestAPlanFollowsFromItsSeed(t *testing.T) {
	one, same, other := nemesis.New(7, whole), nemesis.New(7, whole), nemesis.New(8, whole)
	differs := false
	for range 50 {
		r := one.Deal()
		if again := same.Deal(); !reflect.DeepEqual(r, again) {
			t.Fatalf("two decks of one seed dealt\n%+v\n%+v", r, again)
		}
		differs = differs || !reflect.DeepEqual(r, other.Deal())
	}
	if !differs {
		t.Error("another seed dealt the same")
	}
}

// TestAPlanInWords: the plan of a seed stays what it is, or what a seed once found can't be made again.
func TestAPlanInWords(t *testing.T) {
	d := nemesis.New(1, whole)
	var got []string
	for range 2 {
		r := d.Deal()
		got = append(got, strings.Join(r.Faults, "; "))
		for _, s := range r.Steps {
			got = append(got, fmt.Sprintf("%d %s", s.Fault, s))
		}
	}
	want, err := os.ReadFile("testdata/seed-1.txt")
	if now := strings.Join(got, "\n") + "\n"; err != nil || now != string(want) {
		t.Errorf("seed 1 is now (%v)\n%s", err, now)
	}
}

func TestEveryKindComesBeforeAnyComesAgain(t *testing.T) {
	for name, can := range map[string]nemesis.Can{
		"whole": whole, "loopback": {Data: 3}, "two and a witness": {Data: 2, Witnesses: 1, Network: true, Disks: true, Members: true},
		"five": {Data: 5, Witnesses: 2, Network: true}, "alone": {Data: 1, Network: true},
	} {
		d := nemesis.New(3, can)
		kinds := d.Kinds()
		var dealt []string
		for len(dealt) < 3*len(kinds) {
			dealt = append(dealt, d.Deal().Faults...)
		}
		for pass := range 3 {
			if got := slices.Sorted(slices.Values(dealt[pass*len(kinds) : (pass+1)*len(kinds)])); !slices.Equal(got, slices.Sorted(slices.Values(kinds))) {
				t.Errorf("%s, pass %d: %v", name, pass, got)
			}
		}
	}
}

func TestKindsAreThoseThatTheLabCanMake(t *testing.T) {
	for _, c := range []struct {
		can       nemesis.Can
		has, lack []string
	}{
		{whole, []string{"kill agent+guard+postmaster+backend+walreceiver", "stop walreceiver", "stutter agent+guard", "cut ring", "cut bridge",
			"flapping", "cut lossy", "cut lossy everywhere", "slow restore_command", "clock jump", "disk read-only", "disk hang", "disk full", "kill in promote", "kill in rewind", "kill in clone", "kill in config change",
			"switchovers", "pause", "member out and in", "power"}, []string{"cut halves"}},
		{nemesis.Can{Data: 3}, []string{"kill agent", "kill in promote", "pause"}, []string{"cut full", "vanish", "power", "disk full", "kill in rewind", "member out and in", "cut lossy", "clock jump"}},
		{nemesis.Can{Data: 1}, []string{"kill agent"}, []string{"slow restore_command"}},
		{nemesis.Can{Data: 2, Network: true, Members: true}, []string{"cut full"}, []string{"cut bridge", "member out and in"}},
		{nemesis.Can{Data: 5, Network: true}, []string{"cut halves"}, []string{"disk hang"}},
	} {
		kinds := nemesis.New(1, c.can).Kinds()
		for _, k := range c.has {
			if !slices.Contains(kinds, k) {
				t.Errorf("%+v has no %q", c.can, k)
			}
		}
		for _, k := range c.lack {
			if slices.Contains(kinds, k) {
				t.Errorf("%+v has %q", c.can, k)
			}
		}
		if twice := slices.Sorted(slices.Values(kinds)); len(slices.Compact(twice)) != len(kinds) {
			t.Errorf("%+v: two kinds share a name: %v", c.can, kinds)
		}
	}
}

// TestRounds: steps are in order, of a fault of the round and for a seat that there is; what is stopped, cut or paused is told
// to go on, by the same fault; and many rounds have faults that overlap.
func TestRounds(t *testing.T) {
	undone := map[nemesis.Do]nemesis.Do{
		nemesis.Stop: nemesis.Resume, nemesis.Cut: nemesis.Mend, nemesis.Pause: nemesis.Unpause, nemesis.Hang: nemesis.Thaw,
		nemesis.Fill: nemesis.Free, nemesis.Jump: nemesis.Right, nemesis.Vanish: nemesis.Return, nemesis.PowerOff: nemesis.PowerOn,
	}
	for _, can := range []nemesis.Can{whole, {Data: 2, Witnesses: 1, Network: true, Disks: true}, {Data: 1, Network: true}} {
		seats := max(2, can.Data+can.Witnesses)
		overlapping := 0
		for seed := range uint64(300) {
			r := nemesis.New(seed, can).Deal()
			began := map[int]time.Duration{}
			for i, s := range r.Steps {
				if i > 0 && s.At < r.Steps[i-1].At || s.Fault < 0 || s.Fault >= len(r.Faults) || s.Seat < 0 || s.Seat >= seats {
					t.Fatalf("seed %d: step %+v of %+v", seed, s, r)
				}
				if _, ok := began[s.Fault]; !ok {
					began[s.Fault] = s.At
				}
				undo, ok := undone[s.Do]
				if ok && !slices.ContainsFunc(r.Steps[i:], func(o nemesis.Step) bool { return o.Fault == s.Fault && o.Do == undo }) {
					t.Errorf("seed %d: nothing ends %s", seed, s)
				}
			}
			if len(began) != len(r.Faults) || r.Calm <= 0 || r.Hold <= 0 {
				t.Fatalf("seed %d: %+v", seed, r)
			}
			last := r.Steps[len(r.Steps)-1]
			if len(r.Faults) > 1 && began[last.Fault] < last.At && slices.ContainsFunc(r.Steps, func(s nemesis.Step) bool {
				return s.Fault != last.Fault && s.At > began[last.Fault]
			}) {
				overlapping++
			}
		}
		if overlapping < 30 {
			t.Errorf("%+v: of 300 rounds %d overlap", can, overlapping)
		}
	}
}

func TestStepsInWords(t *testing.T) {
	for want, s := range map[string]nemesis.Step{
		"+0.50s cut lossy, turned by 2, 20 packets of 100":        {At: time.Second / 2, Do: nemesis.Cut, Shape: nemesis.Lossy, Seat: 2, N: 20},
		"+0.00s cut full, turned by 0":                            {Do: nemesis.Cut, Shape: nemesis.Full},
		"+0.00s clock jump of the primary by -3600 s":             {Do: nemesis.Jump, N: -3600},
		"+1.00s set right of seat 1":                              {At: time.Second, Do: nemesis.Right, Seat: 1},
		"+0.00s slow restore of seat 1 by a command of 1500 ms":   {Do: nemesis.SlowRestore, Seat: 1, After: 1500 * time.Millisecond},
		"+0.00s kill agent guard of the primary, to stay away":    {Do: nemesis.Kill, Parts: []nemesis.Part{nemesis.Agent, nemesis.Guard}, Away: true},
		"+0.00s ambush agent 20 ms after somebody logs \"begin\"": {Do: nemesis.Ambush, Parts: []nemesis.Part{nemesis.Agent}, Word: "begin", After: 20 * time.Millisecond},
	} {
		if got := s.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestTraps: each comes alone and on nodes that are all probed, all kinds before any comes again, and what is held, stopped,
// taken away or started by hand is let go in the round. They follow from their seed, and the other rounds do not know of them.
func TestTraps(t *testing.T) {
	undone := map[nemesis.Do]nemesis.Do{
		nemesis.Hold: nemesis.Play, nemesis.Stop: nemesis.Resume, nemesis.Vanish: nemesis.Return, nemesis.Begin: nemesis.End,
	}
	for kinds, can := range map[int]nemesis.Can{4: whole, 3: {Data: 3}, 2: {Data: 2, Witnesses: 1, Network: true}} {
		d, same := nemesis.NewTraps(5, can), nemesis.NewTraps(5, can)
		dealt := map[string]bool{}
		for i := range 2 * kinds {
			r := d.Deal()
			if again := same.Deal(); !reflect.DeepEqual(r, again) {
				t.Fatalf("two decks of one seed dealt\n%+v\n%+v", r, again)
			}
			dealt[r.Faults[0]] = true
			if len(r.Faults) != 1 || !r.Prober || len(dealt) != min(i+1, kinds) {
				t.Errorf("round %d of %+v: %+v after %v", i, can, r, dealt)
			}
			seated := map[nemesis.Do]int{}
			for at, s := range r.Steps {
				seated[s.Do] = s.Seat
				if s.Seat >= can.Data || slices.Contains(nemesis.New(5, can).Kinds(), r.Faults[0]) {
					t.Errorf("%s of %q", s, r.Faults[0])
				}
				undo, ok := undone[s.Do]
				if ok && !slices.ContainsFunc(r.Steps[at:], func(o nemesis.Step) bool { return o.Do == undo && o.Seat == s.Seat }) {
					t.Errorf("%q: nothing ends %s", r.Faults[0], s)
				}
			}
			if held, ok := seated[nemesis.Hold]; ok && (held == 0 || held == seated[nemesis.Stop]) {
				t.Errorf("%q holds seat %d and stops seat %d", r.Faults[0], held, seated[nemesis.Stop])
			}
		}
	}
}

func TestSets(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range nemesis.Sets() {
		seen[fmt.Sprint(s)] = true
	}
	if len(seen) != 31 || len(nemesis.Sets()) != 31 || seen["[]"] {
		t.Errorf("%d sets: %v", len(seen), seen)
	}
}

// TestDrops says who hears whom: a line for each node, with those it hears.
func TestDrops(t *testing.T) {
	three, five := []string{"a", "b", "c"}, []string{"a", "b", "c", "d", "e"}
	for _, c := range []struct {
		shape nemesis.Shape
		turn  int
		nodes []string
		want  string
	}{
		{nemesis.Full, 0, three, "a: b:c c:b"},
		{nemesis.Full, 1, three, "a:c b: c:a"},
		{nemesis.Full, 4, three, "a:c b: c:a"},
		{nemesis.Deaf, 0, three, "a: b:ac c:ab"},
		{nemesis.Mute, 0, three, "a:bc b:c c:b"},
		{nemesis.Ring, 0, three, "a:b b:c c:a"},
		{nemesis.Ring, 0, five, "a:bc b:cd c:de d:ea e:ab"},
		{nemesis.Bridge, 0, three, "a:bc b:a c:a"},
		{nemesis.Bridge, 2, three, "a:c b:c c:ab"},
		{nemesis.Bridge, 0, five, "a:bcde b:ac c:ab d:ae e:ad"},
		{nemesis.Halves, 0, five, "a:b b:a c:de d:ce e:cd"},
		{nemesis.Alone, 0, three, "a: b: c:"},
		{nemesis.Postgres, 0, three, "a: b:c c:b"},
		{nemesis.Lossy, 1, three, "a:c b: c:a"},
		{nemesis.Everywhere, 1, three, "a: b: c:"},
		{nemesis.Full, 0, three[:2], "a: b:"},
		{nemesis.Full, 0, three[:1], "a:"},
	} {
		drops := nemesis.Drops(nemesis.Step{Shape: c.shape, Seat: c.turn, N: 7}, c.nodes)
		var got []string
		for _, at := range c.nodes {
			hears := ""
			for i := range c.nodes { // from the next on, as in a ring
				from := c.nodes[(slices.Index(c.nodes, at)+i)%len(c.nodes)]
				if from != at && !slices.ContainsFunc(drops, func(d nemesis.Drop) bool { return d.At == at && slices.Contains(d.From, from) }) {
					hears += from
				}
			}
			got = append(got, at+":"+hears)
		}
		want := strings.Fields(c.want)
		for i := range want {
			if sorted(got[i]) != sorted(want[i]) {
				t.Errorf("%s turned by %d of %v: %v, want %v", c.shape, c.turn, c.nodes, got, want)
				break
			}
		}
		for _, d := range drops {
			if (d.Port == nemesis.PostgresPort) != (c.shape == nemesis.Postgres) || d.Loss != 7 {
				t.Errorf("%s: %+v", c.shape, d)
			}
		}
	}
	if d := nemesis.Drops(nemesis.Step{Shape: nemesis.Cluster}, three); len(d) != 3 || d[0].Port != nemesis.ClusterPort || d[0].Loss != 0 {
		t.Errorf("%+v", d)
	}
}

func sorted(s string) string {
	b := []byte(s)
	slices.Sort(b)
	return string(b)
}

// TestKept: what is written down of a round is the round.
func TestKept(t *testing.T) {
	for seed := range uint64(50) {
		r, again := nemesis.New(seed, whole).Deal(), nemesis.Round{}
		b, err := json.Marshal(r)
		if err == nil {
			err = json.Unmarshal(b, &again)
		}
		if err != nil || !reflect.DeepEqual(r, again) {
			t.Fatalf("%v: %s", err, b)
		}
	}
}

// TestLossIsAShare: a shape that loses packets says how many of a hundred, and never all; the others lose all.
func TestLossIsAShare(t *testing.T) {
	seen := map[nemesis.Shape]bool{}
	for seed := range uint64(300) {
		for _, s := range nemesis.New(seed, whole).Deal().Steps {
			if s.Do != nemesis.Cut {
				continue
			}
			lossy := s.Shape == nemesis.Lossy || s.Shape == nemesis.Everywhere
			if lossy != (s.N > 0) || s.N >= 100 {
				t.Errorf("seed %d: %s", seed, s)
			}
			seen[s.Shape] = true
		}
	}
	if !seen[nemesis.Lossy] || !seen[nemesis.Everywhere] || !seen[nemesis.Full] {
		t.Errorf("cut were %v", seen)
	}
}

// TestRecoveryWaitsWhileThePrimaryDies: all standbys, none of them the primary, and before it is killed.
func TestRecoveryWaitsWhileThePrimaryDies(t *testing.T) {
	for seed, made := uint64(0), 0; made < 3; seed++ {
		r := nemesis.New(seed, whole).Deal()
		fault := slices.Index(r.Faults, "slow restore_command")
		if fault < 0 {
			continue
		}
		made++
		var seats []int
		for _, s := range r.Steps {
			switch {
			case s.Fault != fault:
			case s.Do == nemesis.SlowRestore && s.After > 0:
				seats = append(seats, s.Seat)
			case s.Do == nemesis.Kill && s.Seat == 0 && len(seats) == 2:
				seats = append(seats, 0)
			default:
				t.Errorf("seed %d: %s", seed, s)
			}
		}
		if !slices.Equal(seats, []int{1, 2, 0}) {
			t.Errorf("seed %d: seats %v", seed, seats)
		}
	}
}

func TestThePrimaryIsHit(t *testing.T) {
	for _, c := range []struct {
		step nemesis.Step
		want bool
	}{
		{nemesis.Step{Do: nemesis.PowerOff}, true}, {nemesis.Step{Do: nemesis.Switchover, Seat: 2}, true}, {nemesis.Step{Do: nemesis.Kill}, false}, {nemesis.Step{Do: nemesis.Cut, Shape: nemesis.Alone}, true},
		{nemesis.Step{Do: nemesis.Cut, Shape: nemesis.Everywhere, N: 9}, true}, {nemesis.Step{Do: nemesis.Cut, Shape: nemesis.Lossy, N: 9}, false},
		{nemesis.Step{Do: nemesis.Cut, Shape: nemesis.Full}, false}, {nemesis.Step{Do: nemesis.Mend, Shape: nemesis.Ring}, false},
	} {
		if got := c.step.HitsPrimary(); got != c.want {
			t.Errorf("%s: %v", c.step, got)
		}
	}
}
