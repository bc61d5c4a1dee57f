package config

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// fillSecrets gives every field, and every map, whose key speaks of a secret a value, and returns them.
func fillSecrets(v reflect.Value, path string) map[string]string {
	given := map[string]string{}
	put := func(at string) string {
		given[at] = fmt.Sprintf("tell-nobody-%s", at)
		return given[at]
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			at := path + "." + name
			if f := v.Field(i); f.Kind() == reflect.String && (strings.Contains(name, "password") || strings.Contains(name, "secret")) {
				if name != "secret_file" { // Says where it is.
					f.SetString(put(at))
				}
				continue
			}
			for k, value := range fillSecrets(v.Field(i), at) {
				given[k] = value
			}
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for _, key := range []string{"app.password", "app.secret_key", "primary_conninfo"} {
			v.SetMapIndex(reflect.ValueOf(key), reflect.ValueOf(put(path+"."+key)))
		}
	}
	return given
}

// What people and programs are shown of a node file has no secret in it, whatever key comes to hold one.
func TestNothingSecretIsShown(t *testing.T) {
	c := Default()
	given := fillSecrets(reflect.ValueOf(&c).Elem(), "")
	if len(given) < 10 {
		t.Errorf("only %d values: %v", len(given), given)
	}
	text, err := c.YAML()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := c.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for at, value := range given {
		if strings.Contains(text, value) || strings.Contains(string(doc), value) {
			t.Errorf("%s is shown", at)
		}
	}
	if strings.Contains(text+string(doc), "tell-nobody") {
		t.Errorf("something is shown in\n%s", text)
	}
	if n := strings.Count(text, hidden); n != len(given) {
		t.Errorf("%d values are said to be given, %d are", n, len(given))
	}
	if got := c.PostgreSQL.Parameters["app.password"]; got != given[".postgresql.parameters.app.password"] {
		t.Errorf("what was shown was changed, too: %q", got)
	}
}
