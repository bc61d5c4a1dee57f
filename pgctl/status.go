package pgctl

import (
	"slices"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/rejoin"
)

// Upstream is whom a standby follows, and by whose order.
type Upstream struct {
	Name  string `json:"name"` // node name; empty means nobody
	Host  string `json:"host"`
	Port  int    `json:"port"`
	Epoch uint64 `json:"epoch"` // the epoch whose primary it is
	Slot  string `json:"slot"`  // of this node, there
}

// same reports whether u and o are the same server, whatever the epoch and the slot.
func (u Upstream) same(o Upstream) bool {
	return u.Name == o.Name && u.Host == o.Host && u.Port == o.Port
}

// Sync is what Postgres enforces: a commit waits for any K of Names. K 0 means that it waits for nobody.
type Sync struct {
	K     int      `json:"k"`
	Names []string `json:"names"` // sorted
}

// Equal compares the settings, an empty rule being empty whatever its names.
func (s Sync) Equal(o Sync) bool { return s.SSN() == o.SSN() }

// SSN renders the rule as synchronous_standby_names.
func (s Sync) SSN() string { return pg.FormatSSN(s.K, s.Names) }

// Position is the exact end of the local valid log: the end of the last complete record.
type Position struct {
	Timeline pg.Timeline `json:"timeline"`
	LSN      pg.LSN      `json:"lsn"`
	History  pg.History  `json:"history"` // ancestry of Timeline
	// Oldest is from where on there is a file for all of the log up to LSN; 0: there is none.
	Oldest pg.LSN `json:"oldest"`
	// Shown is the end of the last commit: what follows changes nothing that a client could read. LSN if that is not known
	// any better; 0: it was not looked for (FindCommits).
	Shown pg.LSN `json:"shown,omitempty"`
	// Awaits lists the timelines, in order, for one of which a server on this directory may wait: later ones than the log's, of which
	// only the history is here, as whoever was primary on it ended before its first record came.
	Awaits []pg.Timeline `json:"awaits,omitempty"`
}

// awaitsAnother says that a running server may wait for a timeline that is not on the way to the target. It can't be told another
// one, and follows nobody else.
func (p Position) awaitsAnother(target rejoin.Branch) bool {
	return slices.ContainsFunc(p.Awaits, func(tli pg.Timeline) bool {
		return tli != target.Timeline && !slices.ContainsFunc(target.History, func(e pg.HistoryEntry) bool { return e.Timeline == tli })
	})
}

// Branch gives the position's place in history.
func (p Position) Branch() rejoin.Branch {
	return rejoin.Branch{Timeline: p.Timeline, History: p.History}
}

// Sender is one verified member that streams from here: application_name, role, address (DETAILS 24) and slot all match.
type Sender struct {
	Name      string
	PID       int
	User      string
	Addr      string
	Slot      string // empty: it uses none
	State     string
	Streaming bool // State is streaming, not catchup or backup
	Flush     pg.LSN
	Replay    pg.LSN

	SyncState    string // as Postgres shows it
	SyncPriority int

	// Elsewhere, of an impostor: only its address is not the member's, who may have moved there. It counts for nothing even so.
	Elsewhere bool
	// Stray, of an impostor: only its slot is not the member's, so it is what still runs of an earlier member of that name.
	Stray bool
}

// Dir is what the data directory says without a server.
type Dir struct {
	Empty         bool   // absent or nothing in it
	Gone          string // it is Empty and was in use here: what is missed and what to do, empty if none ever was
	Problem       string
	Corrupt       bool   // Problem is that pg_control can be read and is not what Postgres wrote
	BackupLabel   bool   // there is a backup_label
	Mismatch      string // why these binaries can't run it
	Control       pg.Control
	StandbySignal bool
	Foreign       bool // this node has never managed what is in it
	Server        int  // pid of a server that runs on a foreign directory, 0 for none
}

// CloneState is a clone in progress or one that was interrupted.
type CloneState struct {
	Source  Upstream
	Running bool // false: planned on disk, to be resumed
	Bytes   int64
	Note    string // of the last failure
}

// RewindState is a rewind that runs, that was interrupted, or that is through and has yet to prove itself by streaming.
type RewindState struct {
	Source  Upstream
	Running bool   // false: planned on disk
	Writing bool   // pg_rewind changes files: ending it now costs the directory
	Torn    bool   // it was ended while it did
	Over    string // why it is not to be tried again, empty if it may be
	Note    string // of the last failure
}

// Status is the node's Postgres as seen now. Ages are durations, never times.
type Status struct {
	Run pg.RunState
	// GuardRun names the postmaster in the guard's record, PID is the postmaster.
	GuardRun uint64
	PID      int
	Dir      Dir

	// While it answers SQL.
	SystemID pg.SystemID
	Timeline pg.Timeline // standby: of what it received; primary: of what it writes
	Flush    pg.LSN      // primary: flushed; standby: received and flushed, for display
	Insert   pg.LSN      // primary only

	ServerVersion int       // server_version_num
	Started       time.Time // of the postmaster, for display
	ReplayedAt    time.Time // commit time of the last replayed transaction, zero if none; for display
	Replay        pg.LSN    // standby only
	ReplayPaused  bool
	Sync          Sync     // as a session shows it
	SyncInForce   bool     // it is proved that commits wait as Sync says
	ForeignSSN    string   // synchronous_standby_names when quorate didn't write it, else empty
	Slots         []string // for members, that keep log
	SpareSlots    []string // for members, that keep none yet
	Senders       []Sender
	Impostors     []Sender // walsenders under a member's name that are not that member
	Receiver      string   // status of the walreceiver, empty without one
	receiverPID   string

	// From the durable records.
	Upstream   Upstream // whom it follows; none when detached from that epoch
	Configured bool     // Upstream is in the running server's settings
	Detached   uint64   // never follows a primary of this epoch or below
	Rebuilding bool     // its log is being rebuilt: it has no position to report (lease.md rule 20)
	// Own is the timeline that this directory wrote as primary before it came to run read-only without anybody to follow.
	Own      pg.Timeline
	Clone    *CloneState
	Rewind   *RewindState
	Evidence []Evidence // that the cluster does not know of yet; see EvidenceRecorded

	// Position is known while nothing can write log here: detached, or stopped and examined.
	Position *Position
	// Unstreamed is how long it has not been streaming since it was told to follow. While it starts: how long that is not known.
	Unstreamed time.Duration
	// Promoting says that it serves, or was told to and may at any time, even if it is in recovery still, and
	// PromotingFor since when.
	Promoting    bool
	PromotingFor time.Duration
	// Gated says that clients are kept out, Opened a position at or after the end of recovery of this run, 0 in recovery.
	Gated  bool
	Opened pg.LSN
	// Drift is what somebody else changed of what quorate owns, Corrected what was mended within the last minute, for people.
	Drift     []string
	Corrected string

	WALGone bool // the upstream said that it no longer has the log needed next
	// Died says that the postmaster of this run has ended without having been asked to, and how, Answered that SQL has
	// worked in this run.
	Died     string
	Answered bool
	// Admitted says that SQL has worked on this directory at some time, so that the agent's role is in it.
	Admitted bool
}
