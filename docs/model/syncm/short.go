package main

import (
	"io"
	"time"

	"github.com/quorate/quorate/docs/model/mc"
)

// short is what every change is checked against. The maj- variants have the primary inside D, as the product
// has it; base- is the protocol without its repairs.
var short = []mc.Expect{
	{Name: "base-elect", Want: mc.Complete},
	{Name: "base-dm-sync", Want: mc.Broken},
	{Name: "base+cas+floor-elect", Want: mc.Complete},
	{Name: "fix-elect", Want: mc.Clean},
	{Name: "fix-elect-reclone", Want: mc.Complete},
	{Name: "fix-dm-sync", Want: mc.Clean},
	{Name: "fix-dm-sync-D1", Want: mc.Clean},
	{Name: "fix-dm-sync-k2", Want: mc.Clean},
	{Name: "fix-dm-async", Want: mc.Clean},
	{Name: "fix-dm-3ep", Want: mc.Clean},
	{Name: "fix-sync-3ep", Want: mc.Clean},
	{Name: "fix-M4-k2", Want: mc.Clean},
	{Name: "fix-tight-M4k2", Want: mc.Clean},
	{Name: "dur-sync", Want: mc.Clean},
	{Name: "dur-sync-w2", Want: mc.Complete},
	{Name: "dur-sync-D3", Want: mc.Clean},
	{Name: "dur-async", Want: mc.Clean},
	{Name: "dur-3ep", Want: mc.Complete},
	{Name: "maj-2ep", Want: mc.Complete},
	{Name: "maj-3ep-r0", Want: mc.Clean},
	{Name: "maj-3ep-r1-w1", Want: mc.Complete},
	{Name: "maj-dur-3ep", Want: mc.Clean},
	{Name: "maj-mutnocut", Want: mc.Broken},
	{Name: "maj-mutfew", Want: mc.Broken},
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
}

func runShort(w io.Writer) error {
	return mc.Short(w, short, func(name string, states int, limit time.Duration) (mc.Result, bool) {
		for _, c := range configs() {
			if c.Name == name {
				return mc.BFS[St](&M{c}, states, limit), true
			}
		}
		return mc.Result{}, false
	})
}
