package netns

import (
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	none := "table inet quorate_lab\ndelete table inet quorate_lab\n"
	if got := rules(nil); got != none {
		t.Errorf("nothing to drop: %q", got)
	}
	got := rules([]Deny{{From: []string{"10.0.0.1", "10.0.0.2"}}, {From: []string{"10.0.0.3"}, Port: "5432"}})
	want := none + `table inet quorate_lab {
chain in { type filter hook input priority -300;
ip saddr { 10.0.0.1, 10.0.0.2 } drop;
ip saddr { 10.0.0.3 } meta l4proto { tcp, udp } th dport 5432 drop;
ip saddr { 10.0.0.3 } meta l4proto { tcp, udp } th sport 5432 drop;
}
}
`
	if got != want {
		t.Errorf("got\n%s", strings.TrimPrefix(got, none))
	}
}
