package config

import (
	"encoding"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// overlay sets every scalar field for which env has QUORATE_<SECTION>_<KEY>; a list takes comma-separated values. A
// QUORATE_ variable that names no key is an error: a misspelt one would otherwise silently do nothing.
func overlay(c *Config, env []string) error {
	known := map[string]reflect.Value{}
	collect("QUORATE", reflect.ValueOf(c).Elem(), known)
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		if !strings.HasPrefix(name, "QUORATE_") {
			continue
		}
		field, ok := known[name]
		if !ok {
			return fmt.Errorf("environment variable %s names no key of the node file", name)
		}
		if err := set(field, value); err != nil {
			return fmt.Errorf("environment variable %s=%q: %w", name, value, err)
		}
	}
	return nil
}

func collect(prefix string, v reflect.Value, known map[string]reflect.Value) {
	for i := range v.NumField() {
		key := v.Type().Field(i).Tag.Get("yaml")
		name := prefix + "_" + strings.ToUpper(key)
		if f := v.Field(i); f.Kind() == reflect.Struct {
			collect(name, f, known)
		} else if f.Kind() != reflect.Map {
			known[name] = f
		}
	}
}

func set(f reflect.Value, value string) error {
	if t, ok := f.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return t.UnmarshalText([]byte(value))
	}
	switch f.Kind() {
	case reflect.String:
		f.SetString(value)
	case reflect.Bool:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("not true or false")
		}
		f.SetBool(b)
	case reflect.Int:
		n, err := strconv.Atoi(value)
		if err != nil {
			return fmt.Errorf("not a whole number")
		}
		f.SetInt(int64(n))
	case reflect.Slice:
		f.Set(reflect.ValueOf(strings.Split(value, ",")).Convert(f.Type()))
	}
	return nil
}
