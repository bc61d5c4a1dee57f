package main

import (
	"io"
	"time"

	"github.com/quorate/quorate/docs/model/mc"
)

// short is what every change is checked against. The base- variants are the protocol without its repairs: the
// violations found there are the reason for the repairs, so they too must be found.
var short = []mc.Expect{
	{Name: "base-core", Want: mc.Complete},
	{Name: "base-elect", Want: mc.Broken},
	{Name: "base-elect-norestart", Want: mc.Broken},
	{Name: "base-elect-casrev", Want: mc.Broken},
	{Name: "base-pause", Want: mc.Broken},
	{Name: "base-pause-fsmrej", Want: mc.Broken},
	{Name: "base-pause-casrev", Want: mc.Broken},
	{Name: "fix-core", Want: mc.Clean},
	{Name: "fix-core-L3", Want: mc.Clean},
	{Name: "fix-core-noreappseal", Want: mc.Complete},
	{Name: "fix-elect", Want: mc.Complete},
	{Name: "fix-elect-3", Want: mc.Complete},
	{Name: "fix-elect-reapp", Want: mc.Clean},
	{Name: "fix-elect-N5", Want: mc.Complete},
	{Name: "fix-pause", Want: mc.Clean},
	{Name: "fix-all", Want: mc.Clean},
	{Name: "x-pause-L1", Want: mc.Complete},
	{Name: "fix-pause-ends", Want: mc.Complete},
	{Name: "x-mut-paused-enforcement", Want: mc.Broken},
	{Name: "x-mut-wait-too-short", Want: mc.Broken},
	{Name: "drift-base-W=L(1+d)-margin0", Want: mc.Broken},
	{Name: "drift-margin=dL", Want: mc.Clean},
	{Name: "drift-W=L(1+d)/(1-d)", Want: mc.Clean},
	{Name: "drift-W-ok-slowvoters", Want: mc.Clean},
	{Name: "mut-seal-volatile", Want: mc.Broken},
	{Name: "mut-lastvouch-not-reset", Want: mc.Broken},
	{Name: "mut-count-from-send", Want: mc.Broken},
	{Name: "mut-appoint-without-seal", Want: mc.Broken},
	{Name: "mut-release-volatile", Want: mc.Broken},
	{Name: "mut-release-without-stop", Want: mc.Broken},
	{Name: "mut-seq-reused-after-restart", Want: mc.Broken},
	{Name: "mut-elect-no-show-wait", Want: mc.Broken},
	{Name: "mut-elect-swap", Want: mc.Broken},
	{Name: "mut-elect-stale-E(no CasRev)", Want: mc.Broken},
	{Name: "mut-elect-no-durable-floor", Want: mc.Broken},
	{Name: "mut-pause-no-resume-rule", Want: mc.Broken},
	{Name: "mut-pause-no-durable-floor", Want: mc.Broken},
	{Name: "mut-pause-shown-before-it-is", Want: mc.Broken},
	{Name: "mut-pause-shown-of-another-resume", Want: mc.Broken},
	{Name: "mut-pause-down-untrue", Want: mc.Broken},
	{Name: "mut-pause-down-comes-back-too-soon", Want: mc.Broken},
	{Name: "mut-pause-down-opens-without-a-lease", Want: mc.Broken},
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
