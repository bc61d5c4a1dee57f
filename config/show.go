package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
)

// hidden stands for what nobody shall see.
const hidden = "(given, not shown)"

// YAML renders what is used, with all defaults, for people. It has no secrets.
func (c Config) YAML() (string, error) {
	hide(reflect.ValueOf(&c).Elem())
	b, err := yaml.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("render the node file: %w", err)
	}
	return string(b), nil
}

// JSON renders the same for programs.
func (c Config) JSON() (json.RawMessage, error) {
	text, err := c.YAML()
	if err != nil {
		return nil, err
	}
	b, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		return nil, fmt.Errorf("render the node file: %w", err)
	}
	return b, nil
}

// hide replaces every value that is given under a key for a secret, in v and below it. Maps are replaced, since the caller's
// are shared.
func hide(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			key, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			if f := v.Field(i); f.Kind() != reflect.String {
				hide(f)
			} else if confidential(key) && f.String() != "" {
				f.SetString(hidden)
			}
		}
	case reflect.Map:
		shown := reflect.MakeMap(v.Type())
		for e := v.MapRange(); e.Next(); {
			value := e.Value()
			if confidential(e.Key().String()) {
				value = reflect.ValueOf(hidden)
			}
			shown.SetMapIndex(e.Key(), value)
		}
		if !v.IsNil() {
			v.Set(shown)
		}
	}
}

// confidential says that what is given under key is for nobody's eyes. Where a secret's file is may be seen.
func confidential(key string) bool {
	if strings.HasSuffix(key, "_file") {
		return false
	}
	return key == "primary_conninfo" || strings.Contains(key, "password") || strings.Contains(key, "secret")
}
