package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestStories runs testdata/stories: whole files or documents, and what is said of them.
//
//	node [env=(A=b,...)] [exists=FILE] [show=(KEY,...)|show=all]   a node file
//	document [show=all]                                            a shared configuration
//	patch DOCUMENT                                                 a change of one
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/stories", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			told := tell(t, d)
			if strings.Contains(told, "hunter") { // as stands for a password in the stories
				t.Errorf("%s: a password is told:\n%s", d.Pos, told)
			}
			return told
		})
	})
}

func tell(t *testing.T, d *datadriven.TestData) string {
	switch d.Cmd {
	case "node":
		return tellNode(t, d)
	case "document":
		doc, err := ReadDCS([]byte(d.Input))
		return tellDocument(t, doc, err)
	case "patch":
		doc, err := Merge(d.CmdArgs[0].Key, []byte(d.Input))
		return tellDocument(t, doc, err)
	}
	d.Fatalf(t, "no such command")
	return ""
}

func tellNode(t *testing.T, d *datadriven.TestData) string {
	var env, show []string
	exists := ""
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "env":
			env = a.Vals
		case "exists":
			exists = a.Vals[0]
		case "show":
			show = a.Vals
		default:
			d.Fatalf(t, "unknown argument %s", a.Key)
		}
	}
	c, err := decodeNode([]byte(d.Input), env, func(file string) bool { return file == exists })
	var b strings.Builder
	findings(&b, c.Warnings, err)
	if err != nil {
		return b.String()
	}
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	// What is shown is a node file itself, and means the same.
	again, err := Decode([]byte(text), nil)
	if err != nil {
		t.Errorf("what is shown can't be read: %v\n%s", err, text)
	}
	if second, err := again.YAML(); err != nil || second != text {
		t.Errorf("what is shown means something else: %v\n%s\n%s", err, text, second)
	}
	if len(show) == 1 && show[0] == "all" {
		return b.String() + text
	}
	top, err := parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range show {
		m, p := top, (*pair)(nil)
		for _, name := range strings.Split(key, ".") {
			if p = m.find(name); p == nil {
				d.Fatalf(t, "no key %s", key)
			}
			m = p.value
		}
		fmt.Fprintf(&b, "%s = ", key)
		writeValue(&b, m)
		b.WriteString("\n")
	}
	return b.String()
}

func writeValue(b *strings.Builder, m *item) {
	switch m.kind {
	case list:
		var all []string
		for _, e := range m.items {
			all = append(all, e.text)
		}
		b.WriteString("[" + strings.Join(all, " | ") + "]")
	case mapping:
		var all []string
		for _, p := range m.pairs {
			all = append(all, p.key+"="+p.value.text)
		}
		b.WriteString("{" + strings.Join(all, " | ") + "}")
	default:
		b.WriteString(m.text)
	}
}

func tellDocument(t *testing.T, doc DCS, err error) string {
	var b strings.Builder
	findings(&b, doc.Warnings, err)
	if err == nil {
		text, err := doc.Doc()
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(text + "\n")
	}
	return b.String()
}

func findings(b *strings.Builder, warnings []Finding, err error) {
	for _, w := range warnings {
		fmt.Fprintf(b, "warning: %s\n", w)
	}
	if err != nil {
		fmt.Fprintf(b, "wrong: %s\n", strings.ReplaceAll(err.Error(), "\nline", "\nwrong: line"))
	}
}
