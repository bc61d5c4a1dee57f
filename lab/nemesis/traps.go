package nemesis

import "time"

// traps are those that such a lab can spring. Two are laid between two standbys, of which a commit needs one.
func traps(can Can) []maker {
	all := []maker{{"trap: start by hand", startByHand}, {"trap: busy session", busySession}}
	if can.Data == 3 {
		all = append(all, maker{"trap: nobody fences", nobodyFences})
	}
	if can.Data == 3 && can.Network {
		all = append(all, maker{"trap: one has the newest log", newestLog})
	}
	return all
}

// startByHand has the old primary's server started by somebody else once another node is primary. Only standby.signal keeps it
// from taking writes: agent and guard are away.
func startByHand(*Deck) []Step {
	return []Step{
		{Do: Kill, Parts: []Part{Agent, Guard, Postmaster}, Away: true},
		{At: 2500 * time.Millisecond, Do: Begin},
		{At: 5500 * time.Millisecond, Do: End},
	}
}

// busySession has a session commit without a pause when its postmaster is killed. It waits for nothing, so it takes no notice:
// only the kill of all processes ends it before another node is primary.
func busySession(*Deck) []Step {
	return []Step{{Do: Busy}, {At: time.Second, Do: Kill, Parts: []Part{Postmaster}}}
}

// nobodyFences has the primary's server go on, since nobody is left there who could end it, while a standby whose replay is
// held takes no notice of settings: that one acknowledges on unless its walreceiver is ended.
func nobodyFences(d *Deck) []Step {
	held := d.standbySeat()
	return []Step{
		{Do: Hold, Seat: held},
		{At: 400 * time.Millisecond, Do: Stop, Parts: []Part{Agent, Guard}},
		{At: 5 * time.Second, Do: Resume},
		{At: 5 * time.Second, Do: Play, Seat: held},
	}
}

// newestLog has one standby hold what was acknowledged last and replay none of it, and the other one lack it and have replayed
// more: the end of its log decides, not what it shows.
func newestLog(d *Deck) []Step {
	held := d.standbySeat()
	lacks := 3 - held
	return []Step{
		{Do: Hold, Seat: held},
		{At: 700 * time.Millisecond, Do: Stop, Seat: lacks, Parts: []Part{Receiver}},
		{At: 1500 * time.Millisecond, Do: Vanish},
		{At: 5 * time.Second, Do: Return},
		{At: 5 * time.Second, Do: Resume, Seat: lacks},
		{At: 5 * time.Second, Do: Play, Seat: held},
	}
}
