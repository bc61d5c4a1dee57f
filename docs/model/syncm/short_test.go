package main

import (
	"strings"
	"testing"
)

func TestShortConfigurations(t *testing.T) {
	if err := runShort(t.Output()); err != nil {
		t.Fatal(err)
	}
}

// Every mutation has to be in the short run, but for those of which the short run holds a quicker form.
func TestEveryMutationIsInTheShortRun(t *testing.T) {
	quicker := map[string]string{
		"mut-promise-not-frozen": "mut-dm-promise-not-frozen",
		"mut-no-rev-cas":         "mut-dm-no-rev-cas",
		"mut-no-floor":           "mut-dm-no-floor",
		"mut-no-follow-seal":     "mut-no-follow-seal-M4k2", // the small form loses nothing: it needs |D| = 3, k = 2
	}
	listed := map[string]bool{}
	for _, e := range short {
		listed[e.Name] = true
	}
	for _, c := range configs() {
		if strings.HasPrefix(c.Name, "mut-") && !listed[c.Name] && !listed[quicker[c.Name]] {
			t.Errorf("%s is not in the short run", c.Name)
		}
	}
}
