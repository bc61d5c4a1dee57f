package sim

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// TestMirrorsAreFaithful: what the simulator copies of the product, because it is not exported there, is the same word for
// word. Without this the simulator would come to test itself.
func TestMirrorsAreFaithful(t *testing.T) {
	for _, m := range []struct {
		file, source string
		swap         []string // pairs: what the source says, and what the copy says instead
	}{
		{"mirror_node.go", "../../node", nil},
		{"mirror_evidence.go", "../../node", nil},
		{"mirror_fence.go", "../../node", []string{"guard.Now()", "f.now()"}},
		{"mirror_guard.go", "../../pgctl/guard", nil},
		{"mirror_pgctl.go", "../../pgctl", nil},
		{"mirror_ledger.go", "../../cluster/lead", nil},
		{"mirror_adopt.go", "../../cluster", nil},
	} {
		source := declarations(t, m.source+"/*.go")
		own := strings.NewReplacer(m.swap...)
		copied := declarations(t, m.file)
		if len(copied) == 0 {
			t.Errorf("%s copies nothing", m.file)
		}
		for name, text := range copied {
			original, there := source[name]
			switch {
			case name == "fence.now":
			case !there:
				t.Errorf("%s: %s is not in %s any more", m.file, name, m.source)
			case own.Replace(original) != text:
				t.Errorf("%s: %s differs from %s: copy it again\n--- there\n%s\n--- here\n%s", m.file, name, m.source, original, text)
			}
		}
	}
}

// declarations are the functions, types and constants of the files that match, by name, printed without comments.
func declarations(t *testing.T, pattern string) map[string]string {
	files, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			for name, node := range parts(d) {
				var text bytes.Buffer
				if err := printer.Fprint(&text, set, node); err != nil {
					t.Fatal(err)
				}
				out[name] = text.String()
			}
		}
	}
	return out
}

// parts are what one declaration declares: a method under its type's name.
func parts(d ast.Decl) map[string]ast.Node {
	out := map[string]ast.Node{}
	switch x := d.(type) {
	case *ast.FuncDecl:
		name := x.Name.Name
		if x.Recv != nil {
			of := x.Recv.List[0].Type
			if star, is := of.(*ast.StarExpr); is {
				of = star.X
			}
			if id, is := of.(*ast.Ident); is {
				name = id.Name + "." + name
			}
		}
		out[name] = x
	case *ast.GenDecl:
		for _, s := range x.Specs {
			switch spec := s.(type) {
			case *ast.TypeSpec:
				out[spec.Name.Name] = spec
			case *ast.ValueSpec:
				if x.Tok == token.CONST && len(spec.Values) == 1 {
					out[spec.Names[0].Name] = spec.Values[0]
				}
			}
		}
	}
	return out
}
