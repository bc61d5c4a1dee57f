package lab

import (
	"math/rand/v2"
	"slices"
	"time"
)

// AllKill is a round of a soak and no fault that healing ends: all nodes are killed at once and started one by one.
const AllKill = "all-kill"

// round is what a soak does between two states in which the cluster is whole.
type round struct {
	Blows  []blow        `json:"blows"`
	Order  []int         `json:"order,omitempty"` // all-kill: in which the nodes are started
	Calm   time.Duration `json:"calm"`            // before the first blow
	Hold   time.Duration `json:"hold"`            // after the last
	Prober bool          `json:"prober"`
}

// blow is one fault of a round.
type blow struct {
	Kind  string        `json:"fault"`
	After time.Duration `json:"after"` // the blow before
}

// How long a round takes without healing, and how often a second fault comes before the first is healed.
const (
	calmAtLeast, calmAtMost = time.Second, 3 * time.Second
	holdAtLeast, holdAtMost = 3 * time.Second, 8 * time.Second
	secondWithin            = 2500 * time.Millisecond
	doubles                 = 0.3 // of the rounds
	probed                  = 0.75
)

// deck deals the rounds of a soak: the same for the same seed, kinds and number of nodes. First comes every kind and every
// order of starting once, then all again in another order, and so on; the second fault of a round is any.
type deck struct {
	rng   *rand.Rand
	kinds []string
	nodes int // 0: all-kill can't be made
	left  []round
}

func newDeck(seed uint64, kinds []string, nodes int) *deck {
	return &deck{rng: rand.New(rand.NewPCG(seed, 0)), kinds: kinds, nodes: nodes}
}

// deal returns the next round.
func (d *deck) deal() round {
	if len(d.left) == 0 {
		d.shuffle()
	}
	r := d.left[0]
	d.left = d.left[1:]
	r.Calm, r.Hold, r.Prober = d.between(calmAtLeast, calmAtMost), d.between(holdAtLeast, holdAtMost), d.rng.Float64() < probed
	if second := d.rng.Float64() < doubles; second && r.Order == nil {
		r.Blows = append(r.Blows, blow{d.kinds[d.rng.IntN(len(d.kinds))], d.between(0, secondWithin)})
	}
	return r
}

func (d *deck) between(least, most time.Duration) time.Duration {
	return least + time.Duration(d.rng.Int64N(int64(most-least)))
}

func (d *deck) shuffle() {
	for _, k := range d.kinds {
		d.left = append(d.left, round{Blows: []blow{{Kind: k}}})
	}
	if d.nodes > 0 {
		for _, order := range d.orders() {
			d.left = append(d.left, round{Blows: []blow{{Kind: AllKill}}, Order: order})
		}
	}
	d.rng.Shuffle(len(d.left), func(i, j int) { d.left[i], d.left[j] = d.left[j], d.left[i] })
}

// orders returns the six orders in which three nodes can be started, or six of those of another number.
func (d *deck) orders() [][]int {
	if d.nodes == 3 {
		return [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	}
	var all [][]int
	for range 6 {
		all = append(all, slices.Clone(d.rng.Perm(d.nodes)))
	}
	return all
}
