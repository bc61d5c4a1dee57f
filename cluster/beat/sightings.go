package beat

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// maxRetired bounds the earlier incarnations remembered per node.
const maxRetired = 8

// sightings is what other nodes last said of themselves, and when.
type sightings struct {
	lock   sync.Mutex
	nodes  map[fsm.NodeID]*sighted
	sealed map[fsm.NodeID]fsm.Epoch // highest seal in a node's replies to us
}

type sighted struct {
	at          time.Duration // receipt, on the clock of Boot
	incarnation uint64
	seq         uint64
	report      failover.Report
	retired     []uint64 // earlier incarnations, whose late beats are dropped
}

func newSightings() *sightings {
	return &sightings{nodes: make(map[fsm.NodeID]*sighted), sealed: make(map[fsm.NodeID]fsm.Epoch)}
}

// record keeps msg, received at now, if it is newer than what is known. current is false for a beat of an earlier start
// of the sender. changed says that something decisions read is new. Incarnations are random and have no order: one that
// is new is taken for later, and the one before it as dead, until its successor has been silent for longer than silence.
func (t *sightings) record(now time.Duration, msg beatMessage, silence time.Duration) (current, changed bool) {
	t.lock.Lock()
	defer t.lock.Unlock()
	old := t.nodes[msg.Node]
	if old == nil {
		t.nodes[msg.Node] = &sighted{at: now, incarnation: msg.Incarnation, seq: msg.Seq, report: msg.Report}
		return true, true
	}
	if msg.Incarnation == old.incarnation {
		if msg.Seq <= old.seq {
			return true, false
		}
		changed = matters(old.report, msg.Report)
		old.at, old.seq, old.report = now, msg.Seq, msg.Report
		return true, changed
	}
	if slices.Contains(old.retired, msg.Incarnation) && now-old.at <= silence {
		return false, false
	}
	old.retired = append(old.retired, old.incarnation)
	if len(old.retired) > maxRetired {
		old.retired = old.retired[1:]
	}
	old.at, old.incarnation, old.seq, old.report = now, msg.Incarnation, msg.Seq, msg.Report
	return true, true
}

// matters says whether a and b differ in what decisions wait for. Positions and ages always differ and are read at every
// tick anyway.
func matters(a, b failover.Report) bool {
	return a.Epoch != b.Epoch || a.Rev != b.Rev || a.Run != b.Run || a.Healthy != b.Healthy || a.Serving != b.Serving ||
		a.InRecovery != b.InRecovery || a.Restartable != b.Restartable || a.Upstream != b.Upstream ||
		!sameRelease(a.Released, b.Released) || !samePromise(a.Promise, b.Promise) ||
		!maps.Equal(streaming(a), streaming(b))
}

func sameRelease(a, b *fsm.Release) bool {
	return a == b || a != nil && b != nil && *a == *b
}

func samePromise(a, b *fsm.Promise) bool {
	return a == b || a != nil && b != nil && a.Node == b.Node && a.Rev == b.Rev && sameRule(&a.Rule, &b.Rule)
}

func sameRule(a, b *fsm.SyncRule) bool {
	return a == b || a != nil && b != nil && a.Copies == b.Copies && slices.Equal(a.Members, b.Members)
}

func streaming(r failover.Report) map[fsm.NodeID]bool {
	set := make(map[fsm.NodeID]bool, len(r.Streaming))
	for _, m := range r.Streaming {
		set[m.Node] = true
	}
	return set
}

// answered notes the seal in a reply; it reports whether it is a new one.
func (t *sightings) answered(node fsm.NodeID, sealed fsm.Epoch) bool {
	t.lock.Lock()
	defer t.lock.Unlock()
	if sealed <= t.sealed[node] {
		return false
	}
	t.sealed[node] = sealed
	return true
}

// all are the sightings of members at now, with their ages.
func (t *sightings) all(now time.Duration, members map[fsm.NodeID]fsm.Member) map[fsm.NodeID]failover.Sighting {
	t.lock.Lock()
	defer t.lock.Unlock()
	out := make(map[fsm.NodeID]failover.Sighting, len(t.nodes)+1)
	for id, n := range t.nodes {
		if _, member := members[id]; member {
			out[id] = failover.Sighting{Age: max(0, now-n.at), Report: n.report, Sealed: t.sealed[id]}
		}
	}
	return out
}

// Sightings are what every member, this node included, last said of itself, with ages as of the call. A node never heard
// of has none. The reports in it must not be changed.
func (s *Service) Sightings() map[fsm.NodeID]failover.Sighting {
	own := s.report()
	out := s.seen.all(s.Boot(), s.State().Members)
	out[s.Self] = failover.Sighting{Report: own, Sealed: fsm.Epoch(s.voter.sealed.Load())}
	return out
}

// report is this node's report with the ages of its sightings, rounded down: a primary must not look more silent than it
// is. A member never heard of has been silent for as long as this process listens; without that, a primary that does not
// come back when the whole cluster was restarted would never be missed.
func (s *Service) report() failover.Report {
	r := s.Report()
	r.Node = s.Self
	now, members := s.Boot(), s.State().Members
	seen := s.seen.all(now, members)
	r.Sightings = make([]failover.Age, 0, len(members))
	for _, id := range slices.Sorted(maps.Keys(members)) {
		age := now - s.born
		if heard, ok := seen[id]; ok {
			age = heard.Age
		}
		if id != s.Self {
			r.Sightings = append(r.Sightings, failover.Age{Node: id, MS: age.Milliseconds()})
		}
	}
	return r
}
