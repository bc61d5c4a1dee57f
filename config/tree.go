package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

type kind int

const (
	absent kind = iota // null, ~ or nothing
	scalar
	list
	mapping
)

// item is a value of a YAML or JSON document with its place. Aliases and merge keys are resolved.
type item struct {
	kind  kind
	line  int
	text  string // of a scalar, as written, without its quotes
	plain bool   // a scalar without quotes, which may be a number or a boolean
	items []*item
	pairs []*pair // in the order of the file, without duplicates
	// concealed: it may be a secret, which no message repeats.
	concealed bool
}

// pair is a key with its value.
type pair struct {
	key   string
	line  int
	was   string // the key that was written, where another one took its place
	value *item
}

func (m *item) find(key string) *pair {
	for _, p := range m.pairs {
		if p.key == key {
			return p
		}
	}
	return nil
}

func (m *item) remove(key string) {
	for i, p := range m.pairs {
		if p.key == key {
			m.pairs = append(m.pairs[:i:i], m.pairs[i+1:]...)
			return
		}
	}
}

// String says what was given, for messages.
func (m *item) String() string {
	switch m.kind {
	case scalar:
		if m.concealed {
			return notShown
		}
		return fmt.Sprintf("%q", m.text)
	case list:
		return "a list"
	case mapping:
		return "a section with keys"
	}
	return "nothing"
}

// equal tells whether both say the same.
func (m *item) equal(o *item) bool {
	if m.kind != o.kind || m.text != o.text || len(m.items) != len(o.items) || len(m.pairs) != len(o.pairs) {
		return false
	}
	for i := range m.items {
		if !m.items[i].equal(o.items[i]) {
			return false
		}
	}
	for _, p := range m.pairs {
		if q := o.find(p.key); q == nil || !p.value.equal(q.value) {
			return false
		}
	}
	return true
}

// maxItems bounds what aliases of aliases can become.
const maxItems = 100_000

// grower makes items of the parser's nodes.
type grower struct {
	anchors map[string]ast.Node
	open    map[string]bool // anchors that are being resolved: an alias of its own anchor has no end
	count   int
}

// parse reads one YAML document, of which JSON is a kind, whose top is a mapping. Nothing at all is an empty one.
func parse(b []byte) (*item, error) {
	file, err := parser.ParseBytes(b, 0)
	if err != nil {
		return nil, syntax(err)
	}
	g := grower{anchors: map[string]ast.Node{}, open: map[string]bool{}}
	top := &item{kind: mapping}
	for n, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if n > 0 && len(top.pairs) > 0 {
			return nil, Invalid{{Line: lineOf(doc.Body), Text: "a second document begins here: keep one"}}
		}
		if top, err = g.grow(doc.Body); err != nil {
			return nil, err
		}
	}
	if top.kind == absent {
		return &item{kind: mapping}, nil
	}
	if top.kind != mapping {
		return nil, Invalid{{Line: top.line, Text: fmt.Sprintf("%s was given, expected keys with values, KEY: VALUE", top)}}
	}
	return top, nil
}

func syntax(err error) error {
	var y yaml.Error
	if errors.As(err, &y) && y.GetToken() != nil && y.GetToken().Position != nil {
		return Invalid{{Line: y.GetToken().Position.Line, Text: y.GetMessage()}}
	}
	return Invalid{{Text: err.Error()}}
}

func lineOf(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

func (g *grower) grow(n ast.Node) (*item, error) {
	if g.count++; g.count > maxItems {
		return nil, Invalid{{Line: lineOf(n), Text: "the document is too large"}}
	}
	switch v := n.(type) {
	case *ast.AnchorNode:
		g.anchors[v.Name.GetToken().Value] = v.Value
		return g.grow(v.Value)
	case *ast.AliasNode:
		return g.alias(v)
	case *ast.TagNode:
		return g.tagged(v)
	case *ast.NullNode:
		return &item{kind: absent, line: lineOf(n)}, nil
	case *ast.StringNode:
		quoted := v.Token.Type == token.SingleQuoteType || v.Token.Type == token.DoubleQuoteType
		return &item{kind: scalar, line: lineOf(n), text: v.Value, plain: !quoted}, nil
	case *ast.LiteralNode:
		return &item{kind: scalar, line: lineOf(n), text: v.Value.Value}, nil
	case *ast.SequenceNode:
		out := &item{kind: list, line: lineOf(n)}
		for _, e := range v.Values {
			one, err := g.grow(e)
			if err != nil {
				return nil, err
			}
			out.items = append(out.items, one)
		}
		return out, nil
	case *ast.MappingNode:
		return g.pairs(n, v.Values)
	case *ast.MappingValueNode:
		return g.pairs(n, []*ast.MappingValueNode{v})
	case ast.ScalarNode: // numbers and booleans, as they were written
		return &item{kind: scalar, line: lineOf(n), text: v.GetToken().Value, plain: true}, nil
	}
	return nil, Invalid{{Line: lineOf(n), Text: fmt.Sprintf("%q is not understood", n)}}
}

func (g *grower) alias(v *ast.AliasNode) (*item, error) {
	name := v.Value.GetToken().Value
	node, ok := g.anchors[name]
	if !ok || g.open[name] {
		return nil, Invalid{{Line: lineOf(v), Text: fmt.Sprintf("*%[1]s is an alias, and there is no &%[1]s before it; "+
			"if a * is meant, put it in quotes: '*%[1]s'", name)}}
	}
	g.open[name] = true
	defer delete(g.open, name)
	return g.grow(node)
}

func (g *grower) tagged(v *ast.TagNode) (*item, error) {
	tag := v.Start.Value
	if !strings.HasPrefix(tag, "!!") {
		return nil, Invalid{{Line: lineOf(v), Text: fmt.Sprintf("the tag %s is not understood", tag)}}
	}
	out, err := g.grow(v.Value)
	if err == nil && tag == "!!str" {
		out.plain = false
	}
	return out, err
}

func (g *grower) pairs(n ast.Node, values []*ast.MappingValueNode) (*item, error) {
	out := &item{kind: mapping, line: lineOf(n)}
	var merged []*item
	for _, v := range values {
		value, err := g.grow(v.Value)
		if name := v.Key.GetToken().Value; err != nil && confidential(name) {
			return nil, Invalid{{Line: lineOf(v.Key), Key: name, Text: "its value (not shown) is not understood: put it in quotes"}}
		}
		if err != nil {
			return nil, err
		}
		if v.Key.IsMergeKey() {
			merged = append(merged, value)
			continue
		}
		key, err := g.grow(v.Key)
		if err != nil {
			return nil, err
		}
		if key.kind != scalar {
			return nil, Invalid{{Line: lineOf(v.Key), Text: "a key is one word"}}
		}
		if out.find(key.text) != nil {
			return nil, Invalid{{Line: key.line, Key: key.text, Text: "it is given twice"}}
		}
		out.pairs = append(out.pairs, &pair{key: key.text, line: key.line, value: value})
	}
	for _, m := range merged { // What is written beside the merge key goes first, wherever it stands.
		sources := []*item{m}
		if m.kind == list {
			sources = m.items
		}
		for _, s := range sources {
			for _, p := range s.pairs {
				if out.find(p.key) == nil {
					out.pairs = append(out.pairs, p)
				}
			}
		}
	}
	return out, nil
}
