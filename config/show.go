package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// hidden stands for what nobody shall see.
const hidden = "(given, not shown)"

// YAML renders what is used, with all defaults, for people. It has no secrets.
func (c Config) YAML() (string, error) {
	hide(reflect.ValueOf(&c).Elem())
	if c.Fencing.KillAfter == 0 {
		c.Fencing.KillAfter = c.Bootstrap.DCS.FailoverAfter / 4
	}
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

// notShown stands for such a value in a message.
const notShown = "a value (not shown)"

// confidential says that what is given under key is for nobody's eyes. Where a secret's file is may be seen.
func confidential(key string) bool {
	key = strings.ToLower(key)
	if strings.HasSuffix(key, "_file") {
		return false
	}
	return key == "primary_conninfo" || strings.Contains(key, "password") || strings.Contains(key, "secret")
}

// concealed says the same of a path for messages, which must not repeat what somebody put into the wrong place: below
// authentication, a password may stand where a section is meant.
func concealed(path string) bool {
	return slices.ContainsFunc(strings.Split(path, "."), func(key string) bool { return confidential(key) || key == "authentication" })
}

// quoted is a value for a message about path.
func quoted(path, value string) string {
	if concealed(path) {
		return notShown
	}
	return strconv.Quote(value)
}

// conceal has messages not repeat what stands in m, which is at path, where that may be a secret.
func (m *item) conceal(path string) {
	m.concealed = concealed(path)
	for _, e := range m.items {
		e.conceal(path)
	}
	for _, p := range m.pairs {
		p.value.conceal(join(path, p.key))
	}
}
