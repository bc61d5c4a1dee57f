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
	want = "\nDiscarded:\n  n2 set a damaged data directory aside, kept in /data.quarantine.1; find out what damaged it, then: quorate discards dismiss n2-quarantine.1\n"
	if got := discardLines([]client.Discard{aside}); got != want {
		t.Errorf("got %q", got)
	}
	if got := renderDiscards([]client.Discard{d}); !strings.Contains(got, "n1-2-1-3018200-3018268") || !strings.Contains(got, "unknown") {
		t.Errorf("got %q", got)
	}
}
