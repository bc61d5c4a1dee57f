package quorate_test

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

// modelDir is kept apart from the rules of length and state: it is a model checker, written to be run and
// compared with reference/lease.md's rules line by line, and its transition relation is one function on purpose.
const modelDir = "docs/model"

// packageDocs: a package with code has a comment that says what it must never do. Packages of tests need none.
func packageDocs(r repo) (complaints []string) {
	docs := map[string]string{}
	for _, f := range r.goFiles {
		if !f.isTest() {
			docs[f.dir] += " " + f.tree.Doc.Text()
		}
	}
	for _, f := range r.goFiles {
		doc, ok := docs[f.dir]
		delete(docs, f.dir)
		if ok && !strings.Contains(strings.Join(strings.Fields(doc), " "), "must never") {
			complaints = append(complaints, f.dir+": the package comment does not say what the package must never do")
		}
	}
	return complaints
}

func packageNames(r repo) (complaints []string) {
	for _, f := range r.goFiles {
		for _, name := range []string{strings.TrimSuffix(f.tree.Name.Name, "_test"), path.Base(f.dir)} {
			if slices.Contains([]string{"util", "utils", "common", "types", "helpers", "misc"}, name) {
				complaints = append(complaints, fmt.Sprintf("%s: a package called %s says nothing of what it holds", f.path(), name))
				break
			}
		}
	}
	return complaints
}

func functionLength(r repo) (complaints []string) {
	for _, f := range r.goFiles {
		if f.isTest() || under(f.dir, modelDir) {
			continue
		}
		for _, d := range f.tree.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := f.line(fn.End()) - f.line(fn.Pos()) + 1; n > 70 {
				complaints = append(complaints, fmt.Sprintf("%s: %s has %d lines, the limit is 70", f.where(fn.Pos()), fn.Name.Name, n))
			}
		}
	}
	return complaints
}

func fileLength(r repo) (complaints []string) {
	for _, f := range r.goFiles {
		if n := len(f.lines); n > 500 && !f.isTest() && !under(f.dir, modelDir) {
			complaints = append(complaints, fmt.Sprintf("%s: %d lines, the limit is 500", f.path(), n))
		}
	}
	return complaints
}

// sleeps: test code, which is all of e2e and every _test.go, waits for a state and not for a time. In a bubble
// time is virtual: a sleep is allowed inside what is given to synctest.Test, or to a function of the package that
// runs it in there, and in functions that are used only from such places.
func sleeps(r repo) (complaints []string) {
	byDir := map[string][]goFile{}
	var dirs []string
	for _, f := range r.goFiles {
		if f.isTest() || under(f.dir, "e2e") {
			if byDir[f.dir] == nil {
				dirs = append(dirs, f.dir)
			}
			byDir[f.dir] = append(byDir[f.dir], f)
		}
	}
	for _, dir := range dirs {
		makers := bubbleMakers(byDir[dir])
		bubbled := bubbleFunctions(byDir[dir], makers)
		for _, f := range byDir[dir] {
			f.visit(makers, func(inside string, n ast.Node) {
				s, ok := n.(*ast.SelectorExpr)
				if ok && s.Sel.Name == "Sleep" && isName(s.X, f.nameOf("time")) && inside != inBubble && !bubbled[inside] {
					complaints = append(complaints, f.where(s.Pos())+": time.Sleep outside a bubble: wait for the state, with a deadline")
				}
			})
		}
	}
	return complaints
}

// inBubble stands for "lexically inside the arguments of a call that runs them in a bubble".
const inBubble = "synctest.Test"

// visit calls see for every node of every declaration, with the name of the function it is in, or inBubble.
// makers are the functions, besides synctest.Test, that run their arguments in a bubble.
func (f goFile) visit(makers map[string]bool, see func(inside string, n ast.Node)) {
	makesBubble := func(call *ast.CallExpr) bool {
		switch fun := call.Fun.(type) {
		case *ast.Ident:
			return makers[fun.Name]
		case *ast.SelectorExpr:
			return fun.Sel.Name == "Test" && isName(fun.X, f.nameOf("testing/synctest"))
		}
		return false
	}
	var walk func(inside string, root ast.Node)
	walk = func(inside string, root ast.Node) {
		ast.Inspect(root, func(n ast.Node) bool {
			if n == nil {
				return false
			}
			see(inside, n)
			call, ok := n.(*ast.CallExpr)
			if !ok || !makesBubble(call) {
				return true
			}
			for _, a := range call.Args {
				walk(inBubble, a)
			}
			return false
		})
	}
	for _, d := range f.tree.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			walk("", d)
		} else if fn.Body != nil {
			walk(fn.Name.Name, fn.Body)
		}
	}
}

// bubbleMakers returns the functions that take functions and use every one of them inside synctest.Test only.
func bubbleMakers(files []goFile) map[string]bool {
	makers := map[string]bool{}
	for _, f := range files {
		usedIn := map[string]map[string]bool{}
		f.visit(nil, func(inside string, n ast.Node) {
			id, ok := n.(*ast.Ident)
			if !ok {
				return
			}
			if usedIn[id.Name] == nil {
				usedIn[id.Name] = map[string]bool{}
			}
			usedIn[id.Name][inside] = true
		})
		for _, d := range f.tree.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil {
				continue
			}
			given, ok := 0, true
			for _, field := range fn.Type.Params.List {
				if _, isFunc := field.Type.(*ast.FuncType); !isFunc {
					continue
				}
				for _, name := range field.Names {
					given++
					ok = ok && usedIn[name.Name][inBubble] && !usedIn[name.Name][fn.Name.Name]
				}
			}
			if ok && given > 0 {
				makers[fn.Name.Name] = true
			}
		}
	}
	return makers
}

// bubbleFunctions returns the functions and methods of a package's tests that are used, and only from bubbles.
func bubbleFunctions(files []goFile, makers map[string]bool) map[string]bool {
	declared, usedIn := map[string]bool{}, map[string]map[string]bool{}
	for _, f := range files {
		for _, d := range f.tree.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				declared[fn.Name.Name] = true
			}
		}
		f.visit(makers, func(inside string, n ast.Node) {
			if id, ok := n.(*ast.Ident); ok {
				if usedIn[id.Name] == nil {
					usedIn[id.Name] = map[string]bool{}
				}
				usedIn[id.Name][inside] = true
			}
		})
	}
	bubbled := map[string]bool{}
	for grew := true; grew; {
		grew = false
		for name := range declared {
			ok := len(usedIn[name]) > 0 && !bubbled[name]
			for inside := range usedIn[name] {
				ok = ok && (inside == inBubble || bubbled[inside] || inside == name && len(usedIn[name]) > 1)
			}
			if ok {
				bubbled[name], grew = true, true
			}
		}
	}
	return bubbled
}

// harmless are functions whose result nothing can change: sentinels and tables made at start.
var harmless = []string{
	"errors.New", "fmt.Errorf", "regexp.MustCompile", "crc32.MakeTable", "strings.NewReplacer",
	"netip.MustParseAddr", "netip.MustParsePrefix", "template.Must",
}

// packageState: package variables are sentinels, embedded files, interface checks, or unexported tables that
// nothing in the package writes to. Without types a table handed to a function that writes to it is not seen.
func packageState(r repo) (complaints []string) {
	for _, f := range r.goFiles {
		if f.isTest() || under(f.dir, modelDir) {
			continue
		}
		for _, d := range f.tree.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				spec := s.(*ast.ValueSpec)
				embedded := strings.Contains(commentText(g.Doc)+commentText(spec.Doc), "//go:embed")
				for i, name := range spec.Names {
					if name.Name == "_" || embedded || fixedValue(spec, i) && !r.written(f.dir, spec, name.Name) {
						continue
					}
					complaints = append(complaints, fmt.Sprintf("%s: var %s is state of the package: give it to who needs it, or make it a constant",
						f.where(name.Pos()), name.Name))
				}
			}
		}
	}
	return complaints
}

// commentText is the comment with its directives, which ast's own Text leaves out.
func commentText(g *ast.CommentGroup) (all string) {
	if g == nil {
		return ""
	}
	for _, c := range g.List {
		all += c.Text + "\n"
	}
	return all
}

// fixedValue tells whether the i-th variable gets a value that can serve as a constant.
func fixedValue(spec *ast.ValueSpec, i int) bool {
	if i >= len(spec.Values) {
		return false
	}
	switch v := spec.Values[i].(type) {
	case *ast.CompositeLit:
		return !spec.Names[i].IsExported()
	case *ast.CallExpr:
		switch fun := v.Fun.(type) {
		case *ast.SelectorExpr:
			if x, ok := fun.X.(*ast.Ident); ok {
				return slices.Contains(harmless, x.Name+"."+fun.Sel.Name)
			}
		case *ast.ArrayType: // []byte("...")
			return !spec.Names[i].IsExported()
		}
	}
	return false
}

// written tells whether the package in dir assigns to the variable, to a part of it, or takes its address.
func (r repo) written(dir string, spec *ast.ValueSpec, name string) bool {
	found := false
	isIt := func(e ast.Expr) bool {
		id := root(e)
		// The parser resolves names within one file; one that it could not resolve is the package's.
		return id != nil && id.Name == name && (id.Obj == nil || id.Obj.Decl == spec)
	}
	for _, f := range r.goFiles {
		if f.dir != dir {
			continue
		}
		ast.Inspect(f.tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.AssignStmt:
				found = found || n.Tok != token.DEFINE && slices.ContainsFunc(n.Lhs, isIt)
			case *ast.IncDecStmt:
				found = found || isIt(n.X)
			case *ast.UnaryExpr:
				found = found || n.Op == token.AND && isIt(n.X)
			case *ast.CallExpr:
				if fun, ok := n.Fun.(*ast.Ident); ok && slices.Contains([]string{"delete", "clear", "copy"}, fun.Name) {
					found = found || isIt(n.Args[0])
				}
			}
			return true
		})
	}
	return found
}

// root is the variable that an expression such as x.f[i] is a part of, or nil.
func root(e ast.Expr) *ast.Ident {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x
		case *ast.SelectorExpr:
			e = x.X
		case *ast.IndexExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.SliceExpr:
			e = x.X
		default:
			return nil
		}
	}
}

// later is put together so that this file does not complain about itself.
var later = regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`)

// leftForLater looks at comments of Go files and at every line of scripts and configuration. Prose may speak of it.
func leftForLater(r repo) (complaints []string) {
	for _, f := range r.goFiles {
		for _, g := range f.tree.Comments {
			for _, c := range g.List {
				if word := later.FindString(c.Text); word != "" {
					complaints = append(complaints, fmt.Sprintf("%s: %s: do it, or write an issue", f.where(c.Pos()), word))
				}
			}
		}
	}
	for _, t := range r.texts {
		for i, line := range t.lines {
			if word := later.FindString(line); word != "" && path.Ext(t.name) != ".md" && path.Base(t.name) != "go.sum" {
				complaints = append(complaints, fmt.Sprintf("%s:%d: %s: do it, or write an issue", t.name, i+1, word))
			}
		}
	}
	return complaints
}

// outside matches paths of the machine that a file was written on, and of the directories beside the checkout.
var outside = regexp.MustCompile(`(^|[^A-Za-z0-9_.\-/])(/wor` + `k/|/home/[a-z]|\.\./sha` + `red/)`)

func outsidePlaces(r repo) (complaints []string) {
	look := func(name string, lines []string) {
		for i, line := range lines {
			if place := outside.FindString(line); place != "" {
				complaints = append(complaints, fmt.Sprintf("%s:%d: %q is a place outside the repository", name, i+1, strings.TrimSpace(place)))
			}
		}
	}
	for _, f := range r.goFiles {
		look(f.path(), f.lines)
	}
	for _, t := range r.texts {
		look(t.name, t.lines)
	}
	return complaints
}
