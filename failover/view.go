// Package failover is the heart of quorate: what a leader should do next, as one ordered table of named rules over one
// value, the View. Equal views give equal decisions.
//
// It must never do anything itself: no clock, no randomness, no network, no logger, no context. Ages and durations come
// in, a Decision goes out, and the reasons in it are what logs, metrics, documents and `explain` show.
package failover

import (
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// Run says what a node's Postgres is doing, as its guard and agent see it.
type Run string

// The run states.
const (
	RunNone     Run = "none"     // never started here, or no data directory
	RunStarting Run = "starting" // postmaster exists, no session yet
	RunRunning  Run = "running"
	RunFrozen   Run = "frozen"
	RunStopped  Run = "stopped" // the data directory is whole, nothing runs
	RunCloning  Run = "cloning" // its WAL is being rebuilt: it reports no position (lease.md rule 20)
	RunHeld     Run = "held"    // needs a person; Problem says why
)

// Report is what a node says of itself in every beat.
type Report struct {
	Node        fsm.NodeID        `json:"node"`
	Epoch       fsm.Epoch         `json:"epoch"`             // applied and durable
	Rev         uint64            `json:"rev"`               // applied and durable
	Version     uint64            `json:"version,omitempty"` // applied and durable; 0: not told, as by releases before it was
	Run         Run               `json:"run"`
	InRecovery  bool              `json:"in_recovery"`
	Serving     fsm.Epoch         `json:"serving,omitempty"`  // the epoch as whose primary Postgres accepts writes; 0 none
	Unleased    bool              `json:"unleased,omitempty"` // it does so without a lease, because of a pause; for people
	Healthy     bool              `json:"healthy"`
	Problem     string            `json:"problem,omitempty"`
	Sick        string            `json:"sick,omitempty"` // what this node's prober finds wrong with its Postgres or disk
	Timeline    pg.Timeline       `json:"tli"`
	Flush       pg.LSN            `json:"flush"`               // primary: flush LSN; standby: received and flushed (for display)
	Replay      pg.LSN            `json:"replay"`              // standby only
	Upstream    fsm.NodeID        `json:"upstream,omitempty"`  // standby: whom its walreceiver streams from
	Streaming   []StreamingMember `json:"streaming,omitempty"` // primary only: members whose walsender streams
	Sightings   []Age             `json:"sightings,omitempty"` // age of the newest beat from each other node
	Released    *fsm.Release      `json:"released,omitempty"`
	Promise     *fsm.Promise      `json:"promise,omitempty"`
	Restartable bool              `json:"restartable"`        // Postgres is down here, or only reads, but could be started for writing again
	Progress    string            `json:"progress,omitempty"` // of a clone or recovery, for people
	Config      Configured        `json:"config,omitzero"`
	Warnings    []string          `json:"warnings,omitempty"` // what is to be mended some day; nobody decides by it
}

// Configured is what a node has of the replicated configuration.
type Configured struct {
	Version uint64        `json:"v,omitempty"`       // the newest that its Postgres has taken
	Hot     pg.HotStandby `json:"hot,omitzero"`      // what it runs with
	Pending []string      `json:"pending,omitempty"` // settings that wait for a restart of its Postgres
	Held    []string      `json:"held,omitempty"`    // those that wait for another node first, and why
	Refused string        `json:"refused,omitempty"` // why it has not taken the newest version
	Restart bool          `json:"restart,omitempty"` // its Postgres is being restarted, or is about to be
}

// StreamingMember is one verified walsender on the primary.
type StreamingMember struct {
	Node  fsm.NodeID `json:"node"`
	Flush pg.LSN     `json:"flush"`
}

// Age is how old the newest beat from Node was when the report was made.
type Age struct {
	Node fsm.NodeID `json:"node"`
	MS   int64      `json:"ms"`
}

// Sighting is a node's last report and how long ago it came in; a node never heard of has no sighting. LeaseLeft and
// Sealed come from its replies to us.
type Sighting struct {
	Age    time.Duration
	Report Report
	Sealed fsm.Epoch // highest seal it has answered with
}

// Answer is a voter's reply to an Ask for State.Epoch.
type Answer struct {
	Age          time.Duration // since the reply came in
	VouchedAgo   time.Duration // age of its last vouch when it answered
	NeverVouched bool          // since its start, for the epoch asked; VouchedAgo then counts from its start
	Sealed       fsm.Epoch
}

// Sealed is a voter's answer to a Seal: Left is what was left of its last vouch when it answered, Age since then.
type Sealed struct {
	Epoch fsm.Epoch
	Left  time.Duration
	Age   time.Duration
}

// View is all the leader knows at one instant.
type View struct {
	State     fsm.State
	Self      fsm.NodeID                  // who looks
	Leading   bool                        // false: an observer, whose ledger is unknown
	Seen      map[fsm.NodeID]Sighting     // Self included
	Answers   map[fsm.NodeID]Answer       // to Ask for State.Epoch
	Seals     map[fsm.NodeID]Sealed       // for State.Epoch
	Positions map[fsm.NodeID]fsm.Position // detached for State.Epoch
	// Failed says why a node gave no position though it was asked, e.g. "cloning".
	Failed map[fsm.NodeID]string
	// Lost says for how long each standby has not kept up with the primary, by a Copies of the looker; absent: it does.
	Lost map[fsm.NodeID]time.Duration
	// Unapplied says for how long each node that is heard lacks something of State and has got none of it, by an Applied of the
	// looker; absent: it lacks nothing, as far as it shows.
	Unapplied map[fsm.NodeID]time.Duration
	CaughtUp  map[fsm.NodeID]bool // raft followers that could take over leadership
	Appointed []time.Duration     // ages of the recent Appoints of another node, newest first
	// Reappointed are the ages of the recent Appoints of the same node, newest first.
	Reappointed []time.Duration
	SealingFor  time.Duration // since this leader first sent a seal for State.Epoch; 0: it has not
	WishAge     time.Duration // since this leader first saw State.Wish
	EpochAge    time.Duration // since this leader first saw State.Epoch
	BeatEvery   time.Duration
	FirstNode   fsm.NodeID // the bootstrapper: initialises the first primary
	LeadingFor  time.Duration
	Servers     map[fsm.NodeID]Standing // Raft's configuration; nil: not known
	// ElectorateShown is for how long this leader has had beats of the present primary that show the present electorate.
	ElectorateShown time.Duration
}

// Verdict is what the leader concluded.
type Verdict string

// The verdicts.
const (
	Healthy Verdict = "healthy" // nothing to do
	Waiting Verdict = "waiting" // something is under way or must ripen
	Acting  Verdict = "acting"
	AtRisk  Verdict = "at-risk" // serving, but one more loss stops it
	Stuck   Verdict = "stuck"   // needs a person, or a node to come back
)

// Do is the one thing to do. The set is sealed: Nothing, Ask, SealNow, Propose, HandOff, Stop,
// Reconfigure.
type Do interface{ do() }

// Nothing asks for nothing.
type Nothing struct{}

// Ask queries the voters' last vouches of Epoch.
type Ask struct {
	Epoch  fsm.Epoch
	Voters []fsm.NodeID
}

// SealNow sends Seal(Epoch) and Detach(Epoch) to those who have not answered yet.
type SealNow struct {
	Epoch  fsm.Epoch
	Seal   []fsm.NodeID
	Detach []fsm.NodeID
}

// Propose submits Command under IfRev.
type Propose struct {
	Command fsm.Command
	IfRev   uint64
}

// HandOff transfers Raft leadership to To.
type HandOff struct{ To fsm.NodeID }

// Stop tells Node, the sick primary, to kill its Postgres and to release Epoch. It counts for that epoch only, so a late one
// can't hurt what was started after it.
type Stop struct {
	Epoch fsm.Epoch
	Node  fsm.NodeID
}

func (Nothing) do() {}
func (Ask) do()     {}
func (SealNow) do() {}
func (Propose) do() {}
func (HandOff) do() {}
func (Stop) do()    {}

// Decision is what a rule concluded. Because holds one sentence per operand, for people; Again is when to look again at
// the latest, 0 for the next event or tick.
type Decision struct {
	Rule    string
	Verdict Verdict
	Do      Do
	Because []string
	Again   time.Duration
}
