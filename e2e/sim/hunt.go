package sim

import (
	"context"
	"runtime"
	"sync"
)

// Hunt plays seeds from first on, on all processors, each a world of its own, and returns the outcome of the lowest one that has
// a violation that counts, and how many seeds that took. counts is asked by many goroutines at once. Without one played is how many
// there were: all, or fewer if ctx ended.
func Hunt(ctx context.Context, o Options, first, seeds uint64, counts func(Outcome) bool) (found *Outcome, played uint64) {
	var mu sync.Mutex
	next, end := first, first+seeds
	take := func() (seed uint64, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if next >= end || ctx.Err() != nil {
			return 0, false
		}
		next++
		return next - 1, true
	}
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed, ok := take(); ok; seed, ok = take() {
				world := o
				world.Seed = seed
				out := Run(world)
				if out.Violation == nil || !counts(out) {
					continue
				}
				mu.Lock()
				if found == nil || seed < found.Seed {
					found, end = &out, seed
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if found != nil {
		return found, found.Seed - first + 1
	}
	return nil, next - first
}
