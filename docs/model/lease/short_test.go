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

// Every mutation of the fixed protocol has to be in the short run: one that is left out is a rule nobody checks.
func TestEveryMutationIsInTheShortRun(t *testing.T) {
	listed := map[string]bool{}
	for _, e := range short {
		listed[e.Name] = true
	}
	for _, c := range configs() {
		if strings.HasPrefix(c.Name, "mut-") && !listed[c.Name] {
			t.Errorf("%s is not in the short run", c.Name)
		}
	}
}
