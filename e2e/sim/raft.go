package sim

import (
	"errors"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// The model of Raft: terms, votes and logs on disks, a log that commits by a majority of the voters' disks, elections with
// a vote asked for beforehand, transfer of leadership, changes of one server at a time, snapshots (raft_snapshot.go). Timing is
// what cluster/consensus.go gives hashicorp/raft.

const (
	raftTimeout   = 500 * time.Millisecond // heartbeat, election and lease timeout
	raftHeartbeat = 80 * time.Millisecond
	raftAnswer    = 200 * time.Millisecond // after which a message to a follower is sent again
	raftDiskLimit = 2 * time.Second        // a log that takes longer ends the process (cluster/patience.go)
	raftBatch     = 64                     // entries in one message
)

var (
	errNotLeader = errors.New("does not lead")
	errUnknown   = errors.New("the outcome is not known")
)

// entry is one place in the log. Entries are shared by all logs that hold them and never change.
type entry struct {
	term, index uint64
	env         fsm.Envelope // without a Change: the first entry of a term, or servers
	servers     []standing   // a configuration, in force from when it is in a log
	raw         []byte       // while releases differ: the command as it is in the log
	since       uint64       // the release that wrote what no earlier one knows
}

// standing is a host's place in Raft's configuration.
type standing struct {
	host int
	id   fsm.NodeID // a host that was wiped and let in again is another server
	as   failover.Standing
}

type raftRole uint8

const (
	follower raftRole = iota
	candidate
	leader
)

// raft is one node's consensus in one life of its process. What is on disk is in disk.
type raft struct {
	h       *host
	role    raftRole
	leader  int // index of the host, -1 for none known
	heard   time.Duration
	wait    time.Duration // until an election, drawn anew each time
	commit  uint64
	applied uint64
	state   fsm.State // after applied
	later   uint64    // how many commands of later releases are in that
	halted  bool      // at one that this release does not know

	votes    uint8 // bits of hosts
	asking   bool  // beforehand
	forced   bool  // by a transfer
	ready    uint64
	begun    bool // the first entry of this term is applied: the leader may act
	next     [maxHosts]uint64
	match    [maxHosts]uint64
	answered [maxHosts]time.Duration
	sentAt   [maxHosts]time.Duration // of the message that has no answer yet; 0: none
	waiters  map[uint64]func(error)
	handing  time.Duration // until when a transfer keeps proposals out
}

func newRaft(h *host) *raft {
	at := h.disk.snap
	r := &raft{h: h, leader: -1, waiters: map[uint64]func(error){}, commit: at.index, applied: at.index, state: at.state, later: at.later}
	r.rest()
	return r
}

func (r *raft) d() *disk           { return &r.h.disk }
func (r *raft) last() uint64       { return r.h.disk.snap.index + uint64(len(r.h.disk.log)) }
func (r *raft) at(i uint64) *entry { return r.h.disk.log[i-r.h.disk.snap.index-1] }
func (r *raft) proc() *process     { return &r.h.agent.process }
func (r *raft) now() time.Duration { return r.h.boot() }

func (r *raft) termAt(i uint64) uint64 {
	switch snap := r.d().snap; {
	case i == snap.index:
		return snap.term
	case i < snap.index || i > r.last():
		return 0
	}
	return r.at(i).term
}

// servers is the newest configuration in the log.
func (r *raft) servers() []standing {
	for i := len(r.d().log) - 1; i >= 0; i-- {
		if s := r.d().log[i].servers; s != nil {
			return s
		}
	}
	return r.d().snap.servers
}

func standingOf(servers []standing, host int) failover.Standing {
	for _, s := range servers {
		if s.host == host {
			return s.as
		}
	}
	return failover.Outside
}

func voters(servers []standing) (n int) {
	for _, s := range servers {
		if s.as == failover.Voter {
			n++
		}
	}
	return n
}

// peer is the server s, nil when another one has its address by now: the handshake refuses that.
func (w *World) peer(s standing) *host {
	if h := w.hosts[s.host]; h.id == s.id {
		return h
	}
	return nil
}

// rest draws when an election begins if nobody is heard.
func (r *raft) rest() {
	r.heard = r.now()
	r.wait = r.h.w.between(raftTimeout, 2*raftTimeout)
}

// tick runs every few milliseconds of this host's clock.
func (r *raft) tick() {
	now := r.now()
	switch {
	case r.role == leader:
		r.lead(now)
	case now-r.heard >= r.wait && standingOf(r.servers(), r.h.index) == failover.Voter:
		r.leader = -1
		r.campaign(false)
	}
}

// lead sends what is due and steps down without a majority.
func (r *raft) lead(now time.Duration) {
	servers, near := r.servers(), 0
	for _, s := range servers {
		switch {
		case s.host == r.h.index:
			if s.as == failover.Voter {
				near++
			}
			continue
		case s.as == failover.Voter && now-r.answered[s.host] <= raftTimeout:
			near++
		}
		if sent := r.sentAt[s.host]; sent == 0 && now-r.answered[s.host] >= raftHeartbeat || sent > 0 && now-sent >= raftAnswer {
			r.replicate(s.host)
		}
	}
	if near <= voters(servers)/2 {
		r.follow("no majority answers")
	}
}

// follow ends leadership or candidacy. What was proposed may yet be committed by somebody else.
func (r *raft) follow(why string) {
	if r.role == leader {
		if r.h.w.tape != nil {
			r.h.w.say(r.h, "raft", "leads no more: %s", why)
		}
		r.begun = false
		r.h.agent.stopLeading()
		// In the order of the log: the order of a map must decide nothing.
		for i := uint64(1); i <= r.last(); i++ {
			if done := r.waiters[i]; done != nil {
				delete(r.waiters, i)
				done(errUnknown)
			}
		}
	}
	r.role, r.leader, r.forced, r.handing = follower, -1, false, 0
	r.rest()
}

// saveTerm makes term and vote durable and then goes on.
func (r *raft) saveTerm(term, vote uint64, then func()) {
	d := r.d()
	d.term, d.vote = term, vote
	if r.h.hung() {
		r.h.agent.diskHangs(r.h.disk.hangs - r.h.w.now)
	}
	// Volatile until written: a loss of power before that takes the messages with it that depend on it.
	r.h.write(r.proc(), func() {}, then)
}

// newerTerm takes over a term that somebody else has, and reports whether messages of term are of this one now.
func (r *raft) newerTerm(term uint64) bool {
	if term < r.d().term {
		return false
	}
	if term > r.d().term {
		r.follow("somebody has a later term")
		r.saveTerm(term, 0, nil)
	}
	return true
}

// store appends to the log and calls then when that is durable.
func (r *raft) store(entries []*entry, then func()) {
	d := r.d()
	d.log = append(d.log, entries...)
	if r.h.hung() {
		r.h.agent.diskHangs(r.h.disk.hangs - r.h.w.now)
	}
	upto, term := r.last(), r.termAt(r.last())
	r.h.write(r.proc(), func() {
		if r.termAtOnDisk(upto) == term {
			d.synced = max(d.synced, upto)
		}
	}, then)
}

// termAtOnDisk is termAt for an effect that comes after the life it belongs to.
func (r *raft) termAtOnDisk(i uint64) uint64 { return r.termAt(i) }

// propose puts env into the log, if this node leads, and calls done with what Apply said.
func (r *raft) propose(env fsm.Envelope, servers []standing, done func(error)) {
	r.enter(&entry{env: env, servers: servers, raw: r.h.w.encode(env)}, done)
}

// enter puts an entry at the end of the log, if this node leads.
func (r *raft) enter(e *entry, done func(error)) {
	if r.role != leader || r.handing > r.now() {
		done(errNotLeader)
		return
	}
	e.term, e.index = r.d().term, r.last()+1
	if done != nil {
		r.waiters[e.index] = done
	}
	term := r.d().term
	r.store([]*entry{e}, func() {
		if r.role == leader && r.d().term == term {
			r.advance()
			r.replicateAll()
		}
	})
}

func (r *raft) replicateAll() {
	for _, s := range r.servers() {
		if s.host != r.h.index && r.sentAt[s.host] == 0 {
			r.replicate(s.host)
		}
	}
}

// advance commits what a majority of the voters' disks hold, if it is of this term.
func (r *raft) advance() {
	servers := r.servers()
	for i := r.last(); i > r.commit && r.termAt(i) == r.d().term; i-- {
		have := 0
		for _, s := range servers {
			if s.as == failover.Voter && (s.host == r.h.index && r.d().synced >= i || s.host != r.h.index && r.match[s.host] >= i) {
				have++
			}
		}
		if have > voters(servers)/2 {
			r.commit = i
			r.apply()
			r.replicateAll() // followers learn of it with the next message (DETAILS 8)
			return
		}
	}
}

// apply is State.Apply, wherever the world computes a state: without Rev what a command was decided under is not compared.
func (o Options) apply(s fsm.State, env fsm.Envelope) (fsm.State, error) {
	if o.Without == MutRev && env.IfRev > 0 {
		env.IfRev = s.Rev
	}
	return s.Apply(env)
}

// apply computes what is committed and not applied yet.
func (r *raft) apply() {
	for r.applied < r.commit && r.applied < r.last() && !r.halted {
		e := r.at(r.applied + 1)
		env, known := r.read(e)
		if !known {
			r.halt(e.index)
			return
		}
		r.applied++
		var refused error
		if e.raw != nil && env.Change == nil {
			r.h.w.check.appliedLater(r.h, e, r.later)
		}
		if env.Change != nil {
			var next fsm.State
			if next, refused = r.h.w.opts.apply(r.state, env); refused == nil {
				r.state = next
			}
			r.h.w.check.applied(r.h, e, r.state, refused)
			r.h.agent.offer(e.index, r.state)
		}
		if done := r.waiters[e.index]; done != nil {
			delete(r.waiters, e.index)
			if e.term != r.d().term {
				refused = errUnknown
			}
			done(refused)
		}
	}
	if r.role == leader && !r.begun && r.applied >= r.ready {
		r.begun = true
		r.h.agent.beginLeading()
	}
}
