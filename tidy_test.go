package quorate_test

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The rules of the house, as tests. A rule looks at the whole repository and says what is wrong, one line each,
// beginning with where. Each is shown to be able to fail in tidy_rules_test.go: a rule that can't is worth nothing.
//
// To add a rule: write a func(repo) []string, name it here, and give it a case there that it complains about.
var rules = []struct {
	name  string
	check func(repo) []string
}{
	{"packages import only what their row of the table allows", directions},
	{"nobody reaches what is banned for them", bans},
	{"only node imports both consensus and Postgres", meetOnlyInNode},
	{"pure packages reach no clock, network or chance", purity},
	{"pure packages use package time for Duration only", durationOnly},
	{"packages say what they are and what they must never do", packageDocs},
	{"no package is called util, common or types", packageNames},
	{"functions have at most 70 lines", functionLength},
	{"files have at most 500 lines", fileLength},
	{"tests sleep only in bubbles", sleeps},
	{"no package holds mutable state", packageState},
	{"nothing is left for later", leftForLater},
	{"no file names a place outside the repository", outsidePlaces},
	{"every fault has its test, or the reason why not", faultTests},
}

func TestTidy(t *testing.T) {
	r := load(t)
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			for _, complaint := range rule.check(r) {
				t.Error(complaint)
			}
		})
	}
}

// module is the import path of this directory.
const module = "github.com/quorate/quorate"

// repo is what the rules look at.
type repo struct {
	goFiles []goFile
	texts   []text         // every file that is not Go
	pkgs    map[string]pkg // every package that is built, ours and others', by path (see pkg)
}

// goFile is one parsed Go file. dir and name are relative to the root, with slashes.
type goFile struct {
	dir, name string
	lines     []string
	set       *token.FileSet
	tree      *ast.File
}

type text struct {
	name  string
	lines []string
}

// pkg is one package as go list sees it. Paths of ours are relative to the module ("fsm"; the root is "."),
// those of others are full import paths.
type pkg struct {
	path        string
	std         bool
	imports     []string
	testImports []string
}

// ours tells whether the package is this module's. The zero pkg, of which go list knew nothing, is not.
func (p pkg) ours() bool {
	return p.path == "." || p.path != "" && !p.std && !strings.Contains(first(p.path), ".")
}

func first(importPath string) string {
	head, _, _ := strings.Cut(importPath, "/")
	return head
}

func (f goFile) isTest() bool { return strings.HasSuffix(f.name, "_test.go") }

// path is the file's name from the root.
func (f goFile) path() string { return path.Join(f.dir, f.name) }

func (f goFile) line(p token.Pos) int { return f.set.Position(p).Line }

// where is the place of p in the form that editors jump to.
func (f goFile) where(p token.Pos) string {
	at := f.set.Position(p)
	return f.path() + ":" + itoa(at.Line)
}

// under tells whether the package or file p is dir or in it.
func under(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func underAny(p string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return under(p, d) })
}

// load reads the repository this test runs in. Files that another build tag leaves out are read as well.
func load(t *testing.T) repo {
	t.Helper()
	r := repo{pkgs: listPackages(t)}
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if slices.Contains([]string{".git", "bin", "dist"}, d.Name()) {
				return filepath.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		content, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		r.add(t, filepath.ToSlash(name), string(content))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// add puts one file into the repository; binary files are left out.
func (r *repo) add(t *testing.T, name, content string) {
	t.Helper()
	lines := strings.Split(strings.TrimSuffix(content, "\n"), "\n")
	inTestdata := slices.Contains(strings.Split(name, "/"), "testdata")
	if !strings.HasSuffix(name, ".go") || inTestdata {
		if !strings.Contains(content, "\x00") {
			r.texts = append(r.texts, text{name, lines})
		}
		return
	}
	set := token.NewFileSet()
	tree, err := parser.ParseFile(set, name, content, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	r.goFiles = append(r.goFiles, goFile{path.Dir(name), path.Base(name), lines, set, tree})
}

// inOrder returns the packages by path, so that complaints come in the same order each time.
func (r repo) inOrder() []pkg {
	var all []pkg
	for _, p := range r.pkgs {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b pkg) int { return cmp.Compare(a.path, b.path) })
	return all
}
