package sim

// Copied word for word from package node, where it is not exported; TestMirrorsAreFaithful compares. Copy it again when it
// complains.

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/rejoin"
)

const (
	failoverBox  = 2 * time.Second
	yieldFor     = time.Second
	patience     = 2 * time.Second
	openPatience = 10 * time.Second
	examineTries = 3
	lookPatience = 1.5
	statusBox    = time.Second

	restartPatience = 5 * time.Second
	restartBox      = 25 * time.Second
	openBox         = 5 * time.Second
	ownRestarts     = time.Minute
	ownTries        = 15 * time.Second
	settingsRetry   = 30 * time.Second
	surveyEvery     = 5 * time.Second
	surveySoon      = 300 * time.Millisecond
	stepBox         = 10 * time.Second
	promiseBox      = 3 * time.Second
)

// situation is what the node's goal follows from: agreed truth, its own promises and its lease.
type situation struct {
	self      fsm.NodeID
	state     fsm.State
	leaseLive bool      // for state.Epoch, a margin before its end
	sealed    fsm.Epoch // highest epoch that this node has sealed
	released  fsm.Epoch // highest epoch that this node has released
	reads     bool      // it released, and nobody took over since: Postgres is to serve reads
	giveUp    bool      // it was appointed and makes no progress: stop, so that it can release
	handOver  bool      // the switchover away from this node may go ahead now
	ending    bool      // the daemon was asked to end in order
	restart   bool      // Postgres is to be down for a planned restart
	reinit    bool      // the data directory of a standby is to be replaced by a copy
	removed   bool      // this node is no member any more: its copy is not kept up, so nobody shall read it
	yields    bool      // an old primary that is down lets others start to stream first
	sync      pgctl.Sync
	copies    []pgctl.Copy        // what is known of the others' logs
	away      map[fsm.NodeID]bool // no log is kept for these
}

// want turns the situation into the goal for Postgres. It is the one place where agreement becomes an order to Postgres.
func want(s situation) pgctl.Want {
	w := pgctl.Want{
		Role: pgctl.RoleNone, Epoch: uint64(s.state.Epoch), SystemID: s.state.SystemID,
		LeaseLive: s.leaseLive, Sealed: uint64(s.sealed), Yields: s.yields, Sync: s.sync, Copies: s.copies,
	}
	me, member := s.state.Members[s.self]
	if s.removed {
		w.Role, w.Stop = pgctl.RoleStopped, pgctl.StopFast
		return w
	}
	if !member || me.Role != fsm.RoleData || s.state.Epoch == 0 {
		return w
	}
	if a := s.state.Adopted; a != nil {
		w.Keep, w.Aside = slices.Contains(a.Keep, s.self), slices.Contains(a.Aside, s.self)
		if s.state.Adopting(s.self) {
			w.Adopt = a.SystemID
		}
	}
	w.Target, w.Final = target(s.state)
	w.Slots = slots(s.state, s.self, s.away)
	if s.ending || s.restart {
		w.Role, w.Stop = pgctl.RoleStopped, pgctl.StopFast
		return w
	}
	if s.state.Primary != s.self {
		w.Role, w.Reinit = pgctl.RoleStandby, s.reinit
		if s.sealed < s.state.Epoch {
			w.Upstream = upstream(s.state, s.self)
		}
		return w
	}
	switch {
	case s.released >= s.state.Epoch && s.reads:
		w.Role, w.Reads = pgctl.RoleStandby, true
	case s.released >= s.state.Epoch || s.giveUp:
		w.Role, w.Stop = pgctl.RoleStopped, pgctl.StopKill
	case s.handOver:
		w.Role, w.Stop = pgctl.RoleStopped, pgctl.StopFast
		if s.state.Wish != nil && s.state.Wish.Kind == fsm.WishFailover {
			w.StopBox = failoverBox
		}
	default:
		w.Role = pgctl.RolePrimary
		w.MayInit = s.state.Epoch == 1 && s.state.SystemID == 0 && s.state.Adopted == nil
	}
	return w
}

// handingOver says that the leader approved a switchover away from this node in the present epoch.
func handingOver(s fsm.State, self fsm.NodeID) bool {
	return s.Wish != nil && s.Wish.Approved && s.Wish.Epoch == s.Epoch && s.Primary == self
}

// yields says that the primary opened openFor ago and that its commits still wait for standbys, of which there are
// enough besides self.
func yields(s fsm.State, self fsm.NodeID, streaming []failover.StreamingMember, openFor time.Duration) bool {
	ids, k := fsm.EnforcedBy(s.Sync, s.Primary)
	others, there := 0, 0
	for _, id := range ids {
		if id == self {
			continue
		}
		others++
		if slices.ContainsFunc(streaming, func(m failover.StreamingMember) bool { return m.Node == id }) {
			there++
		}
	}
	return openFor < yieldFor && there < k && others >= k
}

// target is the timeline of the present epoch with its ancestry, and whether the primary has reported it.
func target(s fsm.State) (rejoin.Branch, bool) {
	if len(s.Lineage) == 0 {
		return rejoin.Branch{}, false
	}
	last := s.Lineage[len(s.Lineage)-1]
	history, _ := s.LineageHistory(last.Timeline)
	return rejoin.Branch{Timeline: last.Timeline, History: history}, last.Promoted
}

func upstream(s fsm.State, self fsm.NodeID) pgctl.Upstream {
	p := s.Members[s.Primary]
	host, port, err := net.SplitHostPort(p.Postgres)
	if err != nil {
		return pgctl.Upstream{}
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return pgctl.Upstream{}
	}
	return pgctl.Upstream{Name: p.Name, Host: host, Port: n, Epoch: uint64(s.Epoch), Slot: slot(s.Members[self])}
}

// slots names the members for whom the primary keeps log.
func slots(s fsm.State, self fsm.NodeID, away map[fsm.NodeID]bool) []string {
	var out []string
	for id, m := range s.Members {
		if id != self && m.Role == fsm.RoleData && !away[id] {
			out = append(out, slot(m))
		}
	}
	sort.Strings(out)
	return out
}

// enforced turns what rule asks of x into what its Postgres is told. A node outside D enforces nothing: it can't be
// appointed before it enters.
func enforced(s fsm.State, rule fsm.SyncRule, x fsm.NodeID) pgctl.Sync {
	ids, k := fsm.EnforcedBy(rule, x)
	in := false
	for _, id := range rule.Members {
		in = in || id == x
	}
	if !in || k <= 0 {
		return pgctl.Sync{}
	}
	out := pgctl.Sync{K: k}
	for _, id := range ids {
		out.Names = append(out.Names, s.Members[id].Name)
	}
	sort.Strings(out.Names)
	return out
}

// own is what a report is made of besides Postgres' status.
type own struct {
	self      fsm.NodeID
	state     fsm.State
	leaseLive bool // Postgres here may accept writes
	unleased  bool // and only because of a pause
	released  *fsm.Release
	promise   *fsm.Promise
	ending    bool   // the daemon was asked to end in order
	held      string // why the agent can't go on, empty if it can
	flushed   pg.LSN // as primary, when that was last known
	trouble   string // why Postgres does not come up, though it goes on trying
}

// report turns the local Postgres into what the node says of itself in its beats.
func report(have pgctl.Status, o own) failover.Report {
	r := failover.Report{
		Node: o.self, Epoch: o.state.Epoch, Rev: o.state.Rev, Version: o.state.Version, Run: run(have), Timeline: have.Timeline,
		Flush: have.Flush, Replay: have.Replay, InRecovery: have.Run == pg.RunStandby,
		Released: o.released, Promise: o.promise, Problem: o.held,
	}
	if have.Position != nil && !have.Dir.Foreign {
		r.Timeline, r.Flush = have.Position.Timeline, max(have.Position.LSN, have.Flush)
	}
	if r.Flush == 0 && o.state.Primary == o.self {
		r.Flush = o.flushed // with durability async the lag of others is counted from it
	}
	if have.Clone != nil {
		r.Progress = fmt.Sprintf("cloning from %s: %d MiB", have.Clone.Source.Name, have.Clone.Bytes>>20)
		if have.Clone.Note != "" {
			r.Problem = "the clone failed and is tried again: " + have.Clone.Note
		}
	}
	rewinding(&r, have.Rewind)
	released := o.released != nil && o.released.Epoch >= o.state.Epoch
	if r.Problem == "" {
		r.Problem = cmp.Or(o.trouble, notice(have))
	}
	if r.Problem == "" && released && o.state.Primary == o.self && have.Run == pg.RunStandby {
		r.Problem = reading(have)
	}
	if have.Receiver != "" {
		r.Upstream = byName(o.state)[have.Upstream.Name]
	}
	if have.Run == pg.RunPrimary && o.leaseLive && o.state.Primary == o.self && (o.released == nil || o.released.Epoch < o.state.Epoch) {
		r.Serving, r.Unleased = o.state.Epoch, o.unleased
		r.Streaming = streaming(have, bySlot(o.state))
	}
	// One that serves reads meanwhile is stopped for that in good order, also while it starts.
	alone := have.Upstream.Name == "" && (have.Run == pg.RunStandby || have.Run == pg.RunStarting)
	down := have.Run == pg.RunStopped || alone && o.state.Primary == o.self
	r.Restartable = released && !o.ending && down && have.Dir.Problem == "" && have.Dir.Mismatch == "" && have.Clone == nil
	r.Healthy = o.held == "" && r.Run == failover.RunRunning
	return r
}

func byName(s fsm.State) map[string]fsm.NodeID {
	ids := make(map[string]fsm.NodeID, len(s.Members))
	for id, m := range s.Members {
		ids[strings.ToLower(m.Name)] = id
	}
	return ids
}

func streaming(have pgctl.Status, ids map[string]fsm.NodeID) []failover.StreamingMember {
	var out []failover.StreamingMember
	for _, s := range have.Senders {
		if id, ok := ids[s.Slot]; ok && s.Streaming {
			out = append(out, failover.StreamingMember{Node: id, Flush: s.Flush})
		}
	}
	return out
}

// run names the state of Postgres in the words of the rules. A log that is being rebuilt is no log to count on, whatever
// runs on it.
func run(have pgctl.Status) failover.Run {
	if have.Clone != nil || have.Rebuilding {
		return failover.RunCloning
	}
	if have.Dir.Foreign {
		return failover.RunNone // of this cluster there is nothing here
	}
	switch have.Run {
	case pg.RunAbsent:
		return failover.RunNone
	case pg.RunStopped:
		return failover.RunStopped
	case pg.RunFrozen:
		return failover.RunFrozen
	case pg.RunStandby, pg.RunPrimary:
		return failover.RunRunning
	}
	return failover.RunStarting
}

// changed says whether a report differs from the one before in what others decide by, so that it is worth a beat at once.
func changed(a, b failover.Report) bool {
	return a.Run != b.Run || a.Serving != b.Serving || a.Epoch != b.Epoch || a.Rev != b.Rev || a.Problem != b.Problem ||
		(a.Released == nil) != (b.Released == nil) || a.Released != nil && a.Released.Epoch != b.Released.Epoch ||
		(a.Promise == nil) != (b.Promise == nil) || len(a.Streaming) != len(b.Streaming)
}

// rewinding says in the report what a rewind does or why it does not get on.
func rewinding(r *failover.Report, w *pgctl.RewindState) {
	switch {
	case w == nil || w.Over != "":
	case w.Note != "":
		r.Problem = fmt.Sprintf("rewinding to %s failed and is tried again: %s", w.Source.Name, w.Note)
	case w.Running:
		r.Progress = "rewinding to " + w.Source.Name
	}
}

// copies is what self, as primary to be, knows of the other members' logs: what they said of themselves within fresh, and
// the log of the primary before it. What another node has of that one's timeline, the primary itself had flushed before it
// sent it (docs/decisions/0006); its disk counts although it is down, because it is a member of D and elections count on
// it. Only the direct predecessor: whoever was primary earlier may have been rebuilt since.
//
// For a survivor that shall serve reads fresh is without limit: what K members of D had on disk is as safe as what was
// acknowledged, and no later change of D or of the primary loses it (docs/decisions/0008).
func copies(s fsm.State, self fsm.NodeID, seen map[fsm.NodeID]failover.Sighting, fresh time.Duration) []pgctl.Copy {
	var out []pgctl.Copy
	for id, sight := range seen {
		m, member := s.Members[id]
		r := sight.Report
		if id == self || !member || sight.Age > fresh || r.Run != failover.RunRunning && r.Run != failover.RunStopped || r.Flush == 0 {
			continue
		}
		out = append(out, pgctl.Copy{Name: m.Name, Timeline: r.Timeline, LSN: r.Flush})
	}
	if p, ok := predecessor(s, self); ok {
		out = append(out, pgctl.Copy{Name: s.Members[p.Node].Name, Timeline: p.Timeline, LSN: math.MaxUint64})
	}
	slices.SortFunc(out, func(a, b pgctl.Copy) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// predecessor is the last assignment of another node, if that is still a member.
func predecessor(s fsm.State, self fsm.NodeID) (fsm.Lineage, bool) {
	for _, l := range slices.Backward(s.Lineage) {
		if l.Node != self {
			_, member := s.Members[l.Node]
			return l, member
		}
	}
	return fsm.Lineage{}, false
}

// reading is what people should know of an old primary that nobody replaced.
func reading(have pgctl.Status) string {
	if have.Gated {
		return "it has lost its lease and runs read-only; clients are kept out: others are not known to hold all that they could read here"
	}
	return "it has lost its lease and serves reads only"
}

// notice is what people should know of a Postgres that runs.
func notice(have pgctl.Status) string {
	switch {
	case have.Run == pg.RunPrimary && have.Gated:
		return "clients are kept out until enough other members hold what they could read here"
	default:
		return have.Corrected
	}
}

// lostWhatElectedIt: the log of an appointed node, not yet promoted, ends before the position for which it was elected,
// as after a loss of power that took what was not flushed. Somebody else may have what is missing.
func lostWhatElectedIt(state fsm.State, have pgctl.Status) bool {
	last := state.Lineage[len(state.Lineage)-1]
	return !last.Promoted && have.Position != nil && have.Position.Timeline < last.Timeline && have.Position.LSN < last.SwitchLSN
}

// closeBehind says that the wished candidate, or somebody if none was named, streams with next to nothing missing.
func closeBehind(state fsm.State, have pgctl.Status) bool {
	const near = 1 << 20 // bytes; sent within milliseconds
	for _, s := range have.Senders {
		wished := state.Wish.To == "" || bySlot(state)[s.Slot] == state.Wish.To
		if wished && s.Streaming && s.Flush+near >= have.Flush {
			return true
		}
	}
	return false
}

// copiesAt counts the members of D, self included, that have flushed to barrier, and those that are there at all.
func copiesAt(have pgctl.Status, ids map[string]fsm.NodeID, self fsm.NodeID, rule fsm.SyncRule, barrier pg.LSN) (flushed, there int) {
	count := func(flush pg.LSN) {
		there++
		if flush >= barrier {
			flushed++
		}
	}
	if rule.Has(self) && have.Run == pg.RunPrimary {
		count(have.Flush)
	}
	for _, s := range have.Senders {
		if id, ok := ids[s.Slot]; ok && id != self && s.Streaming && rule.Has(id) {
			count(s.Flush)
		}
	}
	return flushed, there
}

// mayRestart says what speaks against a restart now, empty for nothing. One node at a time, the lowest id first, and
// only while as many others stream as each commit waits for (DETAILS 31): a primary's clients then find all that was
// written on enough others, and a standby's absence holds up nobody. insists: commits may wait for it (docs/decisions/0021).
func mayRestart(s fsm.State, self fsm.NodeID, serves, announced, insists bool, seen map[fsm.NodeID]failover.Sighting) string {
	if why := inTheWay(s, self, serves, announced, seen); why != "" || insists {
		return why
	}
	why := missingCopies(s, self, seen)
	if why != "" && s.Primary != self {
		why += "; a switchover to this node and back restarts both"
	}
	return why
}

// ordering is what the reports of the others say about the order.
func ordering(state fsm.State, self fsm.NodeID, seen map[fsm.NodeID]failover.Sighting) pgctl.Ordering {
	o := pgctl.Ordering{Primary: state.Primary == self, Standbys: map[string]pg.HotStandby{}}
	fresh := time.Duration(state.Config.Settings.FailoverAfterMS) * time.Millisecond
	for id, m := range state.Members {
		s, heard := seen[id]
		if id == self || !heard || m.Role != fsm.RoleData {
			continue
		}
		if id == state.Primary {
			o.Upstream = s.Report.Config.Hot // an old one is better than none
		} else if s.Age <= fresh {
			o.Standbys[m.Name] = s.Report.Config.Hot
		}
	}
	return o
}

// mayReinit is mayRestart for the replacement of a standby's data directory, whose log then counts for nothing until it has
// caught up. force: though commits, or an election, may need it meanwhile.
func mayReinit(s fsm.State, self fsm.NodeID, force, announced bool, seen map[fsm.NodeID]failover.Sighting) string {
	if s.Primary == self {
		return "it is the primary, of which the copies are made"
	}
	if why := inTheWay(s, self, false, announced, seen); why != "" || force {
		return why
	}
	return missingCopies(s, self, seen)
}

// inTheWay says what else is going on.
func inTheWay(s fsm.State, self fsm.NodeID, serves, announced bool, seen map[fsm.NodeID]failover.Sighting) string {
	if s.Wish != nil {
		return fmt.Sprintf("a %s is pending", s.Wish.Kind)
	}
	fresh := time.Duration(s.Config.Settings.FailoverAfterMS) * time.Millisecond
	for id, m := range s.Members {
		other := seen[id]
		if id != self && other.Report.Config.Restart && other.Age <= fresh && (!announced || id < self) {
			return m.Name + " is being restarted; one at a time"
		}
	}
	p := seen[s.Primary]
	if s.Primary == self && !serves {
		return "it is primary and does not serve"
	}
	if s.Primary != self && (p.Age > fresh || p.Report.Serving != s.Epoch) {
		return "the primary is not heard to serve"
	}
	return ""
}

// missingCopies says that commits depend on this node.
func missingCopies(s fsm.State, self fsm.NodeID, seen map[fsm.NodeID]failover.Sighting) string {
	others := 0
	for _, m := range seen[s.Primary].Report.Streaming {
		if m.Node != self && s.Sync.Has(m.Node) {
			others++
		}
	}
	if need := s.Sync.Copies - 1; others < need && (s.Sync.Has(self) || s.Primary == self) {
		return fmt.Sprintf("commits need %d other nodes that stream and only %d would", need, others)
	}
	return ""
}

func bySlot(s fsm.State) map[string]fsm.NodeID {
	ids := make(map[string]fsm.NodeID, len(s.Members))
	for id, m := range s.Members {
		ids[slot(m)] = id
	}
	return ids
}

func slot(m fsm.Member) string { return pgctl.SlotName(string(m.ID), m.Name) }
