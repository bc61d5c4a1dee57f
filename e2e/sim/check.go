package sim

import (
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// Violation is the first thing that must not happen and did.
type Violation struct {
	At   time.Duration
	Host string
	What string // the invariant
	Text string
}

func (v *Violation) Error() string {
	return fmt.Sprintf("%.3f s: %s: %s: %s", v.At.Seconds(), v.Host, v.What, v.Text)
}

// checker looks at true states at true times, which no part of the system can do.
type checker struct {
	w         *World
	failed    *Violation
	newest    fsm.State // of the longest committed log
	index     uint64
	results   []result
	leaders   map[uint64]int // term to host
	branches  []*branch      // that something was promised on
	open      place          // of the server that was opened last
	openedBy  fsm.Epoch
	excused   int             // pairs of writers while neither guard nor agent of one could run
	relook    bool            // the same pair is looked at again
	writing   uint8           // the hosts that took writes after the last event, as bits
	givenUp   []givenUp       // in order
	lossy     int             // acknowledged commits in that
	accepted  int             // appointments at a loss that an operator accepted
	appointed []time.Duration // when epochs began with another node
	again     []time.Duration // and with the same
}

// result is what applying an entry came to, the same on every node.
type result struct {
	rev, version uint64
	epoch        fsm.Epoch
	refused      bool
	term         uint64
	later        uint64
}

func (c *checker) fail(h *host, what, format string, args ...any) {
	if c.failed != nil {
		return
	}
	v := &Violation{At: c.w.now, Host: "-", What: what, Text: fmt.Sprintf(format, args...)}
	if h != nil {
		v.Host = h.name
	}
	c.failed = v
	c.w.say(h, "VIOLATION", "%s: %s", v.What, v.Text)
}

// applied: equal states at equal indices, and no Appoint while the old lease may run.
func (c *checker) applied(h *host, e *entry, s fsm.State, refused error) {
	r := result{s.Rev, s.Version, s.Epoch, refused != nil, e.term, h.agent.raft.later}
	for uint64(len(c.results)) < e.index {
		c.results = append(c.results, result{})
	}
	known := &c.results[e.index-1]
	if known.term != 0 {
		if *known != r {
			c.fail(h, "equal states", "entry %d gave %+v elsewhere and %+v here", e.index, *known, r)
		}
		return
	}
	*known = r
	before := c.newest
	c.newest, c.index = s, e.index
	if c.w.tape != nil {
		c.w.say(h, "commit", "%d %s by %s: %v %s", e.index, e.env.Change.Kind(), e.env.By, refused, lastEvent(s, refused))
	}
	if s.Epoch < before.Epoch || s.Rev < before.Rev {
		c.fail(h, "epochs grow", "epoch %d rev %d after epoch %d rev %d", s.Epoch, s.Rev, before.Epoch, before.Rev)
	}
	appoint, is := e.env.Change.(fsm.Appoint)
	if !is || refused != nil {
		return
	}
	if s.Primary == before.Primary || before.Epoch == 0 {
		c.again = append(c.again, c.w.now)
		return
	}
	c.appointed = append(c.appointed, c.w.now)
	c.leaseOver(before, appoint)
	c.givesUp(before, appoint)
	c.electsAll(s)
}

func lastEvent(s fsm.State, refused error) string {
	if refused != nil || len(s.Events) == 0 {
		return ""
	}
	return s.Events[len(s.Events)-1].Text
}

// leaseOver: the holder of the old epoch is past the end of its lease, by its own clock, or released.
func (c *checker) leaseOver(before fsm.State, a fsm.Appoint) {
	old := c.w.byID(before.Primary)
	if old == nil {
		return
	}
	released := old.disk.released != nil && old.disk.released.Epoch >= before.Epoch
	if r := a.Evidence.Release; r != nil && !released {
		c.fail(old, "lease", "appointed on a release of epoch %d that is not on the disk of %s", r.Epoch, old.name)
	}
	b := &old.agent.beats
	if old.agent.alive && b.holder != nil && !released && b.holder.Epoch() == before.Epoch && b.holder.Until() > old.boot() {
		c.fail(old, "lease", "epoch %d is given to another while its lease runs for %s", before.Epoch, b.holder.Until()-old.boot())
	}
	v := old.keeper.view
	if !old.keeper.alive || old.keeper.halted() || !old.server.accepts() || fsm.Epoch(v.Epoch) > before.Epoch {
		return
	}
	if v.Verdict == VerdictServe && old.keeper.leaseEnd > old.boot() {
		left := old.keeper.leaseEnd - old.boot()
		c.fail(old, "lease", "epoch %d is given to another while its guard lets it serve for %s", before.Epoch, left)
	}
	if v.Verdict == VerdictUnleased && old.agent.published.Paused {
		c.fail(old, "lease", "epoch %d is given to another while it serves without a lease, since it knows of a pause only", before.Epoch)
	}
}

// electsAll: the log of the one who is appointed, as it is on disk, holds all that was promised.
func (c *checker) electsAll(s fsm.State) {
	h := c.w.byID(s.Primary)
	c.keeps(h, h.data.log, "appointed")
}

// keeps compares what was promised with a log that is to become the cluster's.
func (c *checker) keeps(h *host, log place, when string) {
	for _, b := range c.branches {
		if b.promised == 0 || log.holds(b, b.promised) {
			continue
		}
		has := log.common(b, b.promised)
		if has >= c.owed(b, b.promised) {
			c.lossy += countCommits(b, has, b.acked)
			b.promised, b.acked = has, min(b.acked, has)
			continue
		}
		tli := pg.Timeline(0) // it may have no log at all
		if last := log.at(log.lsn); last != nil {
			tli = last.tli
		}
		c.fail(h, "no commit lost",
			"%s with a log up to %s of timeline %d, which has timeline %d to %s only; promised is %s, acknowledged %s",
			when, log.lsn, tli, b.tli, has, b.promised, b.acked)
	}
}

func countCommits(b *branch, from, to pg.LSN) (n int) {
	for _, at := range b.commits {
		if at > from && at <= to {
			n++
		}
	}
	return n
}

// opened is a server that begins to take writes.
func (c *checker) opened(h *host) {
	b := h.data.log.b
	if c.w.tape != nil {
		c.w.say(h, "opened", "timeline %d from %s, gate open: %t", b.tli, b.start, h.server.gateOpen)
	}
	if c.newest.Primary != h.id {
		if !c.helpless(h) && !c.freshlyHelped(h) {
			c.fail(h, "one writer", "it opens for writing while %s is primary of epoch %d", c.newest.Name(c.newest.Primary), c.newest.Epoch)
		}
		// It was told to before, and nothing there can hold it back. What it writes is nobody's; it must not be acknowledged.
		c.writers(h)
		return
	}
	c.keeps(h, h.data.log, "opened")
	c.open, c.openedBy = place{b, h.data.log.lsn}, c.newest.Epoch
	c.comesBack()
	c.lineage(h, b)
	c.writers(h)
}

// lineage: what is written now is on the timeline that the cluster knows, and leaves its parent where the cluster says.
func (c *checker) lineage(h *host, b *branch) {
	s := c.newest
	if len(s.Lineage) == 0 || s.Primary != h.id {
		return
	}
	l := s.Lineage[len(s.Lineage)-1]
	if l.Promoted && (b.tli < l.Timeline || b.tli == l.Timeline && l.Parent != 0 && l.SwitchLSN != b.start) {
		c.fail(h, "lineage", "it opens timeline %d from %s, the cluster knows timeline %d from %s",
			b.tli, b.start, l.Timeline, l.SwitchLSN)
	}
	for _, o := range c.branches {
		if o != b && o.tli == b.tli {
			c.fail(h, "lineage", "two servers wrote a timeline %d", b.tli)
		}
	}
}

// helpless says that nothing on the host is able to end a server whose lease is over: the assumption of timely enforcement
// does not hold there (lease.md S1), and only what copies guarantee is left.
func (c *checker) helpless(h *host) bool {
	guardless := !h.keeper.alive || h.keeper.halted()
	agentless := !h.agent.alive || h.agent.halted()
	// An agent sees after 250 to 350 ms that its guard does not tick, and kills what it owned.
	young := c.w.now-h.keeper.downSince < 500*time.Millisecond || c.w.now-h.agent.upSince < 500*time.Millisecond
	return guardless && (agentless || young)
}

// after looks at true states after every event, whatever it was.
func (c *checker) after() {
	var writing uint8
	var last *host
	for i, h := range c.w.hosts {
		if h.server.phase == primary && h.server.accepts() {
			writing |= 1 << i
			last = h
		}
	}
	if writing == c.writing {
		return
	}
	if c.writing = writing; bits.OnesCount8(writing) > 1 {
		c.writers(last)
	}
}

// writers: no two servers take writes at one instant.
func (c *checker) writers(h *host) {
	var first *host
	for _, o := range c.w.hosts {
		if !o.server.accepts() {
			continue
		}
		if first == nil {
			first = o
			continue
		}
		if c.helpless(first) || c.helpless(o) || c.freshlyHelped(first) || c.freshlyHelped(o) {
			if !c.relook {
				c.excused++
			}
			c.w.at(100*time.Millisecond, func() { // the excuse ends some time
				c.relook = true
				c.writers(h)
				c.relook = false
			})
			continue
		}
		c.fail(h, "one writer", "%s and %s take writes at once", first.name, o.name)
	}
}

// freshlyHelped is a host on which something runs again for a moment only: a guard that is late by as much as it was
// stopped.
func (c *checker) freshlyHelped(h *host) bool {
	return h.keeper.lateUntil > c.w.now
}

// published: what a node shows of the state never goes back.
func (c *checker) published(h *host, before, after fsm.State) {
	if after.Rev < before.Rev || after.Epoch < before.Epoch {
		c.fail(h, "applied state never goes back", "rev %d after rev %d", after.Rev, before.Rev)
	}
}

func (c *checker) elected(h *host, term uint64) {
	if other, has := c.leaders[term]; has && other != h.index {
		c.fail(h, "one leader per term", "%s leads term %d as well", c.w.hosts[other].name, term)
	}
	c.leaders[term] = h.index
}

// acknowledged: so many disks of D hold the commit as the agreed rule says, and the newest primary's log has it.
func (c *checker) acknowledged(h *host, o *op) {
	c.promise(o.b, o.lsn)
	o.b.acked = max(o.b.acked, o.lsn)
	rule := c.newest.Sync
	if h.id != c.newest.Primary {
		if c.openedBy == c.newest.Epoch && c.open.b != nil && !(place{c.open.b, c.open.b.end}).holds(o.b, o.lsn) {
			if len(rule.Members) == 0 || c.owed(o.b, o.lsn) < o.lsn {
				c.lossy++
				return
			}
			c.fail(h, "no commit lost", "it acknowledges %s of timeline %d after %s has opened timeline %d without it", o.lsn, o.b.tli,
				c.newest.Name(c.newest.Primary), c.open.b.tli)
		}
		return
	}
	if len(rule.Members) == 0 {
		return
	}
	copies := 0
	for _, id := range rule.Members {
		m := c.w.byID(id)
		if m != nil && m.data.exists && m.data.log.upTo(m.data.flushed).holds(o.b, o.lsn) {
			copies++
		}
	}
	if copies < rule.Copies {
		c.fail(h, "copies", "it acknowledges %s of timeline %d with %d copies of %d that are agreed", o.lsn, o.b.tli, copies, rule.Copies)
	}
}

// shown is what clients read.
func (c *checker) shown(_ *host, log place) {
	if at := log.lastCommit(); at > 1 {
		c.promise(log.at(at), at)
	}
}

func (c *checker) promise(b *branch, lsn pg.LSN) {
	if b.promised == 0 {
		known := false
		for _, o := range c.branches {
			known = known || o == b
		}
		if !known {
			c.branches = append(c.branches, b)
		}
	}
	b.promised = max(b.promised, lsn)
}

// replaced: whatever is taken away from a data directory is kept as evidence first.
func (c *checker) replaced(h *host, old, source place, existed bool, j *job) {
	if !existed || old.b == nil {
		return
	}
	fork := common(old, source)
	if c.w.tape != nil {
		c.w.say(h, "replaced", "log to %s of timeline %d by %s; common up to %s", old.lsn, old.at(old.lsn).tli, j.kind, fork.lsn)
	}
	if old.lsn <= fork.lsn {
		return
	}
	c.w.stats.Discards++
	if !keptBy(j, h.data.evidence, old, fork.lsn) {
		c.fail(h, "evidence", "log from %s to %s of timeline %d is gone and nothing was kept of it", fork.lsn, old.lsn, old.at(old.lsn).tli)
	}
}

// keptBy says whether what old has past fork is among the evidence: that log, by an earlier attempt too, or the whole directory, which
// only the job at hand can have set aside.
func keptBy(j *job, evidence []pgctl.Evidence, old place, fork pg.LSN) bool {
	return slices.ContainsFunc(evidence, func(e pgctl.Evidence) bool {
		if e.To == 0 { // of a directory that was set aside nobody knows where its log ends
			return j.kind == pgctl.Quarantine && j.discard != nil && e.ID == j.discard.ID
		}
		return e.Timeline == old.at(old.lsn).tli && e.From <= max(fork, 1) && e.To >= old.lsn
	})
}
