package pgctl

import (
	"fmt"
	"slices"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/rejoin"
)

// Role is what the node's Postgres shall be.
type Role string

// The roles.
const (
	RoleNone    Role = "none"    // leave it as it is: nothing is known yet
	RolePrimary Role = "primary" // of Want.Epoch
	RoleStandby Role = "standby"
	RoleStopped Role = "stopped" // not running
)

// StopMode says how to stop.
type StopMode string

// The stop modes.
const (
	StopFast StopMode = "fast" // clients are sent away, a shutdown checkpoint is written
	StopKill StopMode = "kill" // the guard's kill, verified empty
)

// Want is the node's goal, made from replicated state by the node.
type Want struct {
	Role      Role
	Epoch     uint64 // of the replicated state
	LeaseLive bool   // primary: the lease for Epoch is held at this moment
	MayInit   bool   // this node may make the cluster's first data directory
	// What becomes of data that were here before the cluster. Adopt: the cluster begins with those, of this system. Keep: they
	// are a standby's copy of what it began with. Aside: they are kept under another name. None: nobody has decided that.
	Adopt pg.SystemID
	Keep  bool
	Aside bool

	SystemID pg.SystemID // of the cluster, 0 when it has no data yet
	// Target is the timeline of Epoch with its ancestry. With Final it is what the primary reported, else what the
	// appointment predicted.
	Target rejoin.Branch
	Final  bool
	Yields bool // standby: an old primary that is down stays so for now, for others' sake
	// Reads has an old primary that nobody replaced serve reads: a standby that follows nobody, on its own log.
	Reads bool
	// Reinit has a standby replace its data directory by a new copy of Upstream's, though it would do as it is.
	Reinit bool

	Upstream Upstream // standby: Epoch's primary; its Epoch is Want.Epoch. Empty while there is none to follow
	Sync     Sync     // what this node's Postgres shall enforce as primary, set on standbys too
	Slots    []string // SlotName of the other members: a primary, and a standby that may become it, keeps these
	Sealed   uint64   // highest epoch that this node has sealed
	Stop     StopMode // for RoleStopped
	// StopBox is how long a fast stop may take before everything is killed; 0: FastStopBox.
	StopBox time.Duration
	Copies  []Copy // what is known of the others' logs; read while this node becomes primary, and with Reads
}

// StepKind names an action.
type StepKind string

// The steps. Each is one method of Instance.
const (
	Nothing      StepKind = "nothing"       // as it shall be, or something is under way
	Hold         StepKind = "hold"          // can't go on; Because says what it waits for
	Init         StepKind = "init"          // Init
	Adopt        StepKind = "adopt"         // Adopt
	Clone        StepKind = "clone"         // StartClone
	CancelClone  StepKind = "cancel-clone"  // CancelClone
	Quarantine   StepKind = "quarantine"    // a clone whose old directory is set aside as damaged
	Rewind       StepKind = "rewind"        // StartRewind
	CancelRewind StepKind = "cancel-rewind" // CancelRewind
	Examine      StepKind = "examine"       // Examine
	FindCommits  StepKind = "find-commits"  // FindCommits
	LookForLog   StepKind = "look-for-log"  // LookForLog: whether the primary has what a server needs to come up
	StartReader  StepKind = "start-reader"  // Start read-only
	StartWriter  StepKind = "start-writer"  // Start as primary
	Promote      StepKind = "promote"       // Promote
	Follow       StepKind = "follow"        // Follow
	Detach       StepKind = "detach"        // Detach
	Configure    StepKind = "configure"     // SetSync
	Slots        StepKind = "slots"         // SetSlots
	Settle       StepKind = "settle"        // Settle: the rebuilt log has caught up
	Mark         StepKind = "mark"          // Mark: standby.signal back beside a running primary
	Evict        StepKind = "evict"         // Evict
	OpenGate     StepKind = "open-gate"     // OpenGate: clients may read what is here now
	Correct      StepKind = "correct"       // Correct: put back what somebody else changed
	Stop         StepKind = "stop"          // StopFast or Kill
)

// Step is the one next action, with what it needs and why.
type Step struct {
	Kind     StepKind
	Because  string
	Epoch    uint64      // Detach: the epoch to leave; Start and Promote: the one to serve or stand by in
	Timeline pg.Timeline // Promote: the predicted one; Rewind: the primary's; Adopt: the cluster's first
	SystemID pg.SystemID // Adopt
	Upstream Upstream    // Clone, Quarantine, Rewind, Follow; StartReader: follow from the start
	Fork     pg.LSN      // Rewind, Clone: where the log leaves the primary's history
	Diverged bool        // Clone: there is log past Fork, to be kept as evidence
	Anew     bool        // Clone: in the place of a directory that is gone, as somebody asked
	Sync     Sync        // Configure
	Slots    []string    // Promote, Slots
	KeepLog  bool        // Slots: they keep log from now on
	Gate     bool        // Start and Promote: keep clients out
	Stop     StopMode
	StopBox  time.Duration // of a fast Stop; 0: FastStopBox
	// Impostors are the walsenders to end: Evict.
	Impostors []Sender
}

// renudge is how long a standby may be without a stream before it is told again to follow.
const renudge = time.Second

// promoteLimit is how long a server may take to leave recovery before it is ended and started anew.
const promoteLimit = 10 * time.Second

// Next returns the one action that brings have nearer to want. It is pure, and it assumes nothing of earlier steps:
// whatever they left behind is in have.
func Next(want Want, have Status) Step {
	if have.Run == pg.RunStopping && have.Died != "" {
		// Backends outlive their postmaster, and one that is busy goes on committing.
		return Step{Kind: Stop, Stop: StopKill, Because: "the postmaster ended by " + have.Died}
	}
	if have.Rewind != nil && have.Rewind.Running {
		return duringRewind(want, *have.Rewind)
	}
	switch want.Role {
	case RolePrimary:
		return nextPrimary(want, have)
	case RoleStandby:
		return nextStandby(want, have)
	case RoleStopped:
		return nextStopped(want, have)
	}
	return Step{Kind: Nothing, Because: "no orders yet"}
}

// enforces reports whether rule is proved to be in force.
func (s Status) enforces(rule Sync) bool {
	return s.ForeignSSN == "" && s.SyncInForce && s.Sync.Equal(rule)
}

func hold(format string, args ...any) Step {
	return Step{Kind: Hold, Because: fmt.Sprintf(format, args...)}
}

func wait(because string) Step { return Step{Kind: Nothing, Because: because} }

func nextStopped(want Want, have Status) Step {
	switch {
	case have.Run == pg.RunAbsent, have.Run == pg.RunStopped:
		return wait("stopped, as ordered")
	case have.Run == pg.RunStopping && want.Stop == StopFast:
		// The box ends with the agent that gave the order. To ask again changes nothing for Postgres, and bounds it again.
		return Step{Kind: Stop, Stop: StopFast, StopBox: want.StopBox, Because: "ordered to stop, and shutting down"}
	case have.Run == pg.RunFrozen:
		// A frozen server can't shut down in good order, and thawing it for that would let it commit.
		return Step{Kind: Stop, Stop: StopKill, Because: "ordered to stop while frozen"}
	}
	return Step{Kind: Stop, Stop: want.Stop, StopBox: want.StopBox, Because: "ordered to stop"}
}

func nextPrimary(want Want, have Status) Step {
	switch have.Run {
	case pg.RunAbsent:
		return initPrimary(want, have)
	case pg.RunStopped:
		if have.Dir.Foreign {
			return adopt(want, have)
		}
		return startPrimary(want, have)
	case pg.RunStarting:
		if readsOwn(want, have) {
			return Step{Kind: Stop, Stop: StopKill, Because: fmt.Sprintf("it comes up to read timeline %d, which it is appointed to write", have.Own)}
		}
	case pg.RunStandby:
		return promote(want, have)
	case pg.RunPrimary:
		return keepPrimary(want, have)
	}
	return wait("Postgres is " + string(have.Run))
}

func initPrimary(want Want, have Status) Step {
	switch {
	case have.Dir.Gone != "":
		return hold("appointed primary, and %s", have.Dir.Gone)
	case have.Clone != nil:
		return hold("appointed while a clone of its own data is unfinished")
	case !want.MayInit || want.SystemID != 0:
		return hold("appointed primary and has no data directory")
	}
	return Step{Kind: Init, Epoch: want.Epoch, Because: "the cluster has no data yet"}
}

// startPrimary starts a directory that was this timeline's primary for writing, and any other read-only first.
func startPrimary(want Want, have Status) Step {
	if s, bad := wrongData(want, have); bad {
		return s
	}
	if have.Clone != nil || have.Rebuilding {
		return hold("appointed while its log is being rebuilt")
	}
	own := have.Dir.Control.CheckpointTimeline
	if have.Position != nil {
		own = have.Position.Timeline
	} else if have.Dir.Control.State != pg.ControlShutDown {
		return Step{Kind: Examine, Because: "find the end of the log"}
	}
	switch {
	case want.Target.Timeline > own:
		return Step{Kind: StartReader, Epoch: want.Epoch, Gate: !shared(want, have, own, logEnd(have)), Because: fmt.Sprintf("is on timeline %d, to be promoted to %d", own, want.Target.Timeline)}
	case want.Target.Timeline < own:
		return hold("its log is on timeline %d, the epoch it was appointed for is on %d", own, want.Target.Timeline)
	case !wasPrimary(have.Dir.Control.State) && have.Own != own:
		return hold("it was a standby on timeline %d; opening it needs a new timeline", own)
	case !want.LeaseLive:
		return wait("waiting for a lease")
	}
	return Step{Kind: StartWriter, Epoch: want.Epoch, Gate: !shared(want, have, own, logEnd(have)), Because: fmt.Sprintf("primary of timeline %d", own)}
}

// wasPrimary says whether the directory was last run as a primary. Without standby.signal any other would open on its
// old timeline, which another node may have continued.
func wasPrimary(s pg.ControlState) bool {
	switch s {
	case pg.ControlShutDown, pg.ControlShuttingDown, pg.ControlInCrashRecovery, pg.ControlInProduction:
		return true
	}
	return false
}

// readsOwn says that what was started read-only is the log of the timeline to be written. That is no promotion, which makes
// a new timeline: it is ended and started for writing, as it would have been without the reads.
func readsOwn(want Want, have Status) bool {
	return !have.Promoting && have.Own > 0 && have.Own == want.Target.Timeline && have.Upstream.Name == ""
}

func promote(want Want, have Status) Step {
	switch {
	case have.Promoting && have.PromotingFor < promoteLimit:
		return wait("leaving recovery")
	case have.Promoting:
		// An agent that ended before it gave the order looks like this too. Only a new run can be promoted safely.
		return Step{Kind: Stop, Stop: StopKill, Because: fmt.Sprintf("it has not opened in %s", have.PromotingFor.Round(time.Second))}
	case have.Rebuilding:
		return hold("appointed while its log is being rebuilt")
	case readsOwn(want, have):
		return Step{Kind: Stop, Stop: StopFast, Because: fmt.Sprintf("it only reads timeline %d, which it is appointed to write", have.Own)}
	case have.Upstream.Name != "" || have.Receiver != "" || have.Position == nil:
		return Step{Kind: Detach, Epoch: max(want.Epoch, 1) - 1, Because: "it is appointed itself"}
	case len(have.Position.Awaits) > 0:
		// It would take that one for the parent of its own, wherever that had begun.
		return startAnew(have)
	case want.Target.Timeline <= have.Position.Timeline:
		return hold("its log is on timeline %d and can't be promoted to %d", have.Position.Timeline, want.Target.Timeline)
	case !have.enforces(want.Sync):
		// Before it opens: a primary without the rule would acknowledge alone.
		return Step{Kind: Configure, Sync: want.Sync, Because: "the rule must be in force before it opens"}
	case !want.LeaseLive:
		return wait("waiting for a lease")
	}
	gate := !shared(want, have, have.Position.Timeline, have.Position.LSN)
	return Step{Kind: Promote, Epoch: want.Epoch, Timeline: want.Target.Timeline, Slots: want.Slots, Gate: gate, Because: fmt.Sprintf("appointed primary of epoch %d", want.Epoch)}
}

// startAnew ends a standby, so that its next start forgets the timeline that it waits for.
func startAnew(have Status) Step {
	return Step{Kind: Stop, Stop: StopFast, Because: fmt.Sprintf("it may wait for a timeline of which it has no log: %d", have.Position.Awaits)}
}

func keepPrimary(want Want, have Status) Step {
	switch {
	case want.SystemID != 0 && have.SystemID != want.SystemID:
		return Step{Kind: Stop, Stop: StopKill, Because: fmt.Sprintf("it runs system %s, the cluster is system %s", have.SystemID, want.SystemID)}
	case have.Timeline < want.Target.Timeline:
		return Step{Kind: Stop, Stop: StopKill, Because: fmt.Sprintf("it writes timeline %d, the epoch is on %d", have.Timeline, want.Target.Timeline)}
	case restoresSignal && !have.Dir.StandbySignal || have.Upstream.Name != "":
		return Step{Kind: Mark, Because: "any other start must come up read-only"}
	case len(have.Impostors) > 0:
		return Step{Kind: Evict, Because: have.Impostors[0].accusation(), Impostors: have.Impostors}
	case len(have.Drift) > 0:
		return correct(have)
	}
	if s, safe := opens(want, have); safe {
		return s
	}
	switch {
	case !have.enforces(want.Sync):
		return Step{Kind: Configure, Sync: want.Sync, Because: "the rule to enforce has changed"}
	case !sameNames(have.Slots, want.Slots):
		return Step{Kind: Slots, Slots: want.Slots, KeepLog: true, Because: "each member's slot shall keep the log it needs"}
	}
	if have.Gated {
		return wait(gatedBecause(want, have.Opened))
	}
	return wait("serving")
}

// wrongData holds whatever does not belong to this cluster or can't be read.
func wrongData(want Want, have Status) (Step, bool) {
	switch {
	case have.Dir.Mismatch != "":
		return hold("%s", have.Dir.Mismatch), true
	case have.Dir.Problem != "":
		return hold("the data directory can't be read: %s", have.Dir.Problem), true
	case want.SystemID != 0 && have.Dir.Control.SystemID != want.SystemID:
		return hold("the data directory belongs to system %s, the cluster is system %s", have.Dir.Control.SystemID, want.SystemID), true
	}
	return Step{}, false
}

func nextStandby(want Want, have Status) Step {
	switch have.Run {
	case pg.RunPrimary, pg.RunFrozen:
		return Step{Kind: Stop, Stop: StopKill, Because: fmt.Sprintf("another node is primary in epoch %d", want.Epoch)}
	case pg.RunAbsent, pg.RunStopped:
		if have.Dir.Foreign {
			if s, decided := takeIn(want, have); decided {
				return s
			}
		}
		return startStandby(want, have)
	case pg.RunStarting:
		if s, due := whileStarting(want, have); due {
			return s
		}
	case pg.RunStandby:
		if have.Promoting {
			return Step{Kind: Stop, Stop: StopKill, Because: fmt.Sprintf("it was told to open and another node is primary in epoch %d", want.Epoch)}
		}
		if reinits(want) {
			return Step{Kind: Stop, Stop: StopFast, Because: "a new copy was asked for"}
		}
		return keepStandby(want, have)
	}
	return wait("Postgres is " + string(have.Run))
}

// reinits says that a copy can be made now. Without a source the old directory is the better one.
func reinits(want Want) bool { return want.Reinit && want.Upstream.Name != "" }

func startStandby(want Want, have Status) Step {
	if c := have.Clone; c != nil && c.Running {
		if want.Upstream.Name != "" && (!c.Source.same(want.Upstream) || c.Source.Slot != want.Upstream.Slot) {
			return Step{Kind: CancelClone, Because: "its source " + c.Source.Name + " is no longer the primary"}
		}
		return wait("cloning from " + c.Source.Name)
	}
	if have.Dir.Gone != "" && !reinits(want) {
		return hold("%s", have.Dir.Gone)
	}
	torn := have.Rewind != nil && have.Rewind.Torn
	whole := have.Run == pg.RunStopped && have.Clone == nil && !torn && !have.Dir.Corrupt
	if whole {
		if s, bad := wrongData(want, have); bad {
			return s
		}
		if have.Position == nil {
			return Step{Kind: Examine, Because: "find the end of the log"}
		}
	}
	if want.Upstream.Name == "" {
		return startAlone(want, have, whole)
	}
	if whole && wasPrimary(have.Dir.Control.State) && (!want.Final || want.Yields) {
		// Nobody waits for an old primary, and starting it would take from the machine what the new one needs now.
		return wait("those whom the commits of " + want.Upstream.Name + " wait for go first")
	}
	return comeBack(want, have)
}

// startAlone starts what has nobody to follow. An old primary is left down, since it is in the way of whoever takes over,
// until it is told to serve reads. It may show what its clients were never told is done, so others must have that too.
func startAlone(want Want, have Status, whole bool) Step {
	switch {
	case whole && want.Reads && have.Position.Shown == 0 && !readable(want, have):
		// Even a primary that nobody uses writes some log after what its standbys were last heard to have.
		return Step{Kind: FindCommits, Because: "others are not known to hold all of the log; they may hold all commits"}
	case whole && want.Reads:
		return Step{Kind: StartReader, Epoch: want.Epoch, Gate: !readable(want, have), Because: "nobody may write, and nobody has replaced it: it serves reads"}
	case whole && !wasPrimary(have.Dir.Control.State):
		return Step{Kind: StartReader, Epoch: want.Epoch, Gate: have.Gated, Because: "there is no primary to follow"}
	}
	return wait("there is no primary to follow")
}

// keepAlone looks after a standby that has nobody to follow.
func keepAlone(want Want, have Status) Step {
	switch {
	case !want.Reads:
		return wait("nobody to follow yet")
	case have.Gated && readable(want, have):
		return Step{Kind: OpenGate, Because: fmt.Sprintf("%d others hold its log up to %s", want.Sync.K, readEnd(have))}
	case have.Gated:
		return wait(gatedBecause(want, readEnd(have)))
	}
	return wait("serving reads: nobody may write")
}

func keepStandby(want Want, have Status) Step {
	up := want.Upstream
	switch {
	case have.Upstream.Name != "" && have.Upstream.Epoch <= want.Sealed && have.Detached < want.Sealed:
		return Step{Kind: Detach, Epoch: want.Sealed, Because: fmt.Sprintf("epoch %d is sealed here", want.Sealed)}
	case len(have.Drift) > 0:
		return correct(have)
	case up.Name == "" || want.Epoch <= max(want.Sealed, have.Detached):
		return keepAlone(want, have)
	case have.Upstream.same(up) && have.Upstream.Epoch == want.Epoch && have.Upstream.Slot != up.Slot:
		return Step{Kind: Follow, Upstream: up, Because: "this node is another member than before, with another slot"}
	case have.Upstream.same(up) && have.Upstream.Epoch == want.Epoch:
		return keepFollowing(want, have)
	case have.Upstream.same(up) && have.Timeline == want.Target.Timeline:
		// The same node was appointed again: the stream is as good as it was. On another timeline another node may have been primary
		// in between, and then what is here may not be in this one's history.
		return Step{Kind: Follow, Upstream: up, Because: fmt.Sprintf("%s is primary of epoch %d too", up.Name, want.Epoch)}
	case have.Upstream.Name != "" || have.Position == nil:
		// Leaving in good order gives the exact end of the log, without which nobody knows whether it diverged.
		return Step{Kind: Detach, Epoch: want.Epoch - 1, Because: fmt.Sprintf("%s is primary of epoch %d", up.Name, want.Epoch)}
	}
	switch v := rejoin.Decide(facts(want, have)); v.Way {
	case rejoin.Plain:
		if have.Position.awaitsAnother(want.Target) {
			return startAnew(have)
		}
		return Step{Kind: Follow, Upstream: up, Because: v.Because}
	case rejoin.Clone, rejoin.Rewind, rejoin.Quarantine:
		return Step{Kind: Stop, Stop: StopFast, Because: v.Because}
	default:
		return hold("%s", v.Because)
	}
}

// keepFollowing looks after a standby that follows the right primary.
func keepFollowing(want Want, have Status) Step {
	switch {
	case have.WALGone:
		return Step{Kind: Stop, Stop: StopFast, Because: "the primary no longer has the log it needs"}
	case !have.Configured || have.Unstreamed >= renudge:
		return Step{Kind: Follow, Upstream: want.Upstream, Because: fmt.Sprintf("not streaming from %s for %s", want.Upstream.Name, have.Unstreamed.Round(100*time.Millisecond))}
	case have.Rebuilding && have.Receiver == "streaming":
		return Step{Kind: Settle, Because: "the log is rebuilt when it has caught up"}
	case have.Gated && have.Receiver == "streaming":
		return Step{Kind: OpenGate, Because: "its log is that of " + want.Upstream.Name}
	case !have.enforces(want.Sync):
		return Step{Kind: Configure, Sync: want.Sync, Because: "the rule to enforce after a promotion has changed"}
	case len(have.Slots) > 0:
		return Step{Kind: Slots, Slots: want.Slots, Because: "slots left from its time as primary keep log for nobody"}
	case !sameNames(have.SpareSlots, want.Slots):
		return Step{Kind: Slots, Slots: want.Slots, Because: "it may be the next primary, and then clients would wait for these"}
	}
	return wait("following " + want.Upstream.Name)
}

// sameNames compares two sets.
func sameNames(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}
