package judge_test

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/lab/history"
	"github.com/quorate/quorate/lab/judge"
)

const second = int64(time.Second)

// expect fails unless there is a violation for each of the words, in order, that has it, and no other.
func expect(t *testing.T, name string, found []judge.Violation, words ...string) {
	t.Helper()
	if len(found) != len(words) {
		t.Errorf("%s: found %v, want %d", name, found, len(words))
		return
	}
	for i, w := range words {
		if !strings.Contains(found[i].String(), w) {
			t.Errorf("%s: %q does not say %q", name, found[i], w)
		}
	}
}

func write(id int64, node string, o history.Outcome) history.Write {
	return history.Write{ID: id, Node: node, Timeline: 1, XID: uint64(100 + id), Start: id * second, End: id*second + 5, Outcome: o}
}

func present(ids ...int64) map[int64]bool {
	m := map[int64]bool{}
	for _, id := range ids {
		m[id] = true
	}
	return m
}

func TestAppendSet(t *testing.T) {
	probe := write(9, "n1", history.OK)
	probe.Prober = true
	writes := []history.Write{write(1, "n1", history.OK), write(2, "n1", history.Unknown), write(3, "n1", history.Failed), write(4, "n2", history.OK), probe}
	for _, c := range []struct {
		name    string
		present map[int64]bool
		async   bool
		want    []string
	}{
		{"acknowledged ones are there", present(1, 4), false, nil},
		{"so is one that got no answer", present(1, 2, 4), false, nil},
		{"one is missing", present(1), false, []string{"append-set: 1 acknowledged writes are missing: 4 on n2"}},
		{"all are missing", present(), false, []string{"2 acknowledged"}},
		{"one is missing where that may be", present(1), true, nil},
		{"a refused one is there", present(1, 3, 4), false, []string{"1 writes were refused and are there: 3 on n1"}},
		{"a refused one is there in any case", present(1, 3, 4), true, []string{"refused"}},
		{"one that nobody wrote is there", present(1, 4, 7), false, []string{"nobody wrote: 7"}},
	} {
		expect(t, c.name, judge.AppendSet(writes, c.present, c.async), c.want...)
	}
}

func TestOneWriter(t *testing.T) {
	old := func(at int64) history.Write {
		return history.Write{ID: at, Node: "n1", Timeline: 1, Prober: true, Start: at, End: at + 10, Outcome: history.OK}
	}
	fresh := func(at int64) history.Write {
		return history.Write{ID: at, Node: "n2", Timeline: 2, Start: at, End: at + 10, Outcome: history.OK}
	}
	ms := int64(time.Millisecond)
	after := []history.Write{old(1 * ms), old(2 * ms), fresh(3 * ms), fresh(9 * ms)}
	both := append(after, old(5*ms))
	expect(t, "one after the other", judge.OneWriter(after, nil))
	expect(t, "at once", judge.OneWriter(both, nil), "dual-writer: two nodes took writes at once, for 2.00 ms")
	expect(t, "at once where nobody could fence", judge.OneWriter(both, judge.Unfenced{"n1": {{4 * ms, 6 * ms}}}))
	expect(t, "where nobody could fence later", judge.OneWriter(both, judge.Unfenced{"n1": {{6 * ms, 7 * ms}}}), "2.00 ms")
	expect(t, "where nobody could fence another", judge.OneWriter(both, judge.Unfenced{"n3": {{4 * ms, 6 * ms}}}), "2.00 ms")
}

func TestDiscarded(t *testing.T) {
	probe := write(2, "n1", history.OK)
	probe.Prober = true
	unnumbered := write(3, "n1", history.OK)
	unnumbered.XID = 0
	writes := []history.Write{write(1, "n1", history.OK), probe, unnumbered, write(4, "n1", history.Unknown)}
	list := func(node string, xids ...uint64) judge.Kept {
		k := judge.Kept{Node: node, XIDs: map[uint64]bool{}}
		for _, x := range xids {
			k.XIDs[x] = true
		}
		return k
	}
	for _, c := range []struct {
		name    string
		present map[int64]bool
		kept    []judge.Kept
		want    []string
	}{
		{"nothing was discarded", present(1, 2), nil, nil},
		{"a probe was discarded without a trace", present(1), nil, []string{"evidence: 1 acknowledged writes were discarded and stand in no evidence: 2 on n1"}},
		{"and listed", present(1), []judge.Kept{list("n1", 102)}, nil},
		{"and listed by another node", present(1), []judge.Kept{list("n2", 102)}, []string{"2 on n1"}},
		{"both, in two lists", present(), []judge.Kept{list("n1", 102), list("n1", 101)}, nil},
		{"both, and one is listed", present(), []judge.Kept{list("n1", 101)}, []string{"1 acknowledged"}},
		{"the whole directory was set aside", present(), []judge.Kept{{Node: "n1", Whole: judge.Span{From: 0, To: 9 * second}}}, nil},
		{"the whole directory was set aside before", present(), []judge.Kept{{Node: "n1", Whole: judge.Span{From: 0, To: 2 * second}}}, []string{"1 acknowledged writes were discarded and stand in no evidence: 2 on n1"}},
		{"another one's directory was set aside", present(), []judge.Kept{{Node: "n2", Whole: judge.Span{From: 0, To: 9 * second}}}, []string{"2 acknowledged"}},
	} {
		expect(t, c.name, judge.Discarded(writes, c.present, c.kept), c.want...)
	}
	late := write(1, "n1", history.OK)
	late.XID = 1<<32 + 7
	expect(t, "a number of a later age", judge.Discarded([]history.Write{late}, nil, []judge.Kept{list("n1", 7)}))
}

// TestBytes: n1 was primary on timeline 3, and n2 left it at 0/5000060 for timeline 4; timelines 5 and 6 were given up.
func TestBytes(t *testing.T) {
	past := judge.Past{
		Timeline: 7, History: "1\t0/3000000\tx\n3\t0/5000060\tx\n4\t0/7000000\tx\n",
		Agreed: []judge.Branch{{3, 1, "0/3000000"}, {4, 3, "0/5000060"}, {5, 4, "0/7000100"}, {6, 3, "0/5000010"}, {7, 4, "0/7000000"},
			{8, 9, "0/7000000"}, {9, 8, "0/7000000"}},
	}
	acked := func(node string, timeline uint32, lsn pg.LSN) history.Write {
		return history.Write{ID: int64(lsn), Node: node, Timeline: timeline, LSN: lsn, End: second, Outcome: history.OK, Prober: true}
	}
	has := func(node string, all ...judge.Stretch) judge.Kept { return judge.Kept{Node: node, Log: all} }
	unknown := acked("n1", 3, 0x5009000)
	unknown.Outcome = history.Unknown
	driver := acked("n1", 3, 0x5009000)
	driver.Client = history.Libpq
	for _, c := range []struct {
		name   string
		writes []history.Write
		kept   []judge.Kept
		want   []string
	}{
		{"all is in the present log", []history.Write{acked("n1", 1, 0x2000000), acked("n1", 3, 0x5000060), acked("n2", 4, 0x6000000), acked("n3", 7, 0x9000000)}, nil, nil},
		{"log was discarded without a trace", []history.Write{acked("n1", 3, 0x5000100), acked("n1", 3, 0x5000080)}, nil,
			[]string{"evidence: n1 discarded its log of timeline 3 from 0/5000060 to 0/5000100, and 160 bytes of it stand in no evidence, from 0/5000060 to 0/5000100"}},
		{"all of it is kept", []history.Write{acked("n1", 3, 0x5000100)}, []judge.Kept{has("n1", judge.Stretch{3, 0x5000060, 0x5000120})}, nil},
		{"kept by another", []history.Write{acked("n1", 3, 0x5000100)}, []judge.Kept{has("n2", judge.Stretch{3, 0x5000060, 0x5000120})}, []string{"160 bytes"}},
		{"kept of another timeline", []history.Write{acked("n1", 3, 0x5000100)}, []judge.Kept{has("n1", judge.Stretch{4, 0x5000060, 0x5000120})}, []string{"160 bytes"}},
		{"its end is missing", []history.Write{acked("n1", 3, 0x5000100)}, []judge.Kept{has("n1", judge.Stretch{3, 0x5000000, 0x50000ff})},
			[]string{"1 bytes of it stand in no evidence, from 0/50000FF to 0/5000100"}},
		{"its first byte is missing", []history.Write{acked("n1", 3, 0x5000100)}, []judge.Kept{has("n1", judge.Stretch{3, 0x5000061, 0x5000100})},
			[]string{"1 bytes of it stand in no evidence, from 0/5000060 to 0/5000061"}},
		{"there is a hole", []history.Write{acked("n1", 3, 0x5000100)}, []judge.Kept{has("n1", judge.Stretch{3, 0x50000a0, 0x5000100}), has("n1", judge.Stretch{3, 0x5000060, 0x5000090})},
			[]string{"16 bytes of it stand in no evidence, from 0/5000090 to 0/50000A0"}},
		{"in parts that overlap", []history.Write{acked("n1", 3, 0x5000100)}, []judge.Kept{has("n1", judge.Stretch{3, 0x5000060, 0x50000a0}, judge.Stretch{3, 0x5000080, 0x5000100})}, nil},
		{"two nodes", []history.Write{acked("n1", 3, 0x5000100), acked("n2", 4, 0x7000008)}, nil, []string{"n1 discarded", "n2 discarded its log of timeline 4 from 0/7000000"}},
		{"a timeline that was given up, and what it began on", []history.Write{acked("n2", 5, 0x7000200)}, nil,
			[]string{"timeline 4 from 0/7000000 to 0/7000100, and 256 bytes", "timeline 5 from 0/7000100 to 0/7000200, and 256 bytes"}},
		{"all of that is kept", []history.Write{acked("n2", 5, 0x7000200)}, []judge.Kept{has("n2", judge.Stretch{4, 0x7000000, 0x7000100}, judge.Stretch{5, 0x7000100, 0x7000200})}, nil},
		{"given up, and begun where the present log still was", []history.Write{acked("n2", 6, 0x5000020)}, nil, []string{"timeline 6 from 0/5000010 to 0/5000020"}},
		{"nobody remembers where it began", []history.Write{acked("n2", 2, 0x4000000)}, nil, []string{"timeline 2 from 0/3FFFFFF to 0/4000000, and 1 bytes"}},
		{"known on a timeline before that began", []history.Write{acked("n2", 5, 0x7000080)}, nil, []string{"timeline 4 from 0/7000000 to 0/7000080, and 128 bytes"}},
		{"what is remembered goes in a circle", []history.Write{acked("n2", 8, 0x7000000)}, nil, []string{"timeline 8 from 0/6FFFFFF to 0/7000000, and 1 bytes"}},
		{"no answer came", []history.Write{unknown}, nil, nil},
		{"a driver got an answer, whose positions are not asked for", []history.Write{driver}, nil, nil},
		{"the whole directory was set aside", []history.Write{acked("n1", 3, 0x5000100)}, []judge.Kept{{Node: "n1", Whole: judge.Span{From: 0, To: 2 * second}}}, nil},
	} {
		expect(t, c.name, judge.Bytes(c.writes, past, c.kept), c.want...)
	}
	expect(t, "a history that is none", judge.Bytes(nil, judge.Past{Timeline: 1, History: "2\t0/1\n"}, nil), "the history of timeline 1")
}

func TestSound(t *testing.T) {
	expect(t, "sound", judge.Sound([]judge.Kept{{ID: "a", Node: "n1"}}))
	expect(t, "broken", judge.Sound([]judge.Kept{{ID: "a", Node: "n1", Broken: []string{"x has another sum", "y"}}}), "evidence: a of n1: x has another sum", "a of n1: y")
}

func TestMonotone(t *testing.T) {
	writes := []history.Write{write(1, "n1", history.OK), write(2, "n1", history.OK), write(3, "n1", history.Unknown)}
	sight := func(node string, primary bool, at, from int64, ids ...int64) history.Sight {
		return history.Sight{Node: node, Primary: primary, From: from, IDs: ids, Start: at * second, End: at*second + 5}
	}
	for _, c := range []struct {
		name     string
		sights   []history.Sight
		present  map[int64]bool
		unfenced judge.Unfenced
		want     []string
	}{
		{"all is seen", []history.Sight{sight("n1", true, 2, 0, 1), sight("n1", true, 5, 0, 1, 2)}, present(1, 2), nil, nil},
		{"one that got no answer is seen, and stays", []history.Sight{sight("n1", true, 5, 0, 1, 2, 3), sight("n2", true, 6, 0, 1, 2, 3)}, present(1, 2, 3), nil, nil},
		{"and is gone in the end", []history.Sight{sight("n1", true, 5, 0, 1, 2, 3)}, present(1, 2), nil, []string{"gone in the end: 3"}},
		{"and is gone for the next who reads", []history.Sight{sight("n1", true, 5, 0, 1, 2, 3), sight("n2", true, 6, 0, 1, 2)}, present(1, 2, 3), nil,
			[]string{"monotone-reads: 1 times a primary did not show what one had shown before: 3 on n2"}},
		{"but not for one who reads at the same time", []history.Sight{sight("n1", true, 5, 0, 1, 2, 3), sight("n2", true, 5, 0, 1, 2)}, present(1, 2, 3), nil, nil},
		{"an acknowledged one is not seen", []history.Sight{sight("n1", true, 5, 0, 1)}, present(1, 2), nil, []string{"acknowledged before: 2 on n1"}},
		{"it was not looked for", []history.Sight{sight("n1", true, 5, 3)}, present(1, 2), nil, nil},
		{"it was acknowledged while the read went on", []history.Sight{sight("n1", true, 2, 0, 1)}, present(1, 2), nil, nil},
		{"a standby lags, and goes back", []history.Sight{sight("n2", false, 5, 0, 1, 3), sight("n2", false, 6, 0)}, present(1, 2), nil, nil},
		{"nobody could fence who answered", []history.Sight{sight("n1", true, 5, 0)}, present(1, 2), judge.Unfenced{"n1": {{4 * second, 6 * second}}}, nil},
	} {
		expect(t, c.name, judge.Monotone(c.sights, writes, c.present, c.unfenced), c.want...)
	}
}

// access makes an attempt; the value is what was read or is to be written.
func access(kind history.Kind, from, to, value int64) history.Access {
	a := history.Access{Key: 1, Kind: kind, Node: "n1", Start: from, End: to, Outcome: history.OK}
	if kind == history.Get {
		a.Got = value
	} else {
		a.New = value
	}
	return a
}

func swap(from, to, old, value int64, swapped bool) history.Access {
	a := access(history.Swap, from, to, value)
	a.Old, a.Swapped = old, swapped
	return a
}

func as(o history.Outcome, a history.Access) history.Access {
	a.Outcome = o
	return a
}

func TestLinearizable(t *testing.T) {
	get, put := history.Get, history.Put
	elsewhere := access(get, 5, 6, 0)
	elsewhere.Key = 2
	for _, c := range []struct {
		name     string
		all      []history.Access
		unfenced judge.Unfenced
		want     []string
	}{
		{"nothing", nil, nil, nil},
		{"written and read", []history.Access{access(get, 1, 2, 0), access(put, 3, 4, 7), access(get, 5, 6, 7)}, nil, nil},
		{"read while it is written, either", []history.Access{access(put, 1, 9, 7), access(get, 2, 3, 0), access(get, 4, 5, 7)}, nil, nil},
		{"and back", []history.Access{access(put, 1, 9, 7), access(get, 2, 3, 7), access(get, 4, 5, 0)}, nil, []string{"linearizability: register 1: its 3 attempts fit no order"}},
		{"an acknowledged write is lost", []history.Access{access(put, 1, 2, 7), access(get, 3, 4, 0)}, nil, []string{"register 1"}},
		{"a stale read where nobody could fence", []history.Access{access(put, 1, 2, 7), access(get, 3, 4, 0)}, judge.Unfenced{"n1": {{3, 5}}}, nil},
		{"a value from nowhere", []history.Access{access(put, 1, 2, 7), access(get, 3, 4, 8)}, nil, []string{"n1 read 8, which nobody had written"}},
		{"without an answer it may have happened", []history.Access{as(history.Unknown, access(put, 1, 2, 7)), access(get, 3, 4, 7)}, nil, nil},
		{"or not", []history.Access{as(history.Unknown, access(put, 1, 2, 7)), access(get, 3, 4, 0)}, nil, nil},
		{"or later", []history.Access{as(history.Unknown, access(put, 1, 2, 7)), access(get, 3, 4, 0), access(get, 5, 6, 7)}, nil, nil},
		{"but not twice", []history.Access{as(history.Unknown, access(put, 1, 2, 7)), access(get, 3, 4, 7), access(put, 5, 6, 8), access(get, 7, 8, 8), access(get, 9, 10, 7)}, nil, []string{"register 1"}},
		{"a refused one did not happen", []history.Access{as(history.Failed, access(put, 1, 2, 7)), access(get, 3, 4, 7)}, nil, []string{"register 1"}},
		{"a read without an answer says nothing", []history.Access{as(history.Unknown, access(get, 1, 2, 9))}, nil, nil},
		{"swapped", []history.Access{access(put, 1, 2, 7), swap(3, 4, 7, 8, true), access(get, 5, 6, 8)}, nil, nil},
		{"not swapped", []history.Access{access(put, 1, 2, 7), swap(3, 4, 6, 8, false), access(get, 5, 6, 7)}, nil, nil},
		{"swapped against the rule", []history.Access{access(put, 1, 2, 7), swap(3, 4, 6, 8, true)}, nil, []string{"register 1"}},
		{"two swap the same", []history.Access{access(put, 1, 2, 7), swap(3, 9, 7, 8, true), swap(4, 10, 7, 9, true)}, nil, []string{"register 1"}},
		{"one of two may have swapped", []history.Access{access(put, 1, 2, 7), as(history.Unknown, swap(3, 4, 7, 8, false)), access(get, 5, 6, 8)}, nil, nil},
		{"a swap without an answer keeps to the rule", []history.Access{access(put, 1, 2, 7), as(history.Unknown, swap(3, 4, 6, 8, false)), access(get, 5, 6, 8)}, nil, []string{"register 1"}},
		{"another register", []history.Access{access(put, 1, 2, 7), elsewhere, access(get, 3, 4, 7)}, nil, nil},
	} {
		found, _, undecided := judge.Linearizable(c.all, c.unfenced, time.Minute)
		expect(t, c.name, found, c.want...)
		if undecided != 0 {
			t.Errorf("%s: not decided", c.name)
		}
	}
}

// TestLinearizableFindsOneStaleRead makes long histories of a real register, with attempts that overlap and some that get no
// answer, which fit; one read of an older value, and they don't.
func TestLinearizableFindsOneStaleRead(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		is, next, values := int64(0), int64(1), []int64{}
		var all []history.Access
		for at := int64(0); at < 200; at++ {
			// It happens at 10*at; others overlap by half.
			from, to := 10*at-int64(rng.IntN(5)), 10*at+int64(rng.IntN(5))
			switch rng.IntN(5) {
			case 0, 1:
				all = append(all, access(history.Get, from, to, is))
			case 2:
				all = append(all, access(history.Put, from, to, next))
				is, values, next = next, append(values, next), next+1
			case 3:
				all = append(all, swap(from, to, is, next, true))
				is, values, next = next, append(values, next), next+1
			case 4:
				a := as(history.Unknown, access(history.Put, from, to, next))
				if happens := rng.IntN(2) == 0; happens {
					is, values = next, append(values, next)
				}
				all, next = append(all, a), next+1
			}
		}
		if found, registers, undecided := judge.Linearizable(all, nil, time.Minute); len(found) > 0 || registers != 1 || undecided > 0 {
			t.Fatalf("seed %d: %v, %d registers, %d undecided", seed, found, registers, undecided)
		}
		all = append(all, access(history.Get, 9000, 9001, values[0]))
		if found, _, _ := judge.Linearizable(all, nil, time.Minute); len(found) != 1 {
			t.Errorf("seed %d: %v, though something older came back", seed, found)
		}
	}
}

// TestDecided: a judge that runs out of time has not found that all is well.
func TestDecided(t *testing.T) {
	hard := make([]history.Access, 0, 60)
	for i := range int64(60) { // all at once
		hard = append(hard, access(history.Put, 1, 1000, i+1), access(history.Get, 1, 1000, i+1))
	}
	if found, all, undecided := judge.Linearizable(hard, nil, time.Nanosecond); len(found) != 0 || all != 1 || undecided != 1 {
		t.Errorf("in no time: %v, %d of %d not decided", found, undecided, all)
	}
	for _, c := range []struct {
		all, undecided int
		want           []string
	}{
		{0, 0, nil}, {8, 1, nil}, {8, 2, []string{"linearizability: 2 of 8 registers were not decided"}}, {100, 5, nil}, {100, 6, []string{"6 of 100"}}, {8, 8, []string{"8 of 8"}},
	} {
		expect(t, fmt.Sprint(c), judge.Decided(c.all, c.undecided), c.want...)
	}
}

func TestSameLineage(t *testing.T) {
	const file = "1\t0/3000110\tno recovery target specified\n\n2\t0/5000060\tno recovery target specified\n"
	whole := func() []judge.Copy {
		one := func(node string) judge.Copy {
			return judge.Copy{Node: node, Timeline: 3, History: file, Tables: map[string]string{"lab.load": "7 rows, sum 12"}}
		}
		return []judge.Copy{one("n1"), one("n2"), one("n3")}
	}
	agreed := []judge.Branch{{Timeline: 1}, {2, 1, "0/3000110"}, {3, 2, "0/5000060"}}
	for _, c := range []struct {
		name   string
		change func([]judge.Copy)
		agreed []judge.Branch
		want   []string
	}{
		{"all the same", func([]judge.Copy) {}, agreed, nil},
		{"the oldest is forgotten", func([]judge.Copy) {}, agreed[2:], nil},
		{"another timeline", func(c []judge.Copy) { c[1].Timeline = 2 }, agreed, []string{"n1 is on timeline 3 and n2 on 2"}},
		{"another history", func(c []judge.Copy) { c[2].History = strings.Replace(file, "110", "111", 1) }, agreed, []string{"n1 and n3 have different histories"}},
		{"other rows", func(c []judge.Copy) { c[1].Tables = map[string]string{"lab.load": "7 rows, sum 13"} }, agreed,
			[]string{"lineage: lab.load differs: n1 has 7 rows, sum 12 and n2 has 7 rows, sum 13"}},
		{"no rows were compared", func(c []judge.Copy) { c[0].Tables, c[1].Tables, c[2].Tables = nil, nil, nil }, agreed, []string{"n1", "n2", "n3"}},
		{"a table less", func(c []judge.Copy) { c[1].Tables = nil }, agreed, []string{"n1 has 1 tables to compare and n2 has 0"}},
		{"agreed on elsewhere", func([]judge.Copy) {}, []judge.Branch{{3, 2, "0/5000061"}}, []string{"timeline 3 leaves 2 at 0/5000061"}},
		{"agreed on more", func([]judge.Copy) {}, []judge.Branch{{4, 3, "0/6000000"}}, []string{"the cluster is on timeline 4, and its nodes are on 3"}},
		{"one was given up", func([]judge.Copy) {}, []judge.Branch{agreed[0], agreed[1], {7, 2, "0/4000000"}, agreed[2]}, nil},
		{"agreed on otherwise long ago", func([]judge.Copy) {}, []judge.Branch{agreed[0], {2, 1, "0/3000000"}, agreed[2]}, []string{"timeline 2 leaves 1 at 0/3000000"}},
	} {
		copies := whole()
		c.change(copies)
		expect(t, c.name, judge.SameLineage(copies, c.agreed), c.want...)
	}
	expect(t, "nobody", judge.SameLineage(nil, nil), "no node was compared")
	for _, bad := range []string{"one\t0/1\n", "2\t0/1\n1\t0/2\n", "9\t0/1\n"} {
		one := []judge.Copy{{Node: "n1", Timeline: 3, History: bad, Tables: map[string]string{"t": ""}}}
		expect(t, bad, judge.SameLineage(one, nil), "the history of n1")
	}
}

func TestAlive(t *testing.T) {
	limit := 30 * time.Second
	expect(t, "in time", judge.Alive([]judge.Healing{{1, time.Second, 2 * time.Second, 0}, {2, limit, limit, 0}, {3, time.Second, 40 * time.Second, 10 * time.Second}}, limit))
	expect(t, "late", judge.Alive([]judge.Healing{{1, time.Second, time.Second, 0}, {2, time.Second, 32 * time.Second, time.Second}}, limit), "round 2: writable 32s after healing, of which the leader held still for 1s")
	expect(t, "never", judge.Alive([]judge.Healing{{3, 0, 0, time.Minute}}, limit), "round 3: not whole within 30s", "round 3: not writable")
}

func TestNoSecret(t *testing.T) {
	key := []byte{0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3, 0xff, 0xfe, 0xfb}
	secrets := []judge.Secret{{"the password", []byte("correcthorse")}, {"the key", key}}
	for _, c := range []struct{ content, want string }{
		{"nothing of interest, and correct horses", ""},
		{"user=postgres password=correcthorse host=x", "log has the password as it is"},
		{"a key of " + hex.EncodeToString(key) + ".", "the key in hexadecimal"},
		{"a key of " + strings.ToUpper(hex.EncodeToString(key)) + ".", "the key in hexadecimal"},
		{"token " + base64.StdEncoding.EncodeToString(key), "the key in base64"},
		{"token " + base64.URLEncoding.EncodeToString(append(key, "and more"...)), "the key in base64"},
		{"token " + base64.StdEncoding.EncodeToString([]byte("postgres://a:correcthorse@h/")), "the password in base64"},
		{"token " + base64.StdEncoding.EncodeToString([]byte("postgres://ab:correcthorse@h/")), "the password in base64"},
		{"token " + base64.StdEncoding.EncodeToString([]byte("postgres://abc:correcthorse@h/")), "the password in base64"},
		{"token " + base64.StdEncoding.EncodeToString([]byte("postgres://abc:correcthorsf@h/")), ""},
		{string(key), "the key as it is"},
	} {
		found := judge.NoSecret("log", []byte(c.content), secrets)
		if c.want == "" {
			expect(t, c.content, found)
		} else {
			expect(t, c.content, found, c.want)
		}
	}
	expect(t, "too short", judge.NoSecret("log", nil, []judge.Secret{{"the pin", []byte("1234")}}), "too short")
}

func TestUnfencedOf(t *testing.T) {
	span := func(from, to int64) judge.Span { return judge.Span{From: from, To: to} }
	guards := map[string][]judge.Span{"n1": {span(10, 20), span(40, 50)}, "n2": {span(10, 20)}}
	agents := map[string][]judge.Span{"n1": {span(15, 45)}, "n2": {span(21, 30)}, "n3": {span(0, 99)}}
	got := judge.UnfencedOf(guards, agents, 3)
	if len(got) != 1 || len(got["n1"]) != 2 || got["n1"][0] != span(15, 23) || got["n1"][1] != span(40, 48) {
		t.Errorf("%v", got)
	}
}
