package main

import (
	"bytes"
	"fmt"
	"math/bits"
	"unsafe"
)

// The cluster is three nodes, each a voter and a data node, and whoever leads Raft.
const (
	nodes    = 3
	maxLog   = 6
	maxWAL   = 2
	maxEpoch = 3
	allMask  = 1<<nodes - 1
)

// entry is S after one Raft entry: epoch, primary, the epoch in which the primary's timeline began, D and K.
type entry struct{ e, p, tl, d, k uint8 }

// position is the end of a log: the timeline of its last record, and its length.
type position struct{ tl, len uint8 }

func (a position) beyond(b position) bool { return a.tl > b.tl || a.tl == b.tl && a.len > b.len }

// node is one node. S (applied), sealed, cut, rel, P (pd, pk) with its epoch pe and the promise are durable; so is the log.
type node struct {
	applied, sealed, cut, rel    uint8
	busy                         uint8 // for how long yet its vouches bind it
	lease                        uint8
	beatE, beatAge, vouches      uint8 // its last beat; epoch 0: none that counts
	serving                      uint8 // the epoch as whose primary its Postgres runs; 0: it does not
	rebuild                      uint8 // its log is being made anew
	wal                          [maxWAL]uint8
	len                          uint8
	pd, pk, pe, barrier, promise uint8 // promise: rev + 1
	view                         [nodes]uint8
}

// St is everything. The leader's facts are of the epoch that it has applied.
type St struct {
	n                           uint8
	log                         [maxLog]entry
	nodes                       [nodes]node
	offerRev, offerD, offerK    uint8 // the newest promise that was sent; rev + 1
	leader                      uint8 // what it has applied
	sealed                      uint8 // who sealed, as the leader knows
	left                        [nodes]uint8
	shown                       uint8 // whose position it has
	pos                         [nodes]position
	released                    uint8                  // epochs
	final                       [maxEpoch + 1]position // where the log of each released epoch ended
	restarts, reclones, changes uint8
	accepts                     uint8 // how often an operator accepted a loss
	ack                         [maxWAL]uint8
	acked                       uint8
	bad                         uint8
}

// Cfg bounds a search and switches mechanisms off.
type Cfg struct {
	Name                                        string
	L, MaxEpoch, MaxLog, WAL                    int
	MaxRestart, MaxReclone, MaxChanges          int
	MaxAccept                                   int // an operator may have a node appointed that lacks acknowledged commits
	D0, K0                                      uint8
	Release, Reapp                              bool
	NoGuard                                     bool // nothing stops a Postgres whose lease is over: S3 has to hold all the same
	SealVolatile, BusyNotReset, NoWait, NoSeal  bool
	NotFrozen, ReleaseVolatile, ReleaseGoesOn   bool
	CutVolatile, PositionBeforeCut, FewPos      bool
	UnreleasedCounts, StaleRelease              bool
	StalePositions, StaleSeals, EpochCAS        bool
	NoBarrier, PromiseMelts, LeaveFirst         bool
	RelaxToFence, RebuildReports, ReturnPgFirst bool
	AcceptLeavesOut, AcceptNoWait               bool
}

// M is one variant.
type M struct{ c Cfg }

func count(set uint8) int        { return bits.OnesCount8(set) }
func has(set uint8, x int) bool  { return set>>x&1 == 1 }
func majority(set uint8) bool    { return count(set) > nodes/2 }
func (s *St) last() *entry       { return &s.log[s.n-1] }
func (s *St) seen(x int) *entry  { return &s.log[s.nodes[x].applied] }
func (s *St) goneFor(e int) bool { return s.released>>e&1 == 1 }

func (n *node) end() position {
	if n.len == 0 {
		return position{}
	}
	return position{tl: n.wal[n.len-1], len: n.len}
}

func (n *node) cutTo(length uint8) {
	for i := length; i < maxWAL; i++ {
		n.wal[i] = 0
	}
	n.len = length
}

// begins says whether the first la records of a are the first of b.
func begins(a *[maxWAL]uint8, la uint8, b *[maxWAL]uint8, lb uint8) bool {
	for i := range la {
		if i >= lb || a[i] != b[i] {
			return false
		}
	}
	return true
}

func (m *M) Init() []St {
	var s St
	s.n = 1
	s.log[0] = entry{e: 1, p: 0, tl: 1, d: m.c.D0, k: m.c.K0}
	p := &s.nodes[0]
	p.serving, p.pe = 1, 1
	p.pd, p.pk = enforced(m.c.D0, m.c.K0, 0)
	return []St{s}
}

// accepts says that node x would take a write now.
func (m *M) accepts(s *St, x int) bool {
	n := &s.nodes[x]
	return n.serving > 0 && (n.lease > 0 || m.c.NoGuard || m.c.NotFrozen)
}

// Check: S1, from the commit of an Appoint on the new primary counts as a writer. S3, the newest primary has every
// acknowledged commit at every instant, though it may not know yet that it is primary. Whoever accepts writes has them too.
func (m *M) Check(s *St) string {
	switch s.bad {
	case 1:
		return "S3: an older primary acknowledged what the newest does not have"
	case 2:
		return "S1: acknowledged after another was appointed"
	}
	w := int(s.last().p)
	if !begins(&s.ack, s.acked, &s.nodes[w].wal, s.nodes[w].len) {
		return "S3: acknowledged commit missing from the newest primary"
	}
	if m.c.NoGuard {
		return ""
	}
	for x := range nodes {
		if x != w && m.accepts(s, x) {
			return fmt.Sprintf("S1: n%d accepts writes, and n%d is primary", x, w)
		}
	}
	return ""
}

// Canon drops what can make no difference any more, and takes n1 and n2 in one order.
func (m *M) Canon(s *St) {
	if int(s.last().e) >= m.c.MaxEpoch { // nobody will be appointed
		s.leader, s.sealed, s.shown, s.final = 0, 0, 0, [maxEpoch + 1]position{}
		s.left, s.pos = [nodes]uint8{}, [nodes]position{}
		for x := range s.nodes {
			s.nodes[x].busy = 0
		}
	}
	t := *s
	t.nodes[1], t.nodes[2] = s.nodes[2], s.nodes[1]
	t.left[1], t.left[2] = s.left[2], s.left[1]
	t.pos[1], t.pos[2] = s.pos[2], s.pos[1]
	t.sealed, t.shown, t.offerD = swapped(s.sealed), swapped(s.shown), swapped(s.offerD)
	for i := range s.n {
		t.log[i].d = swapped(s.log[i].d)
		if p := s.log[i].p; p > 0 {
			t.log[i].p = 3 - p
		}
	}
	for x := range t.nodes {
		n := &t.nodes[x]
		n.vouches, n.pd = swapped(n.vouches), swapped(n.pd)
		n.view[1], n.view[2] = n.view[2], n.view[1]
	}
	if bytes.Compare(raw(&t), raw(s)) < 0 {
		*s = t
	}
}

func raw(s *St) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(s)), unsafe.Sizeof(*s)) }

func swapped(set uint8) uint8 { return set&1 | set&2<<1 | set&4>>1 }

// Show prints a state for a trace. Where nodes are exchanged by Canon, later steps of a trace use the other names.
func (m *M) Show(s *St) string {
	r := "STATE"
	for i := range s.n {
		x := s.log[i]
		r += fmt.Sprintf(" [e%d n%d tl%d D%03b K%d]", x.e, x.p, x.tl, x.d, x.k)
	}
	for i := range s.nodes {
		n := &s.nodes[i]
		r += fmt.Sprintf(" | n%d applied %d sealed %d cut %d rel %d busy %d lease %d serves %d wal %v P=(%03b,%d)", i, n.applied, n.sealed,
			n.cut, n.rel, n.busy, n.lease, n.serving, n.wal[:n.len], n.pd, n.pk)
	}
	return r + fmt.Sprintf(" | leader %d seals %03b left %v shown %03b %v | acked %v", s.leader, s.sealed, s.left, s.shown, s.pos, s.ack[:s.acked])
}
