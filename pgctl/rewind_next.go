package pgctl

import (
	"fmt"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/rejoin"
)

// comeBack turns the verdict on a directory that nothing runs on into a step.
func comeBack(want Want, have Status) Step {
	v := rejoin.Decide(facts(want, have))
	s := Step{Upstream: want.Upstream, Fork: v.Fork, Because: v.Because}
	switch v.Way {
	case rejoin.Plain:
		s = Step{Kind: StartReader, Epoch: want.Epoch, Because: v.Because}
		if followsAtOnce(want, have) {
			s.Upstream = want.Upstream
		}
	case rejoin.Rewind:
		s.Kind, s.Timeline = Rewind, want.Target.Timeline
	case rejoin.Clone:
		s.Kind, s.Diverged, s.Anew = Clone, v.Diverged, have.Dir.Gone != ""
	case rejoin.Quarantine:
		s.Kind = Quarantine
	default:
		return hold("%s", v.Because)
	}
	return s
}

// facts puts together what the rejoin table reads.
func facts(want Want, have Status) rejoin.Facts {
	f := rejoin.Facts{
		Empty: have.Run == pg.RunAbsent, Damaged: have.Dir.Problem, Corrupt: have.Dir.Corrupt, Unmatched: have.Dir.Mismatch, Cloning: have.Clone != nil,
		Restored: have.Dir.BackupLabel && !have.Rebuilding, Hints: have.Dir.Control.WalLogHints || have.Dir.Control.DataChecksums,
		Incomplete: have.Dir.Control.BackupStart != 0 || have.Dir.Control.BackupEndRequired,
		SystemID:   have.Dir.Control.SystemID, WantSystemID: want.SystemID,
		Target: want.Target, Final: want.Final, WALGone: have.WALGone, Asked: want.Reinit,
	}
	if have.SystemID != 0 {
		f.SystemID = have.SystemID
	}
	if p := have.Position; p != nil {
		f.Local, f.End = p.Branch(), max(p.LSN, have.Dir.Control.MinRecoveryPoint)
		f.Oldest, f.Short = p.Oldest, f.End > p.LSN
	}
	if have.Dir.Foreign {
		f.RewindFailed = "quorate has no role in it yet"
	}
	if r := have.Rewind; r != nil {
		f.Torn, f.RewindFailed = r.Torn, r.Over
	}
	return f
}

// followsAtOnce says that a directory answers only with log that it does not have yet. One that was rewound is consistent only
// where the primary was when pg_rewind ended, which is past what pg_rewind copied of its log; a copy of adopted data gets
// the agent's role from the primary, and has it from then on.
func followsAtOnce(want Want, have Status) bool {
	return have.Rewind != nil || want.Keep && !have.Admitted
}

// whileStarting looks after a standby that does not answer yet. One that answers only with log of the primary needs the right
// one to follow, and never answers if that has dropped the log: nobody but us ends it then.
func whileStarting(want Want, have Status) (Step, bool) {
	waits := followsAtOnce(want, have) && want.Upstream.Name != ""
	switch {
	case waits && (!have.Upstream.same(want.Upstream) || !have.Configured):
		return Step{Kind: Stop, Stop: StopKill, Because: "it needs log of " + want.Upstream.Name + " to come up"}, true
	case waits && have.WALGone:
		return Step{Kind: Stop, Stop: StopKill, Because: want.Upstream.Name + " no longer has the log that it needs to come up"}, true
	case reinits(want):
		return Step{Kind: Stop, Stop: StopFast, Because: "a new copy was asked for"}, true
	case waits && have.Unstreamed >= renudge:
		return Step{Kind: LookForLog, Because: fmt.Sprintf("it needs log of %s to come up and is not known to stream", want.Upstream.Name)}, true
	}
	return Step{}, false
}

// duringRewind leaves a rewind alone as long as it does what is wanted, and always while pg_rewind changes files. A server
// that runs then is its own.
func duringRewind(want Want, r RewindState) Step {
	switch {
	case r.Writing:
		return wait("rewinding to " + r.Source.Name + "; what is half rewound is lost")
	case want.Role == RoleNone, want.Role == RoleStandby && (want.Upstream.Name == "" || want.Upstream.same(r.Source)):
		return wait("rewinding to " + r.Source.Name)
	case want.Role == RoleStandby:
		return Step{Kind: CancelRewind, Because: r.Source.Name + " is no longer the primary"}
	}
	return Step{Kind: CancelRewind, Because: "it shall be " + string(want.Role)}
}
