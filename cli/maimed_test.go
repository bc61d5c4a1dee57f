package cli

import (
	"slices"
	"strings"
	"testing"
)

// TestAMaimedProgramRunsNoNode unless it is told that this is meant.
func TestAMaimedProgramRunsNoNode(t *testing.T) {
	for _, c := range []struct {
		tags, consent string
		refused       string // what the refusal names
	}{
		{"hashicorpmetrics", "", ""},
		{"", "", ""},
		{"hashicorpmetrics,without_wait", "", "built without wait,"},
		{"hashicorpmetrics without_wait", "", "built without wait,"},
		{"without_durable_seal,hashicorpmetrics,without_rev", "", "built without durable_seal, rev,"},
		{"without_wait", "QUORATE_NEGATIVE_CONTROL=", "without wait"},
		{"without_wait", "QUORATE_NEGATIVE_CONTROL=true", "without wait"},
		{"without_wait", "QUORATE_NEGATIVE_CONTROLS=1", "without wait"},
		{"without_wait", "QUORATE_NEGATIVE_CONTROL=1", ""},
	} {
		a := &app{lacks: Build{Tags: c.tags}.without()}
		a.env, a.allowed = withoutConsent([]string{"QUORATE_NAME=n1", c.consent, "HOME=/"})
		switch err := a.maimed(); {
		case err == nil && c.refused != "":
			t.Errorf("%q with %q runs", c.tags, c.consent)
		case err != nil && (c.refused == "" || !strings.Contains(err.Error(), c.refused)):
			t.Errorf("%q with %q: %v", c.tags, c.consent, err)
		}
	}
	// The variable is no key of the node file, which would be an error.
	env, _ := withoutConsent([]string{"QUORATE_NAME=n1", "QUORATE_NEGATIVE_CONTROL=1"})
	if !slices.Equal(env, []string{"QUORATE_NAME=n1"}) {
		t.Errorf("the environment of the node file is %q", env)
	}
}
