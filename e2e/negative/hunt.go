package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/quorate/quorate/e2e/sim"
)

// prey is what a hunt came to.
type prey struct {
	Played uint64 `json:"played"` // seeds, up to the one that was violated
	Seed   uint64 `json:"seed,omitempty"`
	What   string `json:"what,omitempty"` // which invariant; empty: none
	Text   string `json:"text,omitempty"`
}

// hunt plays seeds with this program as it was built, until one is violated.
func hunt(ctx context.Context, first, seeds uint64) prey {
	debug.SetGCPercent(800) // a seed makes much and keeps little
	found, played := sim.Hunt(ctx, sim.Options{}, first, seeds, func(*sim.Violation) bool { return true })
	if found == nil {
		return prey{Played: played}
	}
	return prey{Played: played, Seed: found.Seed, What: found.Violation.What, Text: found.Violation.Error()}
}

func printHunt(out io.Writer, p prey) error {
	if err := json.NewEncoder(out).Encode(p); err != nil {
		return fmt.Errorf("say what was found: %w", err)
	}
	return nil
}
