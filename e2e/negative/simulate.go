package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"strconv"
)

// broken is what the simulator calls a step that its model does not know: that is no catch.
const broken = "model"

// here is this package, for the go tool.
const here = "github.com/quorate/quorate/e2e/negative"

// simulate has the simulator miss each mechanism, and nothing in the same seeds of the clean build.
func simulate(ctx context.Context, o options, chosen []control, out io.Writer) error {
	t := table{}
	clean, err := o.build(ctx, here, "")
	if err != nil {
		return err
	}
	played := prey{} // of the clean build, from the first seed on
	for _, c := range chosen {
		if c.catcher != simulator && !c.modelled {
			continue
		}
		lame, err := o.build(ctx, here, c.tag)
		if err != nil {
			return err
		}
		p, err := hunted(ctx, lame, o.first, o.seeds)
		if err != nil {
			return err
		}
		row := line{control: c, found: p.What, text: p.Text, after: fmt.Sprintf("%d seeds", p.Played)}
		if p.What == broken {
			row.found = ""
		}
		o.say("%s: %s, seed %d: %s", c.tag, row.after, p.Seed, p.Text)
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
	p, err := hunted(ctx, clean, first+done.Played, seeds-done.Played)
	p.Played += done.Played
	return p, err
}

// hunted has a program play seeds.
func hunted(ctx context.Context, program string, first, seeds uint64) (p prey, err error) {
	cmd := exec.CommandContext(ctx, program, "hunt", "-first", strconv.FormatUint(first, 10), "-seeds", strconv.FormatUint(seeds, 10))
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
