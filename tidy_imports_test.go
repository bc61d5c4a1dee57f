package quorate_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"io"
	"os/exec"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func itoa(n int) string { return strconv.Itoa(n) }

// row says which packages of ours those under pkg may import (their own folder always), and why no others.
// The most specific row counts. A package without a row is an error: the table is the map of the project.
type row struct {
	pkg string
	may []string
	why string
}

const anything = "*"

var table = []row{
	{".", nil, "the root is documentation and these tests"},
	{"internal/pg", nil, "it is the vocabulary that all others share"},
	{"internal/durable", nil, "it stores records without knowing what they mean"},
	{"internal/crowd", nil, "it counts connections without knowing what they carry"},
	{"internal/pgrepl", []string{"internal/pg"}, "it speaks Postgres's protocol and decides nothing"},
	{"internal/pgtest", []string{"internal/pg"}, "it gives tests a Postgres and knows nothing of what is tested"},
	{"fsm", []string{"internal/pg"}, "every node must compute the same state from the same log"},
	{"failover", []string{"fsm", "internal/pg"}, "a decision follows from the view and from nothing else"},
	{"cluster/lease", []string{"fsm"}, "it is checked exhaustively, so nothing may hide in it"},
	{"cluster/beat", []string{"cluster/lease", "failover", "fsm", "internal/pg", "internal/durable", "transport"},
		"beats carry the lease and must not depend on the log"},
	{"cluster/gossip", []string{"internal/durable"}, "hints come from nobody who decides, and go to nobody who does"},
	{"cluster/lead", []string{"cluster/lease", "cluster/beat", "failover", "fsm", "internal/pg"},
		"the leader loop sees ledgers and views, never a socket"},
	{"cluster/raftstore", nil, "it keeps what Raft gives it and knows nothing of what that means"},
	{"cluster", []string{"failover", "fsm", "internal/pg", "internal/durable", "transport"},
		"consensus never touches Postgres"},
	{"pgctl", []string{"internal/pg", "internal/durable"}, "Postgres is run without knowing who elects"},
	{"pgctl/guard", []string{"internal/pg", "internal/durable"}, "the guard obeys a record and interprets nothing"},
	{"pgctl/rejoin", []string{"internal/pg"}, "what becomes of data is decided from facts alone"},
	{"transport", []string{"internal/crowd"}, "it moves bytes and knows no message"},
	{"config", []string{"fsm", "internal/pg"}, "reading a file must need no running part"},
	{"proxy", nil, "it is given a func that names its target"},
	{"api", []string{"fsm", "failover", "internal/pg", "internal/crowd"}, "it shows and forwards, through interfaces of its own"},
	{"backup", []string{"internal/pg", "internal/pgrepl", "pgctl"}, "a backup must work without a cluster"},
	{"lab", []string{"config", "internal/pg", "api/client"}, "its nodes are processes, so that it can't cheat"},
	{"node", []string{"internal", "fsm", "failover", "cluster", "pgctl", "transport", "config", "proxy", "backup", "api"},
		"it is the one place where everything is put together"},
	{"cmd/quorate", []string{"cli"}, "main is the exit code and nothing else"},
	{"cli", []string{"node", "config", "lab", "api/client", "pgctl/guard"},
		"verbs call one part each and render what it says"},
	{"e2e", []string{anything}, "tests may look at everything"},
	{"docs/model", nil, "the model must not share a mistake with the code it checks"},
	{"scripts", nil, "tools of the build know nothing of the product"},
}

// rowOf returns the most specific row for a package of ours.
func rowOf(p string) (row, bool) {
	var best row
	for _, r := range table {
		if under(p, r.pkg) && len(r.pkg) > len(best.pkg) {
			best = r
		}
	}
	return best, best.pkg != ""
}

func directions(r repo) (complaints []string) {
	for _, p := range r.inOrder() {
		if !p.ours() {
			continue
		}
		rule, ok := rowOf(p.path)
		if !ok {
			complaints = append(complaints, p.path+": has no row in the table of tidy_imports_test.go")
			continue
		}
		for _, to := range p.imports {
			if r.pkgs[to].ours() && !under(to, rule.pkg) && !underAny(to, rule.may) && !slices.Contains(rule.may, anything) {
				complaints = append(complaints, fmt.Sprintf("%s imports %s: %s", p.path, to, rule.why))
			}
		}
	}
	return complaints
}

// ban says that packages under from must not come to use one under to. Transitively, but for direct ones.
type ban struct {
	from   string
	to     []string
	direct bool
	why    string
}

var raftLibraries = []string{"github.com/hashicorp/raft", "go.etcd.io/bbolt"}

var banned = []ban{
	{"cluster", []string{"pgctl"}, false, "consensus never touches Postgres"},
	{"cluster", []string{"github.com/jackc/pgx"}, false, "consensus never touches Postgres"},
	{"cluster/beat", raftLibraries, false, "beats carry the lease and must not depend on the log"},
	{"cluster/gossip", raftLibraries, false, "gossip is hints: nothing in it may look like agreement"},
	{"cluster/lead", []string{"github.com/hashicorp/memberlist"}, false, "gossip feeds nothing that decides"},
	{"cluster/beat", []string{"github.com/hashicorp/memberlist"}, false, "gossip feeds nothing that decides"},
	{"cluster/lead", []string{"net", "transport"}, true, "the leader loop never sees a socket"},
	{"pgctl", []string{"cluster", "fsm", "failover"}, false, "Postgres is run without knowing who elects"},
	{"pgctl", append([]string{"github.com/hashicorp/memberlist"}, raftLibraries...), false,
		"Postgres is run without knowing who elects"},
	{"lab", []string{"node", "cluster"}, false, "its nodes are processes, so that it can't cheat"},
	{"lab", raftLibraries, false, "its nodes are processes, so that it can't cheat"},
	{"api", raftLibraries, false, "whoever reads the API or uses its client must not need consensus"},
	{"api", []string{"pgctl"}, false, "HTTP shows what others know and runs nothing"},
	{"transport", []string{"fsm", "pgctl"}, false, "it moves bytes and knows no message"},
	{"config", raftLibraries, false, "reading a file must need no running part"},
}

func bans(r repo) (complaints []string) {
	for _, p := range r.inOrder() {
		if !p.ours() {
			continue
		}
		for _, b := range banned {
			if !under(p.path, b.from) {
				continue
			}
			reached := p.imports
			if !b.direct {
				reached = r.reach(p.path)
			}
			for _, to := range reached {
				if underAny(to, b.to) {
					complaints = append(complaints, fmt.Sprintf("%s reaches %s: %s", p.path, to, b.why))
				}
			}
		}
		for _, to := range slices.Concat(p.imports, p.testImports) {
			if under(to, "e2e") && !under(p.path, "e2e") {
				complaints = append(complaints, fmt.Sprintf("%s imports %s: e2e looks at everything, nothing looks at it", p.path, to))
			}
		}
		for _, to := range p.imports {
			if under(to, "internal/pgtest") && !under(p.path, "internal/pgtest") && !under(p.path, "e2e") {
				complaints = append(complaints, fmt.Sprintf("%s imports %s: only tests do", p.path, to))
			}
		}
	}
	return complaints
}

// reach returns what p imports, what those import, and so on, without looking into the standard library.
func (r repo) reach(p string) []string {
	seen := map[string]bool{p: true}
	var order []string
	for todo := []string{p}; len(todo) > 0; todo = todo[1:] {
		for _, to := range r.pkgs[todo[0]].imports {
			if seen[to] {
				continue
			}
			seen[to] = true
			order = append(order, to)
			if !r.pkgs[to].std {
				todo = append(todo, to)
			}
		}
	}
	return order
}

func meetOnlyInNode(r repo) (complaints []string) {
	for _, p := range r.inOrder() {
		if !p.ours() || under(p.path, "node") || under(p.path, "e2e") {
			continue
		}
		both := func(dir string) bool {
			return slices.ContainsFunc(p.imports, func(to string) bool { return under(to, dir) })
		}
		if both("cluster") && both("pgctl") {
			complaints = append(complaints, p.path+" imports cluster and pgctl: consensus and Postgres meet only in node")
		}
	}
	return complaints
}

// pure are the packages that decide: what goes in is values and ages, what comes out is values.
var pure = []string{"fsm", "failover", "cluster/lease", "internal/pg", "pgctl/rejoin"}

// impure are what neither they nor any package outside the standard library that they reach may import.
// What the standard library imports by itself (fmt imports os) does not count.
var impure = []string{
	"net", "os", "syscall", "math/rand", "crypto/rand", "context", "log",
	"github.com/hashicorp/go-hclog", "github.com/hashicorp/raft", "golang.org/x/sys",
}

// pureAndReached returns the pure packages and all outside the standard library that they reach.
func (r repo) pureAndReached() []pkg {
	var all []pkg
	for _, p := range r.inOrder() {
		if !p.ours() || !underAny(p.path, pure) {
			continue
		}
		all = append(all, p)
		for _, to := range r.reach(p.path) {
			if q, ok := r.pkgs[to]; ok && !q.std && !slices.ContainsFunc(all, func(a pkg) bool { return a.path == to }) {
				all = append(all, q)
			}
		}
	}
	return all
}

func purity(r repo) (complaints []string) {
	for _, p := range r.pureAndReached() {
		for _, to := range p.imports {
			if underAny(to, impure) {
				complaints = append(complaints, fmt.Sprintf("%s imports %s: equal values must give equal answers", p.path, to))
			}
		}
	}
	return complaints
}

// durations are the names of package time that are no clock.
var durations = []string{"Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour"}

func durationOnly(r repo) (complaints []string) {
	reached := r.pureAndReached()
	for _, f := range r.goFiles {
		in := func(p pkg) bool { return p.path == f.dir }
		if f.isTest() || !slices.ContainsFunc(reached, in) {
			continue
		}
		name := f.nameOf("time")
		if name == "." {
			complaints = append(complaints, f.path()+": imports time as \".\", which hides what it uses")
		}
		ast.Inspect(f.tree, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && isName(s.X, name) && !slices.Contains(durations, s.Sel.Name) {
				complaints = append(complaints, fmt.Sprintf("%s: time.%s: ages and durations go in, clocks don't", f.where(s.Pos()), s.Sel.Name))
			}
			return true
		})
	}
	return complaints
}

// nameOf returns what the file calls the package it imports as importPath, or "" if it doesn't import it.
func (f goFile) nameOf(importPath string) string {
	for _, i := range f.tree.Imports {
		if i.Path.Value != strconv.Quote(importPath) {
			continue
		}
		if i.Name != nil {
			return i.Name.Name
		}
		return path.Base(importPath)
	}
	return ""
}

func isName(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && name != "" && id.Name == name
}

// listPackages asks go list for all packages, what they import, and so on.
func listPackages(t *testing.T) map[string]pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-deps", "-tags", "hashicorpmetrics",
		"-json=ImportPath,Standard,Imports,TestImports,XTestImports", "./...")
	out, err := cmd.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			t.Fatalf("go list: %v\n%s", err, failed.Stderr)
		}
		t.Fatal(err)
	}
	pkgs := map[string]pkg{}
	for in := json.NewDecoder(strings.NewReader(string(out))); ; {
		var l struct {
			ImportPath                         string
			Standard                           bool
			Imports, TestImports, XTestImports []string
		}
		if err := in.Decode(&l); errors.Is(err, io.EOF) {
			return pkgs
		} else if err != nil {
			t.Fatal(err)
		}
		p := pkg{path: relative(l.ImportPath), std: l.Standard}
		for _, i := range l.Imports {
			p.imports = append(p.imports, relative(i))
		}
		for _, i := range slices.Concat(l.TestImports, l.XTestImports) {
			p.testImports = append(p.testImports, relative(i))
		}
		pkgs[p.path] = p
	}
}

func relative(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}
