package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strconv"
)

// here is this package, for the go tool.
const here = "github.com/quorate/quorate/e2e/negative"

// simulate has the simulator miss each mechanism by an invariant that the control names, and nothing at all in the same seeds of
// the clean build.
func simulate(ctx context.Context, o options, chosen []control, out io.Writer) error {
	t := table{}
	clean, err := o.build(ctx, here, "")
	if err != nil {
		return err
	}
	played := prey{} // of the clean build, from the first seed on
	for _, c := range chosen {
		if !c.played() {
			continue
		}
		lame, err := o.build(ctx, here, c.tag)
		if err != nil {
			return err
		}
		p, err := hunted(ctx, lame, o.first, o.seeds, c.names())
		if err != nil {
			return err
		}
		row := line{control: c, found: p.What, passed: p.passed(), seed: p.Seed, after: fmt.Sprintf("%d seeds", p.Played)}
		o.say("%s: %s, seed %d: %s", c.tag, row.after, p.Seed, p.Text)
		if row.passed != "" {
			o.say("%s: no catch, since it is to be found by %s: %s", c.tag, c.names(), row.passed)
		}
		if p.Played > played.Played && played.What == "" {
			if played, err = further(ctx, clean, o.first, played, p.Played); err != nil {
				return err
			}
		}
		if row.clean = played.What; played.Seed > o.first+p.Played-1 {
			row.clean = ""
		}
		t = append(t, row)
	}
	return t.print(out)
}

// further plays what the clean build has not played yet of so many seeds.
func further(ctx context.Context, clean string, first uint64, done prey, seeds uint64) (prey, error) {
	p, err := hunted(ctx, clean, first+done.Played, seeds-done.Played, "")
	p.Played += done.Played
	return p, err
}

// hunted has a program play seeds until one of the invariants is violated, or any if none is named.
func hunted(ctx context.Context, program string, first, seeds uint64, what string) (p prey, err error) {
	cmd := exec.CommandContext(ctx, program, "hunt", "-first", strconv.FormatUint(first, 10), "-seeds", strconv.FormatUint(seeds, 10),
		"-what", what)
	b, err := cmd.Output()
	if err != nil {
		return p, fmt.Errorf("play %d seeds with %s: %w", seeds, program, err)
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("read what %s found: %w", program, err)
	}
	if p.What == "" && p.Played < seeds {
		return p, fmt.Errorf("%s played %d seeds of %d", program, p.Played, seeds)
	}
	return p, nil
}
