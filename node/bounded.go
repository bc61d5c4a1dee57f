package node

import (
	"fmt"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/internal/pg"
)

// The most that one report says (bytes, entries). A beat has a limit, beyond which none can be sent: a primary that is well would be
// deposed for what Postgres, another program or a setting wrote into a text for people.
const (
	maxTold  = 700
	maxEntry = 240
	maxList  = 8
)

// bounded is r with texts that fit into a beat, also where JSON makes six bytes of each of theirs.
func bounded(r failover.Report) failover.Report {
	for _, text := range []*string{&r.Problem, &r.Sick, &r.Progress, &r.Config.Refused} {
		*text = pg.Excerpt(*text, maxTold)
	}
	for _, list := range []*[]string{&r.Warnings, &r.Config.Pending, &r.Config.Held} {
		*list = boundedList(*list)
	}
	return r
}

// boundedList copies list: its owner keeps it whole.
func boundedList(list []string) (out []string) {
	for i, text := range list {
		if i == maxList {
			return append(out, fmt.Sprintf("and %d more", len(list)-maxList))
		}
		out = append(out, pg.Excerpt(text, maxEntry))
	}
	return out
}
