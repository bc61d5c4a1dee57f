package lease

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/fsm"
)

// The world is three nodes, each a voter and, when appointed, a holder, and whoever happens to be Raft leader. Time is
// real time in ticks. n0's clock is as slow as allowed, the others' and the leader's as fast, and the lease is such that
// it lasts exactly two ticks of real time on n0 and busies a fast voter for exactly two: the real arithmetic has no slack
// to hide a mistake in.
const (
	nodes    = 3
	slowTick = 990 * time.Millisecond
	fastTick = 1010 * time.Millisecond
	longL    = 2 * slowTick // 2 ticks for n0; Wait(longL) == 2*fastTick
	shortL   = 1 * slowTick
	maxBeats = 4
	maxEpoch = 3
	maxElect = 2
)

// bounds is what one search may do.
type bounds struct {
	ticks, beats, epochs, restarts, releases int
	electorates                              int  // how often the electorate changes, by one voter each
	shorten                                  bool // failover_after may be lowered once
	double                                   bool // beats arrive again, and when they can no longer count
	freshLmax                                bool // voters begin without a durable Lmax
}

// mutation switches off one mechanism in the world around the real voters and holders.
type mutation string

const (
	none               mutation = ""
	sealNotDurable     mutation = "seal not durable"
	lmaxNotDurable     mutation = "Lmax not durable"
	vouchForgotten     mutation = "lastVouch not reset on restart"
	waitFromSend       mutation = "wait computed from send"
	waitTooShort       mutation = "wait shorter than L"
	appointWithoutSeal mutation = "appoint without seal"
	releaseNotDurable  mutation = "release not durable"
	releaseGoesOn      mutation = "release without stopping"
	seqReuse           mutation = "seq reused after a restart"
	waitByConfig       mutation = "L is configuration: the leader waits by its own"
	busyByConfig       mutation = "L is configuration: a restarted voter is busy by its own"
	minorityLease      mutation = "vouches of a minority suffice"
	electorateUnshown  mutation = "the electorate changes before the primary shows the last change for the length of a lease"
	electorateEarly    mutation = "the electorate changes when the primary has shown the last change for half the length of a lease"
	electorateByTwo    mutation = "the electorate changes by two voters"
	electorateStale    mutation = "the leader counts seals under an older electorate"
)

// message is a beat; once sent it may arrive any number of times, at any later time, or never.
type message struct {
	beat  Beat
	yes   uint8 // bit per voter that vouched: those replies may arrive any time, any number of times
	owner int
}

// fact is what the leader knows of one voter's seal of one epoch.
type fact struct {
	known bool
	over  time.Duration // on the leader's clock: the wait is over
}

type node struct {
	voter    Voter
	disk     VoterRecord
	pending  bool // the voter's mutex is held over the write of asked
	sealing  fsm.Epoch
	holder   Holder
	inc      uint64
	seq      uint64
	applied  int       // epochs applied, durable (rule 2)
	elect    int       // version of the electorate applied, durable
	released fsm.Epoch // as the process knows it
	onDisk   fsm.Epoch // released, as the disk knows it
	deadline time.Duration
}

type world struct {
	b        bounds
	m        mutation
	tick     int
	log      [maxEpoch + 1]int // primary of each epoch
	latest   int
	short    bool // failover_after was lowered
	restarts int
	releases int
	nodes    [nodes]node
	sent     [maxBeats]message
	nsent    int
	facts    [nodes][maxEpoch + 1]fact
	gone     [maxEpoch + 1]bool // a release of the epoch was sent

	voters    [maxElect + 1]uint8 // the electorates, by version
	elect     int                 // the newest
	unshown   bool                // no beat of the present primary has shown it to the leader
	shownFrom time.Duration       // when the first did, on the leader's clock
}

func name(i int) fsm.NodeID { return fsm.NodeID("n0n1n2"[2*i : 2*i+2]) }

// electorate is the set of the voters with these bits.
func electorate(set uint8) []fsm.NodeID {
	var ids []fsm.NodeID
	for i := range nodes {
		if set>>i&1 == 1 {
			ids = append(ids, name(i))
		}
	}
	return ids
}

func newWorld(b bounds, m mutation) *world {
	w := &world{b: b, m: m, latest: 1, shownFrom: -time.Hour}
	w.voters[0] = 1<<nodes - 1
	for i := range w.nodes {
		n := &w.nodes[i]
		n.disk = VoterRecord{ID: name(i), Lmax: longL}
		if b.freshLmax {
			n.disk.Lmax = 0
		}
		n.voter = *NewVoter(n.disk, 0)
		n.voter.busyUntil = 0 // it started long ago
		n.inc = uint64(10 * (i + 1))
		n.holder = *NewHolder(n.inc)
		n.applied = 1
	}
	return w
}

// clock is node i's own time; the leader is number nodes.
func (w *world) clock(i int) time.Duration {
	if i == 0 {
		return time.Duration(w.tick) * slowTick
	}
	return time.Duration(w.tick) * fastTick
}

// clone shares nothing mutable with w.
func (w *world) clone() *world {
	c := *w
	for i := range c.nodes {
		h := &c.nodes[i].holder
		h.pending = slices.Clone(h.pending)
		for j := range h.pending {
			h.pending[j].yes = slices.Clone(h.pending[j].yes)
		}
	}
	return &c
}

// violation names a node inside its lease although another was appointed. That is stronger than S1: the newest primary
// counts as a writer from the commit of its Appoint.
func (w *world) violation() string {
	for i := range w.nodes {
		if w.clock(i) < w.nodes[i].deadline && w.log[w.latest] != i {
			return fmt.Sprintf("n%d is inside its lease at tick %d though n%d has epoch %d", i, w.tick, w.log[w.latest], w.latest)
		}
	}
	return ""
}

// key is what of the state can still make a difference: instants that are over count as now, messages that can no longer
// extend a lease are gone, and n1 and n2, whose clocks are alike, are told apart by their roles only.
func (w *world) key(buf []byte, order [nodes]int) []byte {
	put := func(v int64) { buf = binary.AppendVarint(buf, v) }
	flag := func(b bool) {
		if b {
			put(1)
		} else {
			put(0)
		}
	}
	var as [nodes]int64
	for i, j := range order {
		as[j] = int64(i)
	}
	put(int64(w.tick))
	put(int64(w.latest))
	flag(w.short)
	put(int64(w.restarts))
	put(int64(w.releases))
	put(int64(w.nsent))
	put(int64(w.elect))
	flag(w.unshown)
	if w.elect < w.b.electorates {
		put(int64(min(max(0, w.clock(nodes)-w.shownFrom), Wait(longL))))
	}
	for v := range w.elect + 1 {
		for _, i := range order {
			flag(w.voters[v]>>i&1 == 1)
		}
	}
	for e := 1; e <= w.latest; e++ {
		put(as[w.log[e]])
		flag(w.gone[e])
	}
	for _, i := range order {
		buf = w.voterKey(i, buf)
		buf = w.holderKey(i, buf, order)
		if f := w.facts[i][w.latest]; f.known {
			put(int64(max(f.over, w.clock(nodes))))
		} else {
			put(-1)
		}
	}
	for k := range w.nsent {
		if m := &w.sent[k]; w.counts(m) {
			put(int64(k))
			put(as[m.owner])
			for _, i := range order {
				flag(m.yes&(1<<i) != 0)
			}
			put(int64(m.beat.Incarnation - uint64(10*m.owner)))
			put(int64(m.beat.Seq))
			put(int64(m.beat.L))
			put(int64(m.beat.Epoch))
		}
	}
	return buf
}

func (w *world) voterKey(i int, buf []byte) []byte {
	n, now := &w.nodes[i], w.clock(i)
	v := &n.voter
	for _, x := range []int64{int64(v.durable.Sealed), int64(v.durable.Lmax), int64(v.asked.Sealed), int64(v.asked.Lmax),
		int64(max(v.busyUntil, now)), int64(n.disk.Sealed), int64(n.disk.Lmax), int64(n.sealing)} {
		buf = binary.AppendVarint(buf, x)
	}
	if w.m == waitByConfig || w.m == appointWithoutSeal {
		buf = binary.AppendVarint(buf, int64(v.lastVouch))
		buf = binary.AppendVarint(buf, int64(v.lastEpoch))
	}
	if n.pending {
		return append(buf, 1)
	}
	return append(buf, 0)
}

func (w *world) holderKey(i int, buf []byte, order [nodes]int) []byte {
	n, now := &w.nodes[i], w.clock(i)
	h := &n.holder
	past := func(t time.Duration) int64 {
		if t <= now {
			return 0
		}
		return int64(t)
	}
	for _, x := range []int64{int64(n.applied), int64(n.elect), int64(n.released), int64(n.onDisk), past(n.deadline), int64(h.epoch),
		int64(h.barred), past(h.until)} {
		buf = binary.AppendVarint(buf, x)
	}
	if w.m == seqReuse {
		buf = binary.AppendVarint(buf, int64(n.seq))
	}
	for _, s := range h.pending {
		if !h.holding || s.at+s.l <= now {
			continue
		}
		buf = binary.AppendVarint(buf, int64(s.seq))
		buf = binary.AppendVarint(buf, int64(s.at))
		for _, j := range order {
			bits := byte(0)
			if slices.Contains(s.yes, name(j)) {
				bits = 1
			}
			if slices.Contains(s.voters, name(j)) {
				bits |= 2
			}
			buf = append(buf, bits)
		}
	}
	return append(buf, 0xff)
}

// counts says whether a vouch for m could still extend its sender's lease.
func (w *world) counts(m *message) bool {
	n := &w.nodes[m.owner]
	h, now := &n.holder, w.clock(m.owner)
	if !h.holding || h.incarnation != m.beat.Incarnation || h.epoch != m.beat.Epoch {
		return false
	}
	return slices.ContainsFunc(h.pending, func(s sent) bool { return s.seq == m.beat.Seq && s.at+s.l > max(now, h.until) })
}
