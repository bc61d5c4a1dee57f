package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

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
		if _, by, _ := strings.Cut(strings.TrimSpace(line), " | "); !strings.HasPrefix(by, string(c.catcher)) {
			t.Errorf("the decision has no line %q with the catcher %q", row, c.catcher)
		}
		if !slices.Contains([]catcher{simulator, traps}, c.catcher) || c.catcher == traps && !c.trapped {
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

// TestATrapForEach of those that say that there is one.
func TestATrapForEach(t *testing.T) {
	laid := nemesis.NewTraps(1, nemesis.Can{Data: 3, Network: true}).Kinds()
	trapped := 0
	for _, c := range controls() {
		if c.trapped {
			trapped++
		}
	}
	if trapped != len(laid) {
		t.Errorf("%d mechanisms have a trap, and the traps are %v", trapped, laid)
	}
}

// TestTheHuntFindsWhatIsMissing, with a program that is built without the wait, and nothing in the same seeds with this one. It
// is the one control that takes seconds only.
func TestTheHuntFindsWhatIsMissing(t *testing.T) {
	const enough = 20
	var out, talk bytes.Buffer
	err := run(t.Context(), []string{"simulator", "-seeds", "20", "-out", t.TempDir(), "wait"}, &out, &talk)
	if err != nil || !regexp.MustCompile(`(?m)^wait +without_wait +lease +\d+ seeds +nothing$`).MatchString(out.String()) {
		t.Errorf("%v\n%s\n%s", err, talk.String(), out.String())
	}
	if p := hunt(t.Context(), 1, enough); p.What != "" || p.Played != enough {
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
		{line{control: c, may: true}, false},
		{line{control: c, found: "lease", clean: "lease"}, true},
	} {
		var out bytes.Buffer
		if err := (table{l.line}).print(&out); errors.Is(err, errMissed) != l.bad || !strings.Contains(out.String(), "without_"+c.tag) {
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
