package main

import (
	"io"
	"slices"
	"time"

	"github.com/quorate/quorate/docs/model/mc"
)

// short is what every change is checked against. The maj- variants have the primary inside D, as the product
// has it; base- is the protocol without its repairs.
var short = []mc.Expect{
	{Name: "base-elect", Want: mc.Complete, States: 202_278},
	{Name: "base-dm-sync", Want: mc.Broken},
	{Name: "base+cas+floor-elect", Want: mc.Complete, States: 294_596},
	{Name: "fix-elect", Want: mc.Clean},
	{Name: "fix-elect-reclone", Want: mc.Complete, States: 1_143_178},
	{Name: "fix-dm-sync", Want: mc.Clean},
	{Name: "fix-dm-sync-D1", Want: mc.Clean},
	{Name: "fix-dm-sync-k2", Want: mc.Clean},
	{Name: "fix-dm-async", Want: mc.Clean},
	{Name: "fix-dm-3ep", Want: mc.Clean},
	{Name: "fix-sync-3ep", Want: mc.Clean},
	{Name: "fix-M4-k2", Want: mc.Clean},
	{Name: "fix-tight-M4k2", Want: mc.Clean},
	{Name: "dur-sync", Want: mc.Clean},
	{Name: "dur-sync-w2", Want: mc.Complete, States: 743_806},
	{Name: "dur-sync-D3", Want: mc.Clean},
	{Name: "dur-async", Want: mc.Clean},
	{Name: "dur-3ep", Want: mc.Complete, States: 2_325_666},
	{Name: "maj-2ep", Want: mc.Complete, States: 13_570},
	{Name: "maj-3ep-r0", Want: mc.Clean},
	{Name: "maj-3ep-r1-w1", Want: mc.Complete, States: 78_936},
	{Name: "maj-dur-3ep", Want: mc.Clean},
	{Name: "maj-mutnocut", Want: mc.Broken},
	{Name: "maj-mutfew", Want: mc.Broken},
	{Name: "own-leave-return", Want: mc.Complete, States: 1_947_046},
	{Name: "own-leave-return-r1", Want: mc.Clean},
	{Name: "own-leave-return-3ep", Want: mc.Clean},
	{Name: "own-leave-return-reclone", Want: mc.Clean},
	{Name: "own-leave-return-release", Want: mc.Clean},
	{Name: "own-from-two", Want: mc.Clean},
	{Name: "own-from-alone", Want: mc.Clean},
	{Name: "own-degrade-and-back", Want: mc.Clean},
	{Name: "own-four", Want: mc.Clean},
	{Name: "mut-promise-volatile", Want: mc.Broken},
	{Name: "mut-P-rederived-on-restart", Want: mc.Broken},
	{Name: "mut-dm-promise-not-frozen", Want: mc.Broken},
	{Name: "mut-dm-no-floor-on-depose", Want: mc.Broken},
	{Name: "mut-dm-no-rev-cas", Want: mc.Broken},
	{Name: "mut-dm-no-floor", Want: mc.Broken},
	{Name: "mut-no-follow-seal-M4k2", Want: mc.Broken},
	{Name: "mut-no-cut", Want: mc.Broken},
	{Name: "mut-cut-volatile", Want: mc.Broken},
	{Name: "mut-too-few-positions", Want: mc.Broken},
	{Name: "mut-len-only-compare", Want: mc.Broken},
	{Name: "mut-degrade-before-fsm", Want: mc.Broken},
	{Name: "mut-shrink-fsm-first", Want: mc.Broken},
	{Name: "mut-grow-pg-first", Want: mc.Broken},
	{Name: "mut-shrink-no-barrier", Want: mc.Broken},
	{Name: "mut-appoint-drops-q-from-D", Want: mc.Broken},
	{Name: "mut-reclone-reports-early", Want: mc.Broken},
	{Name: "mut-own-leave-fsm-first", Want: mc.Broken},
	{Name: "mut-own-leave-no-barrier", Want: mc.Broken},
	{Name: "mut-own-leave-not-frozen", Want: mc.Broken},
	{Name: "mut-own-return-pg-first", Want: mc.Broken},
	{Name: "mut-own-left-counts", Want: mc.Broken},
	{Name: "mut-own-no-rev-cas", Want: mc.Broken},
	{Name: "mut-own-few-positions", Want: mc.Broken},
	{Name: "mut-own-no-cut", Want: mc.Broken},
	{Name: "mut-own-reclone-reports", Want: mc.Broken},
	{Name: "mut-own-promise-volatile", Want: mc.Broken},
}

// search looks through the variant called name.
func search(name string, states int, limit time.Duration) (mc.Result, bool) {
	for _, c := range configs() {
		if c.Name == name {
			return mc.BFS[St](&M{c}, states, limit), true
		}
	}
	return mc.Result{}, false
}

func runShort(w io.Writer) error { return mc.Short(w, short, search) }

// runLong looks further into what the short run cuts off, and into what is too large for it.
func runLong(w io.Writer) error {
	var beside []string
	for _, c := range configs() {
		if mc.Named(c.Name, "fix-,dur,maj-dur,maj-restart,own-") && !inShort(c.Name) {
			beside = append(beside, c.Name)
		}
	}
	return mc.Long(w, short, beside, search)
}

func inShort(name string) bool {
	return slices.ContainsFunc(short, func(e mc.Expect) bool { return e.Name == name })
}
