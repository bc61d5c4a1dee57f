package mc

import (
	"fmt"
	"io"
	"slices"
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	exhausted, cut, broken := Result{Complete: true}, Result{}, Result{Violation: "S1"}
	for _, c := range []struct {
		want Outcome
		got  Result
		ok   bool
	}{
		{Complete, exhausted, true}, {Complete, cut, false}, {Complete, broken, false},
		{Clean, exhausted, true}, {Clean, cut, true}, {Clean, broken, false},
		{Broken, exhausted, false}, {Broken, cut, false}, {Broken, broken, true},
	} {
		if err := (Expect{Name: "v", Want: c.want}).Judge(c.got); (err == nil) != c.ok {
			t.Errorf("want %d, got %+v: %v", c.want, c.got, err)
		}
	}
}

// A model that lost a rule, or got one, is seen by the number of its states.
func TestJudgeCountsStates(t *testing.T) {
	e := Expect{Name: "v", Want: Complete, States: 10}
	if err := e.Judge(Result{Complete: true, States: 10}); err != nil {
		t.Error(err)
	}
	if err := e.Judge(Result{Complete: true, States: 9}); err == nil {
		t.Error("nine states instead of ten passed")
	}
}

// A long run looks again at what was cut off, with more states, and leaves the rest to the short one.
func TestLongLooksFurther(t *testing.T) {
	var asked []string
	search := func(name string, states int, _ time.Duration) (Result, bool) {
		asked = append(asked, fmt.Sprint(name, states > shortStates))
		return Result{Violation: map[string]string{"bad": "S1"}[name]}, true
	}
	all := []Expect{{Name: "clean", Want: Clean}, {Name: "complete", Want: Complete}, {Name: "mut-x", Want: Broken}}
	if err := Long(io.Discard, all, []string{"beside"}, search); err != nil {
		t.Error(err)
	}
	if want := []string{"cleantrue", "besidetrue"}; !slices.Equal(asked, want) {
		t.Errorf("asked for %v, not %v", asked, want)
	}
	if err := Long(io.Discard, nil, []string{"bad"}, search); err == nil {
		t.Error("a violation passed")
	}
}

func TestShortReportsWhatIsNotAsExpected(t *testing.T) {
	found := func(r Result, known bool) func(string, int, time.Duration) (Result, bool) {
		return func(string, int, time.Duration) (Result, bool) { return r, known }
	}
	mutation := []Expect{{Name: "mut-x", Want: Broken}}
	if err := Short(io.Discard, mutation, found(Result{Violation: "S1"}, true)); err != nil {
		t.Errorf("a caught mutation: %v", err)
	}
	if err := Short(io.Discard, mutation, found(Result{Complete: true}, true)); err == nil {
		t.Error("a mutation that was not caught passed")
	}
	if err := Short(io.Discard, mutation, found(Result{}, false)); err == nil {
		t.Error("a variant that does not exist passed")
	}
}

// counter counts to 9; it is broken when it may reach bad.
type counter struct{ bad uint8 }

func (counter) Init() []uint8 { return []uint8{0} }
func (counter) Succ(s *uint8, emit func(*uint8, uint32)) {
	if *s < 9 {
		next := *s + 1
		emit(&next, uint32(next))
	}
}
func (c counter) Check(s *uint8) string {
	if *s == c.bad {
		return "bad"
	}
	return ""
}
func (counter) Canon(*uint8)       {}
func (counter) Code(uint32) string { return "+1" }
func (counter) Show(*uint8) string { return "" }

func TestSearchFindsAndExhausts(t *testing.T) {
	if r := BFS[uint8](counter{bad: 7}, 100, time.Hour); r.Violation == "" || len(r.Trace) != 8 {
		t.Errorf("violation seven steps away: %+v", r)
	}
	if r := BFS[uint8](counter{bad: 200}, 100, time.Hour); !r.Complete || r.States != 10 {
		t.Errorf("ten states: %+v", r)
	}
}
