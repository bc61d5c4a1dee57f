package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Fault is one thing that goes wrong, or that an operator does, in a seed.
type Fault struct {
	At, For time.Duration
	Kind    string
	Who     aim
	N       uint64 // whatever else it draws
}

// aim says whom a fault means at the instant when it comes.
type aim uint8

const (
	thePrimary aim = iota
	theLeader
	aStandby
	anybody
)

func (t aim) String() string { return [...]string{"primary", "leader", "standby", "anybody"}[t] }

func (f Fault) String() string {
	return fmt.Sprintf("%7.3f s %-14s %-7s for %s", f.At.Seconds(), f.Kind, f.Who, f.For.Round(time.Millisecond))
}

// kind is a row of the table of faults.
type kind struct {
	name   string
	weight int
	low    time.Duration
	high   time.Duration
	begin  func(*World, Fault) (end func())
}

// kinds is the table. Its order is part of what a seed means.
func kinds() []kind {
	const ms, s = time.Millisecond, time.Second
	return []kind{
		{"host-kill", 10, s, 15 * s, hostKill},
		{"all-kill", 2, s, 6 * s, allKill},
		{"agent-kill", 10, 100 * ms, 6 * s, agentKill},
		{"agent-stop", 7, 100 * ms, 8 * s, agentStop},
		{"guard-kill", 4, 100 * ms, s, guardKill},
		{"guard-stop", 4, 100 * ms, 5 * s, guardStop},
		{"both-kill", 3, 300 * ms, 6 * s, bothKill},
		{"both-stop", 4, 300 * ms, 8 * s, bothStop},
		{"postgres-kill", 8, 0, s, postgresKill},
		{"postgres-stop", 5, 500 * ms, 8 * s, postgresStop},
		{"wedge", 3, s, 12 * s, wedge},
		{"backend-crash", 4, 0, s, backendCrash},
		{"suspend", 4, 200 * ms, 8 * s, suspend},
		{"isolate", 12, 300 * ms, 12 * s, isolate},
		{"split", 6, s, 12 * s, split},
		{"one-way", 6, 500 * ms, 10 * s, oneWay},
		{"ring", 3, s, 8 * s, ring},
		{"link", 5, s, 10 * s, link},
		{"flap", 4, s, 8 * s, flap},
		{"lossy-net", 5, s, 10 * s, lossyNet},
		{"slow-net", 5, s, 10 * s, slowNet},
		{"disk-hang", 6, 300 * ms, 8 * s, diskHang},
		{"disk-slow", 4, 2 * s, 15 * s, diskSlow},
		{"replay-lag", 6, s, 12 * s, replayLag},
		{"wal-gone", 3, 5 * s, 40 * s, walGone},
		{"rash-leader", 14, 500 * ms, 4 * s, rashLeader},
		{"rash-restart", 8, 500 * ms, 4 * s, rashRestart},
		{"vouch-lost", 3, 3 * s, 5 * s, vouchLost},
		{"trap", 5, s, 6 * s, trap},
		{"cancel", 3, 0, s, cancelWaits},
		{"switchover", 9, 0, s, switchover},
		{"pause", 3, 2 * s, 12 * s, pauseCluster},
		{"pause-blip", 4, 500 * ms, 2 * s, pauseBlip},
		{"pause-forgotten", 3, 4 * s, 10 * s, pauseForgotten},
		{"durability", 3, 5 * s, 20 * s, durability},
		{"strict", 1, 5 * s, 20 * s, strict},
		{"operators", 3, s, 5 * s, operators},
		{"late-proposals", 5, s, 6 * s, lateProposals},
		{"reinit", 4, 0, s, askReinit},
		{"upgrade", 3, 4 * s, 15 * s, upgrade},
		{"restart", 5, 0, s, askRestart},
		{"parameters", 4, 3 * s, 15 * s, parameters},
		{"crash-loop", 5, s, 6 * s, crashLoop},
		{"join", 3, 0, s, join},
		{"leave", 2, 0, s, leave},
		{"replace", 4, s, 5 * s, replace},
		{"recover", 1, 0, s, recoverOne},
		{"hole", 5, 6 * s, 20 * s, hole},
	}
}

// drawPlan draws the faults of a seed. Half of them come right after the one before, because most bugs need two. Early ones come while
// the cluster begins.
func drawPlan(rng *rand.Rand, early bool) []Fault {
	table := kinds()
	total := 0
	for _, k := range table {
		total += k.weight
	}
	var plan []Fault
	if early {
		for range 2 {
			plan = append(plan, drawFault(rng, table, total, time.Second+time.Duration(rng.Int64N(int64(5*time.Second)))))
		}
	}
	for at := settled; ; {
		gap := time.Duration(rng.Int64N(int64(12 * time.Second)))
		if len(plan) > 0 && rng.Float64() < 0.5 {
			gap = time.Duration(rng.Int64N(int64(2 * time.Second)))
		}
		if at += gap; at >= healed-3*time.Second {
			if len(plan) >= minFaults {
				break
			}
			at = settled + time.Duration(rng.Int64N(int64(healed-settled-5*time.Second)))
		}
		plan = append(plan, drawFault(rng, table, total, at))
	}
	slices.SortStableFunc(plan, func(a, b Fault) int { return int(a.At - b.At) })
	return plan
}

// drawFault draws what happens at an instant, to whom and for how long.
func drawFault(rng *rand.Rand, table []kind, total int, at time.Duration) Fault {
	pick := rng.IntN(total)
	row := slices.IndexFunc(table, func(k kind) bool { pick -= k.weight; return pick < 0 })
	k := table[row]
	f := Fault{At: at, Kind: k.name, N: rng.Uint64(), Who: thePrimary, For: k.low}
	switch p := rng.Float64(); {
	case p > 0.85:
		f.Who = anybody
	case p > 0.65:
		f.Who = aStandby
	case p > 0.5:
		f.Who = theLeader
	}
	if k.high > k.low {
		f.For += time.Duration(float64(k.high-k.low) * rng.Float64() * rng.Float64())
	}
	return f
}

// schedule puts the plan, or what is kept of it, into the world, and heals everything at the end.
func (w *World) schedule(plan []Fault) {
	table := kinds()
	for i, f := range plan {
		if w.opts.Keep != nil && !slices.Contains(w.opts.Keep, i) {
			continue
		}
		at := slices.IndexFunc(table, func(k kind) bool { return k.name == f.Kind })
		begin := table[at].begin
		w.at(f.At, func() {
			if w.tape != nil {
				w.say(nil, "FAULT", "#%d %s", i, f)
			}
			w.stats.fault(f.Kind)
			end := begin(w, f)
			if end == nil {
				return
			}
			over := false
			once := func() {
				if !over {
					over = true
					if w.tape != nil {
						w.say(nil, "HEALED", "#%d %s", i, f.Kind)
					}
					end()
				}
			}
			w.at(f.For, once)
			w.heal = append(w.heal, once)
		})
	}
	w.at(healed, func() {
		w.say(nil, "HEALED", "everything")
		for _, end := range w.heal {
			end()
		}
		w.unpause(0)
	})
}

// pick finds whom a fault means now.
func (w *World) pick(f Fault) *host {
	primary := w.byID(w.check.newest.Primary)
	switch f.Who {
	case thePrimary:
		if primary != nil {
			return primary
		}
	case theLeader:
		var best *host
		for _, h := range w.hosts {
			if h.agent.alive && h.agent.raft.role == leader && (best == nil || h.disk.term > best.disk.term) {
				best = h
			}
		}
		if best != nil {
			return best
		}
	case aStandby:
		if h := w.others(primary, f.N); h != nil {
			return h
		}
	}
	return w.hosts[f.N%uint64(len(w.hosts))]
}

// others picks among those that are not h and have data.
func (w *World) others(h *host, n uint64) *host {
	var all []*host
	for _, o := range w.hosts {
		if o != h && o.data.exists {
			all = append(all, o)
		}
	}
	if len(all) == 0 {
		return nil
	}
	return all[n%uint64(len(all))]
}
