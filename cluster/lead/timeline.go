package lead

import (
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// The phases of one failover, in their usual order.
const (
	PhaseSilent    = "silent"    // the leader first acted on the loss of the primary: its silence or its release
	PhaseAsked     = "asked"     // a majority told how long ago it vouched last
	PhaseSealed    = "sealed"    // a majority sealed
	PhasePositions = "positions" // as many nodes told their detached position as an election needs
	PhaseAppointed = "appointed" // the next epoch's Appoint was committed
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

// mark adds a phase of the present epoch once.
func (l *ledger) mark(now time.Duration, epoch fsm.Epoch, name string) {
	for _, p := range l.phases {
		if p.Epoch == epoch && p.Name == name {
			return
		}
	}
	l.phases = append(l.phases, Phase{Epoch: epoch, Name: name, At: now, SinceBeat: now - l.lastBeat})
	if len(l.phases) > maxPhases {
		l.phases = append([]Phase(nil), l.phases[len(l.phases)-maxPhases:]...)
	}
}

// time marks the phases that view and decision show. A false alarm leaves a "silent" behind; the next one of the same
// epoch replaces it.
func (l *ledger) time(now time.Duration, v failover.View, d failover.Decision) {
	switch d.Do.(type) {
	case failover.Ask, failover.SealNow:
		if !l.begun(v.State.Epoch) {
			l.lastBeat = now - v.Seen[v.State.Primary].Age
			l.mark(now, v.State.Epoch, PhaseSilent)
		}
	}
	if !l.begun(v.State.Epoch) {
		return
	}
	if d.Verdict == failover.Healthy {
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

func (l *ledger) begun(epoch fsm.Epoch) bool {
	n := len(l.phases)
	return n > 0 && l.phases[n-1].Epoch == epoch
}

func (l *ledger) forget(epoch fsm.Epoch) {
	for l.begun(epoch) {
		l.phases = l.phases[:len(l.phases)-1]
	}
}
