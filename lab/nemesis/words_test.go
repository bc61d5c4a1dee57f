package nemesis_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/quorate/quorate/lab/nemesis"
)

// TestAmbushesWaitForWhatIsLogged: the product logs each word, at a level that labs have their daemons write. Of one that nobody
// logs any more nothing would ever be made.
func TestAmbushesWaitForWhatIsLogged(t *testing.T) {
	said, words := sayings(t), map[string]bool{}
	deck := nemesis.New(1, whole)
	for range 3 * len(deck.Kinds()) {
		for _, s := range deck.Deal().Steps {
			if s.Do == nemesis.Ambush {
				words[s.Word] = true
			}
		}
	}
	if len(words) != 5 {
		t.Errorf("the words are %v, and five things are killed in the middle of", words)
	}
	for w := range words {
		if !said.has(w) {
			t.Errorf("an ambush waits for %q, which nobody logs", w)
		}
	}
	for _, w := range []string{
		"", "settings on tri", "looked again", // that is for who debugs
		"next step", "next step: step=dance", "next step: because=promote", "clone begins: step=promote",
	} {
		if want := w == "next step"; said.has(w) != want {
			t.Errorf("%q is logged: %v", w, !want)
		}
	}
}

// logged is what the product says: the texts of its log lines, each with the name of the first value, and the kinds of steps, which
// are such values.
type logged struct {
	texts map[string][]string
	kinds map[string]bool
}

// has says whether a line begins so: with a text, or with a text and a first value that is a kind of step.
func (l logged) has(word string) bool {
	text, first, some := strings.Cut(word, ": ")
	names, known := l.texts[text]
	name, value, _ := strings.Cut(first, "=")
	return known && (!some || slices.Contains(names, name) && l.kinds[value])
}

// sayings reads the product's source: what the program is made of, but for the lab.
func sayings(t *testing.T) logged {
	t.Helper()
	l := logged{texts: map[string][]string{}, kinds: map[string]bool{}}
	root := filepath.Join("..", "..")
	for _, dir := range []string{"cluster", "node", "pgctl"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			tree, err := parser.ParseFile(token.NewFileSet(), path, content, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(tree, l.note)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// note adds what one node of the source logs, or names as a kind of step.
func (l logged) note(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CallExpr:
		level, ok := n.Fun.(*ast.SelectorExpr)
		if ok && slices.Contains([]string{"Info", "Warn", "Error"}, level.Sel.Name) && len(n.Args) > 0 {
			if text := literal(n.Args[0]); text != "" {
				name := ""
				if len(n.Args) > 1 {
					name = literal(n.Args[1])
				}
				l.texts[text] = append(l.texts[text], name)
			}
		}
	case *ast.ValueSpec:
		if kind, ok := n.Type.(*ast.Ident); ok && kind.Name == "StepKind" {
			for _, v := range n.Values {
				l.kinds[literal(v)] = true
			}
		}
	}
	return true
}

// literal is the text of a string literal, "" of all else.
func literal(e ast.Expr) string {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	text, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return text
}
