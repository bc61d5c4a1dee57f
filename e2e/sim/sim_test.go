package sim

import (
	"flag"
	"os"
	"testing"
)

var (
	seed  = flag.Uint64("seed", 0, "play this one seed and print its events")
	seeds = flag.Int("seeds", 20, "how many seeds to play")
)

func TestOne(t *testing.T) {
	if *seed == 0 {
		t.Skip("no -seed")
	}
	o := Run(Options{Seed: *seed, Log: os.Stdout})
	for i, f := range o.Plan {
		t.Log(i, f)
	}
	t.Log(o.Shape, o.Violation)
}

func TestMany(t *testing.T) {
	total := newStats()
	for n := range *seeds {
		o := Run(Options{Seed: uint64(n) + 1})
		total.Add(o.Stats)
		if o.Violation != nil {
			t.Errorf("seed %d (%s): %v", o.Seed, o.Shape, o.Violation)
		}
	}
	t.Logf("%+v", total.Rules)
	t.Logf("%+v", total.Steps)
	t.Logf("events %d appointed %d again %d acked %d issued %d", total.Events, total.Appointed, total.Again, total.Acked, total.Issued)
}
