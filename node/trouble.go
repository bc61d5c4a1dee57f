package node

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// The pauses between attempts to bring up a Postgres that is down: the first, and the longest after having doubled.
const (
	firstPause   = time.Second
	longestPause = 30 * time.Second
)

// trouble is what keeps a Postgres that is down from coming up: a directory that it can't start from, a log that can't be
// read. Nothing is given up or set aside for that, which a person may be about to mend: it is said and tried again, ever
// more rarely, because each attempt costs a disk and a log that may be in trouble themselves.
type trouble struct {
	step  pgctl.StepKind
	count int    // attempts in a row that failed
	why   string // of the last
	epoch fsm.Epoch
	next  time.Duration // not before this in the same epoch
	run   uint64        // the newest that was counted because it ended before it answered
}

// failed counts an attempt that failed at now.
func (t *trouble) failed(step pgctl.StepKind, why string, epoch fsm.Epoch, now time.Duration) {
	t.step, t.why, t.epoch = step, why, epoch
	t.next = now + min(firstPause<<min(t.count, 10), longestPause)
	t.count++
}

// look forgets the trouble when it is over, and says whether Postgres has ended before it answered in a run that was not
// counted yet. A start succeeds when it forks: what became of it is seen only here.
func (t *trouble) look(have pgctl.Status) (stillborn bool) {
	up := have.Run == pg.RunStandby || have.Run == pg.RunPrimary
	rebuilt := have.Clone != nil && have.Clone.Running || have.Rewind != nil && have.Rewind.Running
	if up || rebuilt || t.step == pgctl.Examine && have.Position != nil {
		*t = trouble{run: t.run}
	}
	if have.Died == "" || have.Answered || have.GuardRun == t.run {
		return false
	}
	t.run = have.GuardRun
	return true
}

// holds says whether a step waits for its time. Only what brings a standby up does, and the adoption of data, which nobody
// else has: an appointed node has no time to lose, and a new epoch may bring what was missing.
func (t *trouble) holds(step pgctl.StepKind, role pgctl.Role, epoch fsm.Epoch, now time.Duration) bool {
	waits := role == pgctl.RoleStandby || step == pgctl.Adopt
	return t.count > 0 && waits && bringsUp(step) && epoch == t.epoch && now < t.next
}

// bringsUp names the steps from a Postgres that is down to one that follows, or to one that can be started.
func bringsUp(step pgctl.StepKind) bool {
	switch step {
	case pgctl.Examine, pgctl.StartReader, pgctl.Adopt, pgctl.Clone, pgctl.Quarantine, pgctl.Rewind:
		return true
	}
	return false
}

// String says it to people, empty for no trouble.
func (t *trouble) String() string {
	switch t.count {
	case 0:
		return ""
	case 1:
		return "does not come up and is tried again: " + t.why
	}
	return fmt.Sprintf("has not come up in %d attempts and is tried again: %s", t.count, t.why)
}

// noteTrouble looks whether Postgres comes up.
func (a *agent) noteTrouble() {
	if !a.trouble.look(a.have) {
		return
	}
	why := fmt.Sprintf("Postgres ended before it answered (%s)", a.have.Died)
	if words := a.postgres.LastWords(); words != "" {
		why += ": " + words
	}
	a.trouble.failed(pgctl.StartReader, why, a.cluster.State().Epoch, a.seenAt)
	a.log.Warn("Postgres does not come up", "attempts", a.trouble.count, "why", why)
}
