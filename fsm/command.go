package fsm

import (
	"github.com/quorate/quorate/internal/pg"
)

// Command is one change of State. The set is sealed: the kinds below and no others.
type Command interface {
	// Kind is the name the command has in the log for ever.
	Kind() string
	// nature says what the machine has to check and count for every command of the kind.
	nature() nature
	// apply changes next, which nobody else holds, and says what happened. After an error next is thrown away, half
	// changed or not.
	apply(next *State) (event string, err error)
}

// nature is how a kind of command relates to Rev (DETAILS 4).
type nature struct {
	bumpsRev bool // safety depends on what it changes
	needsRev bool // it is refused unless IfRev is the present Rev
}

// The three natures: preconditions and effect bound to Rev; effect on Rev without preconditions; neither.
func bound() nature    { return nature{bumpsRev: true, needsRev: true} }
func unbound() nature  { return nature{bumpsRev: true} }
func footnote() nature { return nature{} }

// Envelope carries a Command through the log.
type Envelope struct {
	ID     string // request id; a known one is refused with ErrDuplicate
	IfRev  uint64 // the Rev under which all preconditions were evaluated; may be 0 for commands that need none
	By     string // the rule or the person
	Wall   int64  // unix milliseconds, for display only
	Change Command
}

// Init is the first command of a cluster. It is refused once there is a ClusterID.
type Init struct {
	ClusterID string   `json:"cluster_id"`
	Scope     string   `json:"scope"`
	Members   []Member `json:"members"`
	Config    Config   `json:"config"`
	// Adopted is the data that the cluster begins with; nil: its first primary makes a new database.
	Adopted *Adoption `json:"adopted,omitempty"`
}

// Appoint names the primary of epoch IfEpoch+1. For another node than the present primary it is refused unless Evidence
// satisfies the electorate and the sync rule in force (lease.md rules 6, 8, 13-15); for the same node it needs none (9).
type Appoint struct {
	IfEpoch   Epoch       `json:"if_epoch"`
	Node      NodeID      `json:"node"`
	Evidence  Evidence    `json:"evidence"`
	Timeline  pg.Timeline `json:"timeline"`   // predicted; for the same node: the present one
	SwitchLSN pg.LSN      `json:"switch_lsn"` // predicted
}

// Evidence is why an Appoint of another node is safe.
type Evidence struct {
	Seals     []Seal     `json:"seals"`
	Positions []Position `json:"positions"`
	Release   *Release   `json:"release,omitempty"`
}

// Seal is a voter's durable promise never again to vouch for an epoch <= Epoch. LeftMS is what was left of its last
// vouch when it answered, rounded up; WaitedMS is how long the leader has waited since, rounded down.
type Seal struct {
	Node     NodeID `json:"node"`
	Epoch    Epoch  `json:"epoch"`
	LeftMS   int64  `json:"left_ms"`
	WaitedMS int64  `json:"waited_ms"`
}

// Position is the end of a detached node's valid WAL. Detached is the epoch whose primary the node can no longer follow.
type Position struct {
	Node     NodeID      `json:"node"`
	Detached Epoch       `json:"detached"`
	Timeline pg.Timeline `json:"timeline"` // of the end of WAL; its place in Lineage is the history tag
	LSN      pg.LSN      `json:"lsn"`
}

// Release is the primary's durable statement that its Postgres is gone for Epoch and never serves it again.
type Release struct {
	Epoch    Epoch       `json:"epoch"`
	Node     NodeID      `json:"node"`
	Timeline pg.Timeline `json:"timeline"`
	FinalLSN pg.LSN      `json:"final_lsn"` // end of its valid WAL
}

// Promoted reports the real timeline of an epoch (Version only). Parent may be 0: then it is the timeline that the
// lineage predicted. A primary that knows its history gives it, because after two appointments of the same node in a row
// only the node can say whether it promoted once or twice.
type Promoted struct {
	Epoch     Epoch       `json:"epoch"`
	Node      NodeID      `json:"node"`
	Timeline  pg.Timeline `json:"timeline"`
	Parent    pg.Timeline `json:"parent,omitempty"`
	SwitchLSN pg.LSN      `json:"switch_lsn"`
	SystemID  pg.SystemID `json:"system_id"`
}

// SetSync changes R. A change that makes elections stricter (rule 17) needs only the Rev; any other needs the primary's
// durable Promise made under exactly that Rev (rule 18).
type SetSync struct {
	Rule    SyncRule `json:"rule"`
	Promise *Promise `json:"promise,omitempty"`
}

// Promise is the primary's statement that under Rev its Postgres enforces what Rule needs, that the flush barrier was
// passed, and that the enforced rule stays frozen until it applies a higher Rev.
type Promise struct {
	Node NodeID   `json:"node"`
	Rev  uint64   `json:"rev"`
	Rule SyncRule `json:"rule"`
}

// SetElectorate adds or removes exactly one voter.
type SetElectorate struct {
	Voters []NodeID `json:"voters"`
}

// SetMember records a member's addresses and properties (Version only); it never adds or removes a voter.
type SetMember struct {
	Member Member `json:"member"`
}

// RemoveMember forgets a node that is Leaving and that neither the electorate nor the sync rule counts on any more.
type RemoveMember struct {
	ID NodeID `json:"id"`
}

// AskSwitchover records a Wish; BeginSwitchover approves it with its candidate; EndWish removes it (all Version only).
type AskSwitchover struct {
	ID string `json:"id"`
	To NodeID `json:"to,omitempty"`
}

// BeginSwitchover is the leader's approval: from now on the primary may stop for the candidate.
type BeginSwitchover struct {
	ID string `json:"id"`
	To NodeID `json:"to"`
}

// EndWish drops the wish with this id, saying why.
type EndWish struct {
	ID      string `json:"id"`
	Because string `json:"because"`
}

// Pause stops every automatic decision; Resume ends it. Both bump Rev and may be proposed without IfRev.
type Pause struct{}

// Resume ends a pause. Down is an operator's word that the Postgres of that node, the primary of Epoch, runs nowhere: then it
// need not have shown that it knows of the resume before another one is appointed (lease.md rule 10). It may also come after the
// resume.
type Resume struct {
	Down  NodeID `json:"down,omitempty"`
	Epoch Epoch  `json:"epoch,omitempty"`
}

// ResumeShown records that the primary has shown the resume of revision Rev: since no node goes back, it need not be shown again
// (Version only).
type ResumeShown struct {
	Rev uint64 `json:"rev"`
}
