package quorate_test

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"testing"
)

// fixture makes a repository of the given files. A directory with a dot in its first part is another module's.
func fixture(t *testing.T, files map[string]string) repo {
	t.Helper()
	r := repo{pkgs: map[string]pkg{}}
	for name, content := range files {
		r.add(t, name, content)
	}
	for _, f := range r.goFiles {
		p := r.pkgs[f.dir]
		p.path = f.dir
		for _, i := range f.tree.Imports {
			full, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			to := relative(full)
			if f.isTest() {
				p.testImports = append(p.testImports, to)
			} else {
				p.imports = append(p.imports, to)
			}
			if _, ok := r.pkgs[to]; !ok {
				r.pkgs[to] = pkg{path: to, std: to == full && !strings.Contains(first(to), ".")}
			}
		}
		r.pkgs[f.dir] = p
	}
	return r
}

// source is a Go file with these imports and this body.
func source(name string, imports []string, body string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "package %s\n", name)
	for _, i := range imports {
		fmt.Fprintf(&b, "import %q\n", i)
	}
	return b.String() + body
}

// ourPath is the import path of a package of this module.
func ourPath(p string) string { return module + "/" + p }

// importing is a package at dir that imports what is given, and each of those, empty.
func importing(dir string, imports ...string) map[string]string {
	files := map[string]string{path.Join(dir, "a.go"): source("a", imports, "\n")}
	for _, i := range imports {
		if to := relative(i); to != i || strings.Contains(first(to), ".") {
			files[path.Join(to, "b.go")] = source("b", nil, "\n")
		}
	}
	return files
}

func lines(n int) string { return strings.Repeat("\n", n) }

// ruleCase is a repository, and whether the rule must complain about it.
type ruleCase struct {
	name  string
	files map[string]string
	bad   bool
}

// cases has, for each rule, what it must complain about and what it must let pass.
var cases = map[string][]ruleCase{
	"packages import only what their row of the table allows": {
		{"allowed", importing("failover", ourPath("fsm")), false},
		{"own folder", importing("internal/pg", ourPath("internal/pg/wal")), false},
		{"the more specific row", importing("cluster/lease", ourPath("failover")), true},
		{"not allowed", importing("fsm", ourPath("failover")), true},
		{"without a row", importing("clever", "fmt"), true},
		{"the root is nobody's import", importing("fsm", module), true},
	},
	"nobody reaches what is banned for them": {
		{"nothing banned", importing("cluster", "github.com/hashicorp/raft", "net"), false},
		{"through another", map[string]string{
			"cluster/a.go":   source("cluster", []string{ourPath("transport")}, ""),
			"transport/a.go": source("transport", []string{ourPath("pgctl")}, ""),
			"pgctl/a.go":     source("pgctl", nil, ""),
		}, true},
		{"e2e from a test", map[string]string{
			"fsm/a_test.go": source("fsm", []string{ourPath("e2e")}, ""),
			"e2e/a.go":      source("e2e", nil, ""),
		}, true},
		{"the tests' Postgres from code", importing("pgctl", ourPath("internal/pgtest")), true},
		{"the tests' Postgres from a test", map[string]string{
			"pgctl/a_test.go":      source("pgctl", []string{ourPath("internal/pgtest")}, ""),
			"internal/pgtest/a.go": source("pgtest", nil, ""),
		}, false},
	},
	"only node imports both consensus and Postgres": {
		{"node", importing("node", ourPath("cluster"), ourPath("pgctl")), false},
		{"another, by their folders", importing("api", ourPath("cluster/lead"), ourPath("pgctl/guard")), true},
		{"one of them", importing("api", ourPath("cluster")), false},
	},
	"pure packages reach no clock, network or chance": {
		{"what is pure", importing("fsm", "fmt", "errors"), false},
		{"directly", importing("fsm", "math/rand/v2"), true},
		{"in a folder", importing("internal/pg/wal", "os"), true},
		{"through another module", map[string]string{
			"failover/a.go":            source("failover", []string{"example.com/heap"}, ""),
			"example.com/heap/heap.go": source("heap", []string{"example.com/log"}, ""),
			"example.com/log/a.go":     source("log", []string{"os"}, ""),
		}, true},
		{"not pure", importing("pgctl", "os"), false},
	},
	"pure packages use package time for Duration only": {
		{"durations", map[string]string{"fsm/a.go": source("fsm", []string{"time"}, "const Limit time.Duration = 3 * time.Second")}, false},
		{"the clock", map[string]string{"fsm/a.go": source("fsm", []string{"time"}, "func f() any { return time.Now() }")}, true},
		{"a point in time", map[string]string{"fsm/a.go": source("fsm", []string{"time"}, "type T struct{ At time.Time }")}, true},
		{"under another name", map[string]string{"fsm/a.go": "package fsm\nimport wall \"time\"\nvar _ = wall.Now"}, true},
		{"without a name", map[string]string{"fsm/a.go": "package fsm\nimport . \"time\"\n"}, true},
		{"in what a pure package reaches", map[string]string{
			"fsm/a.go":            source("fsm", []string{ourPath("internal/clock")}, ""),
			"internal/clock/a.go": source("clock", []string{"time"}, "var _ = time.Now"),
		}, true},
		{"in a test", map[string]string{"fsm/a_test.go": source("fsm", []string{"time"}, "var _ = time.Now")}, false},
	},
	"packages say what they are and what they must never do": {
		{"said, over a line's end", map[string]string{"fsm/doc.go": "// Package fsm is x. It must\n// never do y.\npackage fsm\n", "fsm/a.go": "package fsm\n"}, false},
		{"no comment", map[string]string{"fsm/a.go": "package fsm\n"}, true},
		{"only what it is", map[string]string{"fsm/a.go": "// Package fsm is x.\npackage fsm\n"}, true},
		{"only tests", map[string]string{"e2e/a_test.go": "package e2e\n"}, false},
	},
	"no package is called util, common or types": {
		{"by its clause", map[string]string{"internal/x/a.go": "package util\n"}, true},
		{"by its directory", map[string]string{"internal/types/a.go": "package kinds\n"}, true},
		{"a name that says what it is", map[string]string{"internal/durable/a.go": "package durable\n"}, false},
	},
	"functions have at most 70 lines": {
		{"70", map[string]string{"fsm/a.go": "package fsm\nfunc f() {" + lines(69) + "}\n"}, false},
		{"71", map[string]string{"fsm/a.go": "package fsm\nfunc f() {" + lines(70) + "}\n"}, true},
		{"a method", map[string]string{"fsm/a.go": "package fsm\ntype T int\nfunc (T) f() {" + lines(70) + "}\n"}, true},
		{"a test", map[string]string{"fsm/a_test.go": "package fsm\nfunc f() {" + lines(70) + "}\n"}, false},
		{"the model", map[string]string{"docs/model/m/a.go": "package m\nfunc f() {" + lines(70) + "}\n"}, false},
	},
	"files have at most 500 lines": {
		{"500", map[string]string{"fsm/a.go": "package fsm" + lines(499) + "var _ = 1\n"}, false},
		{"501", map[string]string{"fsm/a.go": "package fsm" + lines(500) + "var _ = 1\n"}, true},
	},
	"tests sleep only in bubbles": {
		{"plainly", map[string]string{"fsm/a_test.go": source("fsm", []string{"time"}, "func TestA() { time.Sleep(1) }")}, true},
		{"as a value", map[string]string{"fsm/a_test.go": source("fsm", []string{"time"}, "var nap = time.Sleep")}, true},
		{"in a helper of e2e", map[string]string{"e2e/a.go": source("e2e", []string{"time"}, "func wait() { time.Sleep(1) }")}, true},
		{"in a bubble", map[string]string{"fsm/a_test.go": source("fsm", []string{"time", "testing/synctest"},
			"func TestA() { synctest.Test(t, func() { time.Sleep(1) }) }")}, false},
		{"beside a bubble", map[string]string{"fsm/a_test.go": source("fsm", []string{"time", "testing/synctest"},
			"func TestA() { synctest.Test(t, func() { }); time.Sleep(1) }")}, true},
		{"called only from bubbles", map[string]string{
			"fsm/a_test.go": source("fsm", []string{"testing/synctest"}, "func TestA() { synctest.Test(t, run) }\nfunc run() { nap() }"),
			"fsm/b_test.go": source("fsm", []string{"time"}, "func nap() { time.Sleep(1); nap() }"),
		}, false},
		{"called from a bubble and from elsewhere", map[string]string{"fsm/a_test.go": source("fsm", []string{"time", "testing/synctest"},
			"func TestA() { synctest.Test(t, nap) }\nfunc TestB() { nap() }\nfunc nap() { time.Sleep(1) }")}, true},
		{"through a function that makes the bubble", map[string]string{"fsm/a_test.go": source("fsm", []string{"time", "testing/synctest"},
			"func TestA() { story(t, func() { time.Sleep(1) }) }\nfunc story(t T, run func()) { synctest.Test(t, func() { run() }) }")}, false},
		{"through a function that also runs it outside", map[string]string{"fsm/a_test.go": source("fsm", []string{"time", "testing/synctest"},
			"func TestA() { story(t, func() { time.Sleep(1) }) }\nfunc story(t T, run func()) { run(); synctest.Test(t, func() { run() }) }")}, true},
		{"in the product", map[string]string{"lab/a.go": source("lab", []string{"time"}, "func f() { time.Sleep(1) }")}, false},
	},
	"no package holds mutable state": {
		{"sentinels, tables, checks", map[string]string{"fsm/a.go": source("fsm", []string{"errors", "hash/crc32"},
			"var ErrX = errors.New(\"x\")\nvar names = map[int]string{1: \"a\"}\nvar _ error = T{}\n"+
				"var crc = crc32.MakeTable(7)\nvar magic = []byte(\"q\")\nfunc f() string { names := 1; names++; return \"\" }")}, false},
		{"embedded files", map[string]string{"fsm/a.go": source("fsm", []string{"embed"}, "\n//go:embed x\nvar Files embed.FS")}, false},
		{"a zero value", map[string]string{"fsm/a.go": "package fsm\nvar count int\n"}, true},
		{"a seam", map[string]string{"fsm/a.go": source("fsm", []string{"time"}, "var now = time.Now")}, true},
		{"a pointer", map[string]string{"fsm/a.go": "package fsm\nvar root = &T{}\n"}, true},
		{"an exported table", map[string]string{"fsm/a.go": "package fsm\nvar Names = []string{\"a\"}\n"}, true},
		{"a table that is written", map[string]string{"fsm/a.go": "package fsm\nvar names = map[int]string{}\nfunc f() { names[1] = \"\" }\n"}, true},
		{"written in another file", map[string]string{"fsm/a.go": "package fsm\nvar names = []int{1}\n",
			"fsm/b.go": "package fsm\nfunc f() { names = append(names, 1) }\n"}, true},
		{"deleted from", map[string]string{"fsm/a.go": "package fsm\nvar names = map[int]string{}\nfunc f() { delete(names, 1) }\n"}, true},
		{"its address taken", map[string]string{"fsm/a.go": "package fsm\nvar table = T{}\nfunc f() any { return &table }\n"}, true},
	},
	"nothing is left for later": {
		{"in a comment", map[string]string{"fsm/a.go": "package fsm // TO" + "DO: more\n"}, true},
		{"in a script", map[string]string{"check": "# FIX" + "ME\n"}, true},
		{"in code", map[string]string{"fsm/a.go": source("fsm", []string{"context"}, "var _ = context.TO"+"DO")}, false},
		{"in prose", map[string]string{"docs/a.md": "No TO" + "DO here.\n"}, false},
	},
	"no file names a place outside the repository": {
		{"in code", map[string]string{"fsm/a.go": "package fsm // see /wor" + "k/x\n"}, true},
		{"in prose", map[string]string{"docs/a.md": "see (/home/" + "me/x)\n"}, true},
		{"beside the checkout", map[string]string{"docs/a.md": "see ../sha" + "red/x\n"}, true},
		{"a part of a path", map[string]string{"docs/a.md": "see docs/wor" + "k/x and /var/wor" + "k/y\n"}, false},
	},
	"every fault has its test, or the reason why not": faultCases(),
}

func TestRulesCanFail(t *testing.T) {
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			failed := false
			for _, c := range cases[rule.name] {
				complaints := rule.check(fixture(t, c.files))
				if (len(complaints) > 0) != c.bad {
					t.Errorf("%s: must complain: %v, said %q", c.name, c.bad, complaints)
				}
				failed = failed || c.bad
			}
			if !failed {
				t.Error("this rule has no case that it complains about")
			}
		})
	}
}

// Every row forbids something, and says so.
func TestEveryRowCanFail(t *testing.T) {
	for _, r := range table {
		forbidden := "cmd/quorate"
		if under(r.pkg, forbidden) {
			forbidden = "fsm"
		}
		said := directions(fixture(t, importing(r.pkg, ourPath(forbidden))))
		if free := len(r.may) == 1 && r.may[0] == anything; free != (len(said) == 0) {
			t.Errorf("%s may import %s: %q", r.pkg, forbidden, said)
		}
		if r.why == "" {
			t.Errorf("%s: the row gives no reason", r.pkg)
		}
	}
}

// Every ban holds for a direct import, and through another module unless it is one on direct imports.
func TestEveryBanCanFail(t *testing.T) {
	for _, b := range banned {
		for _, to := range b.to {
			full := to
			if _, ours := rowOf(to); ours && !strings.Contains(first(to), ".") && to != "net" {
				full = ourPath(to)
			}
			if said := bans(fixture(t, importing(b.from, full))); len(said) == 0 {
				t.Errorf("%s may import %s", b.from, to)
			}
			through := map[string]string{
				path.Join(b.from, "a.go"):  source("a", []string{"example.com/between"}, ""),
				"example.com/between/a.go": source("between", []string{full}, ""),
			}
			if said := bans(fixture(t, through)); b.direct != (len(said) == 0) {
				t.Errorf("%s reaches %s: %q", b.from, to, said)
			}
		}
		if b.why == "" {
			t.Errorf("%s: the ban gives no reason", b.from)
		}
	}
}

// Every pure package is held to it, and every import that is not pure is seen.
func TestEveryPurityCanFail(t *testing.T) {
	for _, p := range pure {
		for _, i := range impure {
			if said := purity(fixture(t, importing(p, i))); len(said) == 0 {
				t.Errorf("%s may import %s", p, i)
			}
		}
	}
}
