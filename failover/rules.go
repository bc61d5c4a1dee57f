package failover

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// The conditions and conclusions of the table, in its order.

func always(*facts) bool      { return true }
func noCluster(f *facts) bool { return f.State.ClusterID == "" }
func paused(f *facts) bool    { return f.State.Paused }

func firstPrimary(f *facts) bool { return f.State.Epoch == 0 }

func thenWait(*facts) Decision { return Decision{Verdict: Waiting, Do: Nothing{}} }

func thenFirstPrimary(f *facts) Decision {
	first, tli, why := f.FirstNode, pg.Timeline(1), " is the bootstrapping node"
	if a := f.State.Adopted; a != nil {
		first, tli, why = a.Node, a.Timeline, " has the data that the cluster begins with"
	}
	s, ok := f.Seen[first]
	if !ok || !f.fresh(s) {
		return Decision{Verdict: Waiting, Do: Nothing{}, Because: []string{f.name(first) + " has not been heard yet"}}
	}
	return f.propose(fsm.Appoint{IfEpoch: 0, Node: first, Timeline: tli}, f.name(first)+why)
}

// replacing says that something wants another assignment than the present one.
func replacing(f *facts) bool { return f.released != nil || f.condemned || len(f.Seals) > 0 }

// resumeUnseen guards lease.md rule 10: after a resume nobody else is appointed until the primary's own report shows a
// Rev at or past it, or the primary released.
func resumeUnseen(f *facts) bool {
	return replacing(f) && f.State.PauseRev > 0 && f.released == nil && f.Seen[f.State.Primary].Report.Rev < f.State.PauseRev
}

func thenStuckOnResume(f *facts) Decision {
	return Decision{Verdict: Stuck, Do: Nothing{}, Because: []string{
		fmt.Sprintf("the resume is revision %d; %s last showed revision %d", f.State.PauseRev, f.name(f.State.Primary), f.Seen[f.State.Primary].Report.Rev),
		"it goes on when that node is back and shows the resume, or has released; if its PostgreSQL certainly runs nowhere: quorate resume --primary-is-down",
	}}
}

// resumeShown: no node goes back (lease.md rule 2), so one report is enough.
func resumeShown(f *facts) bool {
	r := f.Seen[f.State.Primary].Report
	return f.State.PauseRev > 0 && f.primaryFresh && r.Epoch == f.State.Epoch && r.Rev >= f.State.PauseRev
}

func thenRecordResume(f *facts) Decision {
	return f.propose(fsm.ResumeShown{Rev: f.State.PauseRev}, fmt.Sprintf("%s shows revision %d; the resume is %d",
		f.name(f.State.Primary), f.Seen[f.State.Primary].Report.Rev, f.State.PauseRev))
}

// backoffLeft is how much longer automatic failover holds still: nothing after the first, then 1, 2, 4 ... 30 s counted from
// the newest (DETAILS 10). A release is no exception, a re-appointment is not counted.
func backoffLeft(ages []time.Duration) time.Duration {
	n := 0
	for _, age := range ages {
		if age < backoffWindow {
			n++
		}
	}
	if n < 2 {
		return 0
	}
	wait := min(time.Second<<min(n-2, 5), backoffMax)
	return max(0, wait-ages[0])
}

func backingOff(f *facts) bool {
	return replacing(f) && len(f.Seals) == 0 && backoffLeft(f.Appointed) > 0
}

func thenBackOff(f *facts) Decision {
	left := backoffLeft(f.Appointed)
	return Decision{Verdict: Waiting, Do: Nothing{}, Again: left, Because: []string{
		fmt.Sprintf("%d failovers within the last minute, the newest %s ago; next one in %s", len(f.Appointed), f.Appointed[0].Round(time.Millisecond), left.Round(time.Millisecond)),
	}}
}

// answered counts the voters whose fresh answer puts their last vouch further back than failover_after, and those whose
// fresh answer does not.
func (f *facts) answered() (quiet, vouching []fsm.NodeID) {
	for _, id := range f.State.Electorate.Voters {
		a, ok := f.Answers[id]
		if !ok || a.Age > f.BeatEvery || id == f.State.Primary {
			continue
		}
		if a.VouchedAgo+a.Age > f.failoverAfter {
			quiet = append(quiet, id)
		} else {
			vouching = append(vouching, id)
		}
	}
	return quiet, vouching
}

func mustAsk(f *facts) bool { return f.silent && f.unasked() }

// mustAskUnread: who does not show an epoch can't have asked anybody to vouch for it, unless it has applied it since.
func mustAskUnread(f *facts) bool { return f.unread && f.unasked() }

func (f *facts) unasked() bool {
	if f.released != nil || len(f.Seals) > 0 {
		return false
	}
	quiet, vouching := f.answered()
	return len(quiet) < f.majority && len(quiet)+len(vouching) < len(f.askable())
}

// askable lists the voters that could say when the primary had a vouch last.
func (f *facts) askable() (ids []fsm.NodeID) {
	if f.silent {
		return f.deafVoters
	}
	for _, id := range f.State.Electorate.Voters {
		if s, heard := f.Seen[id]; id != f.State.Primary && heard && f.fresh(s) {
			ids = append(ids, id)
		}
	}
	return ids
}

func thenAsk(f *facts) Decision {
	ask := f.askable()
	return Decision{Verdict: Acting, Do: Ask{Epoch: f.State.Epoch, Voters: ask}, Because: append(f.whyGone(),
		fmt.Sprintf("asking %s for their last vouch", f.names(ask)))}
}

func stillVouched(f *facts) bool {
	quiet, _ := f.answered()
	return f.condemned && f.released == nil && len(f.Seals) == 0 && len(quiet) < f.majority
}

func thenStillVouched(f *facts) Decision {
	quiet, vouching := f.answered()
	return Decision{Verdict: Waiting, Do: Nothing{}, Again: f.BeatEvery, Because: []string{
		fmt.Sprintf("%d of %d needed voters have not vouched for %s; %s vouched within it", len(quiet), f.majority, f.failoverAfter, f.names(vouching)),
	}}
}

// sealedButAlive: a seal costs the sealed standby its replication and the primary a vouch. As soon as the suspicion has
// proved false the same node is appointed again (lease.md rule 9); it needs no evidence.
func sealedButAlive(f *facts) bool {
	if f.condemned || f.released != nil || !f.primaryFresh {
		return false
	}
	run := f.Seen[f.State.Primary].Report.Run
	if run != RunRunning && run != RunFrozen && run != RunStarting && f.EpochAge < releaseComes {
		return false // Its Postgres is down: its release, which lets others serve, may be on the way.
	}
	return len(f.sealers()) > 0
}

// sealers lists the voters that no longer vouch for the present epoch.
func (f *facts) sealers() []fsm.NodeID {
	var out []fsm.NodeID
	for _, id := range f.State.Electorate.Voters {
		if f.Seen[id].Sealed >= f.State.Epoch || f.Seals[id].Epoch >= f.State.Epoch {
			out = append(out, id)
		}
	}
	return out
}

func thenReappoint(f *facts) Decision {
	why := fmt.Sprintf("%s is alive and not silent; sealed by %s", f.name(f.State.Primary), f.names(f.sealers()))
	if f.released != nil {
		why = fmt.Sprintf("%s released epoch %d at %s and no standby holds every acknowledged commit", f.name(f.State.Primary), f.State.Epoch, f.released.FinalLSN)
	}
	return f.propose(fsm.Appoint{IfEpoch: f.State.Epoch, Node: f.State.Primary}, why)
}

// releasedUnsealed: nobody has been asked yet, and there is somebody to ask.
func releasedUnsealed(f *facts) bool {
	if f.released == nil || f.SealingFor > 0 {
		return false
	}
	for id, m := range f.State.Members {
		if id != f.State.Primary && m.Role == fsm.RoleData {
			return true
		}
	}
	return false
}

func silentUnsealed(f *facts) bool {
	return f.silent && f.released == nil && len(f.sealed) < f.majority
}

func unreadUnsealed(f *facts) bool {
	return f.unread && f.released == nil && len(f.sealed) < f.majority
}

// thenSeal asks everyone alive that has not answered: voters for their seal, data nodes for their detached position.
func thenSeal(f *facts) Decision {
	do := SealNow{Epoch: f.State.Epoch}
	for _, id := range f.State.Electorate.Voters {
		if f.Seals[id].Epoch < f.State.Epoch && (id != f.State.Primary || f.released == nil) {
			do.Seal = append(do.Seal, id)
		}
	}
	for id, m := range f.State.Members {
		if _, has := f.positions[id]; m.Role == fsm.RoleData && id != f.State.Primary && !has {
			do.Detach = append(do.Detach, id)
		}
	}
	sortIDs(do.Detach)
	because := f.whyGone()
	if f.released != nil {
		because = []string{fmt.Sprintf("%s released epoch %d at %s", f.name(f.State.Primary), f.State.Epoch, f.released.FinalLSN)}
	}
	return Decision{Verdict: Acting, Do: do, Because: append(because, f.collected()...)}
}

// leaseMayRun holds while the old primary may still be inside its lease: no release, and the waits are not over.
func leaseMayRun(f *facts) bool {
	return f.condemned && f.released == nil && len(f.sealed) >= f.majority && !f.sealsDone
}

func thenWaitLease(f *facts) Decision {
	return Decision{Verdict: Waiting, Do: Nothing{}, Again: f.waitLeft, Because: []string{
		fmt.Sprintf("%d voters sealed epoch %d; their last vouches run out in %s", len(f.sealed), f.State.Epoch, f.waitLeft.Round(time.Millisecond)),
	}}
}

// positionsPending holds while a standby that is alive has not told its position, within positionsBox of the first seal;
// past it only while nobody qualifies.
func positionsPending(f *facts) bool {
	if f.released == nil && !(f.condemned && f.sealsDone) {
		return false
	}
	if f.best != nil && f.SealingFor > positionsBox || restartable(f) && f.SealingFor > restartBox {
		return false
	}
	return f.SealingFor <= answerBox && len(f.owing()) > 0
}

// owing lists the standbys that are alive and have not told their position.
func (f *facts) owing() (ids []fsm.NodeID) {
	for _, id := range f.memberIDs() {
		s, heard := f.Seen[id]
		_, has := f.positions[id]
		_, failed := f.Failed[id]
		alive := heard && f.fresh(s) && electableRun(s.Report.Run)
		if f.State.Members[id].Role == fsm.RoleData && id != f.State.Primary && alive && !has && !failed {
			ids = append(ids, id)
		}
	}
	return ids
}

func thenAwaitPositions(f *facts) Decision {
	d := thenSeal(f)
	d.Because = append(d.Because, "waiting for the end of the log of "+f.names(f.owing()))
	return d
}

func standbyQualifies(f *facts) bool {
	return f.best != nil && (f.released != nil || f.condemned && f.sealsDone)
}

func thenAppoint(f *facts) Decision {
	q := f.best
	return f.propose(fsm.Appoint{
		IfEpoch: f.State.Epoch, Node: q.node, Evidence: f.evidence(q.evidence),
		Timeline: f.predictedTimeline(), SwitchLSN: q.position.LSN,
	}, append(append(f.collected(), f.passedOver(q.node)...), fmt.Sprintf("%s has WAL to %s; %d of %d needed positions are not beyond it",
		f.name(q.node), q.position.LSN, len(q.evidence), fsm.PositionsNeeded(f.State.Sync)))...)
}

// evidence is what an Appoint carries that counts on these positions.
func (f *facts) evidence(positions []fsm.Position) fsm.Evidence {
	ev := fsm.Evidence{Release: f.released}
	counted := false
	for _, p := range positions {
		if p.Node == f.State.Primary {
			counted = true // Its release carries it.
			continue
		}
		ev.Positions = append(ev.Positions, p)
	}
	if f.released != nil && !counted {
		// Its log goes beyond the candidate's, but not with anything acknowledged, or has no place in the history: the release
		// counts, its position does not.
		bare := *f.released
		bare.FinalLSN = 0
		ev.Release = &bare
	}
	for _, id := range f.sealed {
		s := f.Seals[id]
		ev.Seals = append(ev.Seals, fsm.Seal{Node: id, Epoch: s.Epoch, LeftMS: ceilMS(s.Left), WaitedMS: s.Age.Milliseconds()})
	}
	return ev
}

// restartable: a released primary that can start again is appointed again only when no other node qualifies (DETAILS 10).
func restartable(f *facts) bool {
	return f.released != nil && f.primaryFresh && f.Seen[f.State.Primary].Report.Restartable
}

// restartSoon holds while a released primary that nobody can replace waits for its next try: one that fails at once would
// otherwise seal and detach every standby several times a second.
func restartSoon(f *facts) bool { return restartable(f) && backoffLeft(f.Reappointed) > 0 }

func thenRestartSoon(f *facts) Decision {
	left := backoffLeft(f.Reappointed)
	return Decision{Verdict: Waiting, Do: Nothing{}, Again: left, Because: []string{
		fmt.Sprintf("%s was appointed again %d times within the last minute; next try in %s", f.name(f.State.Primary), len(f.Reappointed), left.Round(time.Millisecond)),
	}}
}

// thenStuck goes on asking whoever has not answered: what it tells in the end may be what is missing. An offer that was made
// without it is void then, since the token is another one.
func thenStuck(f *facts) Decision {
	d := Decision{Verdict: Stuck, Do: Nothing{}, Because: f.lacking()}
	if !f.condemned && f.released == nil {
		d.Verdict = Waiting
		return d
	}
	if len(f.owing()) > 0 {
		d.Do = thenSeal(f).Do
	}
	if offers := f.offers(); len(offers) > 0 && !f.supposed {
		d.Because = append(d.Because, "if what is missing is gone for good: quorate failover NAME says what would be lost with that node, and how to accept it; NAME is one of "+f.names(offers))
	}
	return d
}

// lacking says why nobody qualifies. A primary that runs and does not learn that it is comes first: what it has is not lost.
func (f *facts) lacking() []string {
	var because []string
	if f.unread && !f.silent {
		because = append(f.whyGone(), mendTheWay)
	}
	because = append(append(because, f.collected()...), f.passedOver("")...)
	if need := fsm.PositionsNeeded(f.State.Sync); need > 0 {
		because = append(because, fmt.Sprintf("an election needs the positions of %d of %s", need, f.names(f.State.Sync.Members)))
	}
	owing := f.owing()
	for _, id := range f.State.Sync.Members {
		if _, has := f.positions[id]; !has && !member(owing, id) {
			because = append(because, "missing: "+f.name(id)+f.whyMissing(id))
		}
	}
	for _, id := range owing {
		because = append(because, fmt.Sprintf("missing: %s beats and has not said for %s where its log ends; look whether its disk hangs", f.name(id), f.SealingFor.Round(time.Millisecond)))
	}
	if len(f.State.Sync.Members) == 0 {
		because = append(because, fmt.Sprintf("durability is async and maximum_lag_on_failover %d bytes; the log of %s went to %s at least",
			f.State.Config.Settings.MaximumLag, f.name(f.State.Primary), f.Seen[f.State.Primary].Report.Flush))
	}
	return because
}

func ceilMS(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }
