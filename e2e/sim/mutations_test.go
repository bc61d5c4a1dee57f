package sim

import "testing"

// TestMutationsAreCaught: the world without one mechanism each. Whatever is not noticed within the limit shows that the
// simulator could not have found its loss either. The table that it prints says after how many seeds each was.
func TestMutationsAreCaught(t *testing.T) {
	const limit = 10000
	worlds := Mutations()
	if *without != "" {
		worlds = []Mutation{Mutation(*without)}
	}
	for _, m := range worlds {
		o, after := Hunt(t.Context(), Options{Without: m}, 1, limit, func(o Outcome) bool { return o.Violation.What != "model" })
		if o == nil {
			t.Errorf("%s: not caught within %d seeds", m, limit)
			continue
		}
		t.Logf("%-13s caught after %4d seeds by %q: %s", m, after, o.Violation.What, o.Violation.Text)
		if clean := Run(Options{Seed: o.Seed}); clean.Violation != nil {
			t.Errorf("%s: seed %d fails with nothing left out, too: %v", m, o.Seed, clean.Violation)
		}
	}
}
