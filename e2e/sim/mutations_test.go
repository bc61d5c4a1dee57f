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
		found := false
		for s := uint64(1); s <= uint64(limit) && !found; s++ {
			o := Run(Options{Seed: s, Without: m})
			if found = o.Violation != nil && o.Violation.What != "model"; !found {
				continue
			}
			clean := Run(Options{Seed: s})
			t.Logf("%-13s caught after %4d seeds by %q: %s", m, s, o.Violation.What, o.Violation.Text)
			if clean.Violation != nil {
				t.Errorf("%s: seed %d fails with nothing left out, too: %v", m, s, clean.Violation)
			}
		}
		if !found {
			t.Errorf("%s: not caught within %d seeds", m, limit)
		}
	}
}
