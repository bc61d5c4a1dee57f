package pgctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// FastStopBox is how long Do lets a fast shutdown take.
const FastStopBox = 5 * time.Second

// Outcome is what a step found out or made; most have neither.
type Outcome struct {
	Promotion *Promotion // of Promote
	Position  *Position  // of Detach and Examine
}

// Do carries out one step by the method of its kind. A clone and a rewind are only begun by it. ErrRebuilding of Detach and Examine is
// no failure here: the step is done, there is just no position to report.
func (i *Instance) Do(ctx context.Context, s Step) (Outcome, error) {
	defer i.lookAgain()
	switch s.Kind {
	case Nothing, Hold:
		return Outcome{}, nil
	case Init:
		return Outcome{}, i.Init(ctx)
	case Adopt:
		return Outcome{}, i.Adopt(ctx, s.Epoch, s.SystemID, s.Timeline)
	case Clone, Quarantine:
		return Outcome{}, i.startClone(s)
	case Rewind:
		return Outcome{}, i.StartRewind(s.Upstream, s.Timeline, s.Fork, s.Because)
	case CancelClone:
		i.CancelClone()
		return Outcome{}, nil
	case CancelRewind:
		i.CancelRewind()
		return Outcome{}, nil
	case Examine:
		return positioned(i.Examine(ctx))
	case StartReader:
		if err := i.gateStart(s.Gate); err != nil {
			return Outcome{}, err
		}
		return Outcome{}, i.startReader(ctx, s)
	case StartWriter:
		if err := i.gateStart(s.Gate); err != nil {
			return Outcome{}, err
		}
		return Outcome{}, i.StartPrimary(ctx, s.Epoch)
	case Promote:
		p, err := i.Promote(ctx, PromoteOrder{Epoch: s.Epoch, Timeline: s.Timeline, Slots: s.Slots, Gate: s.Gate})
		if err != nil {
			return Outcome{}, err
		}
		return Outcome{Promotion: &p}, nil
	case Follow:
		return Outcome{}, i.Follow(ctx, s.Upstream)
	case Detach:
		return positioned(i.Detach(ctx, s.Epoch))
	}
	return Outcome{}, i.doRest(ctx, s)
}

// doRest has the steps with nothing to report.
func (i *Instance) doRest(ctx context.Context, s Step) error {
	switch s.Kind {
	case FindCommits:
		return i.FindCommits(ctx)
	case LookForLog:
		return i.LookForLog(ctx)
	case Configure:
		return i.SetSync(ctx, s.Sync)
	case Slots:
		return i.SetSlots(ctx, s.Slots, s.KeepLog)
	case Settle:
		return i.Settle(ctx)
	case Mark:
		return i.Mark(ctx)
	case Evict:
		return i.Evict(ctx, s.Impostors)
	case OpenGate:
		return i.OpenGate(ctx)
	case Correct:
		return i.Correct(ctx)
	case Stop:
		if s.Stop == StopFast {
			return i.StopFast(ctx, cmp.Or(s.StopBox, FastStopBox))
		}
		return i.Kill(ctx)
	}
	return fmt.Errorf("carry out %q: there is no such step", s.Kind)
}

func positioned(p Position, err error) (Outcome, error) {
	if errors.Is(err, ErrRebuilding) {
		return Outcome{}, nil
	}
	if err != nil {
		return Outcome{}, err
	}
	return Outcome{Position: &p}, nil
}
