package failover

import (
	"sort"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// Limits that are parts of the procedure rather than an operator's choice.
const (
	// positionsBox is how long a failover waits for the WAL positions of standbys that are alive although enough others
	// are known: a more advanced one that is not waited for would diverge and need a new copy. Several times what a
	// detach takes, small beside failover_after.
	positionsBox = 250 * time.Millisecond
	// restartBox is how long a released primary that could start again waits for the positions of standbys that are alive:
	// one that beats and does not answer must not keep it down.
	restartBox = 2 * time.Second
	// answerBox is how long a failover that nobody qualifies for waits for standbys that beat and do not answer.
	answerBox = 10 * time.Second
	// releaseComes is how long a primary whose Postgres is down gets to say that it released, before a sealed epoch is given
	// to it again.
	releaseComes = 2 * time.Second
	// beatsFresh is how many beat intervals old a report may be and still count as present.
	beatsFresh = 3
	// switchoverLag is how far behind, in bytes, a candidate may be when the primary is told to hand over: what is left
	// is sent within milliseconds.
	switchoverLag = 1 << 20
	// wishPatience bounds how long a request waits for its candidate, wishBox how long an approved one may take.
	wishPatience = 10 * time.Second
	wishBox      = 60 * time.Second
	// promotionBox is how long the leader stays where it is, though on the new primary's node, while that opens.
	promotionBox = 5 * time.Second
	// Backing off: the second failover within backoffWindow waits a second, each further one twice as long.
	backoffWindow = 60 * time.Second
	backoffMax    = 30 * time.Second
)

// facts are what the rules read: the view and what follows from it, computed once.
type facts struct {
	View
	failoverAfter time.Duration
	voters        map[fsm.NodeID]bool
	majority      int
	released      *fsm.Release // by the primary, of the present epoch
	deafVoters    []fsm.NodeID // voters whose fresh report has not heard the primary for failover_after
	silent        bool
	unread        bool // the primary will not learn of its appointment
	condemned     bool // silent or unread: another node shall serve
	primaryFresh  bool
	sealed        []fsm.NodeID // voters that sealed the present epoch for us
	sealsDone     bool         // a majority sealed and its waits are over
	waitLeft      time.Duration
	positions     map[fsm.NodeID]fsm.Position
	best          *candidate
	supposed      bool // it did not come about: nobody is to be told what to do about it

	syncKnown bool // see nextSync
	syncStep  fsm.SyncStep
	syncDue   bool
}

// candidate is a standby that may be appointed, with the positions that show it.
type candidate struct {
	node     fsm.NodeID
	position fsm.Position
	evidence []fsm.Position
}

func study(v View) *facts {
	f := &facts{View: v, failoverAfter: time.Duration(v.State.Config.Settings.FailoverAfterMS) * time.Millisecond}
	f.voters = make(map[fsm.NodeID]bool, len(v.State.Electorate.Voters))
	for _, id := range v.State.Electorate.Voters {
		f.voters[id] = true
	}
	f.majority = len(f.voters)/2 + 1
	if s, ok := v.Seen[v.State.Primary]; ok {
		f.primaryFresh = f.fresh(s)
		if r := s.Report.Released; r != nil && r.Epoch == v.State.Epoch && r.Node == v.State.Primary {
			f.released = r
		}
	}
	f.studySilence()
	f.studyAppointment()
	f.studySeals()
	f.studyPositions()
	return f
}

func (f *facts) fresh(s Sighting) bool { return s.Age <= beatsFresh*f.BeatEvery }

// studySilence applies DETAILS 6: the primary is silent when a majority of voters each have a fresh report here in which
// the primary's last beat, aged by the report's own age, is older than failover_after.
func (f *facts) studySilence() {
	for _, id := range f.State.Electorate.Voters {
		if id == f.State.Primary {
			continue
		}
		if age, ok := f.ageAt(id); ok && age > f.failoverAfter {
			f.deafVoters = append(f.deafVoters, id)
		}
	}
	f.silent = f.State.Epoch > 0 && len(f.deafVoters) >= f.majority
}

// ageAt is how long ago voter id heard the primary, as far as the looker can tell.
func (f *facts) ageAt(id fsm.NodeID) (time.Duration, bool) {
	if id == f.Self {
		if s, ok := f.Seen[f.State.Primary]; ok {
			return s.Age, true
		}
		return f.LeadingFor, true
	}
	s, ok := f.Seen[id]
	if !ok || !f.fresh(s) {
		return 0, false
	}
	for _, a := range s.Report.Sightings {
		if a.Node == f.State.Primary {
			return time.Duration(a.MS)*time.Millisecond + s.Age, true
		}
	}
	return 0, false
}

// studySeals finds whether some majority has sealed the present epoch with its waits elapsed (lease.md rule 6): the
// majority whose waits end first counts.
func (f *facts) studySeals() {
	var left []time.Duration
	for _, id := range f.State.Electorate.Voters {
		s, ok := f.Seals[id]
		if !ok || s.Epoch < f.State.Epoch {
			continue
		}
		f.sealed = append(f.sealed, id)
		left = append(left, max(0, s.Left-s.Age))
	}
	if len(left) < f.majority {
		return
	}
	sort.Slice(left, func(i, j int) bool { return left[i] < left[j] })
	if waits {
		f.waitLeft = left[f.majority-1]
	}
	f.sealsDone = f.waitLeft == 0
}

// studyPositions gathers the positions that count for the present epoch, the released primary's own included, and the
// best standby that they allow.
func (f *facts) studyPositions() {
	f.positions = make(map[fsm.NodeID]fsm.Position, len(f.Positions)+1)
	for id, p := range f.Positions {
		if p.Detached >= f.State.Epoch && id != f.State.Primary && f.counts(id, p) {
			f.positions[id] = p
		}
	}
	if r := f.released; r != nil {
		p := fsm.Position{Node: r.Node, Detached: r.Epoch, Timeline: r.Timeline, LSN: r.FinalLSN}
		if f.counts(r.Node, p) {
			f.positions[r.Node] = p
		}
	}
	for _, id := range f.sortedPositions() {
		c := f.qualify(id)
		if c != nil && (f.best == nil || f.better(c, f.best)) {
			f.best = c
		}
	}
	if f.unread && f.best != nil && f.logless(f.best.node) {
		f.best = nil // Two that don't get the log would take turns.
	}
}

// counts says that the machine counts p. It refuses an appointment with one that it does not, and an election that relied on
// one would be proposed for ever.
func (f *facts) counts(id fsm.NodeID, p fsm.Position) bool {
	_, known := f.State.Members[id]
	return known && p.Node == id && p.LSN != 0
}

func (f *facts) sortedPositions() []fsm.NodeID {
	ids := make([]fsm.NodeID, 0, len(f.positions))
	for id := range f.positions {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	return ids
}

// qualify says whether node q may be appointed: it is electable, and at least |D|-K+1 members of D have positions not
// beyond q's (lease.md rule 14). Positions beyond q's are left out of the evidence: whatever they hold more was acknowledged
// only if a commit could be on fewer than K members, which the count excludes.
func (f *facts) qualify(q fsm.NodeID) *candidate {
	if q == f.State.Primary || f.State.Electable(q) != nil {
		return nil
	}
	async := len(f.State.Sync.Members) == 0
	if !async && !member(f.State.Sync.Members, q) {
		return nil
	}
	if s, ok := f.Seen[q]; !ok || !f.fresh(s) || !electableRun(s.Report.Run) {
		return nil
	}
	pos := f.positions[q]
	if _, ok := f.State.RankOf(pos.Timeline); !ok {
		return nil
	}
	if async {
		if lag, known := f.behind(pos); !known || lag > pg.LSN(f.State.Config.Settings.MaximumLag) {
			return nil
		}
	}
	c := &candidate{node: q, position: pos}
	inD := 0
	for _, id := range f.sortedPositions() {
		if f.beyond(f.positions[id], pos) {
			continue
		}
		c.evidence = append(c.evidence, f.positions[id])
		if member(f.State.Sync.Members, id) {
			inD++
		}
	}
	if inD < fsm.PositionsNeeded(f.State.Sync) {
		return nil
	}
	return c
}

// behind is how much of the primary's log a log that ends at p lacks; false if that can't be known, because this leader never
// heard how far the primary was and it released without a position, or because p has no place in the history. The primary's log was
// at least as long as it reported, as it released, and as what anybody else has of its history. That of a primary which is no member
// was given up (quorate recover): nobody will ever say how far it was.
//
// What p has beyond the place where it left that history is a tail of another one, and nothing of the primary's log: two LSNs can be
// subtracted only on one timeline (lease.md rule 13).
func (f *facts) behind(p fsm.Position) (pg.LSN, bool) {
	end := f.Seen[f.State.Primary].Report.Flush
	if f.released != nil {
		end = max(end, f.released.FinalLSN)
	}
	_, asked := f.State.Members[f.State.Primary]
	known := end > 0 || !asked
	for _, other := range f.positions {
		if has, ours := f.ofThePrimarys(other); ours {
			end = max(end, has)
		}
	}
	has, ours := f.ofThePrimarys(p)
	return lag(end, has), known && ours
}

// ofThePrimarys is how far a log that ends at p goes in the history of the present primary's.
func (f *facts) ofThePrimarys(p fsm.Position) (pg.LSN, bool) {
	if len(f.State.Lineage) == 0 {
		return 0, false
	}
	return f.State.Shared(p.Timeline, p.LSN, f.State.Lineage[len(f.State.Lineage)-1].Timeline)
}

// electableRun says whether a node with a known position can be promoted: it runs, or it was killed because it did not
// let go of its old primary in time and is about to start read-only.
func electableRun(r Run) bool { return r == RunRunning || r == RunStarting || r == RunStopped }

// beyond says whether a is further than b: history first, then LSN. A timeline off the lineage is beyond everything.
func (f *facts) beyond(a, b fsm.Position) bool {
	ra, okA := f.State.RankOf(a.Timeline)
	rb, okB := f.State.RankOf(b.Timeline)
	if !okA || !okB {
		return !okA
	}
	if ra != rb {
		return ra > rb
	}
	return a.LSN > b.LSN
}

// better orders two qualified candidates: one that gets Raft's log, the wished one, then position, one that is not sick, one that
// runs, priority, not the Raft leader's node (it saves moving the leadership), then id.
func (f *facts) better(a, b *candidate) bool {
	if la, lb := f.logless(a.node), f.logless(b.node); la != lb {
		return lb // It would not learn that it is primary.
	}
	if w := f.State.Wish; w != nil && w.Approved && w.To != "" {
		if (a.node == w.To) != (b.node == w.To) {
			return a.node == w.To
		}
	}
	if f.beyond(a.position, b.position) || f.beyond(b.position, a.position) {
		return f.beyond(a.position, b.position)
	}
	if wa, wb := f.Seen[a.node].Report.Sick == "", f.Seen[b.node].Report.Sick == ""; wa != wb {
		return wa
	}
	ra, rb := f.Seen[a.node].Report.Run == RunRunning, f.Seen[b.node].Report.Run == RunRunning
	if ra != rb {
		return ra
	}
	pa, pb := f.State.Members[a.node].Priority, f.State.Members[b.node].Priority
	if pa != pb {
		return pa > pb
	}
	if (a.node == f.Self) != (b.node == f.Self) {
		return b.node == f.Self
	}
	return a.node < b.node
}

// predictedTimeline is above every timeline ever appointed, so that two promotions never share a number.
func (f *facts) predictedTimeline() pg.Timeline {
	var top pg.Timeline
	for _, l := range f.State.Lineage {
		top = max(top, l.Timeline)
	}
	return top + 1
}

// caughtUp lists the electable data nodes that the primary's last report shows streaming past the rest, the primary
// included: those that may be in D. That it streams from there each has to say itself too: what the primary sees could be what
// still runs of a removed node of that name.
func (f *facts) caughtUp() []fsm.NodeID {
	p, ok := f.Seen[f.State.Primary]
	if !ok || !f.primaryFresh || p.Report.Serving != f.State.Epoch {
		return nil
	}
	out := []fsm.NodeID{f.State.Primary}
	for _, s := range p.Report.Streaming {
		seen, heard := f.Seen[s.Node]
		if f.State.Electable(s.Node) != nil || !heard || !f.fresh(seen) || seen.Report.Run != RunRunning || seen.Report.Upstream != f.State.Primary {
			continue
		}
		if lag(p.Report.Flush, s.Flush) <= switchoverLag {
			out = append(out, s.Node)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i] < out[j] })
	return out
}

func lag(ahead, behind pg.LSN) pg.LSN {
	if behind >= ahead {
		return 0
	}
	return ahead - behind
}

func member(set []fsm.NodeID, id fsm.NodeID) bool {
	for _, m := range set {
		if m == id {
			return true
		}
	}
	return false
}
