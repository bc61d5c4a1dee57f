package sim

import (
	"math/bits"

	"github.com/quorate/quorate/failover"
)

// campaign asks for votes: first whether there would be any, without a new term, unless the leader itself handed over.
func (r *raft) campaign(forced bool) {
	r.rest()
	r.role, r.forced, r.asking, r.votes = candidate, forced, !forced, 1<<r.h.index
	if forced {
		r.stand()
		return
	}
	r.askAll(r.d().term + 1)
	r.tally()
}

// stand begins a term of this node's own.
func (r *raft) stand() {
	r.asking, r.votes = false, 1<<r.h.index
	term := r.d().term + 1
	r.saveTerm(term, uint64(r.h.index)+1, func() {
		if r.role == candidate && r.d().term == term {
			r.askAll(term)
			r.tally()
		}
	})
}

// askAll sends requests for a vote in term.
func (r *raft) askAll(term uint64) {
	me, beforehand, forced := r.h, r.asking, r.forced
	last, lastTerm := r.last(), r.termAt(r.last())
	for _, s := range r.servers() {
		to := me.w.peer(s)
		if s.host == me.index || s.as != failover.Voter || to == nil {
			continue
		}
		me.w.send(me, to, &to.agent.process, func() {
			to.agent.raft.voteAsked(me, term, last, lastTerm, beforehand, forced)
		})
	}
}

// voteAsked answers a request for a vote. A node that hears a leader says no, unless that one hands over; it knows of
// leaders only in memory, so one that was restarted votes at once (reference/raft.md).
func (r *raft) voteAsked(from *host, term, last, lastTerm uint64, beforehand, forced bool) {
	mine := r.termAt(r.last())
	fresh := lastTerm > mine || lastTerm == mine && last >= r.last()
	loyal := r.leader >= 0 && r.leader != from.index && !forced
	if term < r.d().term || loyal || !fresh {
		if term > r.d().term && !beforehand && !loyal {
			r.newerTerm(term)
		}
		return
	}
	if beforehand {
		r.vote(from, term, true)
		return
	}
	if !r.newerTerm(term) || r.d().vote != 0 && r.d().vote != uint64(from.index)+1 {
		return
	}
	r.rest()
	r.saveTerm(term, uint64(from.index)+1, func() {
		if r.d().term == term {
			r.vote(from, term, false)
		}
	})
}

func (r *raft) vote(to *host, term uint64, beforehand bool) {
	by := r.h.index
	r.h.w.send(r.h, to, &to.agent.process, func() {
		c := to.agent.raft
		wanted := c.d().term
		if beforehand {
			wanted++
		}
		if c.role == candidate && c.asking == beforehand && wanted == term {
			c.votes |= 1 << by
			c.tally()
		}
	})
}

// tally goes on once a majority has answered.
func (r *raft) tally() {
	servers, have := r.servers(), 0
	for _, s := range servers {
		if s.as == failover.Voter && r.votes&(1<<s.host) != 0 {
			have++
		}
	}
	if bits.OnesCount8(r.votes) == 0 || have <= voters(servers)/2 || r.role != candidate {
		return
	}
	if r.asking {
		r.stand()
		return
	}
	r.win()
}

// win begins to lead: with an entry of the new term, since nothing before it counts as committed until that is.
func (r *raft) win() {
	now := r.now()
	r.role, r.leader, r.begun, r.handing = leader, r.h.index, false, 0
	for i := range r.next {
		r.next[i], r.match[i], r.sentAt[i], r.answered[i] = r.last()+1, 0, 0, now
	}
	if r.h.w.tape != nil {
		r.h.w.say(r.h, "raft", "leads in term %d", r.d().term)
	}
	r.h.w.check.elected(r.h, r.d().term)
	r.ready = r.last() + 1
	term := r.d().term
	r.store([]*entry{{term: term, index: r.ready}}, func() {
		if r.role == leader && r.d().term == term {
			r.advance()
		}
	})
	r.replicateAll()
}

// appended is what a leader sends: entries after prev, and how far the log is committed.
type appended struct {
	from     *host
	term     uint64
	prev     uint64
	prevTerm uint64
	entries  []*entry
	commit   uint64
}

// replicate sends what host lacks. While an answer is overdue it sends a heartbeat, which no disk holds up.
func (r *raft) replicate(host int) {
	me, to := r.h, r.h.w.hosts[host]
	if r.standing(host) == nil {
		return
	}
	snap := r.d().snap.index
	prev, overdue := min(r.next[host]-1, r.last()), r.sentAt[host] > 0
	switch {
	case overdue:
		prev = max(snap, min(r.match[host], r.last()))
	case prev < snap:
		r.install(host)
		return
	}
	m := appended{from: me, term: r.d().term, prev: prev, prevTerm: r.termAt(prev), commit: r.commit}
	if end := min(r.last(), prev+raftBatch); end > prev && !overdue {
		m.entries = r.d().log[prev-snap : end-snap : end-snap]
	}
	r.sentAt[host] = max(r.now(), 1)
	if len(m.entries) > 0 && me.w.net.hole[host] > 0 {
		me.w.net.Dropped++
		return
	}
	me.w.send(me, to, &to.agent.process, func() { to.agent.raft.append(m) })
}

// standing is the place of the server that has the address of host now, nil if it has none.
func (r *raft) standing(host int) *standing {
	for _, s := range r.servers() {
		if s.host == host && r.h.w.peer(s) != nil {
			return &s
		}
	}
	return nil
}

// append takes entries in. The answer to new ones waits for the disk; that to a heartbeat does not.
func (r *raft) append(m appended) {
	if !r.newerTerm(m.term) {
		r.answer(m.from, r.d().term, false, 0)
		return
	}
	if r.role != follower {
		r.follow("somebody leads this term")
	}
	r.leader = m.from.index
	r.rest()
	snap := r.d().snap.index // up to there everybody's log is the same
	if m.prev > r.last() || m.prev > snap && r.termAt(m.prev) != m.prevTerm {
		r.answer(m.from, m.term, false, min(r.last(), m.prev-1))
		return
	}
	fresh := m.entries
	for len(fresh) > 0 && (fresh[0].index <= snap || fresh[0].index <= r.last() && r.termAt(fresh[0].index) == fresh[0].term) {
		fresh = fresh[1:]
	}
	if len(fresh) > 0 && fresh[0].index <= r.last() {
		r.cut(fresh[0].index - 1)
	}
	upto := m.prev + uint64(len(m.entries))
	done := func() {
		if r.d().term == m.term {
			r.d().formed = true
			if c := min(m.commit, upto); c > r.commit {
				r.commit = c
				r.apply()
			}
			r.answer(m.from, m.term, true, upto)
		}
	}
	if len(fresh) == 0 && r.d().synced >= upto {
		done()
		return
	}
	r.store(fresh, done)
}

// cut drops what another leader's log replaces.
func (r *raft) cut(last uint64) {
	d := r.d()
	if last < r.commit {
		r.h.w.check.fail(r.h, "raft", "committed entries %d to %d are replaced", last+1, r.commit)
	}
	d.log = append([]*entry(nil), d.log[:last-d.snap.index]...) // its array may be shared with messages under way
	d.synced = min(d.synced, last)
}

func (r *raft) answer(to *host, term uint64, ok bool, upto uint64) {
	by := r.h.index
	r.h.w.send(r.h, to, &to.agent.process, func() { to.agent.raft.answeredBy(by, term, ok, upto) })
}

// answeredBy takes a follower's answer in.
func (r *raft) answeredBy(by int, term uint64, ok bool, upto uint64) {
	if term > r.d().term {
		r.newerTerm(term)
		return
	}
	if r.role != leader || term != r.d().term {
		return
	}
	r.answered[by], r.sentAt[by] = r.now(), 0
	if !ok {
		r.next[by] = max(1, min(r.next[by]-1, upto+1))
		r.replicate(by)
		return
	}
	r.match[by] = max(r.match[by], upto)
	r.next[by] = max(r.next[by], upto+1)
	r.advance()
	if r.next[by] <= r.last() && r.sentAt[by] == 0 {
		r.replicate(by)
	}
}

// transfer hands the leadership to a host whose log is complete. Until that one leads, or the attempt is given up, nothing
// is proposed.
func (r *raft) transfer(to int, done func(error)) {
	me := r.h
	if r.role != leader || r.handing > r.now() || r.match[to] < r.last() {
		done(errNotLeader)
		return
	}
	r.handing = r.now() + raftTimeout
	target := me.w.hosts[to]
	me.w.send(me, target, &target.agent.process, func() {
		if standingOf(target.agent.raft.servers(), to) == failover.Voter {
			target.agent.raft.campaign(true)
		}
	})
	me.later(r.proc(), raftTimeout, func() { done(nil) })
}

// reconfigure gives a host another place in the configuration. One change at a time: the one before is committed first.
func (r *raft) reconfigure(host int, to failover.Standing, done func(error)) {
	if r.role != leader || !r.begun {
		done(errNotLeader)
		return
	}
	for i := r.last(); i > r.commit; i-- {
		if r.at(i).servers != nil {
			done(errNotLeader)
			return
		}
	}
	var servers []standing
	for _, s := range r.servers() {
		if s.host != host {
			servers = append(servers, s)
		}
	}
	if to != failover.Outside {
		servers = append(servers, standing{host, r.h.w.hosts[host].id, to})
	}
	if r.standing(host) == nil {
		r.match[host] = 0
	}
	r.next[host], r.sentAt[host] = r.last()+1, 0
	r.propose(fsmNothing, servers, done)
}
