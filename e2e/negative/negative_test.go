package main

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/e2e/sim"
	"github.com/quorate/quorate/lab/judge"
	"github.com/quorate/quorate/lab/nemesis"
)

const root = "../.."

// tagsInSource are the tags of which the repository's Go files have a half, and of each the directories with NAME_on.go and with
// NAME_off.go.
func tagsInSource(t *testing.T) (on, off map[string][]string) {
	t.Helper()
	constraint := regexp.MustCompile(`(?m)^//go:build (!?)without_([a-z_]+)$`)
	on, off = map[string][]string{}, map[string][]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) != ".go" {
			return err
		}
		b, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, m := range constraint.FindAllSubmatch(b, -1) {
			tag, dir := string(m[2]), filepath.Dir(name)
			switch {
			case filepath.Base(name) == tag+"_on.go" && len(m[1]) == 1:
				on[tag] = append(on[tag], dir)
			case filepath.Base(name) == tag+"_off.go" && len(m[1]) == 0:
				off[tag] = append(off[tag], dir)
			case filepath.Base(name) != "built_"+tag+".go":
				t.Errorf("%s has the tag without_%s and is none of its files", name, tag)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return on, off
}

// TestEveryTagHasItsControl, every control its tag, and the decision a line for each that says the same.
func TestEveryTagHasItsControl(t *testing.T) {
	decision, err := os.ReadFile(filepath.Join(root, "docs/decisions/0017-negative-controls.md"))
	if err != nil {
		t.Fatal(err)
	}
	on, off := tagsInSource(t)
	known := map[string]bool{}
	for _, c := range controls() {
		known[c.tag] = true
		if len(on[c.tag]) == 0 || !slices.Equal(on[c.tag], off[c.tag]) {
			t.Errorf("without_%s: there is an _on.go in %v and an _off.go in %v", c.tag, on[c.tag], off[c.tag])
		}
		_, err := os.Stat(filepath.Join(root, "e2e/sim", "built_"+c.tag+".go"))
		if there := err == nil; there != c.modelled || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: modelled %v, and the simulator's file for it: %v", c.tag, c.modelled, err)
		}
		row := "| " + c.mechanism + " | `without_" + c.tag + "` |"
		_, rest, _ := strings.Cut(string(decision), row)
		line, _, _ := strings.Cut(rest, "\n")
		_, by, _ := strings.Cut(strings.TrimSpace(line), " | ")
		who, what, _ := strings.Cut(by, " | ")
		if what, _, _ = strings.Cut(what, " | "); !strings.HasPrefix(who, string(c.catcher)) || what != c.findings() {
			t.Errorf("the decision has %q found by %q, and the control %q by %q", who, what, c.catcher, c.findings())
		}
		if !slices.Contains([]catcher{simulator, traps}, c.catcher) || c.catcher == traps && c.trap == "" ||
			c.catcher == simulator && !c.played() {
			t.Errorf("%s: nobody catches it", c.tag)
		}
	}
	for tag := range on {
		if !known[tag] {
			t.Errorf("without_%s has no control", tag)
		}
	}
}

// TestEveryControlNamesATestOfTheProduct that there is.
func TestEveryControlNamesATestOfTheProduct(t *testing.T) {
	for _, c := range controls() {
		files, err := filepath.Glob(filepath.Join(root, c.pkg, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		found := slices.ContainsFunc(files, func(file string) bool {
			b, err := os.ReadFile(file)
			return err == nil && bytes.Contains(b, []byte("func "+c.test+"(t *testing.T)"))
		})
		if !found {
			t.Errorf("%s: %s has no test %s", c.tag, c.pkg, c.test)
		}
	}
}

// findings is what the control is to be found by, as the decision says it.
func (c control) findings() string {
	var all []string
	if c.played() {
		all = append(all, strings.ReplaceAll(c.names(), ",", " or "))
	}
	if c.trap != "" {
		all = append(all, string(c.sees))
	}
	return strings.Join(all, "; ")
}

// TestATrapForEach of those that say that there is one: every trap is laid for one control, the one that the decision says, and has
// a check to be seen by.
func TestATrapForEach(t *testing.T) {
	decision, err := os.ReadFile(filepath.Join(root, "docs/decisions/0017-negative-controls.md"))
	if err != nil {
		t.Fatal(err)
	}
	said := map[string]string{} // trap to tag
	for _, m := range regexp.MustCompile("(?m)^- \\*([a-z ]+)\\* \\(`([a-z_]+)`\\): ").FindAllStringSubmatch(string(decision), -1) {
		said["trap: "+m[1]] = m[2]
	}
	has := map[string]string{}
	for _, c := range controls() {
		if (c.trap == "") != (c.sees == "") || c.trap != "" && !slices.Contains(judge.Checks(), c.sees) {
			t.Errorf("%s: the trap %q is to be seen by %q", c.tag, c.trap, c.sees)
		}
		if other, taken := has[c.trap]; taken {
			t.Errorf("%q is laid for %s and for %s", c.trap, other, c.tag)
		}
		if c.trap != "" {
			has[c.trap] = c.tag
		}
	}
	if !maps.Equal(has, said) {
		t.Errorf("the controls have the traps %v, the decision %v", has, said)
	}
	laid := nemesis.NewTraps(1, nemesis.Can{Data: 3, Network: true}).Kinds()
	slices.Sort(laid)
	if names := slices.Sorted(maps.Keys(has)); !slices.Equal(names, laid) {
		t.Errorf("the controls have the traps %v, and %v are laid", names, laid)
	}
}

// TestOnlyItsOwnCheckIsACatch: a run that ended by another one is no catch, and no proof that nothing is to be found either.
func TestOnlyItsOwnCheckIsACatch(t *testing.T) {
	own, busy := judge.Violation{Check: judge.Writers}, judge.Violation{Check: judge.Liveness}
	chosen, err := choose([]string{"kill"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		found  []judge.Violation
		caught string
		named  string // in the error
	}{
		{nil, "", ""},
		{[]judge.Violation{own}, "dual-writer", ""},
		{[]judge.Violation{busy, own}, "dual-writer", ""},
		{[]judge.Violation{busy}, "", "liveness"},
		{[]judge.Violation{busy, {Check: judge.Appends}}, "", "liveness, append-set"},
	} {
		l, err := chosen[0].judged(c.found)
		if l.found != c.caught || (err != nil) != (c.named != "") ||
			err != nil && !strings.Contains(err.Error(), "ended by "+c.named+",") {
			t.Errorf("%v: %q, %v", c.found, l.found, err)
		}
	}
}

// Where the simulator is the named catcher, what else chaos has found is told and is no error.
func TestASecondCatcherMayEndByAnotherCheck(t *testing.T) {
	chosen, err := choose([]string{"detach"})
	if err != nil {
		t.Fatal(err)
	}
	l, err := chosen[0].judged([]judge.Violation{{Check: judge.Liveness}})
	var out strings.Builder
	if err != nil || l.found != "" || (table{l}).print(&out) != nil || !strings.Contains(out.String(), "no catch: liveness") {
		t.Errorf("%+v, %v\n%s", l, err, out.String())
	}
}

// TestTheHuntGoesOn where another invariant is violated than those that it hunts, and tells of the first seed of each.
func TestTheHuntGoesOn(t *testing.T) {
	saw := func(seed uint64, what string) sim.Outcome {
		return sim.Outcome{Seed: seed, Violation: &sim.Violation{What: what}}
	}
	hunts := tracker{invariants: []string{"lease", "one writer"}, other: map[string]uint64{}}
	for _, o := range []sim.Outcome{saw(7, "liveness"), saw(3, "liveness"), saw(5, "liveness"), saw(2, "model")} {
		if hunts.counts(o) {
			t.Errorf("%s is a catch", o.Violation.What)
		}
	}
	if !hunts.counts(saw(9, "one writer")) {
		t.Error("one writer is no catch")
	}
	if got := (prey{Other: hunts.other}).passed(); got != "liveness (seed 3), model (seed 2)" {
		t.Errorf("passed over: %s", got)
	}
	if any := (&tracker{}); !any.counts(saw(1, "model")) {
		t.Error("the clean build may show what it likes")
	}
}

// TestTheSimulatorKnowsWhatIsHunted: an invariant that it has under no such name could never be a catch.
func TestTheSimulatorKnowsWhatIsHunted(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(root, "e2e/sim/check.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range controls() {
		for _, i := range c.breaks {
			if !bytes.Contains(b, []byte(`, "`+string(i)+`",`)) {
				t.Errorf("%s: no invariant %q", c.tag, i)
			}
		}
	}
}

// TestTheHuntFindsWhatIsMissing, with a program that is built without the wait, and nothing in the same seeds with this one. It
// is the one control that takes seconds only.
func TestTheHuntFindsWhatIsMissing(t *testing.T) {
	const enough = 20
	var out, talk bytes.Buffer
	err := run(t.Context(), []string{"simulator", "-seeds", "20", "-out", t.TempDir(), "wait"}, &out, &talk)
	if err != nil || !regexp.MustCompile(`(?m)^wait +without_wait +lease +\d+ +\d+ seeds +nothing$`).MatchString(out.String()) {
		t.Errorf("%v\n%s\n%s", err, talk.String(), out.String())
	}
	if p := hunt(t.Context(), 1, enough, nil); p.What != "" || p.Played != enough {
		t.Errorf("this program, which lacks nothing: %+v", p)
	}
}

// TestTheTableFails for what was not missed and for what the clean build shows.
func TestTheTableFails(t *testing.T) {
	c := controls()[0]
	for _, l := range []struct {
		line
		bad bool
	}{
		{line{control: c, found: "lease"}, false},
		{line{control: c}, true},
		{line{control: c, passed: "liveness (seed 5)"}, true},
		{line{control: c, may: true}, false},
		{line{control: c, found: "lease", clean: "lease"}, true},
	} {
		var out bytes.Buffer
		if err := (table{l.line}).print(&out); errors.Is(err, errMissed) != l.bad || !strings.Contains(out.String(), "without_"+c.tag) ||
			err != nil && !strings.Contains(err.Error(), l.passed) {
			t.Errorf("%+v: %v\n%s", l.line, err, out.String())
		}
	}
}

// TestWhatARunKept: a lab whose run ended for another reason is no catch.
func TestWhatARunKept(t *testing.T) {
	dir := t.TempDir()
	if _, err := violationsIn(dir); err == nil {
		t.Error("a run that kept nothing found nothing")
	}
	for text, want := range map[string]string{
		`{"found":null}`: "",
		`{"found":[{"check":"dual-writer"},{"check":"append-set"},{"check":"dual-writer"}]}`: "dual-writer, append-set",
	} {
		if err := os.WriteFile(filepath.Join(dir, "summary.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		found, err := violationsIn(dir)
		if got := checks(found); err != nil || got != want {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
	said := "lab ab12 stays as it was, with nothing running, in /x; remove it with: quorate lab down --id ab12"
	if m := stays.FindStringSubmatch(said); m == nil || m[1] != "ab12" {
		t.Errorf("the lab that stays is %v", m)
	}
}

// TestUnknown words are told, and nothing runs.
func TestUnknown(t *testing.T) {
	for _, args := range [][]string{{}, {"chase"}, {"vet", "gravity"}, {"hunt", "-minuets", "1"}} {
		if err := run(t.Context(), args, new(bytes.Buffer), new(bytes.Buffer)); err == nil {
			t.Errorf("%q is understood", args)
		}
	}
}
