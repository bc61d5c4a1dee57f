package config

import (
	"encoding"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// decode sets the fields of into, a struct, from the keys of the document that have their name. A key that names none is an
// error with the one that was probably meant; null is as if the key were not there.
func (r *reader) decode(into reflect.Value) { r.fields(r.top, into, strings.TrimSuffix(r.root, ".")) }

func (r *reader) fields(m *item, into reflect.Value, path string) {
	for _, p := range m.pairs {
		at := join(path, p.key)
		if p.value.kind == absent {
			if _, known := fieldOf(into, p.key); !known {
				r.unknown(p, into, path)
			}
			continue
		}
		field, known := fieldOf(into, p.key)
		if !known && (!field.IsValid() || p.value.kind != scalar || nearest(p.key, siblings(into, path)) != "") {
			r.unknown(p, into, path)
			continue
		}
		r.seen[at] = place{line: p.line, as: r.name(at)}
		if p.was != "" {
			r.seen[at] = place{line: p.line, as: r.name(p.was)}
		}
		if !known {
			if field.IsNil() {
				field.Set(reflect.MakeMap(field.Type()))
			}
			field.SetMapIndex(reflect.ValueOf(p.key), reflect.ValueOf(valueOf(p.value)))
			continue
		}
		r.value(p.value, field, at)
	}
}

// fieldOf returns the field for a key. Where there is none it is the one for any other key, if the struct has that.
func fieldOf(into reflect.Value, key string) (field reflect.Value, known bool) {
	for i := range into.NumField() {
		switch into.Type().Field(i).Tag.Get("yaml") {
		case "-":
		case ",inline":
			field = into.Field(i)
		case key, key + ",omitempty":
			return into.Field(i), true
		}
	}
	return field, false
}

// value sets one field.
func (r *reader) value(v *item, field reflect.Value, at string) {
	wrong := func(expected string) { r.fail(v.line, at, "%s was given, expected %s", v, expected) }
	if _, ok := field.Interface().(Addresses); ok {
		r.addresses(v, field, at)
		return
	}
	if t, ok := field.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if v.kind != scalar {
			wrong("one value")
		} else if err := t.UnmarshalText([]byte(v.text)); err != nil {
			r.fail(v.line, at, "%s", err)
		}
		return
	}
	switch field.Kind() {
	case reflect.Struct:
		if v.kind != mapping {
			wrong("keys below it, such as " + strings.Join(tags(field.Type()), ", "))
			return
		}
		r.fields(v, field, at)
	case reflect.Slice:
		r.texts(v, field, at)
	case reflect.Map:
		r.settings(v, field, at)
	default:
		if v.kind != scalar || !setScalar(field, v) {
			wrong(map[reflect.Kind]string{reflect.String: "text", reflect.Bool: "true or false"}[field.Kind()] + wholeNumber(field.Kind()))
		}
	}
}

func wholeNumber(k reflect.Kind) string {
	if k == reflect.Int || k == reflect.Int64 {
		return "a whole number"
	}
	return ""
}

// setScalar returns false for a value that is none of the field's type.
func setScalar(field reflect.Value, v *item) bool {
	switch field.Kind() {
	case reflect.String:
		field.SetString(v.text)
	case reflect.Bool:
		b, ok := boolean(v)
		field.SetBool(b)
		return ok
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(v.text, 10, field.Type().Bits())
		if err == nil {
			field.SetInt(n)
		}
		return err == nil
	}
	return true
}

// boolean understands what YAML 1.1, which Patroni reads, takes for one.
func boolean(v *item) (value, ok bool) {
	if v.kind != scalar {
		return false, false
	}
	switch strings.ToLower(v.text) {
	case "true", "on", "yes", "1":
		return true, true
	case "false", "off", "no", "0":
		return false, true
	}
	return false, false
}

// valueOf is a scalar as the type that it looks like.
func valueOf(v *item) any {
	if v.plain {
		if b, err := strconv.ParseBool(strings.ToLower(v.text)); err == nil && len(v.text) > 1 {
			return b
		}
		if n, err := strconv.ParseInt(v.text, 10, 64); err == nil {
			return n
		}
		if f, err := strconv.ParseFloat(v.text, 64); err == nil && !math.IsInf(f, 0) && !math.IsNaN(f) {
			return f
		}
	}
	return v.text
}

func (r *reader) texts(v *item, field reflect.Value, at string) {
	if v.kind != list {
		r.fail(v.line, at, "%s was given, expected a list, one - for each line", v)
		return
	}
	out := make([]string, 0, len(v.items))
	for n, e := range v.items {
		if e.kind != scalar {
			r.fail(e.line, at, "entry %d is %s, expected text: put it in quotes if it has a colon", n+1, e)
			continue
		}
		out = append(out, e.text)
	}
	field.Set(reflect.ValueOf(out).Convert(field.Type()))
}

// settings reads NAME: VALUE pairs, whose values may be numbers and booleans.
func (r *reader) settings(v *item, field reflect.Value, at string) {
	if v.kind != mapping {
		r.fail(v.line, at, "%s was given, expected NAME: VALUE pairs", v)
		return
	}
	out := map[string]string{}
	for _, p := range v.pairs {
		switch p.value.kind {
		case absent:
			continue
		case scalar:
			out[p.key] = p.value.text
		case list:
			r.fail(p.line, join(at, p.key), "a list was given, expected one value: write it as Postgres does, 'a, b'")
		case mapping:
			r.fail(p.line, join(at, p.key), "%s was given, expected one value: a name with a dot is one key, '%s.NAME'", p.value, p.key)
		}
		r.seen[join(at, p.key)] = place{line: p.line, as: r.name(join(at, p.key))}
	}
	field.Set(reflect.ValueOf(out))
}

// addresses reads a list of host:port. In a flow mapping, cluster: { peers: [10.0.0.1:7400] }, YAML takes an unquoted
// host:port for a mapping with one entry; nobody means that here.
func (r *reader) addresses(v *item, field reflect.Value, at string) {
	flat := &item{kind: v.kind, line: v.line, text: v.text}
	for _, e := range v.items {
		if e.kind == mapping && len(e.pairs) == 1 && e.pairs[0].value.kind == scalar {
			e = &item{kind: scalar, line: e.pairs[0].line, text: e.pairs[0].key + ":" + e.pairs[0].value.text}
		}
		flat.items = append(flat.items, e)
	}
	r.texts(flat, field, at)
}

// maxHints is for how many mistakes it is looked what was meant: a misspelt file has a few, and each look takes a while.
const maxHints = 100

// unknown complains of a key that is none, with what was probably meant: beside it, or anywhere.
func (r *reader) unknown(p *pair, into reflect.Value, path string) {
	at := join(path, p.key)
	if len(r.errs) >= maxHints {
		r.fail(p.line, at, "unknown key")
		return
	}
	if k, ok := keyOf(at); ok && k.Fate == Used {
		r.fail(p.line, at, "it belongs in each node's file, as %s", strings.TrimPrefix(at, dcs+"."))
		return
	}
	if elsewhere := r.elsewhere(p.key); elsewhere != "" {
		r.fail(p.line, at, "unknown key here; did you mean %q?", r.name(elsewhere))
	} else if near := nearest(p.key, siblings(into, path)); near != "" {
		r.fail(p.line, at, "unknown key; did you mean %q?", near)
	} else {
		r.fail(p.line, at, "unknown key")
	}
}

// siblings are the keys that may stand in a section.
func siblings(into reflect.Value, path string) []string {
	out := tags(into.Type())
	for _, k := range Keys() {
		at := strings.LastIndexByte(k.Path, '.')
		parent, name := k.Path[:max(at, 0)], k.Path[at+1:]
		here := parent == path || dcs+"."+parent == path || matches(parent, path)
		if here && !strings.HasPrefix(name, "<") && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// elsewhere returns the path of the key with that very name in another section.
func (r *reader) elsewhere(key string) string {
	all := paths("", reflect.TypeFor[Config]())
	for _, k := range Keys() {
		all = append(all, k.Path)
	}
	for _, path := range all {
		if strings.HasPrefix(path, r.root) && strings.HasSuffix(path, "."+key) && !strings.Contains(path, "*") {
			return path
		}
	}
	return ""
}

// tags are the yaml keys of a struct.
func tags(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if name != "" && name != "-" {
			out = append(out, name)
		}
	}
	return out
}

// paths lists all keys of a struct with their sections.
func paths(prefix string, t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		out = append(out, join(prefix, name))
		if f := t.Field(i).Type; f.Kind() == reflect.Struct {
			out = append(out, paths(join(prefix, name), f)...)
		}
	}
	return out
}

// nearest is the key with the fewest changes from word, empty if that is no misspelling of it.
func nearest(word string, of []string) string {
	best, fewest := "", min(3, max(1, (len(word)+1)/3))+1
	for _, k := range of {
		if d := changes(word, k); d < fewest {
			best, fewest = k, d
		}
	}
	return best
}

// changes counts the letters to insert, remove, replace or exchange with their neighbour between a and b.
func changes(a, b string) int {
	rows := make([][]int, len(a)+1) // rows[i][j]: between the first i of a and the first j of b
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		for j := range rows[i] {
			switch {
			case i == 0 || j == 0:
				rows[i][j] = i + j
			case a[i-1] == b[j-1]:
				rows[i][j] = rows[i-1][j-1]
			default:
				rows[i][j] = 1 + min(rows[i-1][j-1], rows[i-1][j], rows[i][j-1])
				if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
					rows[i][j] = min(rows[i][j], 1+rows[i-2][j-2])
				}
			}
		}
	}
	return rows[len(a)][len(b)]
}
