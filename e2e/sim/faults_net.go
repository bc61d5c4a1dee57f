package sim

import (
	"time"

	"github.com/quorate/quorate/fsm"
)

// What faults do to the network, and what operators do.

// block closes ways and returns what opens them again.
func (w *World) block(ways [][2]int) func() {
	for _, x := range ways {
		w.net.cut[x[0]][x[1]]++
	}
	return func() {
		for _, x := range ways {
			w.net.cut[x[0]][x[1]]--
		}
	}
}

// around are the ways between one host and the others.
func (w *World) around(h int) (ways [][2]int) {
	for i := range w.hosts {
		if i != h {
			ways = append(ways, [2]int{h, i}, [2]int{i, h})
		}
	}
	return ways
}

// isolate cuts one host off, from the clients as well or not.
func isolate(w *World, f Fault) func() {
	h := w.pick(f).index
	ways := w.around(h)
	if f.N%2 == 0 {
		ways = append(ways, [2]int{h, clients}, [2]int{clients, h})
	}
	return w.block(ways)
}

// split makes two halves, the clients in one of them or in both.
func split(w *World, f Fault) func() {
	h := w.pick(f).index
	side := f.N | 1<<h
	var ways [][2]int
	for i := range w.hosts {
		for j := range w.hosts {
			if (side>>i)&1 != (side>>j)&1 {
				ways = append(ways, [2]int{i, j})
			}
		}
	}
	return w.block(ways)
}

// oneWay lets a host hear and not be heard, or the other way round.
func oneWay(w *World, f Fault) func() {
	h := w.pick(f).index
	var ways [][2]int
	for i := range w.hosts {
		switch {
		case i == h:
		case f.N%2 == 0:
			ways = append(ways, [2]int{h, i})
		default:
			ways = append(ways, [2]int{i, h})
		}
	}
	return w.block(ways)
}

// ring leaves each host its two neighbours.
func ring(w *World, f Fault) func() {
	n := len(w.hosts)
	var ways [][2]int
	for i := range n {
		for j := range n {
			if i != j && (i+1)%n != j && (j+1)%n != i || n <= 3 && i == 0 && j == int(1+f.N%2) {
				ways = append(ways, [2]int{i, j})
			}
		}
	}
	return w.block(ways)
}

// link cuts one host from one other.
func link(w *World, f Fault) func() {
	h := w.pick(f).index
	o := int((f.N >> 8) % uint64(len(w.hosts)))
	if o == h {
		o = (h + 1) % len(w.hosts)
	}
	return w.block([][2]int{{h, o}, {o, h}})
}

// flap cuts a host off and lets it back again and again.
func flap(w *World, f Fault) func() {
	over, opened := false, func() {}
	closed := false
	var turn func()
	turn = func() {
		if over {
			return
		}
		if closed {
			opened()
		} else {
			opened = isolate(w, f)
		}
		closed = !closed
		w.at(w.between(50*time.Millisecond, 1500*time.Millisecond), turn)
	}
	turn()
	return func() {
		over = true
		if closed {
			opened()
		}
	}
}

func lossyNet(w *World, f Fault) func() {
	drop, double := float64(f.N%40)/100, float64((f.N>>8)%30)/100
	w.net.drop += drop
	w.net.double += double
	return func() { w.net.drop, w.net.double = max(0, w.net.drop-drop), max(0, w.net.double-double) }
}

func slowNet(w *World, f Fault) func() {
	by := time.Duration(20+f.N%900) * time.Millisecond
	w.net.jitter += by
	w.net.slowBy = 0.1 + float64((f.N>>16)%80)/100
	return func() { w.net.jitter = max(0, w.net.jitter-by) }
}

// hole keeps Raft's log from a standby, to which beats, heartbeats and calls go on, as they do where only what is large does not
// arrive. Before or after that is noticed the primary's host dies, or that standby shall be primary.
func hole(w *World, f Fault) func() {
	primary := w.byID(w.check.newest.Primary)
	h := w.others(primary, f.N)
	if primary == nil || h == nil {
		return nil
	}
	over, back := false, func() {}
	w.net.hole[h.index]++
	w.at(w.between(0, 6*time.Second), func() {
		switch id := w.nextID(); {
		case over:
		case f.N>>8%3 == 0:
			primary.powerOff()
			back = primary.powerOn
		default:
			w.asks(f.N, id, func(fsm.State) fsm.Command { return fsm.AskSwitchover{ID: id, To: h.id} })
		}
	})
	return func() {
		over = true
		w.net.hole[h.index]--
		back()
	}
}

// operators' commands

func switchover(w *World, f Fault) func() {
	id := w.nextID()
	w.asks(f.N, id, func(s fsm.State) fsm.Command {
		c := fsm.AskSwitchover{ID: id}
		if h := w.others(w.byID(s.Primary), f.N>>4); h != nil && f.N%3 > 0 {
			c.To = h.id
		}
		return c
	})
	return nil
}

func pauseCluster(w *World, f Fault) func() {
	w.asks(f.N, "operator", func(fsm.State) fsm.Command { return fsm.Pause{} })
	return func() { w.asks(f.N, "operator", func(fsm.State) fsm.Command { return fsm.Resume{} }) }
}

// pauseBlip is a pause that is over at once, while a rash leader is about to appoint somebody and its proposal is late: some
// have applied one, some both, some neither. Often the primary is cut off in between, so that it knows of the pause only
// and goes on writing without a lease (lease.md V5).
func pauseBlip(w *World, f Fault) func() {
	primary, span := w.byID(w.check.newest.Primary), w.opts.failoverAfter()
	late := time.Duration(f.N%8) * span / 4
	w.rash++
	w.late += late
	opened, over := func() {}, false
	w.at(w.between(span/2, span*3/2), func() {
		w.asks(f.N, "operator", func(fsm.State) fsm.Command { return fsm.Pause{} })
		w.at(w.between(0, span/4), func() {
			if f.N&(1<<40) != 0 && primary != nil && !over {
				opened = w.block(w.around(primary.index))
			}
			w.asks(f.N>>8, "operator", func(fsm.State) fsm.Command { return fsm.Resume{} })
		})
	})
	return func() {
		over = true
		opened()
		w.rash--
		w.late -= late
		w.unpaused(f.N)
	}
}

// pauseForgotten: the primary's snapshot falls into a pause. It shows the resume, its daemon ends and comes back cut off from the
// others. What its log tells it then is the pause, which its disk has to know better (lease.md V6).
func pauseForgotten(w *World, f Fault) func() {
	primary, span := w.byID(w.check.newest.Primary), w.opts.failoverAfter()
	opened, over := func() {}, false
	w.asks(f.N, "operator", func(fsm.State) fsm.Command { return fsm.Pause{} })
	w.at(w.between(span/4, span/2), func() {
		if primary != nil && primary.agent.alive && primary.agent.raft.state.Paused {
			primary.agent.raft.takeSnapshot()
		}
		w.at(w.between(span/8, span/4), func() {
			w.asks(f.N>>8, "operator", func(fsm.State) fsm.Command { return fsm.Resume{} })
			w.at(w.between(span/4, span), func() {
				if primary == nil || over {
					return
				}
				opened = w.block(w.around(primary.index))
				primary.killAgent()
				w.at(w.between(10*time.Millisecond, span/4), primary.startAgent)
			})
		})
	})
	return func() {
		over = true
		opened()
		if primary != nil {
			primary.startAgent()
		}
		w.unpaused(f.N)
	}
}

// unpaused ends a pause if there is one.
func (w *World) unpaused(n uint64) {
	if w.check.newest.Paused {
		w.asks(n, "operator", func(fsm.State) fsm.Command { return fsm.Resume{} })
	}
}

// unpause sees to it that no pause outlives the healing, though a command was late.
func (w *World) unpause(n uint64) {
	w.unpaused(n)
	w.at(2*time.Second, func() { w.unpause(n + 1) })
}

// edit changes the settings; a stale one is read again.
func (w *World) edit(n uint64, change func(*fsm.Settings)) {
	w.editConfig(n, change, func(map[string]string) {})
}

func durability(w *World, f Fault) func() {
	to := fsm.DurabilityAsync
	if w.check.newest.Config.Settings.Durability == fsm.DurabilityAsync {
		to = fsm.DurabilityQuorum
	}
	w.edit(f.N, func(s *fsm.Settings) { s.Durability = to })
	return func() { w.edit(f.N, func(s *fsm.Settings) { s.Durability = w.opts.shape.durability }) }
}

func strict(w *World, f Fault) func() {
	w.edit(f.N, func(s *fsm.Settings) { s.Strict = !w.opts.shape.strict })
	return func() { w.edit(f.N, func(s *fsm.Settings) { s.Strict = w.opts.shape.strict }) }
}

// join lets the spare hosts in, all of them, since voters come in pairs. A node starts once it is a member.
func join(w *World, f Fault) func() {
	for i, h := range w.hosts {
		if !h.joins || h.started {
			continue
		}
		w.asks(f.N, "join", func(s fsm.State) fsm.Command {
			if _, known := s.Members[h.id]; known {
				return nil
			}
			return fsm.SetMember{Member: h.member()}
		})
		h.started = true
		w.at(time.Duration(300+100*i)*time.Millisecond, func() {
			if h.up {
				h.startAgent()
			} else {
				h.powerOn()
			}
		})
	}
	return nil
}

func leave(w *World, f Fault) func() {
	w.asks(f.N, "operator", func(s fsm.State) fsm.Command {
		h := w.others(w.byID(s.Primary), f.N)
		if h == nil || len(s.Members) <= 3 || w.alone(h) {
			return nil
		}
		m, known := s.Members[h.id]
		if !known || m.Leaving {
			return nil
		}
		m.Leaving = true
		return fsm.SetMember{Member: m}
	})
	return nil
}

// operators are several at once, who know nothing of each other.
func operators(w *World, f Fault) func() {
	over := false
	var turn func()
	turn = func() {
		if over {
			return
		}
		n := w.rng.Uint64()
		switch g := (Fault{N: n >> 3}); n % 8 {
		case 0, 1, 2:
			switchover(w, g)
		case 3:
			w.asks(g.N, "operator", func(fsm.State) fsm.Command { return fsm.Pause{} })
		case 4, 5:
			w.unpaused(g.N)
		case 6:
			w.edit(g.N, func(s *fsm.Settings) { s.Strict = !s.Strict })
		case 7:
			w.asks(g.N, "operator", func(s fsm.State) fsm.Command {
				if s.Wish == nil {
					return nil
				}
				return fsm.EndWish{ID: s.Wish.ID, Because: "taken back"}
			})
		}
		w.at(w.between(5*time.Millisecond, 400*time.Millisecond), turn)
	}
	turn()
	return func() {
		over = true
		w.unpaused(f.N)
		w.edit(f.N, func(s *fsm.Settings) { s.Strict = w.opts.shape.strict })
	}
}

// lateProposals has what a leader decided come into the log when much may have happened since: it may have lost the leadership
// and won it back.
func lateProposals(w *World, f Fault) func() {
	by := time.Duration(50+f.N%2000) * time.Millisecond
	w.late += by
	return func() { w.late -= by }
}
