// Command lease is the model of the vouched lease: who may accept writes (S1, S2). Its rules are those of
// cluster/lease and fsm; the variants named mut- each leave one rule out and are found to break.
//
// A safety rule of the product must never change without this model changing with it.
//
//	go run ./docs/model/lease short              # what make model runs: seconds
//	go run ./docs/model/lease long                # what make model-long runs
//	go run ./docs/model/lease base-,ldata- 60s    # every variant with these prefixes, at most 60 s each
//	go run ./docs/model/lease sim 30s             # random walks with five voters, and recovery after each
package main

import (
	"fmt"
	"github.com/quorate/quorate/docs/model/mc"
	"os"
	"time"
)

func base() Cfg {
	return Cfg{N: 3, E0: 7, L: 2, W: 2, TwoL: 4, Rate: [MN]int{1, 1, 1, 1, 1}, RateL: 1,
		MaxEpoch: 3, MaxLog: 4, MaxRestart: 1, MaxEv: 0,
		Perms: [][MN]uint8{{0, 2, 1, 3, 4}}}
}
func fixed(c Cfg) Cfg { c.CasRev, c.Floor, c.SepRel = true, true, true; return c }

func configs() (out []Cfg) {
	add := func(n string, c Cfg, f func(*Cfg)) {
		c.Name = n
		if f != nil {
			f(&c)
		}
		out = append(out, c)
	}
	core := func(c *Cfg) { c.Release, c.Reapp = true, true }
	elect := func(c *Cfg) {
		c.SetE, c.MaxEv, c.N, c.MaxLog, c.MaxEpoch, c.MaxRestart = true, 2, 4, 4, 2, 1
		c.L, c.W, c.TwoL = 1, 1, 1 // waiting only L (not 2L) is the harder case
		c.Perms = [][MN]uint8{{0, 2, 1, 3, 4}}
	}
	pause := func(c *Cfg) { c.Pause, c.Release, c.MaxLog, c.MaxEpoch = true, true, 4, 2 }
	add("base-core", base(), core)
	add("base-core-r2", base(), func(c *Cfg) { core(c); c.MaxRestart = 2 })
	add("base-elect", base(), elect)
	add("base-elect-norestart", base(), func(c *Cfg) { elect(c); c.MaxRestart = 0 })
	add("base-elect-casrev", base(), func(c *Cfg) { elect(c); c.CasRev = true })
	add("base-pause", base(), func(c *Cfg) { pause(c); c.MaxRestart = 0 })
	add("base-pause-fsmrej", base(), func(c *Cfg) { pause(c); c.MaxRestart = 0; c.FsmPauseRej = true })
	add("base-pause-casrev", base(), func(c *Cfg) { pause(c); c.CasRev = true })
	add("fix-core", fixed(base()), func(c *Cfg) { core(c); c.MaxRestart = 2 })
	add("fix-core-L3", fixed(base()), func(c *Cfg) { core(c); c.MaxRestart = 1; c.L, c.W, c.TwoL = 3, 3, 6 })
	add("fix-core-noreappseal", fixed(base()), func(c *Cfg) { core(c); c.NoReappSeal = true; c.MaxRestart = 1 })
	add("fix-elect", fixed(base()), elect)
	add("fix-elect-3", fixed(base()), func(c *Cfg) { elect(c); c.MaxEv = 3; c.MaxLog = 5; c.MaxRestart = 1 })
	add("fix-elect-reapp", fixed(base()), func(c *Cfg) {
		elect(c)
		c.Reapp = true
		c.NoReappSeal = true
		c.MaxLog = 5
		c.MaxEpoch = 3
		c.MaxEv = 2
	})
	add("fix-pause", fixed(base()), func(c *Cfg) { pause(c); c.MaxRestart = 2; c.MaxLog = 5; c.Reapp = true; c.MaxEpoch = 3 })
	add("fix-elect-L2", fixed(base()), func(c *Cfg) { elect(c); c.L, c.W, c.TwoL = 2, 2, 4 })
	add("fix-elect-N5", fixed(base()), func(c *Cfg) {
		elect(c)
		c.N = 5
		c.Perms = [][MN]uint8{{0, 2, 1, 3, 4}, {0, 1, 2, 4, 3}, {0, 2, 1, 4, 3}}
	})
	add("fix-all", fixed(base()), func(c *Cfg) {
		elect(c)
		c.Pause, c.Release, c.Reapp = true, true, true
		c.MaxEv = 1
		c.MaxLog = 5
		c.MaxEpoch = 3
	})
	L1 := func(c *Cfg) { c.L, c.W, c.TwoL = 1, 1, 1 }
	add("x-pause-L1", fixed(base()), func(c *Cfg) { pause(c); c.MaxRestart = 1; c.MaxLog = 5; c.MaxEpoch = 2; L1(c) })
	add("x-pause-L1-3ep", fixed(base()), func(c *Cfg) {
		pause(c)
		c.MaxRestart = 1
		c.MaxLog = 5
		c.MaxEpoch = 3
		c.Reapp = true
		L1(c)
	})
	add("x-pause-L2", fixed(base()), func(c *Cfg) { pause(c); c.MaxRestart = 2; c.MaxLog = 4; c.MaxEpoch = 2 })
	add("x-elect-reapp-L1", fixed(base()), func(c *Cfg) {
		elect(c)
		c.Reapp = true
		c.NoReappSeal = true
		c.MaxLog = 5
		c.MaxEpoch = 3
		c.MaxEv = 2
		c.MaxRestart = 0
		L1(c)
	})
	add("x-elect-3ep-L1", fixed(base()), func(c *Cfg) {
		elect(c)
		c.MaxLog = 5
		c.MaxEpoch = 3
		c.MaxEv = 2
		c.MaxRestart = 1
		L1(c)
	})
	add("x-elect-pause-L1", fixed(base()), func(c *Cfg) {
		elect(c)
		c.Pause = true
		c.MaxLog = 5
		c.MaxEpoch = 2
		c.MaxEv = 1
		c.MaxRestart = 1
		L1(c)
	})
	// The pause ends in two more ways than that each leader hears the primary show the resume: it is on record that one did
	// (ResumeShown), or an operator says that the primary is down.
	ends := func(c *Cfg) { pause(c); L1(c); c.Shown, c.Down, c.MaxLog, c.MaxRestart = true, true, 6, 1 }
	add("fix-pause-ends", fixed(base()), ends)
	add("fix-pause-ends-reapp", fixed(base()), func(c *Cfg) { ends(c); c.Reapp, c.MaxEpoch = true, 3 })
	add("fix-pause-ends-L2", fixed(base()), func(c *Cfg) { ends(c); c.L, c.W, c.TwoL = 2, 2, 4 })
	add("x-mut-paused-enforcement", fixed(base()), func(c *Cfg) { c.EPausedEnf = true; c.MaxRestart = 0 })
	add("x-mut-wait-too-short", fixed(base()), func(c *Cfg) { c.W = 1; c.MaxRestart = 0 })
	// drift: slow holder 2/3, fast voters/leader 4/3 (d=1/3), L=6 units
	dr := func(c *Cfg) {
		c.L, c.W, c.TwoL = 6, 8, 12
		c.Rate = [MN]int{2, 4, 4, 4, 4}
		c.RateL = 4
		c.MaxRestart = 1
		core(c)
	}
	add("drift-base-W=L(1+d)-margin0", fixed(base()), dr)
	add("drift-margin=dL", fixed(base()), func(c *Cfg) { dr(c); c.Margin = 2 })
	add("drift-W=L(1+d)/(1-d)", fixed(base()), func(c *Cfg) { dr(c); c.W = 12 })
	add("drift-W-ok-slowvoters", fixed(base()), func(c *Cfg) { dr(c); c.W = 12; c.Rate = [MN]int{2, 2, 4, 3, 3}; c.Perms = nil })
	// L is data: failover_after is edited while beats, leases and waits of both lengths are under way
	ldata := func(c *Cfg) {
		c.LShort, c.WShort, c.MaxSetL = 1, 1, 1
		c.MaxEpoch, c.MaxLog = 2, 3
	}
	raised := func(c *Cfg) { ldata(c); c.StartShort = true }
	ldataElect := func(c *Cfg) {
		elect(c)
		ldata(c)
		c.MaxEv, c.MaxRestart = 2, 0
		c.L, c.W, c.TwoL, c.MaxLog = 2, 2, 2, 5 // as in elect, only L is waited
	}
	add("ldata-lowered", fixed(base()), ldata)
	add("ldata-raised", fixed(base()), raised)
	add("ldata-twice", fixed(base()), func(c *Cfg) { ldata(c); c.MaxSetL, c.MaxLog = 2, 4 })
	add("ldata-raised-and-lowered", fixed(base()), func(c *Cfg) { raised(c); c.MaxSetL, c.MaxLog, c.MaxRestart = 2, 4, 2 })
	add("ldata-core", fixed(base()), func(c *Cfg) { core(c); ldata(c); c.MaxEpoch, c.MaxLog = 3, 4 })
	add("ldata-elect", fixed(base()), ldataElect)
	add("ldata-pause", fixed(base()), func(c *Cfg) { pause(c); ldata(c); c.MaxLog = 5 })
	add("ldata-norev", fixed(base()), func(c *Cfg) { core(c); ldata(c); c.TimingFree = true; c.MaxSetL, c.MaxLog = 2, 4 })
	// drift as above, and the short length half as long: W = L(1+d)/(1-d) for each
	add("ldata-drift", fixed(base()), func(c *Cfg) {
		dr(c)
		ldata(c)
		c.Release, c.Reapp = false, false
		c.W, c.LShort, c.WShort = 12, 3, 6
	})
	add("mut-ldata-lmax-volatile", fixed(base()), func(c *Cfg) { raised(c); c.LmaxVolatile = true })
	add("mut-ldata-busy-by-config", fixed(base()), func(c *Cfg) { ldata(c); c.BusyByConfig = true })
	add("mut-ldata-busy-overwritten", fixed(base()), func(c *Cfg) { ldata(c); c.BusyOverwritten = true; c.MaxRestart = 0 })
	add("mut-ldata-wait-by-config", fixed(base()), func(c *Cfg) { ldata(c); c.WaitByConfig = true; c.MaxRestart = 0 })
	add("mut-ldata-elect-show-by-config", fixed(base()), func(c *Cfg) { ldataElect(c); c.ShowByConfig = true })
	// mutations on the fixed protocol
	mu := func(n string, f func(*Cfg)) {
		add("mut-"+n, fixed(base()), func(c *Cfg) { core(c); f(c) })
	}
	mu("seal-volatile", func(c *Cfg) { c.SealVolatile = true })
	mu("lastvouch-not-reset", func(c *Cfg) { c.NoAgeReset = true })
	mu("count-from-send", func(c *Cfg) { c.CountFromSend = true; c.Release = false })
	mu("appoint-without-seal", func(c *Cfg) { c.NoSeal = true })
	mu("release-volatile", func(c *Cfg) { c.RelVolatile = true })
	mu("release-without-stop", func(c *Cfg) { c.ReleaseNoStop = true })
	mu("seq-reused-after-restart", func(c *Cfg) { c.SeqReuse = true })
	mu("elect-no-show-wait", func(c *Cfg) { elect(c); c.NoShowWait = true; c.MaxRestart = 0 })
	mu("elect-swap", func(c *Cfg) { elect(c); c.SwapE = true; c.MaxEv = 1; c.MaxRestart = 0 })
	mu("elect-stale-E(no CasRev)", func(c *Cfg) { elect(c); c.CasRev = false; c.MaxRestart = 0 })
	mu("elect-no-durable-floor", func(c *Cfg) { elect(c); c.Floor = false })
	mu("pause-no-resume-rule", func(c *Cfg) { pause(c); c.NoResumeRule = true; c.MaxRestart = 0 })
	mu("pause-no-durable-floor", func(c *Cfg) { pause(c); c.Floor = false; c.MaxLog = 4 })
	mu("pause-shown-before-it-is", func(c *Cfg) { ends(c); c.MaxRestart, c.ShownEarly = 0, true })
	mu("pause-shown-of-another-resume", func(c *Cfg) {
		ends(c)
		c.MaxRestart, c.MaxLog, c.Down, c.Release, c.ShownAny = 0, 7, false, false, true
	})
	mu("pause-down-untrue", func(c *Cfg) { ends(c); c.MaxRestart, c.DownUntrue = 0, true })
	mu("pause-down-comes-back-too-soon", func(c *Cfg) { ends(c); c.MaxRestart, c.DownComesBack = 0, true })
	mu("pause-down-opens-without-a-lease", func(c *Cfg) { ends(c); c.MaxRestart, c.DownOpensByPause = 0, true })
	return
}

func main() {
	if err := run(mc.Arguments(os.Args, 150*time.Second)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(what string, each time.Duration) error {
	switch what {
	case "sim":
		return sim(each)
	case "short":
		return runShort(os.Stdout)
	case "long":
		return runLong(os.Stdout)
	}
	for _, c := range configs() {
		if !mc.Named(c.Name, what) {
			continue
		}
		r := mc.BFS[St](&M{c}, 60_000_000, each)
		fmt.Printf("%-32s %s\n", c.Name, r)
		for i, l := range r.Trace {
			fmt.Printf("      %2d %s\n", i+1, l)
		}
	}
	return nil
}
