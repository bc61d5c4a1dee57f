package nemesis

import (
	"slices"
	"time"
)

// What daemons log when something begins in the middle of which they are killed: the text, and what follows it up to there.
const (
	promoting   = "next step: step=promote"
	configuring = "next step: step=configure"
	rewinding   = "rewind begins"
	cloning     = "clone begins"
	trying      = "settings on trial" // the files are about to have them, and they are not accepted
)

// makers are the kinds of faults that such a lab can have.
func makers(can Can) []maker {
	all := slices.Concat(signals(), ambushes(can), operators(can))
	if can.Network {
		all = append(all, network(can)...)
	}
	if can.Disks {
		all = append(all, disks()...)
	}
	if can.Clocks {
		all = append(all, clock())
	}
	return all
}

// signals kill and stop every set of processes, and stop some of them again and again.
func signals() (all []maker) {
	for _, set := range Sets() {
		all = append(all, maker{"kill " + join(set), func(d *Deck) []Step {
			away := slices.Contains(set, Agent) && d.rng.IntN(3) == 0
			return []Step{{Do: Kill, Seat: d.seatFor(set), Parts: set, Away: away}}
		}}, maker{"stop " + join(set), func(d *Deck) []Step {
			seat := d.seatFor(set)
			return []Step{{Do: Stop, Seat: seat, Parts: set}, {At: d.lasting(), Do: Resume, Seat: seat}}
		}})
	}
	for _, set := range [][]Part{{Agent}, {Guard}, {Agent, Guard}, {Postmaster}, {Receiver}} {
		all = append(all, maker{"stutter " + join(set), func(d *Deck) []Step {
			return d.again(d.seatFor(set), Step{Do: Stop, Parts: set}, Step{Do: Resume})
		}})
	}
	return all
}

// again does and undoes something a few times.
func (d *Deck) again(seat int, do, undo Step) (steps []Step) {
	do.Seat, undo.Seat = seat, seat
	for range 3 + d.rng.IntN(4) {
		undo.At = do.At + d.between(100*time.Millisecond, 1500*time.Millisecond)
		steps = append(steps, do, undo)
		do.At = undo.At + d.between(100*time.Millisecond, time.Second)
	}
	return steps
}

// network cuts it in every shape, and takes hosts and the power away.
func network(can Can) (all []maker) {
	for _, shape := range shapes(can.Data + can.Witnesses) {
		all = append(all, maker{"cut " + string(shape), func(d *Deck) []Step {
			seat := d.anySeat()
			return []Step{{Do: Cut, Seat: seat, Shape: shape}, {At: d.lasting(), Do: Mend, Seat: seat}}
		}})
	}
	for _, shape := range []Shape{Lossy, Everywhere} {
		all = append(all, maker{"cut " + string(shape), func(d *Deck) []Step {
			seat := d.anySeat()
			return []Step{{Do: Cut, Seat: seat, Shape: shape, N: 5 + d.rng.IntN(56)}, {At: d.lasting(), Do: Mend, Seat: seat}}
		}})
	}
	return append(all,
		maker{"flapping", func(d *Deck) []Step { return d.again(d.anySeat(), Step{Do: Cut, Shape: Full}, Step{Do: Mend}) }},
		maker{"vanish", func(d *Deck) []Step {
			seat := d.anySeat()
			return []Step{{Do: Vanish, Seat: seat}, {At: d.between(500*time.Millisecond, longest), Do: Return, Seat: seat}}
		}},
		maker{"power", func(d *Deck) []Step {
			steps, at := []Step{{Do: PowerOff}}, time.Duration(0)
			for _, seat := range d.rng.Perm(d.can.Data + d.can.Witnesses) {
				at += d.between(0, 1500*time.Millisecond)
				steps = append(steps, Step{At: at, Do: PowerOn, Seat: seat})
			}
			return steps
		}})
}

func disks() []maker {
	brief := func(do, undo Do) func(*Deck) []Step {
		return func(d *Deck) []Step {
			seat := d.dataSeat()
			return []Step{{Do: do, Seat: seat}, {At: d.lasting(), Do: undo, Seat: seat}}
		}
	}
	return []maker{
		{"disk hang", brief(Hang, Thaw)},
		{"disk full", brief(Fill, Free)},
		{"disk read-only", func(d *Deck) []Step { return []Step{{Do: ReadOnly, Seat: d.dataSeat()}} }},
	}
}

// clock has the wall clock that a Postgres sees jump, and jump back: by less than the timeouts of replication, by more, by a lot.
func clock() maker {
	return maker{"clock jump", func(d *Deck) []Step {
		seat, by := d.dataSeat(), []int{5, 60, 3600, 10 * 365 * 24 * 3600}[d.rng.IntN(4)]
		if back := d.rng.IntN(2) == 0; back {
			by = -by
		}
		// Who has the clock looks once a second.
		return []Step{{Do: Jump, Seat: seat, N: by}, {At: d.between(2*time.Second, longest), Do: Right, Seat: seat}}
	}}
}

// ambushes kill in the middle of what something else begins.
func ambushes(can Can) []maker {
	soon := 200 * time.Millisecond // until the ambush is laid
	all := []maker{
		{"kill in promote", func(d *Deck) []Step {
			return []Step{d.ambush(promoting), {At: soon, Do: Kill, Parts: []Part{Postmaster}}}
		}},
		{"kill in config change", func(d *Deck) []Step {
			return []Step{d.ambushWithin(trying, trial), {At: soon, Do: Configure, N: 4 + d.rng.IntN(60)}}
		}},
		{"kill in clone", func(d *Deck) []Step {
			return []Step{d.ambush(cloning), {At: soon, Do: Reinit, Seat: d.standbySeat()}}
		}},
		{"kill in change of copies", func(d *Deck) []Step {
			steps := []Step{d.ambush(configuring)}
			for seat := 1; seat < d.can.Data; seat++ {
				steps = append(steps, Step{At: soon, Do: Stop, Seat: seat, Parts: []Part{Receiver}},
					Step{At: soon + d.between(3*time.Second, longest), Do: Resume, Seat: seat})
			}
			return steps
		}},
	}
	if can.Network {
		// Clients still reach a primary that is cut off from all others, and what they write until its lease ends nobody else has. Of one
		// that vanishes they are cut off too, and then there is rarely anything to rewind. A rewind is the agent's: Postgres runs for a
		// moment of it, or not at all.
		all = append(all, maker{"kill in rewind", func(d *Deck) []Step {
			return []Step{d.ambushOf(rewinding, 300*time.Millisecond, []Part{Agent}, []Part{Agent, Guard}), {At: soon, Do: Cut, Shape: Full}, {At: soon + d.between(3*time.Second, 5*time.Second), Do: Mend}}
		}})
	}
	return all
}

// trial is about how long settings are on trial: two files are written, and a session asks what the server thinks of them.
const trial = 30 * time.Millisecond

func (d *Deck) ambush(word string) Step { return d.ambushWithin(word, 300*time.Millisecond) }

func (d *Deck) ambushWithin(word string, most time.Duration) Step {
	return d.ambushOf(word, most, []Part{Agent}, []Part{Agent, Guard}, []Part{Postmaster}, []Part{Agent, Guard, Postmaster})
}

func (d *Deck) ambushOf(word string, most time.Duration, sets ...[]Part) Step {
	return Step{Do: Ambush, Word: word, Parts: sets[d.rng.IntN(len(sets))], After: d.between(0, most)}
}

func operators(can Can) []maker {
	all := []maker{
		{"switchovers", func(d *Deck) (steps []Step) {
			for range 2 + d.rng.IntN(3) {
				steps = append(steps, Step{At: d.between(0, time.Second), Do: Switchover, Seat: d.standbySeat()})
			}
			return steps
		}},
		{"pause", func(d *Deck) []Step {
			return []Step{{Do: Pause}, {At: d.lasting() + time.Second, Do: Unpause}}
		}},
		{"reinit", func(d *Deck) []Step { return []Step{{Do: Reinit, Seat: d.standbySeat()}} }},
		{"configure", func(d *Deck) []Step { return []Step{{Do: Configure, N: 4 + d.rng.IntN(60)}} }},
	}
	if can.Data > 1 {
		all = append(all, maker{"slow restore_command", func(d *Deck) []Step { return d.slowRestores() }})
	}
	if can.Members && can.Data > 2 {
		all = append(all, maker{"member out and in", func(d *Deck) []Step { return []Step{{Do: Remove, Seat: d.standbySeat()}} }})
	}
	return all
}

// slowRestores has recovery on all standbys wait for a restore_command, and kills the primary's Postgres while it does.
func (d *Deck) slowRestores() (steps []Step) {
	long := d.between(time.Second, longest)
	for seat := 1; seat < d.can.Data; seat++ {
		steps = append(steps, Step{Do: SlowRestore, Seat: seat, After: long})
	}
	return append(steps, Step{At: d.between(500*time.Millisecond, 1500*time.Millisecond), Do: Kill, Parts: []Part{Postmaster}})
}
