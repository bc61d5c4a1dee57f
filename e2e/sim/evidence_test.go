package sim

import (
	"testing"

	"github.com/quorate/quorate/pgctl"
)

// What a host kept of an earlier log, or directory, is no evidence of the one that is taken away now.
func TestOnlyEvidenceOfWhatIsTakenAwayCounts(t *testing.T) {
	old := place{&branch{tli: 5, start: 1, end: 900}, 900}
	whole := &pgctl.Evidence{ID: "n1-quarantine-r7", Way: "quarantine"}
	clone, quarantine := &job{kind: pgctl.Clone}, &job{kind: pgctl.Quarantine, discard: whole}
	for _, c := range []struct {
		what string
		job  *job
		kept pgctl.Evidence
		want bool
	}{
		{"the log itself", clone, pgctl.Evidence{Timeline: 5, From: 700, To: 900}, true},
		{"more than it", clone, pgctl.Evidence{Timeline: 5, From: 600, To: 950}, true},
		{"the same range of another timeline", clone, pgctl.Evidence{Timeline: 4, From: 600, To: 950}, false},
		{"its beginning only", clone, pgctl.Evidence{Timeline: 5, From: 700, To: 899}, false},
		{"its end only", clone, pgctl.Evidence{Timeline: 5, From: 701, To: 900}, false},
		{"the directory, by this job", quarantine, *whole, true},
		{"a directory, by an earlier job, while this one clones", clone, *whole, false},
		{"a directory, by an earlier job, while this one sets one aside", quarantine, pgctl.Evidence{ID: "n1-quarantine-r3", Way: "quarantine"}, false},
	} {
		if got := keptBy(c.job, []pgctl.Evidence{c.kept}, old, 700); got != c.want {
			t.Errorf("kept is %s: it counts: %t, want %t", c.what, got, c.want)
		}
	}
}
