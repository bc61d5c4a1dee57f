package cli

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/api/client"
)

func TestDiscardLines(t *testing.T) {
	d := client.Discard{ID: "n1-2-1-3018200-3018268", Node: "n1", Timeline: 1, From: 0x3018200, To: 0x3018268, Commits: 3, Way: "rewind", Path: "/evidence"}
	if got := discardLines(nil); got != "" {
		t.Errorf("nothing: %q", got)
	}
	want := "\nDiscarded:\n  n1 discarded 0/3018200..0/3018268 of timeline 1, 3 commits, none of it acknowledged, kept in /evidence; look at it, then: quorate discards dismiss n1-2-1-3018200-3018268\n"
	if got := discardLines([]client.Discard{d}); got != want {
		t.Errorf("got %q", got)
	}
	d.Commits, d.Lossy = -1, true
	if got := discardLines([]client.Discard{d}); !strings.Contains(got, "unknown commits, some of it perhaps acknowledged") {
		t.Errorf("got %q", got)
	}
	aside := client.Discard{ID: "n2-quarantine.1", Node: "n2", Commits: -1, Way: "quarantine", Path: "/data.quarantine.1"}
	want = "\nDiscarded:\n  n2 set a data directory aside, kept in /data.quarantine.1; its file QUARANTINE says why; find out how it came to that, then: quorate discards dismiss n2-quarantine.1\n"
	if got := discardLines([]client.Discard{aside}); got != want {
		t.Errorf("got %q", got)
	}
	aside.Lossy = true
	if got := discardLines([]client.Discard{aside}); !strings.Contains(got, "may hold acknowledged commits that are nowhere else") {
		t.Errorf("got %q", got)
	}
	if got := renderDiscards([]client.Discard{d}); !strings.Contains(got, "n1-2-1-3018200-3018268") || !strings.Contains(got, "unknown") {
		t.Errorf("got %q", got)
	}
}

// TestSetAsideInHistory: of a directory that was set aside nobody knows what it held, and nobody claims to.
func TestSetAsideInHistory(t *testing.T) {
	e := client.Assignment{Epoch: 3, Discards: []client.Discard{
		{ID: "n2-q", Node: "n2", Commits: -1, Way: "quarantine", Path: "/data.quarantine.1", SHA256: "ab"},
	}}
	got := renderAssignment(e)
	for _, want := range []string{
		"a data directory of n2, set aside; what log it had beyond the cluster's is not known\n",
		"kept on n2 in /data.quarantine.1 (manifest postgres/evidence/n2-q in its cluster.data_dir, SHA-256 ab)",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %q", want, got)
		}
	}
	if strings.Contains(got, "acknowledged;") || strings.Contains(got, "none of them") {
		t.Errorf("it claims to know: %q", got)
	}
	e.Discards[0].Lossy = true
	if got := renderAssignment(e); !strings.Contains(got, "some of it may have been acknowledged") {
		t.Errorf("got %q", got)
	}
	if got := discards(e.Discards); got != "a directory on n2" {
		t.Errorf("got %q", got)
	}
}
