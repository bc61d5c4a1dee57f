package lead

import (
	"slices"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// The phases of one failover, in their usual order.
const (
	PhaseSilent    = "silent"           // the leader first acted on the loss of the primary: its silence, sickness or release
	PhaseAsked     = "asked"            // a majority told how long ago it vouched last
	PhaseSealed    = "sealed"           // a majority sealed
	PhasePositions = "positions"        // as many nodes told their detached position as an election needs
	PhaseAppointed = "appointed"        // the next epoch's Appoint was committed
	PhasePromoted  = "promoted"         // its primary left recovery and the log knows the timeline
	PhaseServing   = "serving"          // it was heard to accept writes
	PhaseStreaming = fsm.PhaseStreaming // as many nodes stream from it as a commit waits for: commits are acknowledged again
)

// maxPhases bounds what a leader keeps: the last few failovers.
const maxPhases = 50

// Phase is one step of a failover as the leader that did it saw it. At is time since boot on its clock; SinceBeat is how
// long after the old primary's last beat here that was.
type Phase struct {
	Epoch     fsm.Epoch     `json:"epoch"` // the epoch that ended
	Name      string        `json:"name"`
	At        time.Duration `json:"at"`
	SinceBeat time.Duration `json:"since_beat"`
}

// begin notes the first phase of the end of epoch, whose primary was last heard age ago.
func (l *ledger) begin(now, age time.Duration, epoch fsm.Epoch) {
	l.phases = append(l.phases, Phase{Epoch: epoch, Name: PhaseSilent, At: now, SinceBeat: age})
}

// mark adds a phase, once, to the end of epoch, which has begun.
func (l *ledger) mark(now time.Duration, epoch fsm.Epoch, name string) {
	lastBeat := now
	for _, p := range l.phases {
		if p.Epoch != epoch {
			continue
		}
		if p.Name == name {
			return
		}
		lastBeat = p.At - p.SinceBeat
	}
	l.phases = append(l.phases, Phase{Epoch: epoch, Name: name, At: now, SinceBeat: now - lastBeat})
	if len(l.phases) > maxPhases {
		l.phases = append([]Phase(nil), l.phases[len(l.phases)-maxPhases:]...)
	}
}

// time marks the phases that view and decision show. A false alarm leaves a "silent" behind; the next one of the same
// epoch replaces it.
func (l *ledger) time(now time.Duration, v failover.View, d failover.Decision) {
	l.follow(now, v)
	switch do := d.Do.(type) {
	case failover.Nothing, failover.HandOff, failover.Reconfigure:
	case failover.Propose:
		if _, ok := do.Command.(fsm.Appoint); ok && !l.begun(v.State.Epoch) {
			l.noteCause(v, d)
		}
	default: // everything else is done to a primary that is to be replaced
		if !l.begun(v.State.Epoch) {
			l.begin(now, v.Seen[v.State.Primary].Age, v.State.Epoch)
			l.noteCause(v, d)
		}
	}
	if !l.begun(v.State.Epoch) {
		return
	}
	if d.Verdict == failover.Healthy || d.Verdict == failover.AtRisk {
		l.forget(v.State.Epoch)
		return
	}
	majority := len(v.State.Electorate.Voters)/2 + 1
	for _, p := range []struct {
		name string
		have int
		need int
	}{
		{PhaseAsked, len(v.Answers), majority},
		{PhaseSealed, len(v.Seals), majority},
		{PhasePositions, len(v.Positions), max(1, fsm.PositionsNeeded(v.State.Sync))},
	} {
		if p.have >= p.need {
			l.mark(now, v.State.Epoch, p.name)
		}
	}
}

// lead begins anew: what was seen of the present epoch's end in an earlier term may have been a false alarm since.
func (l *ledger) lead() {
	l.ledFrom, l.electorate = l.epoch, shown{}
	l.forget(l.epoch)
}

func (l *ledger) begun(epoch fsm.Epoch) bool {
	return slices.ContainsFunc(l.phases, func(p Phase) bool { return p.Epoch == epoch })
}

func (l *ledger) forget(epoch fsm.Epoch) {
	l.phases = slices.DeleteFunc(l.phases, func(p Phase) bool { return p.Epoch == epoch })
	delete(l.causes, epoch)
}
