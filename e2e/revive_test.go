package e2e_test

import (
	"math"
	"slices"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/lab"
)

// writableLimit is how long all may take together that have lost their power, from when a majority is back.
const writableLimit = 10 * time.Second

// firstAfter returns how long after at the first write was acknowledged that began after it.
func firstAfter(all []acked, at time.Time) time.Duration {
	first := time.Duration(math.MaxInt64)
	for _, a := range all {
		if a.began.After(at) {
			first = min(first, a.at.Sub(at))
		}
	}
	return first
}

// killAll kills everything at once, in a cluster of which one standby had been away for a while, and starts the primary, the
// standby that has everything and the one that is stale in this order of theirs. Who was away lacks what was acknowledged
// meanwhile and must never become primary.
func (b *broken) killAll(order []int) {
	b.Helper()
	before := b.healthy()
	primary := b.lab.Node(before.Primary)
	others := b.except(primary)
	current, stale := others[0], others[1]
	if err := b.lab.KillNodes(b.Context(), stale); err != nil {
		b.Fatal(err)
	}
	away := time.Now()
	b.await("a write is acknowledged without the stale node", func() bool { return b.ackedAfter(away) })
	if err := b.lab.KillNodes(b.Context(), primary, current); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	var majority time.Time // is back, the second of three
	nodes := []*lab.Node{primary, current, stale}
	for n, i := range order {
		if err := b.lab.StartDaemon(nodes[i]); err != nil {
			b.Fatal(err)
		}
		b.await(nodes[i].Name+" answers", func() bool {
			_, errs := b.lab.Look(b.Context())
			return errs[nodes[i].Name] == nil
		})
		if n == 1 {
			majority = time.Now()
		}
	}
	after := b.healthy()
	whole := time.Since(began)
	for _, e := range b.history(primary).Epochs {
		if uint64(e.Epoch) > before.Epoch && e.To == stale.Name {
			b.Errorf("%s, which lacks writes, was appointed for epoch %d\n%s", stale.Name, e.Epoch, b.lab.Report())
		}
	}
	all := b.writers.kept(b.T, b.lab.Node(after.Primary), nothing)
	if ms := overlap(all); ms > 0 {
		b.Errorf("two nodes took writes at once, for %.1f ms", ms)
	}
	if !slices.ContainsFunc(all, func(a acked) bool { return a.began.After(away) }) {
		b.Error("nothing was acknowledged while the stale node was away: this test tests nothing")
	}
	writable := firstAfter(all, majority)
	if writable > writableLimit {
		b.Errorf("the first write was acknowledged %.1f s after a majority was back, the limit is %s", writable.Seconds(), writableLimit)
	}
	b.Logf("%s -> %s, epoch %d -> %d, writable %.1f s after a majority was back, whole %.1f s after the first start; all %d acknowledged writes are there",
		before.Primary, after.Primary, before.Epoch, after.Epoch, writable.Seconds(), whole.Seconds(), len(all))
}

// history is how the epochs came to be, as the node knows it.
func (b *broken) history(n *lab.Node) client.History {
	b.Helper()
	h, err := client.Unix(n.Socket()).History(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return h
}
