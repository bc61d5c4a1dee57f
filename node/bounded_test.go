package node

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/failover"
)

// TestNoTextKeepsABeatFromBeingSent: whatever is written into a report, with the worst characters for its encoding, it is sent; and
// every text of a report is one that is bounded.
func TestNoTextKeepsABeatFromBeingSent(t *testing.T) {
	long, many := strings.Repeat("\x01", 1<<17), slices.Repeat([]string{strings.Repeat("\x01", 1<<17)}, 1000)
	r := failover.Report{}
	fill(reflect.ValueOf(&r).Elem(), long, many)
	raw, err := json.Marshal(bounded(r))
	if err != nil || len(raw) > 64<<10-2048 { // with what else is in a beat
		t.Errorf("%d bytes, %v", len(raw), err)
	}
	if len(r.Warnings[0]) != 1<<17 {
		t.Error("it has changed what it was given")
	}
	small := failover.Report{Problem: "p", Warnings: []string{"w"}, Config: failover.Configured{Pending: []string{"a", "b"}}}
	if got := bounded(small); !reflect.DeepEqual(got, small) {
		t.Errorf("%+v", got)
	}
}

// fill gives a value to all plain texts and lists of them.
func fill(v reflect.Value, text string, list []string) {
	for i := range v.NumField() {
		switch f := v.Field(i); {
		case f.Type() == reflect.TypeFor[string]():
			f.SetString(text)
		case f.Type() == reflect.TypeFor[[]string]():
			f.Set(reflect.ValueOf(list))
		case f.Kind() == reflect.Struct:
			fill(f, text, list)
		}
	}
}
