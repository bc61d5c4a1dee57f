package config

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

const envPrefix = "QUORATE_"

// overlay sets every field for which env has QUORATE_<SECTION>_<KEY>; a list takes comma-separated values. A QUORATE_
// variable that names no key is an error: a misspelt one would otherwise silently do nothing. Patroni's are not read.
func (r *reader) overlay(c *Config, env []string) {
	known := map[string]variable{}
	collect("", reflect.ValueOf(c).Elem(), known)
	var patroni []string
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, "PATRONI_") {
			patroni = append(patroni, name)
		}
		if !strings.HasPrefix(name, envPrefix) {
			continue
		}
		v, ok := known[name]
		if !ok {
			hint := ""
			if near := nearest(name, slices.Sorted(maps.Keys(known))); near != "" {
				hint = "; did you mean " + near + "?"
			}
			r.errs = append(r.errs, Finding{Key: name, Text: "the environment variable names no key of the node file" + hint})
			continue
		}
		given := &item{kind: scalar, text: value}
		if v.field.Kind() == reflect.Slice {
			given = &item{kind: list}
			for _, one := range strings.Split(value, ",") {
				given.items = append(given.items, &item{kind: scalar, text: one})
			}
		}
		before := len(r.errs)
		r.value(given, v.field, v.path)
		for i := before; i < len(r.errs); i++ {
			r.errs[i].Key = name
		}
		r.seen[v.path] = place{as: name}
	}
	if len(patroni) > 0 {
		slices.Sort(patroni)
		r.patroni = true
		r.said = append(r.said, Finding{Key: "environment", Text: strings.Join(patroni, ", ") + ": Patroni's variables are not read; quorate's are " +
			envPrefix + "SECTION_KEY, such as QUORATE_NAME and QUORATE_POSTGRESQL_LISTEN"})
	}
}

// variable is a field that an environment variable can set.
type variable struct {
	field reflect.Value
	path  string
}

func collect(path string, v reflect.Value, known map[string]variable) {
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("yaml")
		at, f := join(path, key), v.Field(i)
		switch {
		case key == "-" || f.Kind() == reflect.Map:
		case f.Kind() == reflect.Struct:
			collect(at, f, known)
		default:
			known[envPrefix+strings.ToUpper(strings.ReplaceAll(at, ".", "_"))] = variable{f, at}
		}
	}
}
