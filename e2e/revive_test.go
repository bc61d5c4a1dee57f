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
			b.writableWithout(nodes[order[2]], time.Now())
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
	b.Logf("%s -> %s, epoch %d -> %d, whole %.1f s after the first start; all %d acknowledged writes are there",
		before.Primary, after.Primary, before.Epoch, after.Epoch, whole.Seconds(), len(all))
}

// writableWithout waits while one node is still away until a write is acknowledged that began after the majority was back. It
// waits no longer than that may take, and then says what it was like.
func (b *broken) writableWithout(away *lab.Node, majority time.Time) {
	b.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		late := time.Since(majority) > writableLimit // first: what is acknowledged after this look is late
		b.writers.mu.Lock()
		first := firstAfter(b.writers.all, majority)
		b.writers.mu.Unlock()
		switch {
		case first <= writableLimit:
			b.Logf("writable %.1f s after a majority was back, without %s", first.Seconds(), away.Name)
			return
		case late:
			b.Errorf("no write that began after a majority was back was acknowledged within %s, without %s\n%s",
				writableLimit, away.Name, b.lab.Report())
			return
		}
		<-tick.C
	}
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
