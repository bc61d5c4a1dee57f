package sim

import "github.com/quorate/quorate/fsm"

// snapshotAfter is how many entries are applied until a snapshot takes the place of those before; far fewer than with
// hashicorp/raft, so that a node which was away for seconds gets a snapshot instead of entries.
const snapshotAfter = 12

// snapshot stands for all entries up to index.
type snapshot struct {
	index, term uint64
	state       fsm.State
	later       uint64
	release     uint64     // the oldest that can read it
	servers     []standing // as of index
}

// compact replaces what is applied by a snapshot. No entries stay for followers that are a little behind, as they would
// with hashicorp/raft: whoever misses one message may get a snapshot.
func (r *raft) compact() {
	if r.applied >= r.d().snap.index+snapshotAfter {
		r.takeSnapshot()
	}
}

func (r *raft) takeSnapshot() {
	s := snapshot{index: r.applied, servers: r.d().snap.servers}
	s.term, s.state, s.later, s.release = r.termAt(s.index), r.state, r.later, r.d().snap.release
	for i := r.d().snap.index + 1; i <= s.index; i++ {
		s.release = max(s.release, r.at(i).since)
		if c := r.at(i).servers; c != nil {
			s.servers = c
		}
	}
	r.h.write(r.proc(), func() {
		if r.h.agent.raft == r && s.index > r.d().snap.index {
			r.replaceBy(s)
		}
	}, nil)
}

// replaceBy puts s in the place of the entries up to its index, and of all others if they are another history.
func (r *raft) replaceBy(s snapshot) {
	d := r.d()
	var rest []*entry
	if s.index <= r.last() && r.termAt(s.index) == s.term {
		rest = append(rest, d.log[s.index-d.snap.index:]...)
		d.synced = max(d.synced, s.index)
	} else {
		d.synced = s.index
	}
	d.snap, d.log = s, rest
}

// install sends the snapshot to a host that lacks entries which are not in the log any more.
func (r *raft) install(host int) {
	me, to, s, term := r.h, r.h.w.hosts[host], r.d().snap, r.d().term
	r.sentAt[host] = max(r.now(), 1)
	if me.w.net.hole[host] > 0 {
		me.w.net.Dropped++
		return
	}
	me.w.send(me, to, &to.agent.process, func() { to.agent.raft.installed(me, term, s) })
}

// installed takes a leader's snapshot in. The answer waits for the disk.
func (r *raft) installed(from *host, term uint64, s snapshot) {
	if !r.newerTerm(term) {
		r.answer(from, r.d().term, false, 0)
		return
	}
	if r.role != follower {
		r.follow("somebody leads this term")
	}
	r.leader = from.index
	r.rest()
	if s.release > r.h.release {
		return // it can't be decoded
	}
	if s.index <= r.commit {
		r.answer(from, term, true, s.index)
		return
	}
	r.h.write(r.proc(), func() {
		if r.h.agent.raft != r || s.index <= r.commit {
			return
		}
		r.replaceBy(s)
		r.d().formed = true
		r.commit, r.applied, r.state, r.later = s.index, s.index, s.state, s.later
		r.h.w.stats.Installed++
		r.h.agent.offer(s.index, s.state)
	}, func() {
		if r.d().term == term && s.index <= r.commit {
			r.answer(from, term, true, s.index)
		}
	})
}
