package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/quorate/quorate/fsm"
)

// stories are the inputs of testdata/stories that a command of that name has: real files, right and wrong.
func stories(f *testing.F, command string) [][]byte {
	f.Helper()
	var out [][]byte
	files, err := filepath.Glob("testdata/stories/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		for _, story := range strings.Split("\n"+string(content), "\n"+command)[1:] {
			_, input, _ := strings.Cut(story, "\n")
			input, _, _ = strings.Cut(input, "\n----")
			out = append(out, []byte(input))
		}
	}
	return out
}

// complaint holds what every refusal must: it lists what is wrong, says it in words, and names lines that exist.
func complaint(t *testing.T, input []byte, err error) {
	t.Helper()
	var invalid Invalid
	if !errors.As(err, &invalid) || len(invalid) == 0 {
		t.Fatalf("%q: not a list of what is wrong: %v", input, err)
	}
	// A line may end in a carriage return alone, too.
	lines := strings.Count(string(input), "\n") + strings.Count(string(input), "\r") + 1
	for _, finding := range invalid {
		if finding.Text == "" || finding.Line < 0 || finding.Line > lines {
			t.Fatalf("%q, of %d lines: %+v", input, lines, finding)
		}
	}
}

// Any bytes are a node file or a list of what is wrong with them. What is shown of a good one is a node file that says the
// same, for people as for programs.
func FuzzNodeFile(f *testing.F) {
	for _, seed := range stories(f, "node") {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		c, err := Decode(input, nil)
		if err != nil {
			complaint(t, input, err)
			return
		}
		text, err := c.YAML()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.JSON(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		again, err := Decode([]byte(text), nil)
		if err != nil {
			t.Fatalf("%q is shown as what can't be read: %v\n%s", input, err, text)
		}
		if second, err := again.YAML(); err != nil || second != text {
			t.Fatalf("%q is shown as what means something else: %v\n%s\n%s", input, err, text, second)
		}
	})
}

// readsBack holds what a document that was taken must: its replicated form and the one for people read back as the same, and
// the machine takes its settings.
func readsBack(t *testing.T, d DCS) string {
	t.Helper()
	doc, err := d.Doc()
	if err != nil || !utf8.ValidString(doc) {
		t.Fatalf("%+v: %q, %v", d, doc, err)
	}
	text, err := d.YAML()
	if err != nil {
		t.Fatalf("%s: %v", doc, err)
	}
	for _, form := range []string{doc, text} {
		again, err := ReadDCS([]byte(form))
		if err != nil {
			t.Fatalf("%q can't be read back: %v\n%s", doc, err, form)
		}
		if got, err := again.Doc(); err != nil || got != doc {
			t.Fatalf("%s became %s, %v, by\n%s", doc, got, err, form)
		}
	}
	_, err = fsm.State{}.Apply(fsm.Envelope{ID: "r", Change: fsm.Init{
		ClusterID: "c", Scope: "demo", Members: []fsm.Member{{ID: "n1", Name: "n1", Role: fsm.RoleData}},
		Config: fsm.Config{Doc: doc, Settings: d.Settings()},
	}})
	if err != nil {
		t.Fatalf("%s: no cluster can begin with it: %v", doc, err)
	}
	return doc
}

// Any bytes are a replicated configuration or a list of what is wrong with them.
func FuzzDocument(f *testing.F) {
	for _, seed := range append(stories(f, "document"), []byte(document), []byte("{}"), []byte("a: &a [*a]")) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		d, err := ReadDCS(input)
		if err != nil {
			complaint(t, input, err)
			return
		}
		readsBack(t, d)
	})
}

// What is nested deeper than any document is refused, and soon: the time for it grew with the square of its length and more.
func TestNestingIsBounded(t *testing.T) {
	sections, indented := strings.Repeat("{a: ", 900)+"1"+strings.Repeat("}", 900), ""
	for n := range maxDepth + 1 {
		indented += strings.Repeat(" ", n) + "a:\n"
	}
	for name, doc := range map[string]string{
		"brackets": strings.Repeat("[", 60_000), "sections": sections, "indented": indented, "anchors": "a: " + strings.Repeat("!!str ", maxDepth+1) + "x",
	} {
		_, err := ReadDCS([]byte(doc))
		complaint(t, []byte(doc), err)
		if !strings.Contains(err.Error(), "deep") && !strings.Contains(err.Error(), "brackets") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ReadDCS([]byte("a: " + strings.Repeat("[", maxDepth-2) + strings.Repeat("]", maxDepth-2))); err == nil || strings.Contains(err.Error(), "deep") {
		t.Errorf("what is nested less deep: %v", err)
	}
}

// Any change of a good document gives a good one or a list of what is wrong; the same again changes nothing.
func FuzzMerge(f *testing.F) {
	for _, seed := range stories(f, "patch") {
		f.Add(`{"failover_after":"1s","durability":"quorum","postgresql":{"parameters":{"work_mem":"4MB"}}}`, seed)
	}
	for _, seed := range stories(f, "document") {
		f.Add("{}", seed)
	}
	f.Fuzz(func(t *testing.T, base string, patch []byte) {
		if _, err := ReadDCS([]byte(base)); err != nil {
			return
		}
		d, err := Merge(base, patch)
		if err != nil {
			complaint(t, []byte(base+"\n"+string(patch)), err)
			return
		}
		doc := readsBack(t, d)
		twice, err := Merge(doc, patch)
		if err != nil {
			t.Fatalf("%s with %q: the second time %v", doc, patch, err)
		}
		if again, err := twice.Doc(); err != nil || again != doc {
			t.Fatalf("%s with %q: the second time %s, %v", doc, patch, again, err)
		}
	})
}

// A value in the environment that names a key is taken or refused by the variable's name, and never repeated for a secret.
func FuzzEnvironment(f *testing.F) {
	file := []byte("{scope: demo, name: n1, cluster: {listen: 127.0.0.1:7400}, postgresql: {listen: 127.0.0.1:5432, data_dir: /d, bin_dir: /b}}")
	f.Add("QUORATE_NAME=n2", "QUORATE_CLUSTER_PEERS=127.0.0.1:1,127.0.0.1:2")
	f.Add("QUORATE_CLUSTER_SECRET=tell-nobody-of-this", "QUORATE_BOOTSTRAP_DCS_FAILOVER_AFTER=2s")
	f.Add("QUORATE_POSTGRESQL_AUTHENTICATION_REPLICATION_PASSWORD=tell-nobody-of-this", "PATRONI_NAME=x")
	f.Add("QUORATE_NAMME=x", "QUORATE_TAGS_NOFAILOVER=perhaps")
	f.Fuzz(func(t *testing.T, one, two string) {
		c, err := Decode(file, []string{one, two})
		if err != nil {
			var invalid Invalid
			if !errors.As(err, &invalid) {
				t.Fatalf("%q %q: %v", one, two, err)
			}
		}
		for _, kv := range []string{one, two} {
			name, value, _ := strings.Cut(kv, "=")
			if !confidential(name) || len(value) < 12 {
				continue
			}
			if err != nil && strings.Contains(err.Error(), value) {
				t.Fatalf("%q is told: %v", kv, err)
			}
		}
		if err == nil {
			if _, err := c.JSON(); err != nil {
				t.Fatalf("%q %q: %v", one, two, err)
			}
		}
	})
}

func FuzzDuration(f *testing.F) {
	for _, s := range []string{"1s", "500ms", "-1h", "1e3s", "9223372036s", "1.5h30m"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var d, again Duration
		if err := d.UnmarshalText([]byte(text)); err != nil {
			if d != 0 {
				t.Fatalf("%q: refused, and set to %d", text, d)
			}
			return
		}
		back, err := d.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalText(back); err != nil || again != d {
			t.Fatalf("%q: %d became %s and %d, %v", text, d, back, again, err)
		}
	})
}
