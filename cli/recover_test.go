package cli

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/node"
)

// TestRenderRemains: who has two hosts left can tell from what is shown which one to go on with.
func TestRenderRemains(t *testing.T) {
	r := node.Remains{Self: "2", Index: 812, Term: 7, State: fsm.State{
		Scope: "demo", Epoch: 3, Primary: "1", Generation: 1,
		Members: map[fsm.NodeID]fsm.Member{"1": {ID: "1", Name: "n1", Addr: "a1"}, "2": {ID: "2", Name: "n2"}, "3": {ID: "3", Name: "n3", Addr: "a3"}},
		Sync:    fsm.SyncRule{Members: []fsm.NodeID{"1", "2", "3"}, Copies: 2},
	}}
	r.Postgres.State, r.Postgres.End.Timeline, r.Postgres.End.LSN = 2, 3, 0x5000060
	text := renderRemains(r, []string{"n3"})
	for _, want := range []string{"entry 812 of term 7", "usable (shut down in recovery): timeline 3, the log ends at 0/5000060", "n1 (a1), n3 (a3)", "Of these answered: n3", "2 copies among n1, n2, n3"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
	if strings.Contains(text, "is paused") {
		t.Errorf("a pause that there is not:\n%s", text)
	}
	r.State.Paused = true
	if text = renderRemains(r, nil); !strings.Contains(text, "PostgreSQL of n1 may accept writes for as long as it runs. End it") {
		t.Errorf("a paused cluster:\n%s", text)
	}
	r.Doubt = "Its Raft log is not as this node left it."
	if text = renderRemains(r, nil); !strings.Contains(text, r.Doubt) || strings.Contains(text, "log ends with entry 812") {
		t.Errorf("a log that ends before what was applied:\n%s", text)
	}
	r.Postgres.Problem = "it was being rewound"
	if text = renderRemains(r, nil); !strings.Contains(text, "can't go on as it is: it was being rewound.") || strings.Contains(text, "answered") {
		t.Errorf("a survivor with no database:\n%s", text)
	}
}
