// Command whole is the lease and the sync election in one model: who may write (S1) together with what is acknowledged (S3),
// over the states that they share: the seal that a standby detaches after, the release that stands for seals and for a
// position, the epoch and the revision that facts belong to, the lease that a Postgres acknowledges under.
//
// The lease alone is in docs/model/lease and the election alone in docs/model/syncm, with more of each: pause, electorates,
// drift, other rules. Those who seal and those who hold copies are the same three nodes here. A safety rule of the product
// must never change without this model changing with it.
//
//	go run ./docs/model/whole short       # what make model runs: seconds
//	go run ./docs/model/whole long        # what make model-long runs
//	go run ./docs/model/whole both- 60s   # every variant with these prefixes, at most 60 s each
package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/quorate/quorate/docs/model/mc"
)

func main() {
	if err := run(mc.Arguments(os.Args, 60*time.Second)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(what string, each time.Duration) error {
	switch what {
	case "short":
		return runShort(os.Stdout)
	case "long":
		return runLong(os.Stdout)
	}
	for _, c := range configs() {
		if !mc.Named(c.Name, what) {
			continue
		}
		r := mc.BFS[St](&M{c}, 20_000_000, each)
		fmt.Printf("%-32s %s\n", c.Name, r)
		for i, l := range r.Trace {
			fmt.Printf("      %2d %s\n", i+1, l)
		}
	}
	return nil
}

// configs: both- is with the guard, so that S1 and S3 are checked; free- is without it, so that S3 has to do without clocks.
func configs() (out []Cfg) {
	add := func(name string, with ...func(*Cfg)) {
		c := Cfg{Name: name, L: 1, MaxEpoch: 2, MaxLog: 2, WAL: 1, D0: 0b111, K0: 2}
		for _, f := range with {
			f(&c)
		}
		out = append(out, c)
	}
	restart := func(c *Cfg) { c.MaxRestart = 1 }
	long := func(c *Cfg) { c.L = 2 }
	three := func(c *Cfg) { c.MaxEpoch, c.MaxLog = 3, 3 }
	ends := func(c *Cfg) { c.Release, c.Reapp = true, true }
	free := func(c *Cfg) { c.NoGuard = true }
	change := func(c *Cfg) { c.MaxChanges++; c.MaxLog++ }
	clone := func(c *Cfg) { c.MaxReclone = 1 }
	pair := func(c *Cfg) { c.D0 = 0b011 }
	async := func(c *Cfg) { c.D0, c.K0 = 0, 0 }
	alone := func(c *Cfg) { c.D0, c.K0 = 0b001, 1 }
	accept := func(c *Cfg) { c.MaxAccept = 1 }

	add("both-failover", restart)
	add("both-failover-L2", restart, long)
	add("both-two-records", func(c *Cfg) { c.WAL = 2 })
	add("both-ends", three, ends)
	add("both-ends-restart", three, ends, restart)
	add("both-change", change)
	add("both-change-restart", change, restart)
	add("both-change-release", change, ends, func(c *Cfg) { c.MaxEpoch, c.MaxLog = 3, 4 })
	add("both-two-changes", change, change)
	add("both-pair", pair, change, restart)
	add("both-async", async, restart, long)
	add("both-async-ends", async, three, ends)
	add("both-clone", clone, restart)
	add("both-accept-alone", accept, alone, three)
	add("both-accept-alone-ends", accept, alone, three, ends)
	add("both-accept-alone-restart", accept, alone, three, restart)
	add("both-accept-alone-change", accept, alone, three, change)
	add("both-accept-of-three", accept, three)
	add("both-accept-pair", accept, pair, three, restart)
	add("free-failover", free, restart)
	add("free-ends", free, three, ends)
	add("free-change", free, change)

	add("mut-seal-volatile", restart, func(c *Cfg) { c.SealVolatile = true })
	add("mut-busy-not-reset", restart, func(c *Cfg) { c.BusyNotReset = true })
	add("mut-no-wait", func(c *Cfg) { c.NoWait = true })
	add("mut-no-seal", func(c *Cfg) { c.NoSeal = true })
	add("mut-not-frozen", func(c *Cfg) { c.NotFrozen = true })
	add("mut-release-volatile", ends, restart, func(c *Cfg) { c.ReleaseVolatile = true })
	add("mut-release-goes-on", ends, func(c *Cfg) { c.ReleaseGoesOn = true })
	add("mut-stale-release", three, ends, func(c *Cfg) { c.StaleRelease = true })
	add("mut-stale-seals", three, ends, func(c *Cfg) { c.StaleSeals = true })
	add("mut-async-no-wait", async, func(c *Cfg) { c.NoWait = true })
	add("mut-cut-volatile", restart, func(c *Cfg) { c.CutVolatile = true })
	add("mut-position-before-cut", func(c *Cfg) { c.PositionBeforeCut = true })
	add("mut-few-positions", func(c *Cfg) { c.FewPos = true })
	add("mut-unreleased-counts", free, func(c *Cfg) { c.UnreleasedCounts = true })
	add("mut-stale-positions", three, ends, func(c *Cfg) { c.StalePositions = true })
	add("mut-epoch-cas", change, pair, func(c *Cfg) { c.EpochCAS = true })
	add("mut-leave-first", change, func(c *Cfg) { c.LeaveFirst = true })
	add("mut-leave-no-barrier", change, func(c *Cfg) { c.NoBarrier = true })
	add("mut-promise-melts", change, func(c *Cfg) { c.PromiseMelts = true })
	add("mut-return-pg-first", change, pair, func(c *Cfg) { c.ReturnPgFirst = true })
	add("mut-relax-to-fence", free, func(c *Cfg) { c.RelaxToFence = true })
	add("mut-rebuild-reports", clone, func(c *Cfg) { c.RebuildReports = true })
	add("mut-accept-leaves-out", accept, alone, three, func(c *Cfg) { c.AcceptLeavesOut = true })
	add("mut-accept-no-wait", accept, alone, func(c *Cfg) { c.AcceptNoWait = true })
	return out
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

func runShort(w io.Writer) error { return mc.Short(w, short(), search) }

// runLong looks further into what the short run cuts off or leaves out.
func runLong(w io.Writer) error {
	var beside []string
	for _, c := range configs() {
		listed := slices.ContainsFunc(short(), func(e mc.Expect) bool { return e.Name == c.Name })
		if !listed && mc.Named(c.Name, "both-,free-") {
			beside = append(beside, c.Name)
		}
	}
	return mc.Long(w, short(), beside, search)
}

// short is what every change is checked against.
func short() []mc.Expect {
	all := []mc.Expect{
		{Name: "both-failover", Want: mc.Complete, States: 18_640},
		{Name: "both-failover-L2", Want: mc.Complete, States: 110_362},
		{Name: "both-two-records", Want: mc.Complete, States: 15_553},
		{Name: "both-ends", Want: mc.Complete, States: 1_591_860},
		{Name: "both-ends-restart", Want: mc.Clean},
		{Name: "both-change", Want: mc.Complete, States: 1_566_312},
		{Name: "both-change-restart", Want: mc.Clean},
		{Name: "both-change-release", Want: mc.Clean},
		{Name: "both-pair", Want: mc.Clean},
		{Name: "both-async", Want: mc.Complete, States: 198_513},
		{Name: "both-async-ends", Want: mc.Clean},
		{Name: "both-clone", Want: mc.Complete, States: 61_826},
		{Name: "both-accept-alone", Want: mc.Complete, States: 157_803},
		{Name: "both-accept-alone-ends", Want: mc.Clean},
		{Name: "both-accept-alone-restart", Want: mc.Clean},
		{Name: "both-accept-alone-change", Want: mc.Clean},
		{Name: "both-accept-of-three", Want: mc.Complete, States: 299_332},
		{Name: "both-accept-pair", Want: mc.Clean},
		{Name: "free-failover", Want: mc.Complete, States: 18_940},
		{Name: "free-ends", Want: mc.Clean},
		{Name: "free-change", Want: mc.Clean},
	}
	// Every mutation has to be found: one that is left out is a rule nobody checks.
	for _, c := range configs() {
		if mc.Named(c.Name, "mut-") {
			all = append(all, mc.Expect{Name: c.Name, Want: mc.Broken})
		}
	}
	return all
}
