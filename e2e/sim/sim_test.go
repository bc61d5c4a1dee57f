package sim

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The seeds of a run are -sim.first and those after it. A run in the ordinary tests is short; make sim plays 10,000.
var (
	seeds   = flag.Int("sim.seeds", 100, "how many seeds to play")
	first   = flag.Uint64("sim.first", 1, "the first of them")
	seed    = flag.Uint64("sim.seed", 0, "the seed that TestReplay plays")
	keep    = flag.String("sim.keep", "", "the numbers of the faults that happen in TestReplay; all if empty")
	without = flag.String("sim.without", "", "the mechanism that TestReplay leaves out")
)

// TestReplay plays one seed. It prints the events of one that was asked for.
func TestReplay(t *testing.T) {
	o := Options{Seed: *first, Without: Mutation(*without)}
	if *seed != 0 {
		o.Seed, o.Log = *seed, os.Stdout
	}
	if *keep != "" {
		o.Keep = []int{}
		for _, n := range strings.Split(*keep, ",") {
			if i, err := strconv.Atoi(n); err == nil {
				o.Keep = append(o.Keep, i)
			}
		}
	}
	out := Run(o)
	t.Log(out.Shape)
	if out.Violation != nil {
		t.Error(out.Violation)
	}
}

// TestReplaysExactly: a seed is worth something only if it always tells the same story.
func TestReplaysExactly(t *testing.T) {
	for s := uint64(1); s <= 3; s++ {
		var a, b bytes.Buffer
		Run(Options{Seed: s, Log: &a})
		Run(Options{Seed: s, Log: &b})
		if !bytes.Equal(a.Bytes(), b.Bytes()) {
			t.Errorf("seed %d told two stories", s)
		}
		if a.Len() == 0 {
			t.Errorf("seed %d told nothing", s)
		}
	}
}

// TestSeeds plays many seeds: nothing may be violated, most must have made another node primary, and every rule must have
// decided something.
func TestSeeds(t *testing.T) {
	began := time.Now()
	total, moved, failures := playAll(*first, *seeds, func(o Outcome) { explain(t, o) })
	var text strings.Builder
	total.Print(&text, *seeds)
	fmt.Fprintf(&text, "\n%d of %d seeds appointed another node; %d failed; %.0f seeds a minute\n", moved, *seeds, failures,
		perMinute(*seeds, time.Since(began)))
	t.Log("\n" + text.String())
	if moved*10 < *seeds*8 {
		t.Errorf("only %d of %d seeds appointed another node, 80 %% must: the faults do not try hard enough", moved, *seeds)
	}
	if rules := total.Unfired(); len(rules) > 0 && *seeds >= 1000 {
		t.Errorf("rules that never decided anything: %s", strings.Join(rules, ", "))
	}
}

// TestMain lets garbage lie longer: a seed makes much and keeps little.
func TestMain(m *testing.M) {
	debug.SetGCPercent(800)
	os.Exit(m.Run())
}

// playAll plays seeds on all processors. Each is a world of its own; only whole outcomes meet here.
func playAll(from uint64, n int, failed func(Outcome)) (total Stats, moved, failures int) {
	total = newStats()
	var next atomic.Int64
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= int64(n) {
					return
				}
				o := Run(Options{Seed: from + uint64(i)})
				mu.Lock()
				total.Add(o.Stats)
				if o.Stats.Appointed > 0 {
					moved++
				}
				if o.Violation != nil || o.Short() != "" {
					if failures++; failures <= 5 {
						failed(o)
					}
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return total, moved, failures
}

// explain shrinks a seed that failed and says how to see it.
func explain(t *testing.T, o Outcome) {
	if why := o.Short(); why != "" {
		t.Errorf("seed %d (%s): %s", o.Seed, o.Shape, why)
		return
	}
	t.Errorf("seed %d (%s): %v", o.Seed, o.Shape, o.Violation)
	kept, small := Shrink(Options{Seed: o.Seed}, o)
	for _, i := range kept {
		t.Logf("  #%d %s", i, small.Plan[i])
	}
	t.Logf("  %v\n  %s", small.Violation, Replay(Options{Seed: o.Seed, Keep: kept}))
}
