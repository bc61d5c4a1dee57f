package nemesis

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Can says what a lab is and can do.
type Can struct {
	Data, Witnesses int
	Network         bool // links can be cut and hosts vanish
	Disks           bool // of the nodes with data, each its own
	Clocks          bool // what Postgres takes for the wall clock can be set
	Members         bool // nodes can leave and join
}

// How a round goes. Faults begin close together, so that most of them overlap.
const (
	calmAtLeast, calmAtMost = time.Second, 2500 * time.Millisecond
	holdAtLeast, holdAtMost = time.Second, 4 * time.Second
	beginWithin             = 3 * time.Second
	shortest, longest       = 50 * time.Millisecond, 6 * time.Second // of what is undone in the round
	most                    = 4                                      // faults in a round
	probed                  = 0.8
)

// maker makes one kind of fault: the steps, with times since it begins. They get its number later.
type maker struct {
	name  string
	steps func(*Deck) []Step
}

// Deck deals rounds: the same for the same seed and lab. Every kind of fault comes once, in any order and company, before
// any comes again.
type Deck struct {
	rng    *rand.Rand
	can    Can
	makers []maker
	left   []maker
	traps  bool // one fault a round, and every node is probed
}

// New returns a deck.
func New(seed uint64, can Can) *Deck {
	return &Deck{rng: rand.New(rand.NewPCG(seed, 1)), can: can, makers: makers(can)}
}

// NewTraps returns a deck of traps: situations in which a single mechanism keeps the data, for the negative controls
// (docs/decisions/0017).
func NewTraps(seed uint64, can Can) *Deck {
	return &Deck{rng: rand.New(rand.NewPCG(seed, 2)), can: can, makers: traps(can), traps: true}
}

// Kinds are the names of all faults of the deck.
func (d *Deck) Kinds() []string {
	var names []string
	for _, m := range d.makers {
		names = append(names, m.name)
	}
	return names
}

// Deal returns the next round.
func (d *Deck) Deal() Round {
	r := Round{Calm: d.between(calmAtLeast, calmAtMost), Hold: d.between(holdAtLeast, holdAtMost), Prober: d.rng.Float64() < probed}
	begin := time.Duration(0)
	faults := 1
	if r.Prober = r.Prober || d.traps; !d.traps {
		faults += d.rng.IntN(most)
	}
	for range faults {
		m := d.next()
		for _, s := range m.steps(d) {
			s.At += begin
			s.Fault = len(r.Faults)
			r.Steps = append(r.Steps, s)
		}
		r.Faults = append(r.Faults, m.name)
		begin = d.between(0, beginWithin)
	}
	slices.SortStableFunc(r.Steps, func(a, b Step) int { return int(a.At - b.At) })
	return r
}

// next takes a fault from the deck.
func (d *Deck) next() maker {
	if len(d.left) == 0 {
		d.left = slices.Clone(d.makers)
		d.rng.Shuffle(len(d.left), func(i, j int) { d.left[i], d.left[j] = d.left[j], d.left[i] })
	}
	m := d.left[0]
	d.left = d.left[1:]
	return m
}

func (d *Deck) between(least, most time.Duration) time.Duration {
	return least + time.Duration(d.rng.Int64N(int64(most-least)))
}

// lasting is how long something lasts that is undone in the round: as often between 50 and 100 ms as between 3 and 6 s, so
// that much of it ends just before or after a lease does.
func (d *Deck) lasting() time.Duration {
	return time.Duration(float64(shortest) * math.Pow(float64(longest)/float64(shortest), d.rng.Float64()))
}

// dataSeat is a node with a Postgres: the primary twice as often as all others together.
func (d *Deck) dataSeat() int {
	if d.can.Data < 2 || d.rng.IntN(3) > 0 {
		return 0
	}
	return d.standbySeat()
}

// standbySeat is a node with a Postgres and not the primary; with a single node there is none, and the seat is empty.
func (d *Deck) standbySeat() int { return 1 + d.rng.IntN(max(1, d.can.Data-1)) }

// anySeat is any node: witnesses sit behind those with data.
func (d *Deck) anySeat() int {
	if n := d.can.Data + d.can.Witnesses; n > 1 && d.rng.IntN(2) == 0 {
		return 1 + d.rng.IntN(n-1)
	}
	return 0
}

// seatFor is a node that has such processes: a walreceiver is on standbys only.
func (d *Deck) seatFor(set []Part) int {
	if slices.Contains(set, Receiver) {
		return d.standbySeat()
	}
	return d.dataSeat()
}
