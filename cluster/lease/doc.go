// Package lease holds the two small state machines behind S1, "never two nodes that accept writes at one instant": the
// Voter, which vouches for a primary or promises never to do so again, and the Holder, which turns a majority of vouches
// of one beat into a lease. Both are values without I/O; cluster/beat moves their messages and persists their records.
//
// The package must never read a clock, a random number, a file or the network: every instant is handed in, as time since
// boot on the caller's own clock. Only the rates of those clocks have to agree, to within rho = 1 %. A safety rule here
// changes only together with its model.
package lease

import (
	"time"

	"github.com/quorate/quorate/fsm"
)

// MaxL is the longest lease a voter vouches for. failover_after ends at 60 s, L at 48 s; a longer L can only be a
// mistake, and it would block every failover for as long.
const MaxL = time.Minute

// Clock rates may differ from real time by rho = 1 %. A lease of L on a holder whose clock is slow lasts L/(1-rho), in
// which a fast clock counts L(1+rho)/(1-rho) = L*rateNum/rateDen.
const (
	rateNum = 101
	rateDen = 99
)

// Beat is what a voter needs to know of a primary's request to vouch.
type Beat struct {
	Epoch       fsm.Epoch
	Node        fsm.NodeID
	Incarnation uint64        // random for each start of the sender, so that no seq is ever used twice
	Seq         uint64        // grows with every beat of one incarnation
	L           time.Duration // the length of the lease asked for, from the send time
	Electorate  uint64        // the version the sender counts under
}

// VoterRecord is what a voter must have on disk before it speaks of it. The zero Sealed and Lmax are those of a voter
// that never promised anything; nothing but the absence of a record may be taken for them.
type VoterRecord struct {
	ID     fsm.NodeID    `json:"id"`
	Sealed fsm.Epoch     `json:"sealed"` // never again vouches for an epoch <= Sealed
	Lmax   time.Duration `json:"lmax"`   // never vouched for a longer lease than this, in nanoseconds
}

// Wait is how long a vouch for a lease of length l binds the voter that gave it, on the voter's clock, rounded up:
// l(1+rho)/(1-rho).
func Wait(l time.Duration) time.Duration {
	return (l*rateNum + rateDen - 1) / rateDen
}

// ceilMS rounds up to milliseconds, the unit in which seal replies travel.
func ceilMS(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1) / time.Millisecond * time.Millisecond
}
