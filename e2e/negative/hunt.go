package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/quorate/quorate/e2e/sim"
)

// prey is what a hunt came to.
type prey struct {
	Played uint64 `json:"played"` // seeds, up to the one that was violated
	Seed   uint64 `json:"seed,omitempty"`
	What   string `json:"what,omitempty"` // which invariant; empty: none
	Text   string `json:"text,omitempty"`
	// Other are the invariants that were violated and are not hunted, with the first seed of each.
	Other map[string]uint64 `json:"other,omitempty"`
}

// passed says what was found and is no catch, "" if nothing was.
func (p prey) passed() string {
	var all []string
	for _, what := range slices.Sorted(maps.Keys(p.Other)) {
		all = append(all, fmt.Sprintf("%s (seed %d)", what, p.Other[what]))
	}
	return strings.Join(all, ", ")
}

// hunt plays seeds with this program as it was built, until one of the invariants is violated; until any is, if none is named.
// Seeds that violate another one are passed over.
func hunt(ctx context.Context, first, seeds uint64, invariants []string) prey {
	debug.SetGCPercent(800) // a seed makes much and keeps little
	t := tracker{invariants: invariants, other: map[string]uint64{}}
	found, played := sim.Hunt(ctx, sim.Options{}, first, seeds, t.counts)
	p := prey{Played: played, Other: t.other}
	if found != nil {
		p.Seed, p.What, p.Text = found.Seed, found.Violation.What, found.Violation.Error()
		maps.DeleteFunc(p.Other, func(_ string, seed uint64) bool { return seed > p.Seed }) // another processor was ahead
	}
	return p
}

// tracker tells what is hunted from what is not. It may be asked by any goroutine.
type tracker struct {
	invariants []string

	mu    sync.Mutex
	other map[string]uint64
}

func (t *tracker) counts(o sim.Outcome) bool {
	what := o.Violation.What
	if len(t.invariants) == 0 || slices.Contains(t.invariants, what) {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if seed, known := t.other[what]; !known || o.Seed < seed {
		t.other[what] = o.Seed
	}
	return false
}

func printHunt(out io.Writer, p prey) error {
	if err := json.NewEncoder(out).Encode(p); err != nil {
		return fmt.Errorf("say what was found: %w", err)
	}
	return nil
}
