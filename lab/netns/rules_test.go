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
	got := rules([]Deny{{From: []string{"10.0.0.1", "10.0.0.2"}}, {From: []string{"10.0.0.3"}, Port: "5432"},
		{From: []string{"10.0.0.4"}, Loss: 20}, {From: []string{"10.0.0.5"}, Port: "7400", Loss: 3}})
	want := none + `table inet quorate_lab {
chain in { type filter hook input priority -300;
ip saddr { 10.0.0.1, 10.0.0.2 } drop;
ip saddr { 10.0.0.3 } meta l4proto { tcp, udp } th dport 5432 drop;
ip saddr { 10.0.0.3 } meta l4proto { tcp, udp } th sport 5432 drop;
ip saddr { 10.0.0.4 } numgen random mod 100 < 20 drop;
ip saddr { 10.0.0.5 } meta l4proto { tcp, udp } th dport 7400 numgen random mod 100 < 3 drop;
ip saddr { 10.0.0.5 } meta l4proto { tcp, udp } th sport 7400 numgen random mod 100 < 3 drop;
}
}
`
	if got != want {
		t.Errorf("got\n%s", strings.TrimPrefix(got, none))
	}
}
