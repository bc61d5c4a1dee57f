// Package fsm is the replicated truth of a quorate cluster: who is a member, who is primary at which epoch, which nodes
// hold every acknowledged commit. State.Apply is what every node computes from the same Raft log.
//
// It must never look at a clock, a random number, the network, a file or a logger, and must never panic on input: two
// nodes that apply the same commands must hold the same bytes, for ever.
package fsm

import (
	"github.com/quorate/quorate/internal/pg"
)

// NodeID is a member's identity: the random UUID made together with its Raft directory. The disk is the identity; a wiped
// node is another member. The name an operator uses is Member.Name.
type NodeID string

// Epoch counts primary assignments. There is one primary per epoch and one timeline per epoch. 0 means that no primary
// was ever appointed.
type Epoch uint64

// Role says what a member is for.
type Role string

// The roles of a member.
const (
	RoleData    Role = "data"    // manages a Postgres
	RoleWitness Role = "witness" // votes, has no Postgres
)

// Member is what the cluster knows of one node, apart from its health.
type Member struct {
	ID       NodeID `json:"id"`
	Name     string `json:"name"`
	Role     Role   `json:"role"`
	Addr     string `json:"addr"`               // cluster.listen as peers dial it, host:port
	Postgres string `json:"postgres,omitempty"` // postgresql.connect_address, host:port; empty for a witness
	API      string `json:"api,omitempty"`      // restapi.connect_address, host:port, with https:// before it where that is spoken
	Priority int    `json:"priority,omitempty"` // breaks ties between equal positions; higher is preferred
	NoVote   bool   `json:"no_vote,omitempty"`  // non-voting standby
	// NoFailover excludes the node from elections; it may still stream.
	NoFailover bool `json:"no_failover,omitempty"`
	// Leaving says that an operator took the node out: it loses its copies' weight, its vote and then its membership, one
	// step at a time. There is no way back but to join anew.
	Leaving bool `json:"leaving,omitempty"`
	// Major is the version of its PostgreSQL, 0 for a witness: another one can't follow or be followed.
	Major int `json:"major,omitempty"`
}

// Electorate is the set whose majority vouches, seals and thereby decides who may write. It changes by exactly one
// member per version (lease.md rule 3).
type Electorate struct {
	Voters  []NodeID `json:"voters"` // sorted
	Version uint64   `json:"version"`
}

// SyncRule is R = (D, K): a commit is acknowledged when Copies of Members have it, the primary's own copy counted. D
// always contains the primary, except with durability async, where it is empty and Copies is 0 (DETAILS 19).
type SyncRule struct {
	Members []NodeID `json:"members"` // D, sorted
	Copies  int      `json:"copies"`  // K
}

// Durability is the replicated choice of what an acknowledged commit means.
type Durability string

// The durabilities.
const (
	DurabilityQuorum Durability = "quorum"
	DurabilityAsync  Durability = "async"
)

// Settings are the typed parts of the replicated configuration that rules read.
type Settings struct {
	FailoverAfterMS int64      `json:"failover_after_ms"` // silence after which the primary is replaced
	Durability      Durability `json:"durability"`
	Strict          bool       `json:"strict"`
	// MaximumLag is how many bytes of log, by the primary's last report, a standby may lack and still be appointed with
	// durability async.
	MaximumLag int64 `json:"maximum_lag_on_failover,omitempty"`
}

// Config is the replicated configuration document; only Settings is understood here.
type Config struct {
	Version  uint64          `json:"version"`
	Doc      string          `json:"doc"`
	Settings Settings        `json:"settings"`
	Earlier  []ConfigVersion `json:"earlier"` // the documents before, oldest first
}

// Lineage is one assignment's place in WAL history. Promoted is false while Timeline and SwitchLSN are what the Appoint
// predicted, true once the primary reported the real ones. A re-appointment keeps the timeline of its predecessor.
type Lineage struct {
	Epoch     Epoch       `json:"epoch"`
	Node      NodeID      `json:"node"`
	Timeline  pg.Timeline `json:"timeline"`
	Parent    pg.Timeline `json:"parent"`     // 0 for the first
	SwitchLSN pg.LSN      `json:"switch_lsn"` // where Timeline left Parent
	Promoted  bool        `json:"promoted"`
	// Async says that commits which its predecessor acknowledged may be missing since: nothing was promised when this node was
	// appointed in its place, or an operator accepted the loss.
	Async bool `json:"async,omitempty"`
}

// Adoption is a data directory that was there before the cluster, and what becomes of those of the other members.
type Adoption struct {
	Node     NodeID      `json:"node"` // whose directory it is: the first primary
	SystemID pg.SystemID `json:"system_id"`
	Timeline pg.Timeline `json:"timeline"` // that the first primary writes
	// Parent is where a directory that was a standby leaves its log for Timeline, which is new then; 0: Timeline is that
	// of the log already.
	Parent  pg.Timeline `json:"parent,omitempty"`
	End     pg.LSN      `json:"end"`               // of its log when it was chosen, or later
	History pg.History  `json:"history,omitempty"` // ancestors of the log's timeline, oldest first
	Keep    []NodeID    `json:"keep,omitempty"`    // members with a copy of it that may go on as it is
	Aside   []NodeID    `json:"aside,omitempty"`   // members with other data, which is kept under another name
}

// Wish is an operator's request that waits to be carried out.
type Wish struct {
	ID    string `json:"id"`
	Kind  string `json:"kind"`         // WishSwitchover or WishFailover
	To    NodeID `json:"to,omitempty"` // empty: the best standby
	Epoch Epoch  `json:"epoch"`        // the epoch it was made for; void under another
	// Approved is set by the leader once the candidate was found fit; only then does the primary stop.
	Approved bool `json:"approved"`
	// Loss, of a failover, is the LossToken of what an operator accepted to lose by it; empty: nothing.
	Loss string `json:"loss,omitempty"`
}

// Event is one line of the cluster's recent history; Wall is for display only.
type Event struct {
	Rev   uint64 `json:"rev"`
	Epoch Epoch  `json:"epoch"`
	Wall  int64  `json:"wall"` // unix milliseconds
	By    string `json:"by"`   // rule or person
	Text  string `json:"text"`
}

// State is what all nodes agree on. The zero State is that of a log with nothing in it. Values are treated as immutable:
// Apply returns a new State that shares nothing mutable with the old one.
type State struct {
	ClusterID  string            `json:"cluster_id"`
	Generation uint64            `json:"generation"`
	Scope      string            `json:"scope"`
	SystemID   pg.SystemID       `json:"system_id"` // 0 until the first primary has reported it
	Adopted    *Adoption         `json:"adopted,omitempty"`
	Rev        uint64            `json:"rev"`     // bumped by what safety depends on (DETAILS 4)
	Version    uint64            `json:"version"` // bumped by every change
	Epoch      Epoch             `json:"epoch"`
	Primary    NodeID            `json:"primary"`
	Lineage    []Lineage         `json:"lineage"`
	Electorate Electorate        `json:"electorate"`
	Members    map[NodeID]Member `json:"members"`
	Sync       SyncRule          `json:"sync"`
	Config     Config            `json:"config"`
	Paused     bool              `json:"paused"`
	PauseRev   uint64            `json:"pause_rev"` // Rev of the last Pause or Resume
	Wish       *Wish             `json:"wish,omitempty"`
	Failovers  []Failover        `json:"failovers"` // reports, oldest first
	Discards   []Discard         `json:"discards"`  // oldest first
	Events     []Event           `json:"events"`
	Seen       []string          `json:"seen"`        // last 128 request ids
	MinVersion int               `json:"min_version"` // of the program that may go on with it; see DecodeState
}
