package sim

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestTheWorldIsClosed: nothing in the simulated world reads a real clock, does I/O, draws from a source that no seed feeds or starts
// a goroutine. A seed that one of these had a part in could not be replayed.
func TestTheWorldIsClosed(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || name == "hunt.go" { // which plays many worlds, and is in none
			continue
		}
		looked++
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, what := range leaks(file) {
			t.Errorf("%s: %s", name, what)
		}
	}
	if looked == 0 {
		t.Error("no file was looked at")
	}
}

// leaks names what lets the real world in.
func leaks(file *ast.File) (out []string) {
	banned := []string{"os", "os/exec", "syscall", "math/rand", "crypto/rand", "context", "golang.org/x/sys/unix"}
	for _, i := range file.Imports {
		if path, err := strconv.Unquote(i.Path.Value); err == nil && slices.Contains(banned, path) {
			out = append(out, "imports "+path)
		}
	}
	allowed := map[string][]string{
		"time": {"Duration", "Nanosecond", "Microsecond", "Millisecond", "Second", "Minute", "Hour"},
		"net":  {"SplitHostPort"},
		"rand": {"New", "NewPCG", "Rand"}, // no source but a seed's
		"io":   {"Writer"},                // the tape
		"sync": {"Mutex"},                 // of what is copied word for word; nobody else is there
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch x := n.(type) {
		case *ast.GoStmt:
			out = append(out, "starts a goroutine")
		case *ast.SelectStmt, *ast.SendStmt, *ast.ChanType:
			out = append(out, "has a channel")
		case *ast.SelectorExpr:
			of, is := x.X.(*ast.Ident)
			if !is || of.Obj != nil {
				return true
			}
			if names, known := allowed[of.Name]; known && !slices.Contains(names, x.Sel.Name) {
				out = append(out, of.Name+"."+x.Sel.Name)
			}
		}
		return true
	})
	return out
}

// A world that does all of it shows that the test can fail.
func TestLeaksAreSeen(t *testing.T) {
	const source = `package sim
import ("os"; "time"; "math/rand/v2")
func f(c chan int) { go f(c); c <- 1; _ = time.Now(); _ = rand.IntN(3); _ = os.Args }`
	file, err := parser.ParseFile(token.NewFileSet(), "f.go", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := leaks(file)
	for _, want := range []string{"imports os", "starts a goroutine", "has a channel", "time.Now", "rand.IntN"} {
		if !slices.Contains(got, want) {
			t.Errorf("%q was not seen among %q", want, got)
		}
	}
}
