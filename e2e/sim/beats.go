package sim

import (
	"time"

	"github.com/quorate/quorate/cluster/lease"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// beats mirrors cluster/beat: the sending loop, the voter behind its lock, the holder, the sightings. Voter and Holder are
// the real ones. Beats travel as datagrams here, so they come late, twice or in another order more often than over the
// product's two connections.
type beats struct {
	a           *agent
	incarnation uint64
	born        time.Duration
	seq         uint64
	voter       *lease.Voter
	locked      bool // a write of voter.bin is under way
	queued      []func()
	holder      *lease.Holder
	told        fsm.Epoch
	seen        [maxHosts]sighted
	sealedBy    [maxHosts]fsm.Epoch
	kicked      bool
	lastSent    time.Duration
	detaching   *detachRun
}

// sighted is what another node last said of itself, and when that came in.
type sighted struct {
	id          fsm.NodeID
	at          time.Duration
	incarnation uint64 // 0: never heard
	seq         uint64
	report      *failover.Report
	retired     []uint64
}

// beat is the message. Its report is shared by all who get it and never changed.
type beat struct {
	from        *host
	incarnation uint64
	seq         uint64
	vouch       bool
	lease       lease.Beat
	report      *failover.Report
}

func (b *beats) start(a *agent) {
	h := a.h
	*b = beats{a: a, born: h.boot(), incarnation: h.w.rng.Uint64() | 1}
	started := b.born
	if h.w.opts.Without == MutLastVouch {
		started = -time.Hour // as if it had vouched for nobody before it came back
	}
	b.voter = lease.NewVoter(h.disk.voter, started)
	b.holder = lease.NewHolder(b.incarnation)
	a.every(h.w.beatEvery(), b.round)
	a.every(h.w.beatEvery(), func() { a.tell(); a.endUndying() })
}

// kick sends a beat soon.
func (b *beats) kick() {
	if b.kicked || b.a.h.w.beatEvery() == 0 {
		return
	}
	b.kicked = true
	gap := max(0, b.lastSent+5*time.Millisecond-b.a.h.boot())
	b.a.h.later(&b.a.process, gap, func() {
		b.kicked = false
		b.round()
	})
}

// round sends one beat to every voter and everybody who may become one.
func (b *beats) round() {
	a, h := b.a, b.a.h
	if a.seenAt == 0 {
		return
	}
	state := a.state()
	b.lastSent = h.boot()
	b.seq++
	r := b.ownReport()
	m := &beat{from: h, incarnation: b.incarnation, seq: b.seq, report: &r}
	b.askVouch(state, m)
	for _, to := range h.w.hosts {
		member, known := state.Members[to.id]
		if to == h || !known || member.NoVote && !state.Electorate.Has(to.id) {
			continue
		}
		h.w.send(h, to, &to.agent.process, func() { to.agent.beats.take(m) })
	}
}

// ownReport mirrors Service.report.
func (b *beats) ownReport() failover.Report {
	r, now := b.a.report, b.a.h.boot()
	r.Node = b.a.h.id
	r.Sightings = make([]failover.Age, 0, maxHosts)
	for id := range b.a.h.w.hosts {
		o := b.a.h.w.hosts[id]
		if _, member := b.a.published.Members[o.id]; !member || o == b.a.h {
			continue
		}
		age := now - b.born
		if b.seen[id].incarnation != 0 {
			age = now - b.seen[id].at
		}
		r.Sightings = append(r.Sightings, failover.Age{Node: o.id, MS: max(0, age.Milliseconds())})
	}
	return r
}

// askVouch mirrors Service.askVouch.
func (b *beats) askVouch(state fsm.State, m *beat) {
	a, h := b.a, b.a.h
	may := state.Primary == h.id && a.mayHold(state.Epoch)
	if r := m.report.Released; r != nil && r.Node == h.id {
		b.holder.Stop(r.Epoch)
	}
	b.obey(state)
	if !may || !b.holder.Start(state.Epoch, h.id) {
		return
	}
	l := h.w.leaseLength()
	b.holder.Sent(b.seq, h.boot(), state.Electorate.Voters, l)
	m.vouch = true
	m.lease = lease.Beat{
		Epoch: state.Epoch, Node: h.id, Incarnation: b.incarnation, Seq: b.seq, L: l, Electorate: state.Electorate.Version,
	}
	own := m.lease
	b.vouch(own, func(r lease.VouchReply) {
		if r.Yes {
			b.count(h.id, own.Seq, own.Epoch)
		}
	})
}

func (b *beats) obey(state fsm.State) {
	if state.Primary != b.a.h.id {
		b.holder.Higher(state.Epoch)
	}
}

// vouch mirrors voter.vouch: one lock over check, record and reply.
func (b *beats) vouch(l lease.Beat, then func(lease.VouchReply)) {
	if b.locked {
		b.queued = append(b.queued, func() { b.vouch(l, then) })
		return
	}
	reply, rec := b.voter.Vouch(b.a.h.boot(), l)
	if rec == nil {
		then(reply)
		return
	}
	b.persist(*rec, func() {
		reply, _ := b.voter.Vouch(b.a.h.boot(), l)
		then(reply)
	})
}

// persist makes rec durable with the lock held.
func (b *beats) persist(rec lease.VoterRecord, then func()) {
	b.locked = true
	b.a.h.write(&b.a.process, func() { b.a.h.disk.voter = rec }, func() {
		b.locked = false
		b.voter.Persisted(rec)
		then()
		for len(b.queued) > 0 && !b.locked {
			next := b.queued[0]
			b.queued = b.queued[1:]
			next()
		}
	})
}

type sealAnswer = lease.SealReply

// seal mirrors voter.seal.
func (b *beats) seal(epoch fsm.Epoch, then func(sealAnswer)) {
	if b.locked {
		b.queued = append(b.queued, func() { b.seal(epoch, then) })
		return
	}
	rec, changed := b.voter.Seal(epoch)
	if !changed {
		then(b.voter.SealReply(b.a.h.boot()))
		return
	}
	if b.a.h.w.opts.lacks(MutSeal) {
		b.voter.Persisted(rec) // it is believed to be on disk
		then(b.voter.SealReply(b.a.h.boot()))
		return
	}
	b.persist(rec, func() { then(b.voter.SealReply(b.a.h.boot())) })
}

// ask mirrors voter.ask.
func (b *beats) ask(epoch fsm.Epoch, then func(lease.AskReply)) {
	if b.locked {
		b.queued = append(b.queued, func() { b.ask(epoch, then) })
		return
	}
	then(b.voter.AskReply(b.a.h.boot(), epoch))
}

// take mirrors Service.answer.
func (b *beats) take(m *beat) {
	a, h := b.a, b.a.h
	state := a.state()
	sealed := b.sealed()
	answer := func(yes bool, sealed fsm.Epoch) {
		epoch, primary := state.Epoch, state.Primary
		h.w.send(h, m.from, &m.from.agent.process, func() { m.from.agent.beats.heard(h, m, yes, sealed, epoch, primary) })
	}
	if _, member := state.Members[m.from.id]; !member {
		answer(false, sealed)
		return
	}
	current, news := b.record(m)
	if news {
		a.lead.wake()
	}
	if !current || !m.vouch || m.lease.Epoch <= state.Epoch && state.Primary != m.from.id {
		answer(false, sealed)
		return
	}
	b.vouch(m.lease, func(r lease.VouchReply) { answer(r.Yes, r.Sealed) })
}

// record mirrors sightings.record.
func (b *beats) record(m *beat) (current, news bool) {
	s, now := &b.seen[m.from.index], b.a.h.boot()
	if s.id != m.from.id { // its host was wiped: another node
		*s, b.sealedBy[m.from.index] = sighted{}, 0
	}
	switch {
	case s.incarnation == 0:
		*s = sighted{id: m.from.id, at: now, incarnation: m.incarnation, seq: m.seq, report: m.report}
		return true, true
	case m.incarnation == s.incarnation:
		if m.seq <= s.seq {
			return true, false
		}
		news = matters(s.report, m.report)
		s.at, s.seq, s.report = now, m.seq, m.report
		return true, news
	}
	for _, old := range s.retired {
		if old == m.incarnation && now-s.at <= 2*b.a.h.w.opts.failoverAfter() {
			return false, false
		}
	}
	s.retired = append(s.retired, s.incarnation)
	if len(s.retired) > 8 {
		s.retired = s.retired[1:]
	}
	s.at, s.incarnation, s.seq, s.report = now, m.incarnation, m.seq, m.report
	return true, true
}

// matters mirrors cluster/beat's: what decisions wait for.
func matters(a, b *failover.Report) bool {
	if a.Epoch != b.Epoch || a.Rev != b.Rev || a.Run != b.Run || a.Healthy != b.Healthy || a.Serving != b.Serving ||
		a.InRecovery != b.InRecovery || a.Restartable != b.Restartable || a.Upstream != b.Upstream ||
		len(a.Streaming) != len(b.Streaming) {
		return true
	}
	for i := range a.Streaming {
		if a.Streaming[i].Node != b.Streaming[i].Node {
			return true
		}
	}
	if (a.Released == nil) != (b.Released == nil) || a.Released != nil && *a.Released != *b.Released {
		return true
	}
	return (a.Promise == nil) != (b.Promise == nil) ||
		a.Promise != nil && (a.Promise.Rev != b.Promise.Rev || !a.Promise.Rule.Equal(b.Promise.Rule))
}

// heard mirrors Service.heard.
func (b *beats) heard(from *host, m *beat, yes bool, sealed, epoch fsm.Epoch, primary fsm.NodeID) {
	if m.incarnation != b.incarnation {
		return // the reply to an earlier life: listen ends the connection
	}
	if sealed > b.sealedBy[from.index] {
		b.sealedBy[from.index] = sealed
		b.a.lead.wake()
	}
	if primary != b.a.h.id {
		b.higher(epoch)
	}
	if yes {
		b.count(from.id, m.seq, m.lease.Epoch)
	}
}

// count mirrors Service.count.
func (b *beats) count(voter fsm.NodeID, seq uint64, epoch fsm.Epoch) {
	b.obey(b.a.state())
	if until, extended := b.holder.Vouched(voter, b.incarnation, seq, epoch); extended {
		b.a.onLease(epoch, until)
	}
}

// higher mirrors Service.higher.
func (b *beats) higher(epoch fsm.Epoch) {
	state := b.a.state()
	b.holder.Higher(epoch)
	if state.Primary == b.a.h.id && state.Epoch < epoch && b.told < epoch {
		b.told = epoch
		b.a.onHigher(epoch)
	}
}

// released mirrors Service.Release.
func (b *beats) released(epoch fsm.Epoch) {
	b.holder.Stop(epoch)
	b.kick()
}

// reportOf is the newest report of a node, nil for none.
func (b *beats) reportOf(id fsm.NodeID) *failover.Report {
	h := b.a.h.w.byID(id)
	switch {
	case h == nil:
		return nil
	case h == b.a.h:
		return &b.a.report
	}
	return b.seen[h.index].report
}

// sightings mirrors Service.Sightings.
func (a *agent) sightings() map[fsm.NodeID]failover.Sighting {
	b, now := &a.beats, a.h.boot()
	out := make(map[fsm.NodeID]failover.Sighting, maxHosts)
	for i, h := range a.h.w.hosts {
		s := &b.seen[i]
		if _, member := a.published.Members[h.id]; member && s.incarnation != 0 && s.id == h.id {
			out[h.id] = failover.Sighting{Age: max(0, now-s.at), Report: *s.report, Sealed: b.sealedBy[i]}
		}
	}
	if a.seenAt > 0 {
		out[a.h.id] = failover.Sighting{Report: b.ownReport(), Sealed: b.sealed()}
	}
	return out
}
