package lease

import (
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
)

// step is one thing that may happen next.
type step struct {
	do   func(*world)
	what string // a format
	args [2]int
	n    int
}

func (s step) String() string {
	args := make([]any, s.n)
	for i := range args {
		args[i] = s.args[i]
	}
	return fmt.Sprintf(s.what, args...)
}

// steps are all things that may happen in w. Loss is a delivery that never happens; a late or double one is a delivery
// that happens later or again.
func (w *world) steps() []step {
	var out []step
	add := func(do func(*world), what string, args ...int) {
		st := step{do: do, what: what, n: len(args)}
		copy(st.args[:], args)
		out = append(out, st)
	}
	for i := range w.nodes {
		w.nodeSteps(i, add)
		w.voterSteps(i, add)
	}
	for k := range w.nsent {
		w.deliveries(k, add)
		w.shows(k, add)
	}
	w.leaderSteps(add)
	w.electorSteps(add)
	if w.b.shorten && !w.short {
		add(func(w *world) { w.short = true }, "lower L")
	}
	if w.tick < w.b.ticks {
		add(func(w *world) { w.tick++ }, "tick")
	}
	return out
}

type adder = func(do func(*world), what string, args ...int)

// nodeSteps are those of the node's process: apply, beat, release, restart.
func (w *world) nodeSteps(i int, add adder) {
	n := &w.nodes[i]
	if n.applied < w.latest {
		add(func(w *world) { w.apply(i) }, "n%d applies epoch %d", i, n.applied+1)
	}
	if n.elect < w.elect {
		add(func(w *world) { w.nodes[i].elect++ }, "n%d applies electorate %d", i, n.elect+1)
	}
	epoch := fsm.Epoch(n.applied)
	mine := w.log[n.applied] == i && n.released < epoch
	if mine && w.nsent < w.b.beats {
		add(func(w *world) { w.send(i) }, "n%d beats", i)
	}
	if mine && w.releases < w.b.releases {
		add(func(w *world) { w.release(i) }, "n%d releases epoch %d", i, n.applied)
	}
	if w.restarts < w.b.restarts {
		add(func(w *world) { w.restart(i) }, "n%d restarts", i)
	}
}

func (w *world) apply(i int) {
	n := &w.nodes[i]
	n.applied++
	if w.log[n.applied] != i {
		if n.holder.Higher(fsm.Epoch(n.applied)) {
			n.deadline = 0
		}
		n.deadline = 0
	} else if n.released < fsm.Epoch(n.applied) && n.holder.Start(fsm.Epoch(n.applied), name(i)) {
		n.deadline = n.holder.Until() // carried over a re-appointment
	}
}

// length is the L that nodes configure now.
func (w *world) length() time.Duration {
	if w.short {
		return shortL
	}
	return longL
}

func (w *world) send(i int) {
	n := &w.nodes[i]
	epoch := fsm.Epoch(n.applied)
	if !n.holder.Start(epoch, name(i)) {
		return
	}
	n.seq++
	voters := electorate(w.voters[n.elect])
	if w.m == minorityLease {
		voters = []fsm.NodeID{name(i)}
	}
	n.holder.Sent(n.seq, w.clock(i), voters, w.length())
	w.sent[w.nsent] = message{owner: i, beat: Beat{Epoch: epoch, Node: name(i), Incarnation: n.inc, Seq: n.seq, L: w.length(), Electorate: uint64(n.elect)}}
	w.nsent++
}

func (w *world) release(i int) {
	n := &w.nodes[i]
	epoch := fsm.Epoch(n.applied)
	w.releases++
	w.gone[epoch] = true
	if w.m == releaseGoesOn {
		return
	}
	n.holder.Stop(epoch)
	n.deadline = 0
	n.released = epoch
	if w.m != releaseNotDurable {
		n.onDisk = epoch
	}
}

// restart loses all but the disk. The guard's deadline outlives the process, but nothing extends it any more.
func (w *world) restart(i int) {
	n := &w.nodes[i]
	w.restarts++
	now := w.clock(i)
	n.pending, n.sealing = false, 0
	switch w.m {
	case vouchForgotten:
		n.voter = *NewVoter(VoterRecord{ID: name(i), Sealed: n.disk.Sealed}, now)
		n.voter.Persisted(n.disk)
	case busyByConfig:
		n.voter = *NewVoter(VoterRecord{ID: name(i), Sealed: n.disk.Sealed, Lmax: w.length()}, now)
		n.voter.Persisted(n.disk)
	default:
		n.voter = *NewVoter(n.disk, now)
	}
	if w.m != seqReuse {
		n.inc++
	}
	n.seq = 0
	n.holder = *NewHolder(n.inc)
	n.released = n.onDisk
	if w.log[n.applied] == i && n.released < fsm.Epoch(n.applied) {
		n.holder.Start(fsm.Epoch(n.applied), name(i))
	}
}

// voterSteps are the seal of an epoch and the end of its write.
func (w *world) voterSteps(i int, add adder) {
	n := &w.nodes[i]
	if n.pending {
		add(func(w *world) { w.durable(i) }, "n%d's record is durable", i)
		if w.restarts < w.b.restarts {
			add(func(w *world) {
				w.nodes[i].disk = w.nodes[i].voter.asked
				w.restart(i)
			}, "n%d's record is durable, then it restarts unspoken", i)
		}
		return
	}
	if w.latest == w.b.epochs {
		return // nobody could be appointed any more
	}
	e := fsm.Epoch(w.latest)
	if w.m == appointWithoutSeal {
		add(func(w *world) { w.ask(i, e) }, "n%d is asked", i)
		return
	}
	add(func(w *world) { w.seal(i, e) }, "n%d is to seal %d", i, w.latest)
}

func (w *world) seal(i int, e fsm.Epoch) {
	n := &w.nodes[i]
	if _, changed := n.voter.Seal(e); changed {
		n.pending, n.sealing = true, e
		if w.restarts == w.b.restarts {
			w.durable(i) // nothing could come between but time, in which the vouch only ages
		}
		return
	}
	w.answer(i, e)
}

// durable ends the write of a record and, for a seal, answers.
func (w *world) durable(i int) {
	n := &w.nodes[i]
	rec := n.voter.asked
	switch {
	case w.m == sealNotDurable:
		n.disk.Lmax = rec.Lmax
	case w.m == lmaxNotDurable:
		n.disk.Sealed = rec.Sealed
	default:
		n.disk = rec
	}
	n.voter.Persisted(rec)
	e := n.sealing
	n.pending, n.sealing = false, 0
	if e > 0 {
		w.answer(i, e)
	}
}

// answer gives the leader, at once, the seal reply: a later receipt only makes it wait longer. The better of two facts
// is kept.
func (w *world) answer(i int, e fsm.Epoch) {
	n := &w.nodes[i]
	reply := n.voter.SealReply(w.clock(i))
	from, left := w.clock(nodes), reply.Left
	switch w.m {
	case waitFromSend: // the request was sent at tick 0 and took until now
		from = 0
	case waitTooShort:
		left -= fastTick
	case waitByConfig:
		left = Wait(w.length()) - reply.VouchedAgo
		if reply.NeverVouched {
			left = 0
		}
	}
	w.learn(i, e, from+left)
}

// ask is what a leader does that takes a query for a promise.
func (w *world) ask(i int, e fsm.Epoch) {
	r := w.nodes[i].voter.AskReply(w.clock(i), e)
	left := Wait(longL) - r.VouchedAgo
	if r.NeverVouched {
		left = 0
	}
	w.learn(i, e, w.clock(nodes)+left)
}

func (w *world) learn(i int, e fsm.Epoch, over time.Duration) {
	over = max(over, w.clock(nodes))
	f := &w.facts[i][e]
	if !f.known || over < f.over {
		*f = fact{known: true, over: over}
	}
}

// deliveries are those of beat k to each voter and of the vouches for it to its sender. Unless the bounds ask for more, a
// beat whose vouch could no longer count is not delivered, nor one twice: that would only bind the voter for longer.
func (w *world) deliveries(k int, add adder) {
	m := &w.sent[k]
	useful := w.counts(m)
	for i := range w.nodes {
		n := &w.nodes[i]
		if !slices.Contains(electorate(w.voters[m.beat.Electorate]), name(i)) {
			continue
		}
		had := m.yes&(1<<i) != 0
		if !n.pending && m.beat.Epoch > n.voter.asked.Sealed && (w.b.double || useful && !had) {
			add(func(w *world) { w.deliver(k, i) }, "n%d gets beat %d", i, k)
		}
		if had && useful {
			add(func(w *world) { w.count(k, i) }, "n%d's vouch for beat %d arrives", i, k)
		}
	}
}

// shows: the leader gets beat k, too. The present primary's first that shows the newest electorate begins to ripen it.
func (w *world) shows(k int, add adder) {
	m := &w.sent[k]
	if w.unshown && w.log[w.latest] == m.owner && int(m.beat.Electorate) == w.elect && w.elect < w.b.electorates {
		add(func(w *world) { w.unshown, w.shownFrom = false, w.clock(nodes) }, "beat %d shows electorate %d to the leader", k, w.elect)
	}
}

// electorSteps are the changes of the electorate that a leader proposes: by one voter, and when the primary has shown the
// present one for as long as a lease counted under the one before can last (the product waits twice that).
func (w *world) electorSteps(add adder) {
	after := Wait(longL)
	if w.m == electorateEarly {
		after /= 2
	}
	ripe := !w.unshown && w.clock(nodes)-w.shownFrom >= after
	if w.elect == w.b.electorates || w.latest == w.b.epochs || !ripe && w.m != electorateUnshown {
		return
	}
	now := w.voters[w.elect]
	for set := uint8(1); set < 1<<nodes; set++ {
		by := bits.OnesCount8(set ^ now)
		if by == 1 || by == 2 && w.m == electorateByTwo {
			add(func(w *world) { w.elects(set) }, "the voters become %03b", int(set))
		}
	}
}

func (w *world) elects(set uint8) {
	w.elect++
	w.voters[w.elect] = set
	w.unshown = true
	for i := range w.nodes {
		if n := &w.nodes[i]; w.log[n.applied] != i && w.log[w.latest] != i {
			n.elect = w.elect // it counts nothing: when it applies that changes nothing
		}
	}
}

func (w *world) deliver(k, i int) {
	n := &w.nodes[i]
	reply, rec := n.voter.Vouch(w.clock(i), w.sent[k].beat)
	if rec != nil {
		n.pending = true // the beat is put again once it is durable
		return
	}
	if reply.Yes {
		w.sent[k].yes |= 1 << i
	}
}

func (w *world) count(k, i int) {
	m := &w.sent[k]
	n := &w.nodes[m.owner]
	if until, extended := n.holder.Vouched(name(i), m.beat.Incarnation, m.beat.Seq, m.beat.Epoch); extended {
		n.deadline = until
	}
}

// leaderSteps are the Appoints that the fsm would accept: it checks the epoch, and the evidence for another node.
func (w *world) leaderSteps(add adder) {
	if w.latest == w.b.epochs {
		return
	}
	ripe, counted := 0, w.voters[w.elect]
	if w.m == electorateStale {
		counted = w.voters[0]
	}
	for i := range w.nodes {
		if f := w.facts[i][w.latest]; counted>>i&1 == 1 && f.known && f.over <= w.clock(nodes) {
			ripe++
		}
	}
	for q := range w.nodes {
		if q == w.log[w.latest] || ripe > bits.OnesCount8(counted)/2 || w.gone[w.latest] {
			add(func(w *world) { w.appoint(q) }, "n%d is appointed for epoch %d", q, w.latest+1)
		}
	}
}

// appoint commits an Appoint. Whoever neither was nor becomes primary applies it at once: when it does changes nothing.
func (w *world) appoint(q int) {
	if w.log[w.latest] != q {
		w.unshown = w.elect < w.b.electorates // the new primary has shown nothing yet
	}
	w.latest++
	w.log[w.latest] = q
	for i := range w.nodes {
		if n := &w.nodes[i]; i != q && w.log[n.applied] != i {
			n.applied, n.elect = w.latest, w.elect
		}
	}
}
