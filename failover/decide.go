package failover

import (
	"fmt"

	"github.com/quorate/quorate/fsm"
)

// Rule is one row of the table. The first row whose When holds decides.
type Rule struct {
	// Name goes to logs, metrics, the Raft command (By) and explain; it never changes its meaning.
	Name string
	// Comment is what an operator reads beside the name.
	Comment string

	when func(*facts) bool
	then func(*facts) Decision
}

// ruleStuck is the rule under which somebody may accept a loss; by the others nothing is lost.
const (
	ruleStuck       = "nobody-qualifies"
	ruleBest        = "best-standby"
	ruleRestartSoon = "restart-soon"
	ruleRestart     = "restart-in-place"
)

// RuleAcceptedLoss is the one by which acknowledged commits may be lost.
const RuleAcceptedLoss = "accepted-loss"

// Rules returns the table in its order, for documents, the API and tests.
func Rules() []Rule {
	return []Rule{
		{"no-cluster", "The log holds no cluster yet.", noCluster, thenWait},
		{"paused", "An operator paused automatic decisions until they are resumed.", paused, thenPaused},
		{"first-primary", "No primary was ever appointed: the bootstrapping node becomes it, or the one whose data the cluster begins with.", firstPrimary, thenFirstPrimary},
		{"resume-unseen", "The pause ended but the primary has not shown that it knows: it may still write without a lease.", resumeUnseen, thenStuckOnResume},
		{"backing-off", "Several failovers within a minute: wait before the next one.", backingOff, thenBackOff},
		{"ask-first", "A majority has not heard the primary for failover_after: ask when each voter vouched last, before sealing anything.", mustAsk, thenAsk},
		{"ask-unread", "The appointed node beats, shows an earlier epoch and gets nothing of Raft's log: ask when each voter vouched last, before sealing anything.", mustAskUnread, thenAsk},
		{"still-vouched", "The primary seemed gone but a majority vouched for it recently.", stillVouched, thenStillVouched},
		{"re-appoint", "The primary is alive but some voter sealed its epoch: the same node gets the next epoch.", sealedButAlive, thenReappoint},
		{"primary-released", "The primary stopped serving for good and said so: seal and take positions.", releasedUnsealed, thenSeal},
		{"primary-silent", "A majority neither hears the primary nor has vouched for it within failover_after: seal its epoch.", silentUnsealed, thenSeal},
		{"appointment-unread", "The appointed node does not get Raft's log, so that it will not learn of its appointment, and somebody else could serve: seal its epoch.", unreadUnsealed, thenSeal},
		{"wait-lease", "A majority has sealed; what is left of its last vouches must run out.", leaseMayRun, thenWaitLease},
		{"wait-positions", "Standbys that are alive have not all told the end of their WAL.", positionsPending, thenAwaitPositions},
		{ruleBest, "The old lease has certainly ended and this standby holds every acknowledged commit.", standbyQualifies, thenAppoint},
		{ruleRestartSoon, "No standby qualifies; the released primary was started again several times within a minute: wait before the next try.", restartSoon, thenRestartSoon},
		{ruleRestart, "No standby qualifies; the released primary holds everything and can start again.", restartable, thenReappoint},
		{RuleAcceptedLoss, "An operator accepted, having seen all that is known of the logs, that this node lacks acknowledged commits.", lossAccepted, thenAppointAccepted},
		{"accepted-void", "The loss that an operator accepted is not the one that there would be now: it is to be looked at again.", lossVoid, thenEndAccepted},
		{ruleStuck, "Nobody here is known to hold every acknowledged commit: stay read-only until a node returns.", replacing, thenStuck},
		{"primary-sick", "The primary's own prober finds its Postgres hung or its disk unusable, and a standby can take over: it shall kill Postgres and release.", primarySick, thenStopSick},
		{"resume-shown", "The primary has shown that it knows of the resume: record it, so that nobody has to ask again when it is lost.", resumeShown, thenRecordResume},
		{"hand-off-deaf", "The Raft leader does not hear the primary, and another voter does: move it, so that a release reaches the one who decides.", leaderDeaf, thenHandOffDeaf},
		{"sync-async", "The durability asked for is async: that is agreed before the primary stops to wait for copies.", next(fsm.SyncAsync), thenSetSync},
		{"sync-degrade", "Too few standbys have kept up for failover_after: commits go on with fewer copies, and elections need more positions.", next(fsm.SyncDegrade), thenSetSync},
		{"switchover-void", "The requested switchover cannot be carried out.", wishVoid, thenEndWish},
		{"switchover-begin", "The candidate streams and has nearly everything: the primary may hand over.", wishReady, thenBeginWish},
		{"switchover-running", "A switchover is under way.", wishPending, thenWait},
		{"hand-off", "The Raft leader lives on the primary's node: move it, so that losing that host needs no election.", leaderOnPrimary, thenHandOff},
		{"sync-raise", "The primary promised that it enforces one more copy of each commit: record it.", promised(fsm.SyncRaise), thenCommitPromise},
		{"sync-leave", "The primary promised that no commit counts on a member that is away: elections stop counting on it too.", promised(fsm.SyncLeave), thenCommitPromise},
		{"sync-return", "The primary promised that the time of async is over: from now on elections need its log.", promised(fsm.SyncReturn), thenCommitPromise},
		{"sync-fit", "A commit has more copies than a D of this size asks for.", next(fsm.SyncFit), thenSetSync},
		{"sync-grow", "A caught-up node becomes one of those that hold every acknowledged commit.", next(fsm.SyncGrow), thenSetSync},
		{"member-enrol", "A member is not in Raft's configuration: it gets its place there, without a vote.", memberUnenrolled, thenEnrol},
		{"member-strike", "A node that the electorate does not count on any more loses its place in Raft's configuration.", serverSurplus, thenStrike},
		{"member-forget", "A node was removed and nothing counts on it any more: it is no member from now on.", memberGone, thenForget},
		{"hand-off-leaving", "The Raft leader shall vote no more: another voter leads on.", leaderLeaves, thenHandOffLeaving},
		{"electorate-grow", "A node that votes in Raft comes into the electorate; the primary has counted under the present one for long enough.", electorateGrows, thenGrowElectorate},
		{"electorate-shrink", "A node that shall vote no more leaves the electorate; a majority of the others is there.", electorateShrinks, thenShrinkElectorate},
		{"member-vote", "A node has caught up and gets a vote: two at a time, since an even number of voters survives no more than one less.", memberVotes, thenGiveVote},
		{"sync-raising", "The primary is bringing one more copy per commit into force.", nextHere(fsm.SyncRaise), thenAwaitPromise},
		{"sync-leaving", "A member is away or is being rebuilt: the primary makes sure that no commit counts on it.", nextHere(fsm.SyncLeave), thenAwaitPromise},
		{"sync-returning", "Durability is quorum again: the primary promises to keep what it acknowledges.", nextHere(fsm.SyncReturn), thenAwaitPromise},
		{"sick-alone", "The primary's own prober finds its Postgres hung or its disk unusable, and nobody can take over: somebody must look.", sickAlone, thenSickAlone},
		{"degraded", "Commits are acknowledged by the primary alone, although other nodes could hold copies.", degraded, thenDegraded},
		{"member-leaving", "A node is being removed and something still counts on it.", memberDeparting, thenAwaitDeparture},
		{"at-risk", "The primary serves, but a node is missing.", nodeMissing, thenAtRisk},
		{"primary-starting", "The primary was appointed and does not serve yet.", notServing, thenAwaitPrimary},
		{"healthy", "The primary serves and nothing needs doing.", always, thenHealthy},
	}
}

// Decide says what the leader should do next. Equal views give equal decisions. The last rule matches every view.
func Decide(v View) Decision { return study(v).decide() }

func (f *facts) decide() Decision {
	for _, r := range Rules() {
		if !r.when(f) {
			continue
		}
		d := r.then(f)
		d.Rule = r.Name
		if len(d.Because) == 0 {
			d.Because = []string{r.Comment}
		}
		return d
	}
	return Decision{Rule: "none", Verdict: Stuck, Do: Nothing{}, Because: []string{fmt.Sprintf("no rule matches a view of epoch %d", f.State.Epoch)}}
}
