package sim

import (
	"errors"
	"time"

	"github.com/quorate/quorate/cluster/lead"
	"github.com/quorate/quorate/cluster/lease"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// steadyTick is how often a leader looks while there is nothing to do. The product looks every tickEvery always; it costs
// more than all the rest here, and what is new wakes the loop.
const steadyTick = 100 * time.Millisecond

// ErrRefused is what a node says that answered and gave no position.
var ErrRefused = errors.New("refused")

// Phase is one step of a failover; the ledger has a place for them.
type Phase = lead.Phase

var fsmNothing = fsm.Envelope{}

// leading mirrors cluster/lead/loop.go and act.go around the ledger, which is a copy word for word (mirror_ledger.go). It
// files no reports and marks no phases: nothing decides by them.
type leading struct {
	a            *agent
	ledger       *ledger
	leads        bool
	since        time.Duration
	calls        map[question]flight
	proposing    bool
	transferring bool
	retryAt      time.Duration
	handedOff    time.Duration
	last         failover.Decision
	lastEpoch    fsm.Epoch
	serial       uint64
	woken        bool
	term         uint64
}

// question names one call to one node.
type question struct {
	kind  string
	node  fsm.NodeID
	epoch fsm.Epoch
}

// flight is a call under way, or when it may be repeated.
type flight struct {
	running bool
	again   time.Duration
}

func (l *leading) start(a *agent) {
	*l = leading{a: a, ledger: newLedger(a.h.boot()), calls: map[question]flight{}}
	a.every(attendEvery, func() {
		if !l.leads && a.seenAt > 0 {
			l.view()
		}
	})
}

func (l *leading) observe(s fsm.State) {
	l.ledger.observe(l.a.h.boot(), s)
	l.wake()
}

// wake looks again at once.
func (l *leading) wake() {
	if !l.leads || l.woken {
		return
	}
	l.woken = true
	l.a.h.w.after(&l.a.process, 0, func() {
		l.woken = false
		if l.leads {
			l.tick()
		}
	})
}

// beginLeading comes once the first entry of the term is applied, which is the barrier.
func (a *agent) beginLeading() {
	l := &a.lead
	l.term++
	if a.newest().ClusterID == "" {
		a.propose(a.h.w.opts.founding(a.h.w), 0, "bootstrap", func(error) {})
	}
	l.leads, l.since = true, a.h.boot()
	l.last, l.retryAt, l.proposing, l.transferring = failover.Decision{}, 0, false, false
	l.ledger.lead()
	l.tick()
}

func (a *agent) stopLeading() {
	a.lead.leads = false
	a.lead.serial++
}

// tick looks once, acts, and says when to look again.
func (l *leading) tick() {
	l.serial++
	mine := l.serial
	again := steadyTick
	if l.a.seenAt > 0 {
		v := l.view()
		d := failover.Decide(v)
		l.note(v, d)
		l.carryOut(v, d)
		steady := d.Verdict == failover.Healthy || d.Verdict == failover.AtRisk
		if _, idle := d.Do.(failover.Nothing); !idle || !steady {
			again = tickEvery
		}
		if d.Again > 0 {
			again = min(again, d.Again)
		}
	}
	l.a.h.later(&l.a.process, max(again, time.Millisecond), func() {
		if l.leads && l.serial == mine {
			l.tick()
		}
	})
}

// view mirrors Loop.view.
func (l *leading) view() failover.View {
	a := l.a
	seen := a.sightings()
	now, state := a.h.boot(), a.newest()
	l.ledger.observe(now, state)
	v := failover.View{
		State: state, Self: a.h.id, Leading: l.leads, Seen: seen, FirstNode: a.h.w.hosts[0].id,
		BeatEvery:  a.h.w.beatEvery(),
		LeadingFor: now - l.ledger.born,
		CaughtUp:   make(map[fsm.NodeID]bool),
	}
	if l.leads {
		v.LeadingFor = now - l.since
	}
	l.ledger.fill(now, &v)
	if a.h.w.opts.Without == MutBackoff {
		for i := range v.Appointed {
			v.Appointed[i] /= 4
		}
	}
	v.Lost = l.ledger.copies.Look(now, v)
	v.Unapplied = l.ledger.applied.Look(now, v)
	if l.leads {
		v.Servers = map[fsm.NodeID]failover.Standing{}
		for _, s := range a.raft.servers() {
			v.Servers[s.id] = s.as
		}
		v.ElectorateShown = l.ledger.electorateShown(now, v)
	}
	for id := range state.Members {
		s, ok := seen[id]
		_, lacks := v.Unapplied[id]
		v.CaughtUp[id] = ok && s.Age <= beatsFresh*v.BeatEvery && !lacks
	}
	if a.h.w.rash > 0 && l.leads {
		l.misbelieve(&v)
	}
	return v
}

// misbelieve makes the view that of a leader which is told nothing true of the primary's beats and vouches. What is durable,
// seals and positions, is as it is.
func (l *leading) misbelieve(v *failover.View) {
	const ago = time.Hour
	for id, s := range v.Seen {
		if id == v.State.Primary {
			s.Age = ago
		}
		s.Report.Sightings = []failover.Age{{Node: v.State.Primary, MS: ago.Milliseconds()}}
		v.Seen[id] = s
	}
	for id, a := range v.Answers {
		a.VouchedAgo = ago
		v.Answers[id] = a
	}
}

func (l *leading) note(v failover.View, d failover.Decision) {
	w := l.a.h.w
	w.stats.fired(d.Rule)
	if w.tape != nil && (d.Rule != l.last.Rule || d.Verdict != l.last.Verdict || v.State.Epoch != l.lastEpoch) {
		w.say(l.a.h, "decide", "%s (%s) epoch %d: %v", d.Rule, d.Verdict, v.State.Epoch, d.Because)
	}
	l.last, l.lastEpoch = d, v.State.Epoch
}

// carryOut mirrors Loop.carryOut.
func (l *leading) carryOut(v failover.View, d failover.Decision) {
	switch do := d.Do.(type) {
	case failover.Ask:
		for _, id := range do.Voters {
			l.ask(id, do.Epoch)
		}
	case failover.SealNow:
		l.ledger.noteSealing(l.a.h.boot(), do.Epoch)
		for _, id := range do.Seal {
			l.seal(id, do.Epoch)
		}
		for _, id := range do.Detach {
			l.detach(id, do.Epoch)
		}
	case failover.Propose:
		l.change(func(done func(error)) { l.a.propose(do.Command, do.IfRev, d.Rule, done) })
	case failover.Reconfigure:
		if to := l.a.h.w.byID(do.Node); to != nil {
			l.change(func(done func(error)) { l.a.raft.reconfigure(to.index, do.To, done) })
		}
	case failover.Stop:
		l.begin(question{"stop", do.Node, do.Epoch}, answerWithin, func(to *host, done func(error)) {
			call(l.a.h, to, answerWithin, func(reply func(bool, error)) {
				to.agent.stopSick(do.Epoch)
				reply(true, nil)
			}, func(_ bool, err error) { done(err) })
		})
	case failover.HandOff:
		l.handOff(do.To)
	}
}

func (l *leading) ask(id fsm.NodeID, epoch fsm.Epoch) {
	l.begin(question{"ask", id, epoch}, answerWithin, func(to *host, done func(error)) {
		call(l.a.h, to, answerWithin, func(reply func(lease.AskReply, error)) {
			to.agent.beats.ask(epoch, func(r lease.AskReply) { reply(r, nil) })
		}, func(r lease.AskReply, err error) {
			if err == nil {
				l.ledger.noteAnswer(l.a.h.boot(), id, epoch, r)
			}
			done(err)
		})
	})
}

func (l *leading) seal(id fsm.NodeID, epoch fsm.Epoch) {
	l.begin(question{"seal", id, epoch}, answerWithin, func(to *host, done func(error)) {
		call(l.a.h, to, answerWithin, func(reply func(lease.SealReply, error)) {
			to.agent.beats.seal(epoch, func(r lease.SealReply) { reply(r, nil) })
		}, func(r lease.SealReply, err error) {
			if err == nil {
				if l.a.h.w.opts.Without == MutWait {
					r.Left = 0
				}
				l.ledger.noteSeal(l.a.h.boot(), id, epoch, r)
			}
			done(err)
		})
	})
}

func (l *leading) detach(id fsm.NodeID, epoch fsm.Epoch) {
	l.begin(question{"detach", id, epoch}, detachWithin, func(to *host, done func(error)) {
		call(l.a.h, to, detachWithin, func(reply func(fsm.Position, error)) { to.agent.detach(epoch, reply) },
			func(p fsm.Position, err error) {
				if err != nil {
					l.ledger.noteRefusal(l.a.h.boot(), id, epoch, err)
				} else {
					l.ledger.notePosition(id, epoch, p)
				}
				done(err)
			})
	})
}

// begin mirrors Loop.start: one call at a time for one thing, and not too often.
func (l *leading) begin(q question, _ time.Duration, do func(to *host, done func(error))) {
	began, to := l.a.h.boot(), l.a.h.w.byID(q.node)
	if f := l.calls[q]; to == nil || f.running || began < f.again {
		return
	}
	for old, f := range l.calls {
		if old.epoch < l.ledger.epoch && !f.running {
			delete(l.calls, old)
		}
	}
	l.calls[q] = flight{running: true}
	do(to, func(err error) {
		pause := againAfter
		if err != nil {
			pause = answerWithin
		}
		l.calls[q] = flight{again: began + pause}
		l.wake()
	})
}

// change mirrors Loop.change: one proposal at a time.
func (l *leading) change(submit func(done func(error))) {
	if l.proposing || l.transferring || l.a.h.boot() < l.retryAt {
		return
	}
	l.proposing = true
	term := l.term
	submit(func(err error) {
		if term != l.term {
			return
		}
		l.proposing = false
		if err != nil {
			if l.a.h.w.tape != nil {
				l.a.h.w.say(l.a.h, "refused", "%v", err)
			}
			l.retryAt = l.a.h.boot() + proposeAgain
		}
		l.wake()
	})
}

func (l *leading) handOff(to fsm.NodeID) {
	now, target := l.a.h.boot(), l.a.h.w.byID(to)
	if target == nil || l.transferring || l.proposing || l.handedOff > 0 && now-l.handedOff < handOffEvery {
		return
	}
	l.handedOff, l.transferring = now, true
	term := l.term
	l.a.raft.transfer(target.index, func(error) {
		if term == l.term {
			l.transferring = false
			l.wake()
		}
	})
}

// propose puts a command into this node's own log, once. What is decided and what goes into the log are two goroutines in the
// product: whatever becomes of the leadership and of the log meanwhile, a late one goes on with what was decided.
func (a *agent) propose(c fsm.Command, ifRev uint64, by string, done func(error)) {
	env := a.envelope(c, ifRev, by)
	if a.h.w.late == 0 {
		a.raft.propose(env, nil, done)
		return
	}
	a.h.later(&a.process, a.h.w.between(0, a.h.w.late), func() { a.raft.propose(env, nil, done) })
}

func (a *agent) envelope(c fsm.Command, ifRev uint64, by string) fsm.Envelope {
	return fsm.Envelope{ID: a.h.w.nextID(), IfRev: ifRev, By: by, Wall: a.h.w.now.Milliseconds(), Change: c}
}

// submit mirrors Cluster.Submit: through whoever leads, for 10 s, under one request id.
func (a *agent) submit(c fsm.Command, ifRev uint64, by string, done func(error)) {
	env, limit := a.envelope(c, ifRev, by), a.h.boot()+10*time.Second
	handed := false
	var try func()
	again := func(err error) {
		switch {
		case err == nil, handed && errors.Is(err, fsm.ErrDuplicate), errors.Is(err, fsm.ErrExists) && by == "evidence":
			done(nil)
			return
		case errors.Is(err, errUnknown), errors.Is(err, errNoAnswer):
			handed = true
		case !errors.Is(err, errNotLeader):
			done(err)
			return
		}
		if a.h.boot() >= limit {
			done(errNoAnswer)
			return
		}
		a.h.later(&a.process, 50*time.Millisecond, try)
	}
	try = func() {
		switch to := a.raft.leader; {
		case to < 0:
			again(errNotLeader)
		case to == a.h.index:
			a.raft.propose(env, nil, again)
		default:
			leader := a.h.w.hosts[to]
			call(a.h, leader, 2*time.Second, func(reply func(bool, error)) {
				leader.agent.raft.propose(env, nil, func(err error) { reply(true, err) })
			}, func(_ bool, err error) { again(err) })
		}
	}
	try()
}
